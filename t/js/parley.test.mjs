/*
 * parley.test.mjs - the promises of www/parley.js, one test each.
 *
 * Role: no network and no waiting: clock and WebSocket are those of
 *       lib/fake.mjs, so each loss happens at a chosen moment.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { Call, Calls } from '../../www/parley-call.js';
import { Parley, compareIds, newId } from '../../www/parley.js';
import { LOGIN, login, makeFake, makeOnline, makeStorage, makeToken, message,
  settle } from './lib/fake.mjs';

const BACKOFF_MAX_MS = 30_000;

/* Between the files of the library. */
const INTERNAL =
  ['submit', 'started', 'update', 'signalled', 'resume', 'ended'];

async function rejection(promise) {
  return promise.then(() => assert.fail('not rejected'), (error) => error);
}

/* ---- login ---- */

test('a login sends the credentials and the device, and tells its reply',
  async () => {
    const fake = makeFake({ status: 'BUSY' });
    const ready = fake.client.connect();
    const frame = await login(fake);

    assert.deepEqual(fake.server.protocols, ['parley.v1']);
    assert.equal(frame.UserName, '7');
    assert.equal(frame.Password, 'pw');
    assert.equal(frame.Status, 'BUSY');
    assert.equal(frame.DeviceId, fake.client.deviceId);
    assert.match(frame.DeviceId, /^[\w-]{22}$/);
    assert.equal('LastSeq' in frame || 'Epoch' in frame, false);
    assert.equal((await ready).UserId, 7);
    assert.deepEqual(fake.of('state').map((s) => s.state),
      ['connecting', 'open', 'authenticated']);
    assert.deepEqual(fake.of('reset'), []);
  });

test('a token function is asked anew for each login', async () => {
  let count = 0;
  const fake = makeFake({ token: async () => `t${++count}` });
  fake.client.connect();
  assert.equal((await login(fake)).Token, 't1');
  await fake.server.drop();
  await fake.clock.advance(500);
  assert.equal((await login(fake)).Token, 't2');
});

test('authenticate() takes credentials and refuses while connected',
  async () => {
    const fake = makeFake({ userName: undefined });
    const ready = fake.client.authenticate({ token: 'tok' });
    assert.equal((await login(fake)).Token, 'tok');
    await ready;
    const error = await rejection(fake.client.authenticate({ token: 'x' }));
    assert.equal(error.reason, 'CONFLICT');
  });

test('without credentials nothing is opened', async () => {
  const fake = makeFake({ userName: undefined });
  assert.equal((await rejection(fake.client.connect())).reason, 'AUTH_FAILED');
  assert.equal(fake.peers.length, 0);
});

test('a refused login is final', async () => {
  const fake = makeFake();
  const ready = rejection(fake.client.connect());
  const send = rejection(fake.client.send(9, 'hi'));
  await login(fake, { Reason: 'AUTH_FAILED', Message: 'wrong password' });
  assert.equal((await ready).reason, 'AUTH_FAILED');
  assert.equal((await ready).message, 'wrong password');
  assert.equal((await send).reason, 'AUTH_FAILED');
  assert.equal(fake.client.state, 'closed');
  await fake.clock.advance(10 * BACKOFF_MAX_MS);
  assert.equal(fake.peers.length, 1);
  assert.equal(fake.clock.pendingCount, 0);
});

for (const reason of ['UNAVAILABLE', 'RATE_LIMITED']) {
  test(`a login answered ${reason} is retried after RetryAfter`, async () => {
    const fake = makeFake();
    fake.client.connect();
    await login(fake, { Reason: reason, RetryAfter: 7_000 });
    assert.equal(fake.of('state').at(-1).delay, 7_000);
    await fake.clock.advance(6_999);
    assert.equal(fake.peers.length, 1);
    await fake.clock.advance(1);
    await login(fake);
    assert.equal(fake.client.state, 'authenticated');
  });
}

test('an expired token is final unless there is a function for another',
  async () => {
    const fixed = makeFake({ token: 't' });
    const ready = rejection(fixed.client.connect());
    await login(fixed, { Reason: 'TOKEN_EXPIRED' });
    assert.equal((await ready).reason, 'TOKEN_EXPIRED');

    const fresh = makeFake({ token: () => 't' });
    fresh.client.connect();
    await login(fresh, { Reason: 'TOKEN_EXPIRED' });
    assert.equal(fresh.client.state, 'reconnecting');
  });

test('a failing token function is tried again', async () => {
  let count = 0;
  const fake = makeFake({
    token: () => (count++ ? 't' : Promise.reject(new Error('offline'))),
  });
  fake.client.connect();
  await settle();
  assert.equal(fake.client.state, 'reconnecting');
  await fake.clock.advance(500);
  await login(fake);
  assert.equal(fake.client.state, 'authenticated');
});

test('the outbox is not sent as somebody else', async () => {
  const fake = await makeOnline();
  const send = rejection(fake.client.send(9, 'private'));
  fake.server.take('P_SEND_MESSAGE');
  await fake.server.drop();
  await fake.clock.advance(500);
  await login(fake, { UserId: 8 });
  assert.equal((await send).reason, 'CONFLICT');
  assert.equal(fake.client.state, 'closed');
  fake.server.takeNothing();
});

test('a token of somebody else is not even offered', async () => {
  let sub = '7';
  const fake = await makeOnline({ token: () => makeToken(sub, 3_600_000) });
  sub = '8';
  await fake.server.drop();
  await fake.clock.advance(500);
  assert.equal(fake.client.state, 'closed');
  assert.equal(fake.peers.length, 1);
});

test('a token that arrives after close() opens nothing', async () => {
  let give;
  const fake = makeFake({ token: () => new Promise((r) => { give = r; }) });
  fake.client.connect().catch(() => {});
  await settle();
  fake.client.close();
  give('t');
  await settle();
  assert.equal(fake.peers.length, 0);
});

test('a listener may close the client in any state', async () => {
  for (const state of ['connecting', 'open', 'authenticated']) {
    const fake = makeFake();
    fake.client.addEventListener('state', ({ detail }) => {
      if (detail.state === state)
        fake.client.close();
    });
    const ready = rejection(fake.client.connect());
    await settle();
    await fake.server?.open();
    if (state === 'authenticated')
      await fake.server.reply(fake.server.take('P_AUTHENTICATE'), LOGIN);
    await ready;
    await fake.clock.advance(10 * BACKOFF_MAX_MS);
    assert.equal(fake.client.state, 'closed', state);
    assert.ok(fake.peers.length <= 1, state);
    assert.equal(fake.clock.pendingCount, 0, state);
  }
});

/* ---- reconnecting ---- */

test('the back-off doubles from 0.5 s to 30 s, with full jitter', async () => {
  const fake = makeFake({ random: () => 0.5 });
  fake.client.connect();
  for (let i = 0; i < 9; i++) {
    await settle();
    await fake.server.drop();
    await fake.clock.advance(fake.of('state').at(-1).delay);
  }
  assert.deepEqual(
    fake.of('state').filter((s) => s.delay !== undefined).map((s) => s.delay),
    [250, 500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
});

test('the back-off begins anew only after a session that lasted', async () => {
  const fake = await makeOnline();
  await fake.server.drop();
  await fake.clock.advance(500);
  await login(fake);
  await fake.server.drop();
  assert.equal(fake.of('state').at(-1).delay, 1000);
  await fake.clock.advance(1000);
  await login(fake);
  await fake.clock.advance(10_000);
  await fake.server.drop();
  assert.equal(fake.of('state').at(-1).delay, 500);
});

test('P_CLOSE RECONNECT is obeyed, not before RetryAfter', async () => {
  const fake = await makeOnline();
  await fake.server.say({ Command: 'P_CLOSE', Reason: 'RECONNECT',
    Message: 'Server shutting down', RetryAfter: 4_000 });
  await fake.server.drop(1012);
  assert.deepEqual(fake.of('close'), [{ reason: 'RECONNECT', code: 1012,
    message: 'Server shutting down', retryAfter: 4_000,
    willReconnect: true }]);
  await fake.clock.advance(3_999);
  assert.equal(fake.peers.length, 1);
  await fake.clock.advance(1);
  assert.equal(fake.peers.length, 2);
});

for (const [reason, code] of [['REPLACED', 4002], ['KICKED', 4003]]) {
  for (const isTold of [true, false]) {
    test(`${reason} is final${isTold ? '' : ', by its code alone'}`,
      async () => {
        const fake = await makeOnline();
        if (isTold)
          await fake.server.say({ Command: 'P_CLOSE', Reason: reason });
        await fake.server.drop(code);
        await fake.clock.advance(10 * BACKOFF_MAX_MS);
        assert.equal(fake.client.state, 'closed');
        assert.equal(fake.of('close')[0].reason, reason);
        assert.equal(fake.of('close')[0].willReconnect, false);
        assert.equal(fake.peers.length, 1);
        assert.equal(fake.clock.pendingCount, 0);
      });
  }
}

test('a connection that does not come about is given up', async () => {
  const fake = makeFake();
  fake.client.connect();
  await settle();
  await fake.clock.advance(15_000);
  assert.equal(fake.peers[0].isClosed, true);
  assert.equal(fake.client.state, 'reconnecting');
});

test('an old socket is not listened to any more', async () => {
  const fake = await makeOnline();
  const { onmessage } = fake.server;
  await fake.server.drop();
  assert.notEqual(onmessage, null);
  assert.equal(fake.peers[0].onmessage, null);
  assert.equal(fake.peers[0].onclose, null);
});

test('requests unanswered at a disconnect are rejected', async () => {
  const fake = await makeOnline();
  const user = rejection(fake.client.getUser(9));
  await fake.server.drop();
  assert.equal((await user).reason, 'DISCONNECTED');
  const early = rejection(fake.client.getUser(9));
  assert.equal((await early).reason, 'DISCONNECTED');
});

test('logout says so, closes and does not come back', async () => {
  const fake = await makeOnline();
  const device_id = fake.client.deviceId;
  const gone = fake.client.logout({ forget: true });
  const frame = fake.server.take('P_LOGOUT');
  assert.equal(frame.Forget, true);
  await fake.server.reply(frame);
  await gone;
  await fake.clock.advance(10 * BACKOFF_MAX_MS);
  assert.equal(fake.client.state, 'closed');
  assert.equal(fake.peers.length, 1);
  assert.deepEqual([...fake.storage.map.keys()], []);
  assert.notEqual(fake.client.deviceId, device_id);
  assert.equal((await rejection(fake.client.connect())).reason, 'AUTH_FAILED');
});

test('a logout that is cut off is a logout all the same', async () => {
  const fake = await makeOnline();
  const gone = fake.client.logout();
  await fake.server.drop();
  await gone;
  assert.equal(fake.client.state, 'closed');
  assert.equal(fake.of('close')[0].reason, 'LOGOUT');
});

/* ---- requests ---- */

test('replies find their request, in any order', async () => {
  const fake = await makeOnline();
  const first = fake.client.getUser(9);
  const second = rejection(fake.client.getUser(10));
  const frame1 = fake.server.take('P_GET_USER');
  const frame2 = fake.server.take('P_GET_USER');
  await fake.server.reply(frame2, { Reason: 'NOT_FOUND', Message: 'nobody' });
  await fake.server.reply(frame1, { User: { UserId: 9 } });
  assert.deepEqual(await first, { UserId: 9 });
  assert.equal((await second).reason, 'NOT_FOUND');
  assert.equal((await second).message, 'nobody');
});

test('a request is repeated while the server cannot answer', async () => {
  const fake = await makeOnline();
  const { client, server, clock } = fake;
  const block = client.block(9);
  await server.reply(server.take('P_BLOCK'),
    { Reason: 'UNAVAILABLE', RetryAfter: 3_000 });
  await clock.advance(2_999);
  server.takeNothing();
  await clock.advance(1);
  await server.reply(server.take('P_BLOCK'),
    { Reason: 'RATE_LIMITED', RetryAfter: 1 });
  await clock.advance(2_000);
  await server.reply(server.take('P_BLOCK'));
  assert.equal((await block).Reason, 'OK');

  const user = rejection(client.getUser(9));
  for (let i = 0; i < 6; i++) {
    await server.reply(server.take('P_GET_USER'),
      { Reason: 'UNAVAILABLE', RetryAfter: 300 });
    await clock.advance(16_000);
    await server.say({ Command: 'P_TYPING', UserId: 9 });
  }
  server.takeNothing();
  assert.equal((await user).retryAfter, 300);
});

test('getUsers reads all pages and survives a cursor that repeats',
  async () => {
    const fake = await makeOnline();
    const users = fake.client.getUsers({ refresh: true });
    let frame = fake.server.take('P_GET_ALL_USER');
    assert.equal(frame.Refresh, true);
    await fake.server.reply(frame, { Users: [{ UserId: 1 }], NextCursor: 'a' });
    frame = fake.server.take('P_GET_ALL_USER');
    assert.equal(frame.Cursor, 'a');
    assert.equal('Refresh' in frame, false);
    await fake.server.reply(frame, { Users: [{ UserId: 2 }], NextCursor: 'a' });
    assert.deepEqual(await users, [{ UserId: 1 }, { UserId: 2 }]);
    fake.server.takeNothing();
  });

test('commands carry the fields of the protocol', async () => {
  const fake = await makeOnline();
  const { client, server } = fake;
  const calls = [
    [() => client.markRead('7-9', '1001'),
      { Command: 'P_MARK_READ', ConversationId: '7-9', MessageId: '1001' }],
    [() => client.getMessages({ userId: 9, before: '5', limit: 20 }),
      { Command: 'P_GET_MESSAGES', UserId: 9, Before: '5', Limit: 20 }],
    [() => client.getConversations({ cursor: 'c' }),
      { Command: 'P_GET_CONVERSATIONS', Cursor: 'c' }],
    [() => client.updateStatus('AWAY', 'lunch'),
      { Command: 'P_UPDATE_STATUS', Status: 'AWAY', StatusText: 'lunch' }],
    [() => client.unblock(9), { Command: 'P_UNBLOCK', UserId: 9 }],
    [() => client.editMessage('1001', 'new'),
      { Command: 'P_EDIT_MESSAGE', MessageId: '1001', Message: 'new' }],
    [() => client.deleteMessage('1001'),
      { Command: 'P_DELETE_MESSAGE', MessageId: '1001' }],
    [() => client.updateUser({ name: 'Ann' }),
      { Command: 'P_UPDATE_USER', Name: 'Ann' }],
    [() => client.createGroup('team', [8, 9], { clientGroupId: 'g' }),
      { Command: 'P_CREATE_GROUP', Name: 'team', Members: [8, 9],
        ClientGroupId: 'g' }],
    [() => client.leaveGroup('4'),
      { Command: 'P_LEAVE_GROUP', GroupId: '4' }],
    [() => client.createCollaboration(9, { kind: 'AUDIO', payload: { a: 1 },
      clientCollaborationId: 'c' }),
    { Command: 'P_COLLABORATION_CREATE', ToUserList: [9], Kind: 'AUDIO',
      Payload: { a: 1 }, ClientCollaborationId: 'c' }],
    [() => client.acceptCollaboration('5'),
      { Command: 'P_COLLABORATION_ACCEPT', CollaborationId: '5' }],
    [() => client.rejectCollaboration('5'),
      { Command: 'P_COLLABORATION_REJECT', CollaborationId: '5' }],
    [() => client.cancelCollaboration('5'),
      { Command: 'P_COLLABORATION_CANCEL', CollaborationId: '5' }],
    [() => client.inviteToCollaboration('5', [8]),
      { Command: 'P_COLLABORATION_INVITE', CollaborationId: '5',
        ToUserList: [8] }],
    [() => client.leaveCollaboration('5'),
      { Command: 'P_COLLABORATION_LEAVE', CollaborationId: '5' }],
    [() => client.endCollaboration('5'),
      { Command: 'P_COLLABORATION_END', CollaborationId: '5' }],
    [() => client.signal('5', 9, { x: 1 }, 's'),
      { Command: 'P_SIGNAL', CollaborationId: '5', ToUserId: 9,
        ToSessionId: 's', Signal: { x: 1 } }],
    [() => client.registerDevice('WEB', 'p'),
      { Command: 'P_REGISTER_DEVICE', Platform: 'WEB', PushToken: 'p' }],
    [() => client.unregisterDevice(), { Command: 'P_UNREGISTER_DEVICE' }],
  ];
  for (const [call, expected] of calls) {
    const done = call();
    const { RequestId, ...fields } = server.take(expected.Command);
    assert.deepEqual(fields, expected);
    await server.reply({ ...fields, RequestId });
    assert.equal((await done).Reason, 'OK');
  }
  client.typing([9]);
  assert.deepEqual(server.take('P_TYPING'),
    { Command: 'P_TYPING', ToUserList: [9], State: 'STARTED' });
  client.typing({ GroupId: '3' });
  server.take('P_TYPING');
  client.typing({ GroupId: '3' }, false);
  assert.deepEqual(server.take('P_TYPING'),
    { Command: 'P_TYPING', GroupId: '3', State: 'STOPPED' });
  assert.throws(() => client.typing({ GroupId: '3', ToUserList: [9] }),
    TypeError);
  await server.drop();
  client.typing(9);
});

test('each key may tell that one types; little of it goes out', async (t) => {
  let now = 0;
  t.mock.method(performance, 'now', () => now);
  const { client, server } = await makeOnline();
  client.typing(9, false);
  for (; now < 8_000; now += 100)
    client.typing(9);
  assert.deepEqual(server.frames.splice(0).map((f) => f.State),
    ['STARTED', 'STARTED']);
  client.typing(9, false);
  client.typing(9, false);
  assert.equal(server.take('P_TYPING').State, 'STOPPED');
  server.takeNothing();
  client.typing(9);
  client.send(9, 'said').catch(() => {});
  client.typing(9, false);
  client.typing(9);
  assert.deepEqual(server.frames.map((f) => f.State ?? f.Message),
    ['STARTED', 'said', 'STARTED']);
});

test('history is read page by page, as it is needed', async () => {
  const { client, server } = await makeOnline();
  const seen = [];
  const all = (async () => {
    for await (const row of client.messages({ userId: 9, limit: 2 })) {
      seen.push(row.MessageId);
      if (row.MessageId === '5')
        break;
    }
  })();
  const first = server.take('P_GET_MESSAGES');
  assert.equal(first.Limit, 2);
  assert.equal('Before' in first, false);
  await server.reply(first, { HasMore: true,
    Messages: [{ MessageId: '9' }, { MessageId: '8' }] });
  const second = server.take('P_GET_MESSAGES');
  assert.equal(second.Before, '8');
  await server.reply(second, { HasMore: true,
    Messages: [{ MessageId: '5' }, { MessageId: '4' }] });
  await all;
  assert.deepEqual(seen, ['9', '8', '5']);
  server.takeNothing();

  const groups = client.getGroups();
  await server.reply(server.take('P_GET_GROUPS'),
    { Groups: [{ GroupId: '1' }], NextCursor: 'x' });
  const next = server.take('P_GET_GROUPS');
  assert.equal(next.Cursor, 'x');
  await server.reply(next, { Groups: [{ GroupId: '2' }], NextCursor: null });
  assert.deepEqual((await groups).map((g) => g.GroupId), ['1', '2']);
});

test('a status once chosen is that of the next login', async () => {
  const fake = await makeOnline();
  fake.client.updateStatus('INVISIBLE').catch(() => {});
  await fake.server.drop();
  await fake.clock.advance(500);
  assert.equal((await login(fake)).Status, 'INVISIBLE');
});

test('events reach their listeners; unknown ones and bad frames do no harm',
  async () => {
    const fake = await makeOnline();
    await fake.server.say(
      { Command: 'P_PRESENCE', UserId: 9, Status: 'AWAY' },
      { Command: 'P_TYPING', UserId: 9, State: 'STARTED' },
      { Command: 'P_RECEIPT', UserId: 9, ReadUpTo: '5' },
      { Command: 'P_NEW_IDEA', X: 1 }, 'no json', 'null',
      { Command: 'P_ERROR', Reason: 'BAD_REQUEST' });
    assert.equal(fake.of('presence')[0].Status, 'AWAY');
    assert.equal(fake.of('typing')[0].State, 'STARTED');
    assert.equal(fake.of('receipt')[0].ReadUpTo, '5');
    assert.equal(fake.of('event')[0].X, 1);
    assert.equal(fake.of('warning').length, 3);
    assert.equal(fake.client.state, 'authenticated');
  });

/* ---- ids, storage ---- */

test('ids are compared as the large numbers they are', () => {
  assert.ok(compareIds('9', '10') < 0);
  assert.ok(compareIds('9223372036854775806', '9223372036854775807') < 0);
  assert.ok(compareIds('20', '10') > 0);
  assert.equal(compareIds('5', '5'), 0);
  assert.notEqual(newId(), newId());
});

test('after a reload the device and its cursor are the same', async () => {
  const storage = makeStorage();
  const first = await makeOnline({ storage });
  await first.server.say(message(41), message(42));
  await first.clock.advance(50);

  const second = makeFake({ storage });
  second.client.connect();
  const frame = await login(second);
  assert.equal(frame.DeviceId, first.client.deviceId);
  assert.equal(frame.LastSeq, 42);
  assert.equal(frame.Epoch, 'e1');
});

test('one user never logs in with the cursor of another', async () => {
  const storage = makeStorage();
  const first = await makeOnline({ storage });
  await first.server.say(message(41));
  first.client.close();

  const second = makeFake({ storage, userName: '8' });
  second.client.connect();
  const frame = await login(second, { UserId: 8 });
  assert.equal('LastSeq' in frame, false);

  const opaque = makeFake({ storage, token: 'no-jwt' });
  opaque.client.connect();
  assert.equal('LastSeq' in await login(opaque), false);
});

test('a storage that fails or holds rubbish is done without', async () => {
  const denied = () => { throw new Error('denied'); };
  const fake = await makeOnline({ storage: { getItem: denied,
    setItem: denied, removeItem: denied } });
  await fake.server.say(message(5));
  await fake.server.drop();
  await fake.clock.advance(500);
  assert.equal((await login(fake)).LastSeq, 5);

  const rubbish = makeFake({ storage: makeStorage({
    'parley:cursor:ws://test/ws:name:7': '{"lastSeq":"x"' }) });
  rubbish.client.connect();
  assert.equal('LastSeq' in await login(rubbish), false);
});

/* ---- types ---- */

test('the package has every file that it needs, and is installed whole', () => {
  const read = (name) => readFileSync(new URL(`../../www/${name}`,
    import.meta.url), 'utf8');
  const { files, exports: entries } = JSON.parse(read('package.json'));
  const needed = new Set(Object.values(entries)
    .flatMap((entry) => Object.values(entry).map((path) => path.slice(2))));
  for (const name of needed) { /* grows on the way */
    for (const [, other] of read(name).matchAll(/from '\.\/([^']+)'/g))
      needed.add(other);
  }
  assert.ok(needed.size > 8);
  const isPacked = (name) => files.some((pattern) =>
    new RegExp(`^${pattern.replace('.', '\\.').replace('*', '.*')}$`)
      .test(name));
  for (const name of needed) {
    assert.ok(isPacked(name), `${name} is in the package`);
    assert.ok(read('Makefile.inc').includes(`www/${name}`), name);
  }
  assert.equal(isPacked('demo.js'), false);
});

for (const [Class, file] of [[Parley, 'parley'], [Call, 'parley-call'],
  [Calls, 'parley-call']]) {
  test(`the types name every method of ${Class.name}, and no other`, () => {
    const text = readFileSync(new URL(`../../www/${file}.d.ts`,
      import.meta.url), 'utf8')
      .match(`export class ${Class.name} \\{\n([^]*?)\n\\}`)[1]
      .replace(/\/\*[^]*?\*\//g, '');
    const typed = [...text.matchAll(/^ {2}(?:private |readonly )?(\w+)[(:]/gm)]
      .map(([, name]) => name);
    const real = [];
    for (let proto = Class.prototype; proto !== EventTarget.prototype;
      proto = Object.getPrototypeOf(proto))
      real.push(...Object.getOwnPropertyNames(proto));
    assert.deepEqual(new Set(typed), new Set(real.filter((name) =>
      !INTERNAL.includes(name))));
  });
}
