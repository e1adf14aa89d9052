/*
 * chat.mjs - two people at the demo page: messages, reload, dead processes.
 *
 * Role: what a user of the page relies on, whatever happens to the server.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { story, until } from './lib/stage.mjs';

const BURST = 30;
let alice;
let bruno;

function numbered(word) {
  return Array.from({ length: BURST }, (_, i) => `${word} ${i + 1}.`);
}

async function sayAll(tab, texts) {
  for (const text of texts)
    await tab.say(text);
}

async function hasAll(tab, texts) {
  await tab.hear(texts.at(-1));
  const shown = await tab.texts();
  assert.deepEqual(shown.filter((text) => texts.includes(text)), texts,
    'each once and in order');
}

story('chat', { after, before, test }, {
  'two people log in and see each other online': async (stage) => {
    const sockets = [];
    alice = await stage.visit('1');
    alice.page.on('websocket', (socket) => sockets.push(socket));
    await alice.page.getByRole('button', { name: alice.name }).dblclick();
    await alice.isReady();
    assert.equal(sockets.length, 1, 'pressed twice, it is one login');
    bruno = await stage.enter('2');
    await alice.see('#list li:has(.avatar[data-status="ONLINE"])',
      'Bruno Keller');
  },

  'what one writes the other reads, and both know it': async () => {
    await alice.talkTo('Bruno Keller');
    await alice.say('Good morning, Bruno');
    await alice.progressIs('Good morning, Bruno', 'delivered');
    await bruno.see('#list .badge', '1');
    await bruno.talkTo('Alice Martin');
    await bruno.hear('Good morning, Bruno');
    await alice.progressIs('Good morning, Bruno', 'read');
    await bruno.gone('#list .badge:not([hidden])');
  },

  'one sees that the other is typing, until the message is there': async () => {
    await bruno.page.locator('#text').pressSequentially('Hel');
    await alice.see('#typing', 'Bruno Keller is typing');
    await bruno.say('Hello Alice');
    await alice.hear('Hello Alice');
    await until(async () =>
      await alice.page.locator('#typing').textContent() === '',
    'typing ends');
  },

  'markup is text': async () => {
    const text = '<img src=x onerror=alert(1)><b>bold</b>';

    await alice.say(text);
    await bruno.hear(text);
    assert.equal(await bruno.page.locator('.message img, .message b').count(),
      0);
  },

  'a reload stays logged in and shows the same': async () => {
    const shown = await alice.texts();

    await alice.page.reload();
    await alice.isReady();
    await alice.talkTo('Bruno Keller');
    await alice.hear('Hello Alice');
    assert.deepEqual(await alice.texts(), shown);
  },

  'what is sent while one reloads is there after it, once': async () => {
    const texts = numbered('while you were away');
    const reload = alice.page.reload();

    await sayAll(bruno, texts);
    await reload;
    await alice.isReady();
    await alice.talkTo('Bruno Keller');
    await hasAll(alice, texts);
    await hasAll(bruno, texts);
  },

  'workers die during a chat: nothing is lost, nothing shown twice':
    async (stage) => {
      const from_alice = numbered('alice, workers die');
      const from_bruno = numbered('bruno, workers die');
      const back = stage.kill9('worker-0', 'worker-1');

      await Promise.all([sayAll(alice, from_alice),
        sayAll(bruno, from_bruno)]);
      await back;
      for (const tab of [alice, bruno]) {
        await hasAll(tab, from_alice);
        await hasAll(tab, from_bruno);
      }
      await alice.progressIs(from_alice.at(-1), 'read');
    },

  'connections die, too: the page says so and recovers by itself':
    async (stage) => {
      const texts = numbered('nobody holds the line');

      await alice.listenTo('#banner-text');
      const back = stage.kill9('holder-0', 'holder-1', 'worker-0',
        'worker-1');
      await sayAll(alice, texts);
      await back;
      await until(async () => (await alice.said('#banner-text'))
        .some((text) => /connect/i.test(text)), 'the page tells of it');
      await alice.isReady();
      await bruno.isReady();
      await hasAll(alice, texts);
      await hasAll(bruno, texts);
      await alice.progressIs(texts.at(-1), 'read');
    },

  'the keeper dies: a pause, no more': async (stage) => {
    const texts = numbered('the keeper dies');
    const back = stage.kill9('keeper');

    await sayAll(alice, texts);
    await back;
    await hasAll(bruno, texts);
  },

  'log out asks before what is not sent is lost, and leaves nothing':
    async (stage) => {
      const questions = [];
      const logOut = async (answer) => {
        alice.page.once('dialog', (dialog) => {
          questions.push(dialog.message());
          dialog[answer]();
        });
        await alice.page.getByRole('button', { name: 'Log out' }).click();
      };

      await stage.ctl('user', 'remove', '2');
      await alice.say('Are you still there?');
      await alice.see('.failure', 'Not sent');
      await logOut('dismiss');
      await alice.see('.failure', 'Not sent');
      await logOut('accept');
      assert.deepEqual(questions.map((text) => /^One message/.test(text)),
        [true, true]);
      await alice.see('#login');
      assert.equal(await alice.page.locator('.message').count(), 0);
      assert.equal((await alice.page.content()).includes('Good morning'), false);
    },
});
