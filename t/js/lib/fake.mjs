/*
 * fake.mjs - a clock and a WebSocket that the tests of parley.js drive.
 *
 * Role: nothing here waits or opens a socket. The server side of the last
 *       connection is `fake.server`; what the client sent is taken from it
 *       in order, so that a test which forgets a frame fails.
 */

import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';

import { Parley } from '../../../www/parley.js';

globalThis.crypto ??= webcrypto; /* Node 18 */

/** Lets promises that are due run. */
export function settle() {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

class Clock {
  #now = 1_000;
  #timers = new Map();
  #nextId = 1;

  now() { return this.#now; }

  setTimeout(fn, ms) {
    this.#timers.set(this.#nextId, { at: this.#now + ms, fn });
    return this.#nextId++;
  }

  clearTimeout(id) { this.#timers.delete(id); }

  get pendingCount() { return this.#timers.size; }

  /** Runs what falls due on the way, in order, and lets promises run. */
  async advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end)
        .sort((a, b) => a[1].at - b[1].at)[0];
      if (due === undefined)
        break;
      this.#timers.delete(due[0]);
      this.#now = Math.max(this.#now, due[1].at);
      due[1].fn();
      await settle();
    }
    this.#now = end;
  }

  /** Time passes while no timer can fire; then those due fire late. */
  async sleep(ms) {
    this.#now += ms;
    await this.advance(0);
  }
}

/** What the client sees as a WebSocket and the test as the server. */
class Peer {
  frames = [];
  isClosed = false;

  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
  }

  /* the client's side */
  send(text) {
    assert.equal(this.isClosed, false, 'nothing is sent after the close');
    this.frames.push(JSON.parse(text));
  }

  close() { this.isClosed = true; }

  /* the server's side */
  async open() {
    this.onopen?.({});
    await settle();
  }

  async say(...frames) {
    for (const frame of frames) {
      this.onmessage?.({
        data: typeof frame === 'string' ? frame : JSON.stringify(frame),
      });
    }
    await settle();
  }

  async drop(code = 1006) {
    this.isClosed = true;
    this.onclose?.({ code });
    await settle();
  }

  /** The next frame of the client, which must be this command. */
  take(command) {
    const frame = this.frames.shift();
    assert.equal(frame?.Command, command, `the client sent ${command}`);
    return frame;
  }

  takeNothing() {
    assert.deepEqual(this.frames, [], 'the client sent nothing more');
  }

  /** Answers a frame as the server would. */
  async reply(frame, fields = {}) {
    await this.say({ Command: frame.Command, RequestId: frame.RequestId,
      Reason: 'OK', ...fields });
  }
}

export const LOGIN = { UserId: 7, Name: 'Ann', SessionId: 's', Epoch: 'e1',
  FirstSeq: 1, LastSeq: 0, Recovered: true, Users: [], Collaborations: [],
  ServerTime: 1_700_000_000_000, PingInterval: 25_000,
  HeartbeatInterval: 1_800_000, MaxMessageSize: 1_048_576 };

export function makeStorage(items = {}) {
  const map = new Map(Object.entries(items));
  return {
    map,
    getItem: (key) => map.get(key) ?? null,
    setItem: (key, value) => map.set(key, value),
    removeItem: (key) => map.delete(key),
  };
}

/** An unsigned token that expires so many ms after the login. */
export function makeToken(sub, ttl_ms, note = '') {
  const body = { sub, note, exp: (LOGIN.ServerTime + ttl_ms) / 1000 };
  return `h.${Buffer.from(JSON.stringify(body)).toString('base64url')}.s`;
}

/** A client on fakes, with everything it emitted in `log`. */
export function makeFake(options = {}) {
  const fake = { peers: [], log: [], clock: new Clock(),
    storage: options.storage ?? makeStorage() };

  fake.client = new Parley({
    url: 'ws://test/ws', userName: '7', password: 'pw', random: () => 1,
    clock: fake.clock, storage: fake.storage,
    WebSocket: class extends Peer {
      constructor(...args) {
        super(...args);
        fake.peers.push(this);
      }
    },
    ...options,
  });
  for (const type of ['message', 'receipt', 'presence', 'typing', 'close',
    'reset', 'state', 'warning', 'event', 'message-edited', 'message-deleted',
    'group', 'collaboration', 'collaboration-outcome', 'signal', 'sent',
    'refused'])
    fake.client.addEventListener(type, (event) =>
      fake.log.push([type, event.detail]));
  Object.defineProperty(fake, 'server', { get: () => fake.peers.at(-1) });
  fake.of = (type) => fake.log.filter(([t]) => t === type).map(([, d]) => d);
  return fake;
}

/** Opens the connection that is under way and answers its login. */
export async function login(fake, fields = {}) {
  await settle();
  for (let i = 0; (fake.server?.isClosed ?? true) && i < 500; i++)
    await settle(); /* a storage that takes its time */
  await fake.server.open();
  const frame = fake.server.take('P_AUTHENTICATE');
  await fake.server.reply(frame, { ...LOGIN, ...fields });
  return frame;
}

/** A client that is logged in. */
export async function makeOnline(options, fields) {
  const fake = makeFake(options);
  fake.ready = fake.client.connect();
  fake.ready.catch(() => {});
  await login(fake, fields);
  return fake;
}

export function message(seq, fields = {}) {
  return { Command: 'P_MESSAGE', Seq: seq, MessageId: String(1000 + seq),
    ConversationId: '7-9', Members: [7, 9], Message: `m${seq}`,
    FromUser: { UserId: 9, Name: 'Bob' }, ...fields };
}
