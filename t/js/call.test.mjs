/*
 * call.test.mjs - calls through www/parley-call.js, from ringing to the end.
 *
 * Role: several clients and the server of lib/room.mjs in one World, whose
 *       seed decides what overtakes what; connections of lib/rtc.mjs.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Calls } from '../../www/parley-call.js';
import { ParleyError, emit } from '../../www/parley-util.js';
import { settle } from './lib/fake.mjs';
import { eachSeed, makeRandom } from './lib/random.mjs';
import { Room } from './lib/room.mjs';
import { FakeStream, FakeTrack, World } from './lib/rtc.mjs';

const KINDS = ['state', 'track', 'peer', 'channel', 'ended', 'warning',
  'participant'];

class Page {
  calls;
  rung = [];
  log = [];

  constructor(world, member) {
    this.member = member;
    this.stream = new FakeStream([new FakeTrack('audio'),
      new FakeTrack('video')]);
    this.calls = new Calls(member, { MediaStream: FakeStream,
      RTCPeerConnection: world.RTCPeerConnection, clock: world.clock });
    this.calls.addEventListener('call', ({ detail }) =>
      this.rung.push(this.follow(detail.call)));
  }

  follow(call) {
    for (const kind of KINDS)
      call.addEventListener(kind, ({ detail }) =>
        this.log.push([kind, detail]));
    return call;
  }

  call(to, options = {}) {
    return this.follow(this.calls.start(to, { stream: this.stream,
      ...options }));
  }

  of(kind) { return this.log.filter(([k]) => k === kind).map(([, d]) => d); }

  heard(userId) {
    const stream = this.calls.all[0].peers
      .find((peer) => peer.userId === userId)?.stream;
    return stream?.getTracks().map((track) => track.id).sort();
  }
}

function makeWorld(random, users) {
  const world = new World(random);
  const room = new Room(world);
  const pages = users.map((user) => new Page(world, room.enter(user)));
  return { world, room, pages };
}

function ids(page) {
  return page.stream.getTracks().map((track) => track.id).sort();
}

/* ---- the way of a call ---- */

test('a call rings, is answered, has media both ways, and is hung up',
  async () => {
    await eachSeed(60, async (random) => {
      const { world, pages: [a, b] } = makeWorld(random, [1, 2]);
      const call = a.call(2, { payload: { Subject: 'x' } });
      assert.equal(call.state, 'calling');
      await world.run();
      assert.equal(call.state, 'ringing');
      const [other] = b.rung;
      assert.deepEqual([other.kind, other.fromUserId, other.isIncoming,
        other.state], ['VIDEO', 1, true, 'ringing']);
      assert.deepEqual(other.payload, { Subject: 'x' });
      assert.equal(world.made, 0, 'no connection while it rings');
      other.accept(b.stream);
      await world.run();
      assert.deepEqual([call.state, other.state], ['active', 'active']);
      assert.deepEqual(a.heard(2), ids(b));
      assert.deepEqual(b.heard(1), ids(a));
      assert.equal(call.peers[0].state, 'connected');
      assert.equal((await call.stats()).get(2).size, 1);
      assert.deepEqual([...a.of('warning'), ...b.of('warning')], []);
      const [hangs, hears] = random.chance(0.5) ? [call, other] : [other, call];
      hangs.hangUp();
      await world.run();
      assert.deepEqual([hangs.endReason, hears.endReason], ['LEFT', 'ENDED']);
      assert.equal(world.connections.length, 0, 'no connection is left');
      assert.equal(world.made, 2);
      assert.deepEqual([a.calls.all, b.calls.all], [[], []]);
      assert.equal(a.of('ended').length, 1);
    });
  });

test('three in a call: each hears the other two, also who comes later',
  async () => {
    await eachSeed(40, async (random) => {
      const { world, pages } = makeWorld(random, [1, 2, 3]);
      const call = pages[0].call([2]);
      await world.run();
      pages[1].rung[0].accept(pages[1].stream);
      await world.run(random.below(40));
      await call.ready;
      call.invite(3);
      await world.run(random.below(40) + 10);
      while (pages[2].rung.length === 0)
        await world.step();
      pages[2].rung[0].accept(pages[2].stream);
      await world.run();
      for (const page of pages) {
        for (const other of pages.filter((p) => p !== page))
          assert.deepEqual(page.heard(other.member.userId), ids(other));
      }
      assert.equal(world.connections.length, 6);
      pages[1].rung[0].hangUp();
      await world.run();
      assert.equal(world.connections.length, 2);
      assert.equal(call.state, 'active');
      call.end();
      await world.run();
      assert.equal(pages[2].rung[0].endReason, 'ENDED');
      assert.equal(world.connections.length, 0);
    });
  });

test('a page that is loaded again takes part again', async () => {
  await eachSeed(60, async (random) => {
    const { world, room, pages: [a, b] } = makeWorld(random, [1, 2]);
    const call = a.call(2);
    await world.run();
    b.rung[0].accept(b.stream);
    await world.run(random.below(80));
    while (room.state !== 'ACTIVE')
      await world.step();
    for (const call_b of b.calls.all)
      call_b.ended('CLOSED'); /* the browser closes all that a page had */
    const member = room.reload(b.member);
    const again = new Page(world, member);
    room.loggedIn(member);
    await settle();
    const [mine] = again.rung;
    assert.deepEqual([mine.state, mine.hasJoined], ['active', false]);
    await world.run(random.below(40));
    mine.accept(again.stream);
    await world.run();
    assert.deepEqual(a.heard(2), ids(again));
    assert.deepEqual(again.heard(1), ids(a));
    assert.equal(world.connections.length, 2);
    assert.equal(call.state, 'active');
  });
});

test('refused, cancelled, missed, busy: both ends say so', async () => {
  for (const [act, mine, theirs] of [
    [({ other }) => other.reject(), 'REJECTED', 'REJECTED'],
    [({ other }) => other.hangUp(), 'REJECTED', 'REJECTED'],
    [({ call }) => call.hangUp(), 'CANCELLED', 'CANCELLED']]) {
    const { world, pages: [a, b] } = makeWorld(makeRandom(5), [1, 2]);
    const call = a.call(2);
    await world.run();
    act({ call, other: b.rung[0] });
    await world.run();
    assert.deepEqual([call.endReason, b.rung[0].endReason], [mine, theirs]);
    assert.equal(world.made, 0);
  }
  const { world, pages: [a, b] } = makeWorld(makeRandom(6), [1, 2]);
  const call = a.call(2);
  await world.run();
  for (const page of [a, b])
    emit(page.member, 'collaboration', { CollaborationId: '77',
      Event: 'MISSED', UserId: 2, State: 'ENDED', Participants: [
        { UserId: 1, State: 'LEFT' }, { UserId: 2, State: 'MISSED' }] });
  assert.deepEqual([call.endReason, b.rung[0].endReason],
    ['MISSED', 'MISSED']);

  const busy = makeWorld(makeRandom(7), [1]);
  busy.pages[0].member.createCollaboration = async () => ({ Reason: 'OK',
    CollaborationId: '77', State: 'ENDED', Participants: [
      { UserId: 1, State: 'LEFT' },
      { UserId: 2, State: 'BUSY', Busy: true }] });
  const refused = busy.pages[0].call(2);
  await refused.ready;
  assert.equal(refused.endReason, 'BUSY');
});

test('answered elsewhere: the other device stops ringing', async () => {
  const { world, room, pages: [a, b] } = makeWorld(makeRandom(8), [1, 2]);
  const twin = new Page(world, room.enter(2, 'twin'));
  a.call(2);
  await world.run();
  assert.deepEqual([b.rung.length, twin.rung.length], [1, 1]);
  twin.rung[0].accept(twin.stream);
  await world.run();
  assert.equal(b.rung[0].endReason, 'ANSWERED_ELSEWHERE');
  assert.equal(twin.rung[0].state, 'active');
  room.loggedIn(b.member);
  await settle();
  assert.equal(b.rung.length, 1, 'the call of another device is not ours');
});

test('a call that cannot be made ends, and ready says why', async () => {
  const { pages: [a] } = makeWorld(makeRandom(9), [1]);
  a.member.createCollaboration = async () => {
    throw new ParleyError('NOT_FOUND', 'no such user');
  };
  const call = a.call(2);
  await assert.rejects(call.ready, { reason: 'NOT_FOUND' });
  assert.equal(call.endReason, 'REFUSED');
  assert.equal(a.calls.all.length, 0);
});

test('who hangs up before the server has answered cancels', async () => {
  const { world, room, pages: [a, b] } = makeWorld(makeRandom(10), [1, 2]);
  const call = a.call(2);
  call.hangUp();
  assert.equal(call.state, 'ended');
  await world.run();
  assert.equal(room.state, 'ENDED');
  assert.equal(b.rung[0].endReason, 'CANCELLED');
});

test('a call that is over while there was no connection is lost; a closed '
  + 'client ends all', async () => {
  for (const [detail, reason] of [
    [{ state: 'authenticated', login: { Collaborations: [] } }, 'LOST'],
    [{ state: 'closed' }, 'CLOSED']]) {
    const { world, pages: [a, b] } = makeWorld(makeRandom(11), [1, 2]);
    const call = a.call(2);
    await world.run();
    b.rung[0].accept(b.stream);
    await world.run();
    emit(a.member, 'state', detail);
    await settle();
    assert.equal(call.endReason, reason);
    assert.equal(world.connections.length, 1);
    b.calls.close();
    await world.run();
    assert.equal(world.connections.length, 0);
  }
});

/* ---- media ---- */

test('mute, another camera and the screen need no new offer', async () => {
  const { world, pages: [a, b] } = makeWorld(makeRandom(12), [1, 2]);
  const call = a.call(2);
  await world.run();
  b.rung[0].accept(b.stream);
  await world.run();
  const pc = world.connections.find((c) => c.sentTracks.includes(ids(a)[0]));
  const before = pc.localDescription.sdp;

  call.setEnabled('audio', false);
  assert.deepEqual(a.stream.getTracks().map((t) => t.enabled), [false, true]);
  const camera = new FakeStream([new FakeTrack('audio'),
    new FakeTrack('video')]);
  await call.setStream(camera);
  assert.deepEqual(camera.getTracks().map((t) => t.enabled), [false, true]);
  assert.deepEqual(pc.sentTracks, camera.getTracks().map((t) => t.id));
  const screen = new FakeTrack('video');
  await call.shareScreen(screen);
  assert.equal(call.isSharing, true);
  assert.deepEqual(pc.sentTracks[1], screen.id);
  screen.dispatchEvent(new Event('ended'));
  await settle();
  assert.equal(call.isSharing, false);
  assert.deepEqual(pc.sentTracks, camera.getTracks().map((t) => t.id));
  await call.setStream(null);
  assert.deepEqual(pc.sentTracks, [null, null]);
  await world.run();
  assert.equal(pc.localDescription.sdp, before);
});

test('a screen in a call of voices is offered anew', async () => {
  const { world, pages: [a, b] } = makeWorld(makeRandom(13), [1, 2]);
  a.stream = new FakeStream([new FakeTrack('audio')]);
  const call = a.call(2, { kind: 'AUDIO' });
  await world.run();
  b.rung[0].accept(null);
  await world.run();
  const screen = new FakeTrack('video');
  call.shareScreen(screen);
  await world.run();
  assert.ok(b.heard(1).includes(screen.id));
});

test('a call of data has a channel at both ends', async () => {
  const { world, pages: [a, b] } = makeWorld(makeRandom(14), [1, 2]);
  const call = a.call(2, { kind: 'DATA', stream: null });
  await world.run();
  b.rung[0].accept();
  await world.run();
  assert.equal(call.peers[0].state, 'connected');
  call.peers[0].channel.onopen();
  assert.equal(a.of('channel')[0].userId, 2);
});
