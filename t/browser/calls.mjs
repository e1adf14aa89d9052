/*
 * calls.mjs - video calls between tabs: ringing on two devices, answered on
 * one, frames counted, hang-up, and those that nobody answers.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { story, until } from './lib/stage.mjs';

let alice;
let bruno;
let brunos_phone;

const PHONE = { viewport: { width: 390, height: 700 } };

function press(tab, name) {
  return tab.page.getByRole('button', { name, exact: true }).click();
}

/* Pressed twice, it is one call. */
async function call(kind = 'Video call') {
  await alice.page.getByRole('button', { name: kind, exact: true }).dblclick();
  await alice.see('#call-state', /Ringing/);
}

async function ringsAtBoth() {
  for (const tab of [bruno, brunos_phone])
    await tab.see('.ring', 'Alice Martin');
}

async function isQuiet(tab) {
  await tab.gone('.ring');
  await tab.gone('#call');
  assert.deepEqual(await tab.page.evaluate(() => globalThis.peerConnections
    .map((peer) => peer.connectionState)
    .filter((state) => state !== 'closed')), [], 'no connection is left');
  assert.equal(await tab.page.evaluate(() => globalThis.captured
    .filter(({ readyState }) => readyState === 'live').length), 0,
  'camera and microphone are off');
}

async function lastNote(tab, text) {
  await until(async () => text.test(
    await tab.page.locator('.note').last().textContent()
      .catch(() => '')), `the last line is ${text}`);
}

story('calls', { after, before, test }, {
  'two people log in, one of them twice': async (stage) => {
    alice = await stage.enter('1');
    bruno = await stage.enter('2');
    brunos_phone = await stage.enter('2', PHONE);
    await alice.talkTo('Bruno Keller');
    await bruno.talkTo('Alice Martin');
  },

  'a call rings on all devices of who is called': async () => {
    await call();
    await ringsAtBoth();
    await bruno.see('.ring', 'Incoming video call');
    assert.equal(await bruno.page.title(), 'Alice Martin is calling');
  },

  'answered on one, the other stops ringing': async () => {
    await press(bruno, 'Accept');
    await isQuiet(brunos_phone);
    await brunos_phone.see('#toast', 'answered on another device');
  },

  'video flows both ways': async () => {
    await Promise.all([alice.seesVideo(), bruno.seesVideo()]);
    await Promise.all([alice.seesVideo(), bruno.seesVideo()]);
    await alice.see('#call-time', /^\d:\d\d$/);
    await bruno.see('#call-time', /^\d:\d\d$/);
    await alice.see('#call-self');
  },

  'the end of the chat stays in sight below the picture': async () => {
    await bruno.say('Now I can see you');
    await alice.hear('Now I can see you');
    await until(() => alice.page.locator('#messages').evaluate((pane) =>
      pane.scrollHeight - pane.scrollTop - pane.clientHeight < 2), 'the end');
  },

  'others see that both are in a call': async (stage) => {
    const chiara = await stage.enter('3');

    await chiara.see('.avatar[data-status="CALL"]');
    await stage.leave(chiara);
  },

  'microphone and camera go off and on': async () => {
    const sends = (kind) => alice.page.evaluate((wanted) =>
      globalThis.peerConnections.flatMap((peer) => peer.getSenders())
        .filter(({ track }) => track?.kind === wanted)
        .every(({ track }) => track.enabled), kind);

    await press(alice, 'Mute');
    await press(alice, 'Camera off');
    assert.deepEqual([await sends('audio'), await sends('video')],
      [false, false]);
    await press(alice, 'Unmute');
    await press(alice, 'Camera on');
    assert.deepEqual([await sends('audio'), await sends('video')],
      [true, true]);
  },

  'one writes meanwhile, and a line leads back to the call': async () => {
    await alice.say('Can you see me?');
    await bruno.hear('Can you see me?');
    await alice.talkTo('Chiara Rossi');
    await alice.see('#call-banner', 'In a call: Bruno Keller');
    await alice.gone('#call');
    await press(alice, 'Return');
    await alice.see('#call');
    await alice.gone('#call-banner');
    await alice.seesVideo();
  },

  'a worker dies: the call goes on': async (stage) => {
    await stage.kill9('worker-0', 'worker-1');
    await alice.isReady();
    await bruno.isReady();
    await Promise.all([alice.seesVideo(), bruno.seesVideo()]);
  },

  'who loads the page again is asked back into the call': async () => {
    await bruno.page.reload();
    await bruno.isReady();
    await bruno.see('.ring', 'You were in this call');
    await press(bruno, 'Rejoin');
    await Promise.all([alice.seesVideo(), bruno.seesVideo()]);
  },

  'one hangs up, and it is over for both': async () => {
    await press(alice, 'Hang up');
    for (const tab of [alice, bruno]) {
      await isQuiet(tab);
      await lastNote(tab, /^Video call, \d:\d\d/);
    }
    assert.equal(await alice.page.evaluate(() =>
      document.querySelector('#call-self').srcObject), null);
  },

  'a call that is declined says so': async () => {
    await call();
    await ringsAtBoth();
    await press(bruno, 'Decline');
    for (const tab of [alice, bruno, brunos_phone])
      await isQuiet(tab);
    await alice.see('#toast', 'The call was declined');
    await lastNote(bruno, /^Video call declined/);
  },

  'a call that its maker gives up is a missed one': async () => {
    await call('Audio call');
    await ringsAtBoth();
    await brunos_phone.see('.ring', 'Incoming call');
    await press(alice, 'Hang up');
    for (const tab of [alice, bruno, brunos_phone])
      await isQuiet(tab);
    await lastNote(alice, /^Call cancelled/);
    await lastNote(bruno, /^Missed call/);
  },

  'one that nobody answers is missed, on every device': async () => {
    await call();
    await ringsAtBoth();
    for (const tab of [alice, bruno, brunos_phone])
      await isQuiet(tab);
    await alice.see('#toast', 'Nobody answered');
    await lastNote(alice, /^No answer/);
    await lastNote(bruno, /^Missed video call/);
    await brunos_phone.see('#list .badge');
    await brunos_phone.see('#list .preview', 'Missed video call');
  },

  'a reload still knows of it': async () => {
    await brunos_phone.page.reload();
    await brunos_phone.isReady();
    await brunos_phone.talkTo('Alice Martin');
    await lastNote(brunos_phone, /^Missed video call/);
  },
});
