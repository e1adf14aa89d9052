/*
 * story.mjs - www/parley.js against a server that is killed meanwhile.
 *
 * Usage: node story.mjs PORT TOKENS, with TOKENS a JSON object: user id to JWT.
 * Role:  says in lines of JSON what it claims ({ok, name}) and what is to be
 *        done ({kill}), the latter answered by a line; t/16-js-server.t is at
 *        the other end. Media are those of ../lib/rtc.mjs; their signals are
 *        real.
 */

import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

import { Calls } from '../../../www/parley-call.js';
import { Parley } from '../../../www/parley.js';
import { makeStorage } from '../lib/fake.mjs';
import { makeRandom } from '../lib/random.mjs';
import { FakeStream, FakeTrack, World } from '../lib/rtc.mjs';
import { Page } from './socket.mjs';

globalThis.crypto ??= webcrypto; /* Node 18 */

const [port, tokens] = [process.argv[2], JSON.parse(process.argv[3])];
const DEADLINE_MS = 60_000;
const input = createInterface({ input: process.stdin });

function say(line) { process.stdout.write(`${JSON.stringify(line)}\n`); }

async function order(line) {
  const done = once(input, 'line');
  say(line);
  await done;
}

function claim(name, fn) {
  try {
    fn();
    say({ ok: true, name });
  } catch (error) {
    say({ ok: false, name, error: error.message });
  }
}

async function until(what, check) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!check()) {
    if (Date.now() > deadline)
      throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 5); });
  }
}

/** A user's device: a client, what it got, and the storage of its tab. */
class Device {
  storage = makeStorage();
  events = [];

  constructor(user) {
    this.user = user;
  }

  /** A page of this device; the one before is gone. */
  async load() {
    this.page?.leave();
    this.page = new Page();
    this.client = new Parley({ url: `ws://127.0.0.1:${port}/ws`,
      token: () => tokens[this.user], WebSocket: this.page.WebSocket,
      storage: this.storage, outbox: this.storage });
    for (const type of ['message', 'group', 'collaboration-outcome', 'reset',
      'warning', 'sent', 'refused'])
      this.client.addEventListener(type, ({ detail }) =>
        this.events.push([type, detail]));
    await this.client.connect();
    return this.client;
  }

  of(type) { return this.events.filter(([t]) => t === type).map(([, d]) => d); }
}

const [ann, bob, cleo, tablet] = [1, 2, 3, 2].map((id) => new Device(id));

/* ---- messages, while processes die and the page is loaded again ---- */

async function messages() {
  const texts = Array.from({ length: 240 }, (_, i) => `m${i}`);
  const kills = new Map([[40, 'worker-0'], [90, 'keeper'], [140, 'worker-1']]);

  await Promise.all([ann.load(), bob.load(), cleo.load()]);
  for (const [i, text] of texts.entries()) {
    if (kills.has(i))
      await order({ kill: kills.get(i) });
    if (i === 190) {
      ann.client.send(2, 'last words').catch(() => {});
      await ann.load(); /* with whatever has no answer yet */
    }
    ann.client.send(2, text).catch(() => {});
    if (i % 10 === 0)
      await until('an answer', () => ann.client.unsentCount < 40);
  }
  texts.splice(190, 0, 'last words');
  await until('all messages', () => ann.client.unsentCount === 0 &&
    bob.of('message').length >= texts.length);
  claim('each message arrives once and in order, over kills and a reload', () =>
    assert.deepEqual(bob.of('message').map((m) => m.Message), texts));
  claim('each is told as sent, by the page that has it then', () =>
    assert.deepEqual(new Set(ann.of('sent').map((s) => s.message.Message)),
      new Set(texts)));
  claim('nothing is left in the storage', () => assert.deepEqual(
    [...ann.storage.map.keys()].filter((key) => key.includes('outbox')), []));
  const history = [];
  for await (const message of bob.client.messages({ userId: 1, limit: 50 }))
    history.push(message.Message);
  claim('the history is read page by page, newest first', () =>
    assert.deepEqual(history, [...texts].reverse()));
  claim('no event was missed', () => assert.deepEqual(
    [ann, bob, cleo].flatMap((device) => device.of('reset')), []));
}

/* ---- groups ---- */

async function groups() {
  const made = ann.client.createGroup('ward', [2, 3]);
  ann.page.drop(); /* whether it was heard is not known */
  const { GroupId } = await made;
  await ann.client.send({ GroupId }, 'to all');
  await until('a message to the group', () =>
    cleo.of('message').some((m) => m.GroupId === GroupId));
  const [event] = cleo.of('group');
  claim('a group is made once, though its maker was cut off', () =>
    assert.deepEqual([cleo.of('group').length, event.Event, event.MemberCount],
      [1, 'CREATED', 3]));
  await ann.client.updateGroup(GroupId, { name: 'ward 3',
    roles: [{ UserId: 2, Role: 'ADMIN' }] });
  await bob.client.updateGroup(GroupId, { remove: [3] });
  await until('the removal', () =>
    cleo.of('group').some((g) => g.Removed?.includes(3)));
  const [group] = await bob.client.getGroups();
  claim('roles and members are changed', () => assert.deepEqual(
    [group.Name, group.Role, group.MemberCount], ['ward 3', 'ADMIN', 2]));
  const members = await ann.client.getGroupMembers(GroupId);
  claim('the members are listed', () => assert.deepEqual(
    members.map((m) => [m.UserId, m.Role]), [[1, 'OWNER'], [2, 'ADMIN']]));
  await bob.client.leaveGroup(GroupId);
  const left = await bob.client.getGroups();
  claim('who has left has no group', () => assert.deepEqual(left, []));
}

/* ---- a call ---- */

async function calls() {
  const world = new World(makeRandom(1));
  const rung = [];
  const connected = () => world.connections.length === 2 &&
    world.connections.every((pc) => pc.connectionState === 'connected');
  const pump = setInterval(async () => {
    for (let i = 0; i < 20 && !world.isQuiet; i++)
      await world.step();
  }, 2);

  await tablet.load();
  for (const device of [ann, bob, tablet]) {
    device.calls = new Calls(device.client, { MediaStream: FakeStream,
      RTCPeerConnection: world.RTCPeerConnection });
    device.calls.addEventListener('call', ({ detail }) => {
      rung.push(device);
      device.call = detail.call;
    });
  }
  const stream = () => new FakeStream([new FakeTrack('audio'),
    new FakeTrack('video')]);
  const call = ann.calls.start(2, { stream: stream(), payload: { a: 1 } });
  await call.ready;
  await until('it rings at both', () => rung.length === 2);
  claim('a call rings on both devices, with its payload', () =>
    assert.deepEqual([new Set(rung), bob.call.payload, bob.call.fromUserId],
      [new Set([bob, tablet]), { a: 1 }, 1]));
  await bob.call.accept(stream());
  await until('media', connected);
  await until('the tablet to fall silent', () =>
    tablet.call.state === 'ended');
  claim('answered on one, it ends on the other', () => assert.deepEqual(
    [call.state, bob.call.state, tablet.call.endReason],
    ['active', 'active', 'ANSWERED_ELSEWHERE']));

  const before = [ann, bob].map((device) => device.client.sessionId);
  for (const device of [ann, bob, tablet])
    device.page.drop();
  await until('both to be back', () => [ann, bob].every((device, i) =>
    ![null, before[i]].includes(device.client.sessionId)));
  await until('both to be in it', () => call.participants
    .every((person) => person.State === 'JOINED'));
  const screen = new FakeTrack('video');
  await call.shareScreen(screen);
  world.connections[0].breakPath();
  await until('media again', connected);
  claim('a lost connection to the server leaves the media alone', () =>
    assert.deepEqual([world.made, call.state, bob.call.state],
      [2, 'active', 'active']));

  const gone = bob.call;
  gone.ended('CLOSED'); /* a browser closes the connections of a page */
  await bob.load();
  bob.calls = new Calls(bob.client, { MediaStream: FakeStream,
    RTCPeerConnection: world.RTCPeerConnection });
  const [{ detail: { call: again } }] = await once(bob.calls, 'call');
  await again.accept(stream());
  await until('media with the new page', connected);
  claim('a page that is loaded again is in the call again', () =>
    assert.deepEqual([again.state, again.peers[0].stream.getTracks().length],
      ['active', 2]));

  await again.hangUp();
  await until('the end', () => call.state === 'ended');
  await until('the outcome', () => [ann, bob, tablet].every((device) =>
    device.of('collaboration-outcome').length > 0));
  claim('no connection is left over', () =>
    assert.deepEqual([call.endReason, world.connections.length], ['ENDED', 0]));
  claim('each device is told the outcome, once', () => assert.deepEqual(
    [ann, bob, tablet].map((device) => device.of('collaboration-outcome')
      .map((outcome) => outcome.Outcome)),
    [['ANSWERED'], ['ANSWERED'], ['ANSWERED']]));
  const past = [];
  for await (const row of ann.client.collaborationHistory({ limit: 1 }))
    past.push(row.CollaborationId);
  claim('it is in the history', () => assert.deepEqual(past, [call.id]));
  clearInterval(pump);
}

await messages();
await groups();
await calls();
for (const device of [ann, bob, cleo, tablet])
  await device.client.logout();
claim('the clients are gone', () => assert.deepEqual(
  [ann, bob].map((device) => device.client.state), ['closed', 'closed']));
say({ end: true });
process.exit(0);
