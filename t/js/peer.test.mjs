/*
 * peer.test.mjs - www/parley-peer.js under any schedule.
 *
 * Role: two ends, each with its RTCPeerConnection of lib/rtc.mjs, and a relay
 *       as P_SIGNAL is one: in order, and lossy when an end has no connection.
 *       However the tasks interleave, both end in the same state.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Peer } from '../../www/parley-peer.js';
import { ParleyError, Timers } from '../../www/parley-util.js';
import { eachSeed, makeRandom } from './lib/random.mjs';
import { FakeTrack, World } from './lib/rtc.mjs';

/** One of two pages; `reload` makes it anew. */
class End {
  peer = null;
  pcs = [];
  log = [];
  isOnline = true;
  wanted = new Map(); /* kind: track */

  constructor(world, name, relay) {
    this.world = world;
    this.name = name;
    this.relay = relay;
  }

  get pc() { return this.pcs.at(-1); }

  load() {
    const { world } = this;
    const MakeConnection = world.RTCPeerConnection;

    this.peer?.close();
    this.pcs = [];
    const peer = new Peer(this.name === 'b', {
      timers: new Timers(world.clock),
      connect: () => {
        const pc = new MakeConnection({ iceServers: [] });
        this.pcs.push(pc);
        return pc;
      },
      connected: () => this.send(),
      send: (signal) => this.relay(this, signal),
      refresh: async () => [{ urls: 'stun:fresh' }],
      emit: (type, detail) => this.log.push([type, detail]),
    });
    this.peer = peer;
  }

  async send() {
    for (const [kind, track] of this.wanted)
      await this.peer?.setTrack(kind, track);
  }

  add(kind) {
    this.wanted.set(kind, new FakeTrack(kind));
    this.send();
  }

  get warnings() {
    return this.log.filter(([type]) => type === 'warning')
      .map(([, { error }]) => error);
  }
}

function makePair(random, { isLossy = false } = {}) {
  const world = new World(random);
  const pair = { world };
  const relay = (from, signal) => new Promise((resolve, reject) => {
    const to = from === pair.a ? pair.b : pair.a;
    const copy = JSON.parse(JSON.stringify(signal));
    const refuse = (reason) => reject(new ParleyError(reason));

    assert.ok(JSON.stringify(copy).length < 65_536);
    world.post(`${from.name} sends`, () => {
      if (!from.isOnline) {
        refuse('DISCONNECTED');
      } else if (!to.isOnline) {
        refuse('UNAVAILABLE');
      } else {
        world.post(`${from.name} to ${to.name}`, () => {
          if (to.isOnline)
            to.peer.take(copy);
        });
        /* the answer may be lost although it was handed on */
        const is_told = !isLossy || random.chance(0.95);
        world.post(`${from.name} hears`, () =>
          (is_told ? resolve() : refuse('DISCONNECTED')));
      }
    });
  });
  pair.a = new End(world, 'a', relay);
  pair.b = new End(world, 'b', relay);
  return pair;
}

function assertAgreed({ world, a, b }) {
  assert.equal(world.connections.length, 2, 'no connection is left over');
  for (const [one, other] of [[a, b], [b, a]]) {
    assert.equal(one.pc.signalingState, 'stable', `${one.name} is stable`);
    assert.equal(one.pc.connectionState, 'connected',
      `${one.name} is connected`);
    for (const track of one.pc.sentTracks)
      assert.ok(other.pc.heardTracks.includes(track) || track === null,
        `${other.name} hears ${track}`);
    assert.equal(one.pc.sentTracks.length, one.wanted.size);
  }
}

test('both offer at the same time: one gives way', async () => {
  await eachSeed(150, async (random) => {
    const pair = makePair(random);
    for (const end of [pair.a, pair.b]) {
      end.add('audio');
      end.add('video');
      end.load();
    }
    await pair.world.run();
    assertAgreed(pair);
    assert.deepEqual([...pair.a.warnings, ...pair.b.warnings], []);
    assert.equal(pair.world.made, 2, 'no connection was given up');
    pair.a.peer.close();
    pair.b.peer.close();
    assert.equal(pair.world.connections.length, 0);
  });
});

test('who sends nothing hears all the same', async () => {
  await eachSeed(20, async (random) => {
    const pair = makePair(random);
    pair.a.add('video');
    pair.a.load();
    pair.b.load();
    await pair.world.run();
    assertAgreed(pair);
    assert.deepEqual(pair.b.log.filter(([type]) => type === 'track').length, 1);
  });
});

test('a path that breaks is found again, with fresh servers', async () => {
  await eachSeed(50, async (random) => {
    const pair = makePair(random);
    for (const end of [pair.a, pair.b]) {
      end.add('audio');
      end.load();
    }
    await pair.world.run();
    pair.a.pc.breakPath();
    if (random.chance(0.7))
      pair.b.pc.breakPath();
    else
      pair.b.add('video');
    await pair.world.run();
    assertAgreed(pair);
    assert.equal(pair.world.made, 2);
    assert.deepEqual(pair.a.pc.getConfiguration().iceServers,
      [{ urls: 'stun:fresh' }]);
  });
});

test('a page that is loaded again is met again', async () => {
  await eachSeed(100, async (random) => {
    const pair = makePair(random);
    for (const end of [pair.a, pair.b]) {
      end.add('audio');
      end.load();
    }
    await pair.world.run(random.below(120));
    const end = random.pick([pair.a, pair.b]);
    end.load();
    await pair.world.run(random.below(40));
    end.load();
    await pair.world.run();
    assertAgreed(pair);
  });
});

test('tracks, breaks, reloads and losses in any order end in a call',
  async () => {
    await eachSeed(150, async (random) => {
      const pair = makePair(random, { isLossy: true });
      const { world, a, b } = pair;
      for (const end of [a, b]) {
        end.add('audio');
        end.load();
      }
      for (let i = random.below(8); i >= 0; i--) {
        const end = random.pick([a, b]);
        const what = random.below(5);
        await world.run(random.below(60));
        if (what === 0 && !end.wanted.has('video')) {
          end.add('video');
        } else if (what === 1) {
          end.pc?.breakPath();
        } else if (what === 2) {
          end.load();
        } else if (what === 3) {
          end.isOnline = false; /* what is under way to it is lost */
          await world.run(random.below(30));
          world.drop('a to b');
          world.drop('b to a');
          end.isOnline = true;
          a.peer.resume();
          b.peer.resume();
        } else {
          end.peer.resume();
        }
      }
      await world.run();
      for (let i = 0; i < 3; i++) {
        for (const pc of world.connections) {
          if (pc.connectionState !== 'connected')
            pc.giveUp(); /* candidates were lost */
        }
        await world.run();
      }
      assertAgreed(pair);
      a.peer.close();
      b.peer.close();
      await world.run();
      assert.equal(world.connections.length, 0);
    });
  });

test('candidates under way together go in one signal', async () => {
  const signals = [];
  let handOn;
  const world = new World(makeRandom(1));
  const Connection = world.RTCPeerConnection;
  let pc;
  const peer = new Peer(false, {
    timers: new Timers(world.clock),
    connect: () => (pc = new Connection({})),
    connected() {},
    send: (signal) => {
      signals.push(signal);
      return new Promise((resolve) => { handOn = resolve; });
    },
    refresh: async () => null,
    emit() {},
  });
  peer.take({ From: 'x', To: signals[0].From });
  await world.run();
  handOn();
  await world.run();
  for (let i = 0; i < 100; i++)
    pc.onicecandidate({ candidate: { candidate: String(i) } });
  pc.onicecandidate({ candidate: null });
  for (let i = 0; i < 5; i++) {
    handOn();
    await world.run();
  }
  const counts = signals.slice(1).map((s) => s.Candidates?.length);
  assert.deepEqual(counts, [1, 40, 40, 19]);
  assert.ok(signals.slice(1).every((s) => s.To === 'x'));
});

test('rubbish in a signal is a warning at most', async () => {
  const pair = makePair(makeRandom(2));
  for (const end of [pair.a, pair.b]) {
    end.add('audio');
    end.load();
  }
  await pair.world.run();
  const { From, To } = { From: null, To: null };
  for (const signal of [null, 7, 'x', [], {}, { From: 7 }, { From, To },
    { From: 'y', To: 'nobody' }])
    pair.a.peer.take(signal);
  await pair.world.run();
  assertAgreed(pair);
});

/** One end, and what it sends, with the other end played by the test. */
function makeScripted(is_polite) {
  const world = new World(makeRandom(3));
  const Connection = world.RTCPeerConnection;
  const one = { world, sent: [], warnings: [], other: new Connection({}) };
  one.peer = new Peer(is_polite, {
    timers: new Timers(world.clock),
    connect: () => (one.pc = new Connection({})),
    connected: () => one.peer.setTrack('audio', new FakeTrack('audio')),
    send: async (signal) => one.sent.push(signal),
    refresh: async () => null,
    emit: (type, { error }) => type === 'warning' && one.warnings.push(error),
  });
  one.say = async (fields) => {
    one.peer.take({ From: 'x', To: one.sent[0].From, ...fields });
    await world.run();
  };
  return one;
}

test('candidates that come before their description wait for it', async () => {
  const one = makeScripted(true);
  const candidates = [];
  one.other.onicecandidate = ({ candidate }) =>
    candidate && candidates.push(candidate);
  one.other.addTrack(new FakeTrack('audio'));
  one.other.setLocalDescription();
  await one.world.run();
  await one.say({ Candidates: candidates });
  await one.say({ Description: one.other.localDescription, Round: 1 });
  assert.equal(candidates.length, 2);
  assert.deepEqual(one.warnings, []);
  assert.ok(one.sent.some((s) => s.Description?.type === 'answer'));
});

test('an answer to an offer that was given up is no answer to the next',
  async () => {
    const one = makeScripted(false);
    await one.say({});
    const offer = one.sent.find((s) => s.Description?.type === 'offer');
    const late = { type: 'answer',
      sdp: JSON.stringify({ to: -1, tracks: [] }) };
    await one.say({ Description: late, Round: offer.Round - 1 });
    assert.equal(one.pc.signalingState, 'have-local-offer');
    assert.deepEqual(one.warnings, []);
  });
