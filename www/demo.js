/*
 * demo.js - the demo page: who one is, and what happens to the connection.
 *
 * Role:  logs in, keeps the banner, makes a Chat for who is logged in.
 *        `demo.json` of its own origin tells where the server is and, in demo
 *        mode, who may log in.
 * Keeps: in sessionStorage, so that a reload stays logged in and each tab can
 *        be somebody else: in demo mode the user's name; messages that are not
 *        yet known to be safe on the server (parley.js). No password.
 * See:   parley.js, demo-chat.js.
 */

import { Parley } from './parley.js';
import { Calls } from './parley-call.js';
import { Chat } from './demo-chat.js';
import { avatarOf, element, setText } from './demo-dom.js';

const USER_KEY = 'parley:demo:user';

let chat = null;
let config = null;

/* ---- banner ---- */

let bannerAction = null;

/* @param figures  what changes all the time: to be seen, not to be read out */
function setBanner(text, { figures = '', button = '', action = null } = {}) {
  element('banner').hidden = text === '';
  setText(element('banner-text'), text);
  setText(element('banner-figures'), figures);
  element('banner-button').hidden = action === null;
  setText(element('banner-button'), button);
  bannerAction = action;
}

element('banner-button').addEventListener('click', () => bannerAction?.());

/* ---- log-in ---- */

function tabStorage() {
  try {
    return sessionStorage;
  } catch {
    return undefined; /* no storage: a reload logs out */
  }
}

function storedUser(name) {
  try {
    if (name === undefined)
      return sessionStorage.getItem(USER_KEY);
    sessionStorage.setItem(USER_KEY, name);
  } catch {
    /* as above */
  }
  return null;
}

function showLogin(error = '') {
  element('chat').hidden = true;
  element('login').hidden = false;
  element('login-demo').hidden = !config?.Demo;
  element('login-form').hidden = !config || config.Demo;
  element('login-error').textContent = error;
  document.title = 'parley';
}

function serverUrl() {
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';

  return `${scheme}://${location.hostname}:${config.WebSocketPort}${
    config.WebSocketPath}`;
}

/* What the chat needs of the page around it. */
const shell = {
  setBanner,

  /** The chat is over; what it showed is gone from the page. */
  ended(error) {
    chat = null;
    setBanner('');
    storedUser('');
    showLogin(error);
  },

  /** Another copy of this tab has taken over. */
  replaced() {
    chat = null;
    setBanner('You are connected from a copy of this tab.',
      { button: 'Connect here', action: () => location.reload() });
  },
};

/* One at a time: a second session of this tab would replace the first. */
async function logIn(credentials) {
  const { activeElement } = document;

  if (element('login').inert)
    return;
  element('login').inert = true;
  await connect(credentials);
  element('login').inert = false;
  if (chat === null)
    activeElement?.focus();
}

async function connect(credentials) {
  const parley = new Parley({ url: serverUrl(), outbox: tabStorage(),
    ...credentials });
  /* what was not sent is not left to who comes next */
  const ended = (error) => {
    parley.logout();
    shell.ended(error);
  };

  element('login-error').textContent = '';
  setBanner('Connecting…');
  parley.addEventListener('state', ({ detail }) => {
    if (detail.state === 'authenticated' && chat === null)
      chat = new Chat(parley, calls, detail.login, { ...shell, ended });
    else if (chat === null && detail.state === 'reconnecting')
      setBanner('The server cannot be reached; trying again…',
        { button: 'Cancel', action: () => parley.close() });
  });
  /* after the listener: the calls of a login are told when the chat is there */
  const calls = new Calls(parley);
  try {
    await parley.connect();
  } catch (error) {
    if (chat !== null)
      return; /* logged in meanwhile and out again */
    setBanner('');
    storedUser('');
    showLogin(error.reason === 'CLOSED' ? '' : error.message);
  }
}

function offerDemoUsers() {
  for (const user of config.Users) {
    const item = document.createElement('li');
    const button = document.createElement('button');
    const name = document.createElement('span');

    name.textContent = user.Name;
    button.type = 'button';
    button.append(avatarOf(user.Name, user.UserId), name);
    button.addEventListener('click', () => logInDemo(user));
    item.append(button);
    element('login-users').append(item);
  }
}

function logInDemo(user) {
  if (!element('login').inert)
    storedUser(user.UserName);
  logIn({ userName: user.UserName, password: user.Password });
}

element('login-form').addEventListener('submit', (event) => {
  const token = element('login-token').value.trim();

  event.preventDefault();
  logIn(token ? { token } : { userName: element('login-name').value.trim(),
    password: element('login-password').value });
  element('login-password').value = '';
  element('login-token').value = '';
});

/* ---- start ---- */

async function start() {
  try {
    const response = await fetch('/demo.json', { cache: 'no-store' });
    if (!response.ok)
      throw new Error(`demo.json: HTTP status ${response.status}`);
    config = await response.json();
  } catch (error) {
    showLogin(`The server's settings cannot be read (${error.message}).`);
    return;
  }
  const users = config.Demo ? config.Users : [];
  const user = users.find(({ UserName }) => UserName === storedUser());
  if (config.Demo)
    offerDemoUsers();
  if (user === undefined)
    showLogin();
  else
    logInDemo(user);
}

start();
