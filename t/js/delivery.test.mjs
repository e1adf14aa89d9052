/*
 * delivery.test.mjs - messages through www/parley.js: none lost, none twice.
 *
 * Role: sends and retries, sequence numbers and acknowledgements, liveness,
 *       token refresh; on the fakes of lib/fake.mjs.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { login, makeOnline, makeToken, message, settle } from './lib/fake.mjs';

const PING_MS = 25_000;
const GRACE_MS = 8_000;

async function rejection(promise) {
  return promise.then(() => assert.fail('not rejected'), (error) => error);
}

function takeSends(server) {
  return server.frames.splice(0)
    .filter((frame) => frame.Command === 'P_SEND_MESSAGE');
}

/* ---- sending ---- */

test('a message is sent with its id and answered', async () => {
  const fake = await makeOnline();
  const sent = fake.client.send(9, 'hi', { type: 'note', replyTo: '5',
    clientMessageId: 'c1', clientInitiationTime: 12 });
  const frame = fake.server.take('P_SEND_MESSAGE');
  const { RequestId, ...fields } = frame;
  assert.deepEqual(fields, { Command: 'P_SEND_MESSAGE', ToUserList: [9],
    Message: 'hi', ClientMessageId: 'c1', Type: 'note', ReplyTo: '5',
    ClientInitiationTime: 12 });
  await fake.server.reply(frame, { MessageId: '1001' });
  assert.equal((await sent).MessageId, '1001');
  assert.equal(fake.client.unsentCount, 0);
});

test('what was unanswered is retried first, in order, unchanged', async () => {
  const fake = await makeOnline();
  const attachment = { Url: 'https://x/y', Name: 'y' };
  const sent = ['a', 'b', 'c'].map((text) =>
    fake.client.send([9], text, { attachment }));
  const before = takeSends(fake.server);
  await fake.server.reply(before[1], { MessageId: '2' });
  await fake.server.drop();
  attachment.Name = 'changed since';
  sent.push(fake.client.send(9, 'new'));
  fake.client.getUser(9).catch(() => {});
  await fake.clock.advance(500);
  await login(fake);
  const after = takeSends(fake.server);

  assert.deepEqual(after.map((frame) => frame.Message), ['a', 'c', 'new']);
  for (const [i, j] of [[0, 0], [1, 2]]) {
    const { RequestId: x, ...retried } = after[i];
    const { RequestId: y, ...original } = before[j];
    assert.deepEqual(retried, original);
  }
  await fake.server.reply(after[0], { Reason: 'DUPLICATE', MessageId: '1' });
  await fake.server.reply(after[1], { MessageId: '3' });
  await fake.server.reply(after[2], { MessageId: '4' });
  assert.deepEqual((await Promise.all(sent)).map((r) => r.MessageId),
    ['1', '2', '3', '4']);
});

test('a login that is refused for now keeps the order of the retries',
  async () => {
    const fake = await makeOnline();
    fake.client.send(9, 'a').catch(() => {});
    fake.client.send(9, 'b').catch(() => {});
    takeSends(fake.server);
    await fake.server.drop();
    await fake.clock.advance(500);
    await login(fake, { Reason: 'UNAVAILABLE' });
    await fake.clock.advance(30_000);
    await login(fake);
    assert.deepEqual(takeSends(fake.server).map((f) => f.Message), ['a', 'b']);
  });

test('no more than 64 sends are unanswered, the rest waits in order',
  async () => {
    const fake = await makeOnline();
    for (let i = 0; i < 70; i++)
      fake.client.send(9, `m${i}`).catch(() => {});
    const first = takeSends(fake.server);
    assert.equal(first.length, 64);
    await fake.server.reply(first[10], { Reason: 'FORBIDDEN' });
    await fake.server.reply(first[0]);
    assert.deepEqual(takeSends(fake.server).map((f) => f.Message),
      ['m64', 'm65']);
    await fake.server.drop();
    await fake.clock.advance(500);
    await login(fake);
    const retried = takeSends(fake.server).map((f) => f.Message);
    assert.equal(retried.length, 64);
    assert.deepEqual(retried.slice(0, 3), ['m1', 'm2', 'm3']);
    assert.equal(retried.includes('m10'), false);
    assert.equal(retried.at(-1), 'm65');
  });

test('sends before the first login wait for it', async () => {
  const { client, ...fake } = await makeOnline();
  client.close();
  assert.equal((await rejection(client.send(9, 'x'))).reason, 'DISCONNECTED');
  client.connect();
  client.send(9, 'early').catch(() => {});
  await settle();
  const server = fake.peers.at(-1);
  await server.open();
  const frame = server.take('P_AUTHENTICATE');
  server.takeNothing();
  await server.reply(frame, { UserId: 7 });
  assert.equal(server.take('P_SEND_MESSAGE').Message, 'early');
});

test('a refused message is rejected and not tried again', async () => {
  const fake = await makeOnline();
  const sent = rejection(fake.client.send(99, 'hi'));
  await fake.server.reply(fake.server.take('P_SEND_MESSAGE'),
    { Reason: 'NOT_FOUND', UserIds: [99] });
  assert.deepEqual((await sent).reply.UserIds, [99]);
  await fake.server.drop();
  await fake.clock.advance(500);
  await login(fake);
  fake.server.takeNothing();
});

test('a message too large is refused here, not by a close for ever',
  async () => {
    const fake = await makeOnline({}, { MaxMessageSize: 400 });
    const sent = rejection(fake.client.send(9, 'ä'.repeat(200)));
    const next = fake.client.send(9, 'small');
    assert.equal((await sent).reason, 'TOO_LARGE');
    await fake.server.reply(fake.server.take('P_SEND_MESSAGE'));
    assert.equal((await next).Reason, 'OK');
  });

/* ---- receiving ---- */

test('an event seen is dropped, whenever it comes again', async () => {
  const fake = await makeOnline();
  await fake.server.say(message(1), message(2), message(2), message(1),
    message(3));
  assert.deepEqual(fake.of('message').map((m) => m.Seq), [1, 2, 3]);
  await fake.server.drop();
  await fake.clock.advance(500);
  assert.equal((await login(fake)).LastSeq, 3);
  await fake.server.say(message(3), message(4));
  assert.deepEqual(fake.of('message').map((m) => m.Seq), [1, 2, 3, 4]);
});

test('acknowledgements are cumulative and at most one per 50 ms', async () => {
  const fake = await makeOnline();
  await fake.server.say(message(1), message(2), message(3));
  fake.server.takeNothing();
  await fake.clock.advance(49);
  fake.server.takeNothing();
  await fake.clock.advance(1);
  assert.deepEqual(fake.server.take('P_ACK'), { Command: 'P_ACK', Seq: 3 });
  await fake.clock.advance(1_000);
  fake.server.takeNothing();
});

test('32 events are acknowledged at once, though no timer runs', async () => {
  const fake = await makeOnline();
  for (let seq = 1; seq <= 256; seq++)
    await fake.server.say(message(seq));
  assert.deepEqual(fake.server.frames.map((frame) => frame.Seq),
    [32, 64, 96, 128, 160, 192, 224, 256]);
});

test('nothing is stored as seen that a listener did not see', async () => {
  const fake = await makeOnline();
  fake.client.addEventListener('message', () => {
    const stored = [...fake.storage.map.values()].join();
    assert.equal(stored.includes('"lastSeq":9'), false);
    fake.server.takeNothing();
  });
  await fake.server.say(message(9));
  await fake.clock.advance(50);
  assert.equal(fake.server.take('P_ACK').Seq, 9);
  assert.ok([...fake.storage.map.values()].join().includes('"lastSeq":9'));
});

test('the Seq of a reply counts as that event', async () => {
  const fake = await makeOnline();
  await fake.server.say(message(1));
  fake.client.send(9, 'hi').catch(() => {});
  await fake.server.reply(fake.server.take('P_SEND_MESSAGE'), { Seq: 2 });
  await fake.server.say(message(2), message(3));
  assert.deepEqual(fake.of('message').map((m) => m.Seq), [1, 3]);
  await fake.clock.advance(50);
  assert.equal(fake.server.take('P_ACK').Seq, 3);
  assert.equal(fake.client.state, 'authenticated');
});

test('the old Seq of a DUPLICATE neither skips nor reconnects', async () => {
  const fake = await makeOnline();
  await fake.server.say(message(1));
  fake.client.send(9, 'hi').catch(() => {});
  await fake.server.reply(fake.server.take('P_SEND_MESSAGE'),
    { Reason: 'DUPLICATE', Seq: 3 });
  await fake.server.say(message(2), message(3));
  assert.deepEqual(fake.of('message').map((m) => m.Seq), [1, 2, 3]);
});

test('a hole is not passed over: the client asks again', async () => {
  const fake = await makeOnline();
  await fake.server.say(message(1), message(3));
  assert.deepEqual(fake.of('message').map((m) => m.Seq), [1]);
  assert.equal(fake.of('close')[0].reason, 'GAP');
  await fake.clock.advance(500);
  assert.equal((await login(fake)).LastSeq, 1);
  await fake.server.say(message(2), message(3));
  assert.deepEqual(fake.of('message').map((m) => m.Seq), [1, 2, 3]);
  assert.deepEqual(fake.of('reset'), []);
});

test('a hole that stays is told as a reset', async () => {
  const fake = await makeOnline();
  await fake.server.say(message(1), message(3));
  await fake.clock.advance(500);
  await login(fake);
  await fake.server.say(message(3), message(4));
  assert.deepEqual(fake.of('reset'), [{ reason: 'GAP' }]);
  assert.deepEqual(fake.of('message').map((m) => m.Seq), [1, 3, 4]);
  assert.equal(fake.client.state, 'authenticated');
});

for (const [fields, reason] of [[{ Recovered: false }, 'NOT_RECOVERED'],
  [{ Epoch: 'e2' }, 'EPOCH']]) {
  test(`${reason} is told and the next event begins anew`, async () => {
    const fake = await makeOnline();
    await fake.server.say(message(500));
    await fake.server.drop();
    await fake.clock.advance(500);
    await login(fake, fields);
    assert.deepEqual(fake.of('reset'), [{ reason }]);
    await fake.server.say(message(12), message(13));
    assert.deepEqual(fake.of('message').map((m) => m.Seq), [500, 12, 13]);
    await fake.server.drop();
    await fake.clock.advance(1_000);
    const frame = await login(fake, fields);
    assert.equal(frame.LastSeq, 13);
    assert.equal(frame.Epoch, fields.Epoch ?? 'e1');
  });
}

test('a listener may close the client; the event counts as seen', async () => {
  const fake = await makeOnline();
  fake.client.addEventListener('message', () => fake.client.close());
  await fake.server.say(message(1), message(2));
  assert.deepEqual(fake.of('message').map((m) => m.Seq), [1]);
  assert.equal(fake.client.state, 'closed');
  fake.client.connect().catch(() => {});
  assert.equal((await login(fake)).LastSeq, 1);
});

/* ---- liveness ---- */

test('a silent server is asked after PingInterval, then left', async () => {
  const fake = await makeOnline();
  await fake.clock.advance(PING_MS - 1);
  fake.server.takeNothing();
  await fake.clock.advance(1);
  fake.server.take('P_HEARTBEAT');
  await fake.clock.advance(GRACE_MS - 1);
  assert.equal(fake.client.state, 'authenticated');
  await fake.clock.advance(1);
  assert.equal(fake.of('close')[0].reason, 'SILENT');
  assert.equal(fake.peers[0].isClosed, true);
  fake.server.takeNothing();
});

test('an answer, or anything else, is life', async () => {
  const fake = await makeOnline();
  for (let i = 0; i < 5; i++) {
    await fake.clock.advance(PING_MS);
    await fake.server.reply(fake.server.take('P_HEARTBEAT'),
      { ServerTime: 1 });
  }
  for (let i = 0; i < 20; i++) {
    await fake.clock.advance(PING_MS - 1_000);
    await fake.server.say({ Command: 'P_TYPING', UserId: 9 });
  }
  assert.equal(fake.client.state, 'authenticated');
  fake.server.takeNothing();
});

test('a client that only listens still speaks every HeartbeatInterval/2',
  async () => {
    const fake = await makeOnline({}, { HeartbeatInterval: 100_000 });
    for (let i = 0; i < 6; i++) {
      await fake.clock.advance(10_000);
      await fake.server.say({ Command: 'P_TYPING', UserId: 9 });
    }
    await fake.server.reply(fake.server.take('P_HEARTBEAT'));
    fake.server.takeNothing();
  });

test('a timer that fires late (a sleeping tab) asks before it leaves',
  async () => {
    const fake = await makeOnline();
    await fake.clock.sleep(600_000);
    assert.equal(fake.client.state, 'authenticated');
    await fake.server.reply(fake.server.take('P_HEARTBEAT'));
    await fake.clock.sleep(600_000);
    assert.equal(fake.client.state, 'authenticated');
    fake.server.take('P_HEARTBEAT');
    await fake.clock.advance(GRACE_MS);
    assert.equal(fake.client.state, 'reconnecting');
  });

/* ---- token refresh ---- */

test('a token is renewed before it expires', async () => {
  let count = 0;
  const fake = await makeOnline({
    token: () => makeToken('7', ++count * 600_000, count) });
  await listen(fake, 539_000);
  assert.equal(refreshes(fake).length, 0);
  await listen(fake, 2_000);
  const [frame] = refreshes(fake);
  assert.equal(frame.Token, makeToken('7', 1_200_000, 2));
  await fake.server.reply(frame);
  await listen(fake, 590_000);
  assert.equal(refreshes(fake).length, 0);
  await listen(fake, 11_000);
  assert.equal(refreshes(fake).length, 1);
  assert.equal(fake.client.state, 'authenticated');
});

test('a refused renewal is told and tried again until the end', async () => {
  const fake = await makeOnline({ token: () => makeToken('7', 600_000) });
  await listen(fake, 541_000);
  await fake.server.reply(refreshes(fake)[0],
    { Reason: 'UNAVAILABLE', RetryAfter: 6_000 });
  assert.equal(fake.of('warning')[0].Reason, 'UNAVAILABLE');
  await listen(fake, 58_000);
  assert.ok(refreshes(fake).length >= 1);
  await listen(fake, 600_000);
  assert.equal(refreshes(fake).length, 0);
});

test('a renewal waits as long as the server asks', async () => {
  const fake = await makeOnline({ token: () => makeToken('7', 600_000) });
  await fake.clock.advance(0);
  await listen(fake, 540_000);
  await fake.server.reply(refreshes(fake)[0],
    { Reason: 'RATE_LIMITED', RetryAfter: 55_000 });
  await listen(fake, 54_000);
  assert.equal(refreshes(fake).length, 0);
  await listen(fake, 1_000);
  assert.equal(refreshes(fake).length, 1);
});

test('a token that comes after the connection is gone is not used for it',
  async () => {
    let give = null;
    const fake = await makeOnline({
      token: () => (give === null ? makeToken('7', 600_000)
        : new Promise((resolve) => { give = resolve; })) });
    give = () => {};
    await listen(fake, 540_000);
    const late = give;
    await fake.server.drop();
    give = null;
    await fake.clock.advance(500);
    await login(fake);
    late(makeToken('7', 900_000));
    await settle();
    assert.equal(refreshes(fake).length, 0);
  });

test('a token without exp, or a fixed one, is never renewed', async () => {
  for (const token of ['opaque', () => 'opaque', makeToken('7', 600_000)]) {
    const fake = await makeOnline({ token });
    await listen(fake, 700_000);
    assert.equal(refreshes(fake).length, 0);
    fake.client.close();
    assert.equal(fake.clock.pendingCount, 0);
  }
});

/** Time passes on a connection that is alive. */
async function listen(fake, ms) {
  for (let left = ms; left > 0; left -= 20_000) {
    await fake.clock.advance(Math.min(left, 20_000));
    await fake.server.say({ Command: 'P_TYPING', UserId: 9 });
  }
}

function refreshes(fake) {
  return fake.server.frames.splice(0)
    .filter((frame) => frame.Command === 'P_REFRESH_TOKEN');
}
