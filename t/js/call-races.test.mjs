/*
 * call-races.test.mjs - what is done to a call while other news is under way.
 *
 * Role: who has hung up stays out of the call and nobody waits for him, and a
 *       call is not lost while it is made, whatever crosses what, with and
 *       without a connection.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Calls } from '../../www/parley-call.js';
import { ParleyError, emit } from '../../www/parley-util.js';
import { settle } from './lib/fake.mjs';
import { eachSeed } from './lib/random.mjs';
import { Room } from './lib/room.mjs';
import { FakeStream, World } from './lib/rtc.mjs';

const ME = 1;
const BOB = 2;
const CAROL = 3;

function makeCalls(member, options = {}) {
  const rung = [];
  const calls = new Calls(member, { MediaStream: FakeStream, ...options });

  calls.addEventListener('call', ({ detail }) => rung.push(detail.call));
  return { calls, rung };
}

/* A client whose requests the test answers: verb(id) is in `asked`. */
class Hand extends EventTarget {
  userId = ME;
  sessionId = 's1';
  state = 'authenticated';
  login = null;
  asked = [];

  constructor() {
    super();
    for (const verb of ['create', 'accept', 'reject', 'cancel', 'leave'])
      this[`${verb}Collaboration`] = () => new Promise((resolve, reject) => {
        this.asked.push({ verb, resolve, reject });
      });
  }

  signal() { return new Promise(() => {}); }

  get verbs() { return this.asked.map(({ verb }) => verb); }

  async answer(verb, row) {
    const at = this.asked.findIndex((request) => request.verb === verb);
    const [request] = this.asked.splice(at, 1);

    if (row instanceof Error)
      request.reject(row);
    else
      request.resolve(row);
    await settle();
  }

  refuse(verb, state) {
    return this.answer(verb,
      new ParleyError('CONFLICT', 'not now', { State: state }));
  }

  async tell(name, row, more = {}) {
    emit(this, 'collaboration', { Event: name, ...row, ...more });
    await settle();
  }

  disconnect() {
    this.state = 'reconnecting';
    emit(this, 'state', { state: 'reconnecting' });
  }

  async logIn(rows, sessionId = 's2') {
    this.state = 'authenticated';
    this.sessionId = sessionId;
    emit(this, 'state', { state: 'authenticated',
      login: { Collaborations: rows } });
    await settle();
  }
}

/** A collaboration; parts: {user id: state}. */
function row(state, parts, sessionId = 's1', id = '9') {
  return { CollaborationId: id, Kind: 'VIDEO', State: state,
    FromUser: { UserId: BOB },
    Participants: Object.entries(parts).map(([user, part]) => ({
      UserId: Number(user), State: part,
      ...part === 'JOINED' && Number(user) === ME && { SessionId: sessionId },
    })) };
}

const RINGS_AT_BOB = { [ME]: 'JOINED', [BOB]: 'RINGING' };
const BOTH = { [ME]: 'JOINED', [BOB]: 'JOINED' };

async function start() {
  const hand = new Hand();
  const { calls, rung } = makeCalls(hand);
  const call = calls.start(BOB);

  await hand.answer('create', row('RINGING', RINGS_AT_BOB));
  return { hand, calls, rung, call };
}

/* ---- while it is made ---- */

test('a call made without a connection is not lost when it is there',
  async () => {
    const hand = new Hand();
    const { calls } = makeCalls(hand);
    hand.disconnect();
    const call = calls.start(BOB);
    await hand.logIn([]); /* older than the CREATE that goes out now */
    await hand.answer('create', row('RINGING', RINGS_AT_BOB, 's2'));
    assert.deepEqual([call.state, call.endReason], ['ringing', null]);
  });

test('one that is over is lost at once, though another is being made',
  async () => {
    const { hand, calls, call } = await start();
    hand.disconnect();
    const other = calls.start(CAROL);
    await hand.logIn([]);
    assert.deepEqual([call.endReason, other.state], ['LOST', 'calling']);
  });

test('a call whose reply was lost is told by the login and answered before '
  + 'the reply comes: it is the same call', async () => {
  const hand = new Hand();
  const { calls, rung } = makeCalls(hand);
  const call = calls.start(BOB);
  hand.disconnect();
  await hand.logIn([row('RINGING', RINGS_AT_BOB, 's2')]);
  await hand.tell('ACCEPTED', row('ACTIVE', BOTH, 's2'), { UserId: BOB });
  await hand.answer('create', row('ACTIVE', BOTH, 's2'));
  assert.deepEqual([call.state, calls.all.length, rung], ['active', 1, []]);
});

test('a call of an earlier page waits until those of this one are made, and '
  + 'may be over then', async () => {
  for (const is_over of [false, true]) {
    const hand = new Hand();
    const { calls, rung } = makeCalls(hand);
    calls.start(CAROL);
    await hand.logIn([row('ACTIVE', BOTH, 's2')]);
    if (is_over)
      await hand.tell('LEFT', row('ENDED', { [ME]: 'LEFT', [BOB]: 'LEFT' }));
    assert.equal(rung.length, 0);
    await hand.answer('create', row('RINGING',
      { [ME]: 'JOINED', [CAROL]: 'RINGING' }, 's2', '10'));
    assert.deepEqual(rung.map(({ id }) => id), is_over ? [] : ['9']);
  }
});

/* ---- hung up ---- */

test('hung up without a connection: the next login does not bring it back',
  async () => {
    const { hand, calls, rung, call } = await start();
    await hand.tell('ACCEPTED', row('ACTIVE', BOTH));
    hand.disconnect();
    const done = call.hangUp();
    const other = calls.start(CAROL); /* whose reply the login waits for */
    await hand.logIn([row('ACTIVE', BOTH, 's2')]);
    await hand.answer('leave',
      row('ENDED', { [ME]: 'LEFT', [BOB]: 'LEFT' }));
    await done;
    await hand.answer('create', row('RINGING',
      { [ME]: 'JOINED', [CAROL]: 'RINGING' }, 's2', '10'));
    assert.deepEqual([calls.all, rung], [[other], []]);
  });

test('declined while another one answers, left while another one comes: '
  + 'it does not ring again', async () => {
  const three = { [ME]: 'RINGING', [BOB]: 'JOINED', [CAROL]: 'RINGING' };
  const hand = new Hand();
  const { calls, rung } = makeCalls(hand);
  await hand.tell('INVITED', row('RINGING', three), { UserIds: [ME, CAROL] });
  rung[0].hangUp();
  await hand.tell('ACCEPTED', row('ACTIVE', { ...three, [CAROL]: 'JOINED' }));
  assert.deepEqual([rung.length, calls.all.length], [1, 0]);
  assert.deepEqual(hand.verbs, ['reject']);

  const { hand: mine, rung: mine_rung, call } = await start();
  await mine.tell('ACCEPTED', row('ACTIVE', BOTH));
  call.hangUp();
  await mine.tell('JOINED', row('ACTIVE', { ...BOTH, [CAROL]: 'JOINED' }));
  assert.equal(mine_rung.length, 0);
  await mine.answer('leave', row('ACTIVE', { ...BOTH, [ME]: 'LEFT' }));
  await mine.tell('INVITED', row('ACTIVE', { ...BOTH, [ME]: 'RINGING' }),
    { UserIds: [ME] });
  assert.equal(mine_rung.length, 1, 'called again, it rings');
});

test('called again before the answer to the own leaving comes, it rings',
  async () => {
    const { hand, rung, call } = await start();
    await hand.tell('ACCEPTED', row('ACTIVE', BOTH));
    call.hangUp();
    await hand.tell('INVITED', row('ACTIVE', { ...BOTH, [ME]: 'RINGING' }),
      { UserIds: [ME] });
    assert.equal(rung.length, 1);
  });

test('declined while ringing in a call that is active already: rejected, '
  + 'not left', async () => {
  const hand = new Hand();
  const { rung } = makeCalls(hand);
  await hand.tell('INVITED', row('ACTIVE', { [ME]: 'RINGING', [BOB]: 'JOINED',
    [CAROL]: 'JOINED' }), { UserIds: [ME] });
  rung[0].hangUp();
  assert.deepEqual([hand.verbs, rung[0].endReason], [['reject'], 'REJECTED']);
});

test('rejected after it was answered: hung up', async () => {
  const hand = new Hand();
  const { rung, calls } = makeCalls(hand);
  await hand.tell('INVITED', row('RINGING',
    { [ME]: 'RINGING', [BOB]: 'JOINED' }), { UserIds: [ME] });
  rung[0].accept();
  rung[0].reject();
  assert.deepEqual(hand.verbs, ['accept', 'leave'], 'in this order');
  await hand.answer('accept', row('ACTIVE', BOTH));
  await hand.answer('leave', row('ENDED', { [ME]: 'LEFT', [BOB]: 'LEFT' }));
  assert.deepEqual([rung[0].state, calls.all], ['ended', []]);
});

test('given up while the other one answers: nobody is left alone in it',
  async () => {
    const { hand, call } = await start();
    call.hangUp();
    assert.equal(call.endReason, 'CANCELLED');
    assert.deepEqual(hand.verbs, ['leave'], 'right whichever came first');

    const lost = new Hand();
    const again = makeCalls(lost).calls.start(BOB);
    lost.disconnect(); /* the server has made it, and Bob answers */
    again.hangUp();
    await lost.logIn([row('ACTIVE', BOTH, 's2')]);
    await lost.answer('create', row('ACTIVE', BOTH, 's2'));
    assert.deepEqual(lost.verbs, ['leave']);
  });

test('an end that cannot be told is told to who hung up; what is over is '
  + 'over', async () => {
  const { hand, call } = await start();
  const done = call.hangUp();
  await hand.refuse('leave', 'ENDED');
  await done;

  const { hand: other, call: second } = await start();
  const failed = second.hangUp();
  other.answer('leave', new ParleyError('SERVER_ERROR', 'trouble'));
  await assert.rejects(failed, { reason: 'SERVER_ERROR' });
});

/* ---- any schedule ---- */

function act(random, calls) {
  const [call] = calls.all;
  const verbs = ['hangUp', 'reject', 'accept', 'accept'];

  call?.[call.isIncoming ? random.pick(verbs) : 'hangUp']().catch(() => {});
}

test('whatever three do at the same time: each is in the call that he sees, '
  + 'and sees the call that he is in', async () => {
  await eachSeed(200, async (random) => {
    const world = new World(random);
    const room = new Room(world);
    const pages = [ME, BOB, CAROL].map((user) => {
      const member = room.enter(user);
      return { member, ...makeCalls(member, { clock: world.clock,
        RTCPeerConnection: world.RTCPeerConnection }) };
    });

    pages[0].calls.start([BOB, CAROL]);
    await settle();
    for (let i = random.below(6); i >= 0; i--) {
      await world.run(random.below(12));
      act(random, random.pick(pages).calls);
    }
    await world.run();
    for (const { member, calls, rung } of pages) {
      const part = room.row.Participants
        .find(({ UserId }) => UserId === member.userId).State;
      const is_in = room.state !== 'ENDED' &&
        ['JOINED', 'RINGING'].includes(part);
      assert.equal(calls.all.length, Number(is_in),
        `${member.userId}: ${part} in ${room.state}`);
      assert.ok(rung.length <= 1, 'it rings once');
    }
  });
});
