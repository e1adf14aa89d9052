/*
 * demo.js - the demo page: a small but complete chat on parley.js.
 *
 * Role:  logs in, feeds what arrives to the model, has it shown, sends what
 *        is typed. `demo.json` of its own origin tells where the server is
 *        and, in demo mode, who may log in.
 * Keeps: in demo mode the user's name, in sessionStorage, so that a reload
 *        stays logged in; each tab can be somebody else. No password, no
 *        message.
 * See:   parley.js, demo-model.js, demo-view.js.
 */

import { Parley, newId } from './parley.js';
import { Model } from './demo-model.js';
import { View, element, paintAvatar } from './demo-view.js';

const PAGE_SIZE = 40;
const NEAR_TOP_PX = 120;
const TYPING_REPEAT_MS = 4_000;
const TYPING_END_MS = 6_000;
const USER_KEY = 'parley:demo:user';

const FINAL_TEXTS = {
  KICKED: 'You were logged out by an administrator.',
  TOKEN_EXPIRED: 'Your token has expired.',
};

/* ---- log-in ---- */

let chat = null;
let config = null;

function storedUser(name) {
  try {
    if (name === undefined)
      return sessionStorage.getItem(USER_KEY);
    sessionStorage.setItem(USER_KEY, name);
  } catch {
    /* no storage: a reload logs out */
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

async function logIn(credentials) {
  const parley = new Parley({ url: serverUrl(), ...credentials });

  element('login-error').textContent = '';
  setBanner('Connecting…');
  parley.addEventListener('state', ({ detail }) => {
    if (detail.state === 'authenticated' && chat === null)
      chat = new Chat(parley, detail.login);
    else if (chat === null && detail.state === 'reconnecting')
      setBanner('The server cannot be reached; trying again…', 'Cancel',
        () => parley.close());
  });
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
    const avatar = document.createElement('span');
    const name = document.createElement('span');

    avatar.className = 'avatar';
    avatar.ariaHidden = 'true';
    paintAvatar(avatar, user.Name, user.UserId);
    name.textContent = user.Name;
    button.type = 'button';
    button.append(avatar, name);
    button.addEventListener('click', () => logInDemo(user));
    item.append(button);
    element('login-users').append(item);
  }
}

function logInDemo(user) {
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

/* ---- banner ---- */

let bannerAction = null;

function setBanner(text, button_text = '', action = null) {
  element('banner').hidden = text === '';
  element('banner-text').textContent = text;
  element('banner-button').hidden = action === null;
  element('banner-button').textContent = button_text;
  bannerAction = action;
}

element('banner-button').addEventListener('click', () => bannerAction?.());

/* ---- chat ---- */

class Chat {
  #parley;
  #model;
  #view;
  #isPainting = false;
  #pages = new Set(); /* conversations whose history is under way */
  #typingEnds = new Map();
  #typingToldAt = 0;
  #countTimer = 0;
  #isGone = false; /* the page is somebody else's, or nobody's */
  #drafts = new Map();
  #ending = new AbortController(); /* takes the listeners off at the end */

  constructor(parley, login) {
    this.#parley = parley;
    this.#model = new Model({ UserId: login.UserId, Name: login.Name });
    this.#view = new View(this.#model, {
      open: (conversation) => this.#open(conversation),
      retry: (conversation, message) => this.#send(conversation, message),
    });
    setBanner('');
    element('my-status').value = 'ONLINE';
    element('login').hidden = true;
    element('chat').hidden = false;
    element('chat').dataset.view = 'list';
    this.#listenToServer();
    this.#listenToPage();
    this.#authenticated(login);
  }

  #on(target, type, listener) {
    target.addEventListener(type, listener, { signal: this.#ending.signal });
  }

  #listenToServer() {
    const on = (type, take) => this.#on(this.#parley, type, ({ detail }) => {
      take(detail);
      this.#paint();
    });

    on('state', (detail) => this.#stateChanged(detail));
    on('reset', () => {
      this.#model.forgetHistory();
      this.#pages.clear();
      this.#loadAll();
    });
    on('message', (message) => this.#arrived(message));
    on('message-edited', (event) => this.#model.changeMessage(
      event.ConversationId, event.MessageId, { Message: event.Message }));
    on('message-deleted', (event) => this.#model.changeMessage(
      event.ConversationId, event.MessageId, { Message: null }));
    on('receipt', (receipt) => this.#model.putReceipt(receipt));
    on('presence', (presence) => this.#presenceChanged(presence));
    on('typing', (event) => this.#typed(event));
  }

  #stateChanged({ state, delay, reason, message, login }) {
    if (state === 'authenticated') {
      setBanner('');
      this.#authenticated(login);
    } else if (state === 'reconnecting') {
      this.#countDown(Date.now() + delay);
    } else if (state === 'closed') {
      this.#closed(reason, message);
    } else {
      setBanner('Reconnecting…');
    }
  }

  #countDown(until) {
    const seconds = Math.ceil((until - Date.now()) / 1000);

    clearTimeout(this.#countTimer);
    if (this.#parley.state !== 'reconnecting')
      return;
    setBanner(seconds > 1 ? `Connection lost. Next try in ${seconds} s.`
      : 'Connection lost. Reconnecting…');
    this.#countTimer = setTimeout(() => this.#countDown(until), 1000);
  }

  /* Nothing of what was said stays on a page that is nobody's any more. */
  #closed(reason, message) {
    const { unsentCount } = this.#model;

    this.#ending.abort();
    chat = null;
    if (reason === 'REPLACED') {
      setBanner('You are connected from a copy of this tab.', 'Connect here',
        () => location.reload());
      return;
    }
    this.#isGone = true;
    this.#view.clear();
    setBanner('');
    storedUser('');
    if (reason === 'LOGOUT')
      showLogin();
    else
      showLogin((FINAL_TEXTS[reason] ?? message) + (unsentCount > 0
        ? ` Messages that could not be sent: ${unsentCount}.` : ''));
  }

  /* Presence and receipts are not in the inbox: read anew at each login. */
  #authenticated(login) {
    for (const user of login.Users ?? [])
      this.#model.putUser(user);
    this.#loadAll(Boolean(login.NextCursor));
  }

  async #loadAll(has_more_users = false) {
    try {
      if (has_more_users) {
        for (const user of await this.#parley.getUsers())
          this.#model.putUser(user);
      }
      let cursor;
      do {
        const page = await this.#parley.getConversations({ cursor });
        for (const row of page.Conversations)
          this.#model.putConversation(row);
        this.#paint();
        cursor = page.NextCursor || undefined;
      } while (cursor !== undefined);
      const open = this.#model.conversations.get(this.#model.openId);
      if (open !== undefined && !open.isLoaded)
        await this.#loadPage(open);
      this.#markRead();
    } catch (error) {
      this.#failed(error);
    }
    this.#paint();
  }

  /* What a lost connection cut off is asked again at the next login. */
  #failed(error) {
    if (error.reason !== 'DISCONNECTED')
      this.#view.announce(error.message);
  }

  /* ---- what arrives ---- */

  #arrived(message) {
    const is_new = this.#model.putMessage(message);
    const from = message.FromUser;

    this.#endTyping(message.ConversationId, from.UserId);
    for (const user_id of [from.UserId, ...message.Members ?? []])
      this.#meet(user_id);
    if (is_new && from.UserId !== this.#model.me.UserId)
      this.#view.announce(`${from.Name}: ${message.Message}`);
    this.#markRead();
  }

  /* Somebody who is not in the list may be a member of a conversation. */
  async #meet(user_id) {
    if (this.#model.users.has(user_id) || user_id === this.#model.me.UserId)
      return;
    this.#model.putUser({ UserId: user_id, Name: `User ${user_id}` });
    try {
      this.#model.putUser(await this.#parley.getUser(user_id));
      this.#paint();
    } catch (error) {
      this.#failed(error);
    }
  }

  #presenceChanged(presence) {
    const { UserId, Status, StatusText, LastSeen } = presence;

    if (UserId === this.#model.me.UserId)
      return;
    this.#meet(UserId);
    this.#model.putUser({ UserId, Status, StatusText,
      ...LastSeen && { LastSeen } });
  }

  #typed({ UserId, ConversationId, State }) {
    const key = `${ConversationId} ${UserId}`;

    this.#endTyping(ConversationId, UserId);
    if (State !== 'STARTED')
      return;
    this.#model.conversation(ConversationId).typing.add(UserId);
    this.#typingEnds.set(key, setTimeout(() => {
      this.#endTyping(ConversationId, UserId);
      this.#paint();
    }, TYPING_END_MS));
  }

  #endTyping(conversation_id, user_id) {
    const key = `${conversation_id} ${user_id}`;

    clearTimeout(this.#typingEnds.get(key));
    this.#typingEnds.delete(key);
    this.#model.conversations.get(conversation_id)?.typing.delete(user_id);
  }

  /* ---- one conversation ---- */

  #openConversation() {
    return this.#model.conversations.get(this.#model.openId);
  }

  #open(conversation) {
    const text = element('text');

    if (this.#model.openId !== null)
      this.#drafts.set(this.#model.openId, text.value);
    this.#model.openId = conversation.id;
    text.value = this.#drafts.get(conversation.id) ?? '';
    this.#typingToldAt = 0;
    if (element('chat').dataset.view === 'list')
      history.pushState({ view: 'conversation' }, '');
    element('chat').dataset.view = 'conversation';
    this.#paintNow();
    text.focus();
    if (!conversation.isLoaded)
      this.#loadPage(conversation);
    this.#markRead();
  }

  /* Back on a phone: the list, and nothing is being read any more. */
  #showList() {
    element('chat').dataset.view = 'list';
    if (matchMedia('(max-width: 44rem)').matches)
      this.#leave();
  }

  #leave() {
    const id = this.#model.openId;

    this.#drafts.set(id, element('text').value);
    this.#model.openId = null;
    this.#paintNow();
    document.querySelector('#list button')?.focus();
  }

  /* The newest page, or the one above the oldest message there is. */
  async #loadPage(conversation) {
    const oldest = conversation.isLoaded
      ? conversation.messages[0]?.MessageId : undefined;

    if (this.#pages.has(conversation.id) || !conversation.hasMore)
      return;
    this.#pages.add(conversation.id);
    try {
      const page = await this.#parley.getMessages({ before: oldest,
        conversationId: conversation.id, limit: PAGE_SIZE });
      this.#model.putPage(conversation, page.Messages, page.HasMore);
    } catch (error) {
      if (error.reason === 'NOT_FOUND') /* nothing was said yet */
        this.#model.putPage(conversation, [], false);
      else
        this.#failed(error);
    } finally {
      this.#pages.delete(conversation.id);
    }
    this.#paintNow();
    this.#markRead();
    const pane = element('messages');
    if (conversation.isLoaded && conversation.id === this.#model.openId &&
        pane.scrollHeight <= pane.clientHeight)
      this.#loadPage(conversation); /* too few to scroll */
  }

  #markRead() {
    const conversation = this.#openConversation();
    const last = conversation?.messages.at(-1);

    if (!last || conversation.unread === 0 || !document.hasFocus())
      return;
    conversation.unread = 0;
    this.#paint();
    this.#parley.markRead(conversation.id, last.MessageId)
      .catch((error) => this.#failed(error));
  }

  /* ---- what is written ---- */

  #submit() {
    const conversation = this.#openConversation();
    const text = element('text').value.trim();

    if (text === '' || conversation === undefined)
      return;
    element('text').value = '';
    this.#typingToldAt = 0;
    this.#send(conversation,
      this.#model.addPending(conversation, text, newId(), Date.now()));
    this.#paintNow();
    this.#view.scrollToEnd();
  }

  /* A retry is the same message: same id, same time. */
  async #send(conversation, message) {
    const { MessageId: none, error, ...content } = message;

    message.error = null;
    this.#paint();
    try {
      const reply = await this.#parley.send(this.#model.target(conversation),
        message.Message, { clientMessageId: message.ClientMessageId,
          clientInitiationTime: message.ClientInitiationTime });
      this.#model.putMessage({ ...content, MessageId: reply.MessageId,
        ConversationId: reply.ConversationId,
        ServerTime: reply.ServerTime ?? message.ServerTime });
    } catch (failure) {
      message.error = `Not sent: ${failure.message}`;
    }
    this.#paint();
  }

  #tellTyping() {
    const conversation = this.#openConversation();
    const is_empty = element('text').value.trim() === '';

    if (conversation === undefined)
      return;
    if (is_empty && this.#typingToldAt !== 0) {
      this.#typingToldAt = 0;
      this.#parley.typing(this.#model.target(conversation), false);
    } else if (!is_empty &&
        Date.now() - this.#typingToldAt > TYPING_REPEAT_MS) {
      this.#typingToldAt = Date.now();
      this.#parley.typing(this.#model.target(conversation));
    }
  }

  /* ---- page ---- */

  #listenToPage() {
    const text = element('text');

    this.#on(element('composer'), 'submit', (event) => {
      event.preventDefault();
      this.#submit();
      text.focus();
    });
    this.#on(text, 'keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#submit();
      }
    });
    this.#on(text, 'input', () => this.#tellTyping());
    this.#on(element('messages'), 'scroll', () => {
      const conversation = this.#openConversation();
      if (conversation?.isLoaded && element('messages').scrollTop < NEAR_TOP_PX)
        this.#loadPage(conversation);
    });
    this.#on(element('my-status'), 'change', (event) =>
      this.#parley.updateStatus(event.target.value)
        .catch((error) => this.#failed(error)));
    this.#on(element('log-out'), 'click', () => this.#parley.logout());
    this.#on(element('back'), 'click', () => history.back());
    this.#on(window, 'popstate', () => this.#showList());
    this.#on(window, 'focus', () => this.#markRead());
    this.#on(window, 'beforeunload', (event) => {
      if (this.#parley.unsentCount > 0)
        event.preventDefault(); /* what is unsent lives in this page only */
    });
  }

  /* However many events a frame brings, it is painted once. */
  #paint() {
    if (this.#isPainting)
      return;
    this.#isPainting = true;
    setTimeout(() => this.#paintNow(), document.hidden ? 500 : 16);
  }

  #paintNow() {
    this.#isPainting = false;
    if (!this.#isGone)
      this.#view.paint();
  }
}

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
