/*
 * outbox.test.mjs - what waits in www/parley-queue.js, over any accident.
 *
 * Role: reloads of the page at every write of the storage, losses at every
 *       point of a send, servers that cannot answer; on the fakes of
 *       lib/fake.mjs, random schedules with lib/random.mjs.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { LOGIN, login, makeFake, makeOnline, makeStorage, makeToken, message,
  settle } from './lib/fake.mjs';
import { eachSeed } from './lib/random.mjs';

async function rejection(promise) {
  return promise.then(() => assert.fail('not rejected'), (error) => error);
}

function takeTexts(server) {
  return server.frames.splice(0)
    .filter((frame) => frame.Command === 'P_SEND_MESSAGE')
    .map((frame) => frame.Message);
}

/** A storage as IndexedDB would be: each answer comes later. */
function makeSlowStorage(storage) {
  const later = (method) => async (...args) => {
    const result = storage[method](...args);
    await settle();
    return result;
  };
  return { getItem: later('getItem'), setItem: later('setItem'),
    removeItem: later('removeItem') };
}

function outboxKeys(storage) {
  return [...storage.map.keys()].filter((key) => key.includes(':outbox:'));
}

/* ---- over a reload ---- */

for (const slow of [false, true]) {
  const kind = slow ? 'slow' : 'ready';
  test(`a reload loses nothing that was written (a ${kind} storage)`,
    async () => {
      const storage = makeStorage();
      const outbox = slow ? makeSlowStorage(storage) : storage;
      const first = await makeOnline({ storage, outbox });
      first.client.send(9, 'a', { attachment: { Url: 'https://x/y' } })
        .catch(() => {});
      first.client.send(9, 'b').catch(() => {});
      const frames = first.server.frames.splice(0);
      await first.server.reply(frames[1], { MessageId: '2' });
      await first.server.drop();
      first.client.send(9, 'c').catch(() => {});
      await settle();
      assert.deepEqual(first.of('sent').map((s) => s.message.Message), ['b']);

      const second = makeFake({ storage, outbox });
      second.client.connect();
      second.client.send(9, 'd').catch(() => {});
      await login(second);
      assert.deepEqual(second.client.unsent.map((m) => m.Message),
        ['a', 'c', 'd']);
      const again = second.server.frames.splice(0);
      assert.deepEqual(again.map((f) => f.Message), ['a', 'c', 'd']);
      const { RequestId: x, ...retried } = again[0];
      const { RequestId: y, ...original } = frames[0];
      assert.deepEqual(retried, original);
      for (const frame of again)
        await second.server.reply(frame, { Reason: 'DUPLICATE' });
      assert.deepEqual(second.of('sent').map((s) => s.message.Message),
        ['a', 'c', 'd']);
      await settle();
      assert.deepEqual(outboxKeys(storage), []);
    });
}

test('whatever write is the last one, no message is lost or left behind',
  async () => {
    const states = []; /* of the storage, after each write */
    const storage = makeStorage();
    const noting = {
      getItem: storage.getItem,
      setItem: (key, value) => note(storage.setItem(key, value)),
      removeItem: (key) => note(storage.removeItem(key)),
    };
    const done = [];
    let written = 0;
    const note = () => states.push({ written, answered: done.length,
      items: new Map(storage.map) });
    const fake = await makeOnline({ storage, outbox: noting });
    for (const text of ['a', 'b', 'c', 'd']) {
      written++; /* counts once send() has returned */
      fake.client.send(9, text).catch(() => {});
      note();
      if (text === 'c') {
        for (const frame of fake.server.frames.splice(0)) {
          await fake.server.reply(frame);
          done.push(frame.Message);
          note();
        }
      }
    }
    assert.ok(states.length > 15);
    for (const { items } of states) {
      const page = makeFake({ storage: makeStorage(Object.fromEntries(items)),
        outbox: makeStorage(Object.fromEntries(items)) });
      page.client.connect();
      await login(page);
      const bodies = [...items].filter(([key]) =>
        /:outbox:.*:name:7:[^:]*:./.test(key));
      assert.equal(page.client.unsentCount, bodies.length,
        'each stored message is found');
    }
    /* the notes between the writes: all that send() took is there */
    const rest = states.at(-1);
    assert.equal(rest.written - rest.answered, 1);
    assert.equal(outboxKeys(storage).length, 2);
  });

test('another user, or another device, never gets them', async () => {
  const storage = makeStorage();
  const outbox = makeStorage();
  const first = await makeOnline({ storage, outbox });
  first.client.send(9, 'private').catch(() => {});
  await first.server.drop();

  for (const options of [{ userName: '8' }, { deviceId: 'd2' },
    { token: 'opaque' }]) {
    const other = await makeOnline({ storage, outbox, ...options });
    assert.equal(other.client.unsentCount, 0);
    other.server.takeNothing();
    other.client.send(9, 'own').catch(() => {});
    other.client.close();
  }
  const again = await makeOnline({ storage, outbox });
  assert.deepEqual(takeTexts(again.server), ['private']);
});

test('a logout deletes what waits; a close or a kick keeps it', async () => {
  const storage = makeStorage();
  const outbox = makeStorage();
  const first = await makeOnline({ storage, outbox });
  const sent = rejection(first.client.send(9, 'a'));
  first.client.close();
  assert.equal((await sent).reason, 'CLOSED');
  first.client.connect();
  await login(first);
  assert.deepEqual(takeTexts(first.server), ['a']);
  await first.server.drop(4003);
  assert.equal(first.client.state, 'closed');

  const second = await makeOnline({ storage, outbox });
  assert.deepEqual(takeTexts(second.server), ['a']);
  const gone = second.client.logout();
  await second.server.reply(second.server.take('P_LOGOUT'));
  await gone;
  assert.deepEqual([...outbox.map.keys()], []);
});

test('a logout deletes what waits also after the end, and before the '
  + 'beginning', async () => {
  const ends = {
    kicked: (fake) => fake.server.drop(4003),
    closed: (fake) => fake.client.close(),
    refused: async (fake) => {
      await fake.server.drop();
      await fake.clock.advance(60_000);
      await fake.server.open();
      await fake.server.say({ Command: 'P_AUTHENTICATE', Reason: 'AUTH_FAILED',
        RequestId: fake.server.take('P_AUTHENTICATE').RequestId });
    },
  };
  for (const [name, end] of Object.entries(ends)) {
    const outbox = makeStorage();
    const fake = await makeOnline({ outbox });
    fake.client.send(9, 'a').catch(() => {});
    await end(fake);
    await settle();
    assert.equal(fake.client.state, 'closed', name);
    assert.equal(outbox.map.size, 2, name);
    await fake.client.logout();
    assert.deepEqual([...outbox.map.keys()], [], name);
  }

  const [storage, outbox] = [makeStorage(), makeStorage()];
  const first = await makeOnline({ storage, outbox });
  first.client.send(9, 'a').catch(() => {});
  first.client.close();
  const slow = { ...outbox, getItem: async (key) => {
    await settle();
    return outbox.getItem(key);
  } };
  const second = makeFake({ storage, outbox: slow });
  second.client.connect().catch(() => {});
  await Promise.resolve().then(() => {}); /* it is being read */
  await second.client.logout();
  await settle();
  assert.deepEqual([...outbox.map.keys()], []);
  assert.equal(second.client.unsentCount, 0);
});

test('what is read too late is not sent by who is next', async () => {
  const [storage, outbox] = [makeStorage(), makeStorage()];
  const first = await makeOnline({ storage, outbox });
  first.client.send(9, 'private').catch(() => {});
  first.client.close();
  const gates = [];
  const slow = { ...outbox, getItem: async (key) => {
    await new Promise((resolve) => { gates.push(resolve); });
    return outbox.getItem(key);
  } };
  const page = makeFake({ storage, outbox: slow });
  page.client.connect().catch(() => {});
  await settle();
  page.client.close();
  const next = page.client.authenticate({ userName: '8', password: 'pw' });
  while (page.server === undefined) {
    gates.splice(0).forEach((open) => open());
    await settle();
  }
  await login(page, { UserId: 8 });
  await next;
  assert.deepEqual([page.client.unsentCount, takeTexts(page.server)], [0, []]);
});

test('a token tells the account, too', async () => {
  const outbox = makeStorage();
  const storage = makeStorage();
  const token = makeToken('7', 600_000);
  const first = await makeOnline({ token, storage, outbox });
  first.client.send(9, 'a').catch(() => {});
  await first.server.drop();
  const second = await makeOnline({ token, storage, outbox });
  assert.deepEqual(takeTexts(second.server), ['a']);
});

test('a storage that fails or holds rubbish loses nothing of this page',
  async () => {
    const denied = () => { throw new Error('quota'); };
    const full = await makeOnline({ outbox: { getItem: () => null,
      setItem: denied, removeItem: async () => denied() } });
    const sent = full.client.send(9, 'a');
    await full.server.reply(full.server.take('P_SEND_MESSAGE'));
    assert.equal((await sent).Reason, 'OK');
    await settle();
    assert.match(full.of('warning')[0].Message, /outbox: quota/);

    const storage = makeStorage();
    const name = `parley:outbox:ws://test/ws:name:7:d`;
    for (const [list, body] of [['{"a":1}', ''], ['["x"]', '{"a"'],
      ['["x","y"]', '{"ClientMessageId":"other"}'], ['7', ''], ['', 'null']]) {
      storage.map.set(name, list);
      storage.map.set(`${name}:x`, body);
      const page = await makeOnline({ deviceId: 'd', outbox: storage });
      assert.equal(page.client.unsentCount, 0, list);
      assert.equal(page.client.state, 'authenticated');
    }
  });

test('a storage that cannot be read is not written over', async () => {
  const outbox = makeStorage();
  const storage = makeStorage();
  const first = await makeOnline({ storage, outbox });
  first.client.send(9, 'a').catch(() => {});
  await first.server.drop();
  const broken = { ...outbox, getItem: async () => { throw new Error('no'); } };
  const second = await makeOnline({ storage, outbox: broken });
  second.client.send(9, 'b').catch(() => {});
  assert.deepEqual(takeTexts(second.server), ['b']);
  const third = await makeOnline({ storage, outbox });
  assert.deepEqual(takeTexts(third.server), ['a']);
});

test('the outbox is bounded', async () => {
  const fake = await makeOnline({ outboxMax: 2 });
  fake.client.send(9, 'a').catch(() => {});
  fake.client.send(9, 'b').catch(() => {});
  assert.equal((await rejection(fake.client.send(9, 'c'))).reason,
    'OUTBOX_FULL');
  await fake.server.reply(fake.server.take('P_SEND_MESSAGE'));
  fake.client.send(9, 'd').catch(() => {});
  assert.deepEqual(takeTexts(fake.server), ['b', 'd']);
});

/* ---- a server that cannot answer ---- */

test('a target that cannot be reached now keeps its order, others go on',
  async () => {
    const { client, server, clock } = await makeOnline();
    for (const [to, text] of [[9, 'a'], [9, 'b'], [8, 'x'], [9, 'c']])
      client.send(to, text).catch(() => {});
    const [a, b, x] = server.frames.splice(0);
    await server.reply(a, { Reason: 'UNAVAILABLE', RetryAfter: 2_000 });
    await server.reply(x);
    await server.reply(b, { Reason: 'UNAVAILABLE', RetryAfter: 2_000 });
    client.send(8, 'y').catch(() => {});
    client.send(9, 'd').catch(() => {});
    await clock.advance(1_000);
    assert.deepEqual(takeTexts(server), ['y']);
    await clock.advance(1_000);
    /* c was under way meanwhile: until its answer nothing goes out */
    assert.deepEqual(takeTexts(server), []);
    assert.equal(client.unsentCount, 5);
  });

test('after a pause one message is tried first', async () => {
  const { client, server, clock } = await makeOnline();
  for (const text of ['a', 'b', 'c'])
    client.send(9, text).catch(() => {});
  for (const frame of server.frames.splice(0))
    await server.reply(frame, { Reason: 'UNAVAILABLE', RetryAfter: 2_000 });
  await clock.advance(2_000);
  const again = server.take('P_SEND_MESSAGE');
  assert.equal(again.Message, 'a');
  server.takeNothing();
  await server.reply(again, { Reason: 'UNAVAILABLE', RetryAfter: 20 });
  await clock.advance(8_000);
  const third = server.take('P_SEND_MESSAGE');
  server.takeNothing();
  await server.reply(third);
  assert.deepEqual(takeTexts(server), ['b', 'c']);
});

/* ---- requests that are kept ---- */

test('a change waits for the connection and survives it', async () => {
  const fake = makeFake();
  fake.client.connect();
  const edit = fake.client.editMessage('17', 'better');
  await login(fake);
  const frame = fake.server.take('P_EDIT_MESSAGE');
  await fake.server.drop();
  await fake.clock.advance(500);
  await login(fake);
  const again = fake.server.take('P_EDIT_MESSAGE');
  assert.equal(again.Message, frame.Message);
  await fake.server.reply(again, { Seq: 1 });
  assert.equal((await edit).Reason, 'OK');
  await fake.server.say(message(1), message(2));
  assert.deepEqual(fake.of('message').map((m) => m.Seq), [2]);
});

test('the changes of one message go out one after the other', async () => {
  const { client, server, clock } = await makeOnline();
  const edits = ['1', '2', '3'].map((text) => client.editMessage('17', text));
  const other = client.editMessage('18', 'x');
  await server.reply(server.take('P_EDIT_MESSAGE'),
    { Reason: 'UNAVAILABLE', RetryAfter: 100 });
  const frame = server.take('P_EDIT_MESSAGE');
  assert.equal(frame.MessageId, '18');
  await server.reply(frame);
  await other;
  server.takeNothing();
  await clock.advance(1_000);
  for (const text of ['1', '2', '3']) {
    const next = server.take('P_EDIT_MESSAGE');
    assert.equal(next.Message, text);
    server.takeNothing();
    await server.reply(next);
  }
  await Promise.all(edits);
});

test('what is kept is rejected when the client is closed', async () => {
  const fake = await makeOnline();
  const edit = rejection(fake.client.editMessage('17', 'x'));
  fake.client.close();
  assert.equal((await edit).reason, 'CLOSED');
  const late = rejection(fake.client.deleteMessage('17'));
  assert.equal((await late).reason, 'DISCONNECTED');
  assert.equal(fake.clock.pendingCount, 0);
});

/* ---- any schedule ---- */

/** What a server remembers. */
class Store {
  messages = [];
  #byId = new Map();

  take({ ClientMessageId: id, RequestId, Command, ...fields }) {
    const text = JSON.stringify(fields);
    const known = this.#byId.get(id);

    if (known !== undefined) {
      assert.equal(known.text, text, 'a retry is the same request');
      return { Reason: 'DUPLICATE', MessageId: known.MessageId };
    }
    this.messages.push(fields);
    const MessageId = String(this.messages.length);
    this.#byId.set(id, { text, MessageId });
    return { MessageId };
  }
}

/** Not all that was sent is heard, not all answers arrive. */
async function breakSomewhere(page, store, random) {
  const { server } = page;
  const frames = server.frames.splice(0)
    .filter((frame) => frame.Command === 'P_SEND_MESSAGE');
  const stored = random.below(frames.length + 1);
  const answered = random.below(stored + 1);
  const replies = frames.slice(0, stored).map((frame) => store.take(frame));

  for (let i = 0; i < answered; i++)
    await server.reply(frames[i], replies[i]);
  if (answered < frames.length)
    await server.drop();
}

test('each message is stored once, in order, over any losses and reloads',
  async () => {
    await eachSeed(60, async (random) => {
      const storage = makeStorage();
      const outbox = random.chance(0.5) ? storage : makeSlowStorage(storage);
      const store = new Store();
      const known = new Set();
      let page;
      let written = 0;
      const open = async () => {
        page = makeFake({ storage, outbox });
        page.client.addEventListener('sent', ({ detail }) =>
          known.add(detail.message.Message));
        page.client.connect().catch(() => {});
        while (page.peers.length === 0)
          await settle(); /* from now on what is written is stored */
      };
      const connect = async () => {
        await page.clock.advance(30_000);
        if (page.client.state === 'connecting')
          await login(page, { LastSeq: LOGIN.LastSeq });
      };
      await open();
      while (written < 40) {
        for (let i = random.below(12); i > 0; i--)
          page.client.send(random.pick([8, 9]), String(written++))
            .catch(() => {});
        if (random.chance(0.7))
          await connect();
        if (page.client.state === 'authenticated')
          await breakSomewhere(page, store, random);
        if (random.chance(0.3)) {
          await open();
        } else if (random.chance(0.5)) {
          await page.server.drop();
        }
      }
      while (page.client.unsentCount > 0) {
        await connect();
        for (const frame of page.server.frames.splice(0)) {
          if (frame.Command === 'P_SEND_MESSAGE')
            await page.server.reply(frame, store.take(frame));
        }
      }
      const all = store.messages.map((fields) => Number(fields.Message));
      assert.deepEqual(all, [...Array(written).keys()]);
      assert.equal(known.size, written, 'each is told as sent');
      assert.deepEqual(outboxKeys(storage), []);
    });
  });
