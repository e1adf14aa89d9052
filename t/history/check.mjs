/*
 * check.mjs - is a history one that protocol.md allows?
 *
 * Role: pure. Reads what the clients wrote down, in order, and names every
 *       rule that was broken. What a client cannot know (was a request
 *       applied before its connection died?) may be either way; everything
 *       else may not.
 * See:  protocol.md: Inbox, Retries, Devices, Conversations;
 *       check_end.mjs (the state at the end), check.test.mjs
 */

import { checkEnd } from './check_end.mjs';

/** Ids are decimal numbers that JavaScript cannot hold. */
export function compareIds(a, b) {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}

const same = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);
const sorted = (list) => [...list].sort((a, b) => a - b);

/** What is stored of a message: one per first submission. */
class Send {
  constructor(entry, user, order) {
    Object.assign(this, {
      m: entry.m, d: entry.d, user, order, to: entry.to, text: entry.text,
      members: sorted([...new Set([...entry.to, user])]),
      attempts: [], isStored: false, isRefused: false, id: null, seq: null,
      hasOk: false,
    });
  }
}

class Checker {
  constructor(history) {
    this.history = history;
    this.violations = [];
    this.users = new Map(history.users.map((id) => [id, {
      id, stream: new Map(), byText: new Map(), max: 0, mayMiss: false,
      /* What a device forgot unacknowledged nobody needs to acknowledge. */
      hasForgotten: false, forgottenUpTo: 0,
    }]));
    this.devices = new Map(Object.entries(history.devices).map(([d, device]) =>
      [Number(d), {
        ...device, d: Number(d), exact: null, floating: new Map(), high: null,
        maxCursor: 0, maybeFrom: null, sureFrom: null, leaving: null,
        isGone: false, sends: 0, current: null,
      }]));
    this.conns = new Map();
    this.sends = new Map(); /* ClientMessageId -> Send */
    this.texts = new Map(); /* Message -> Send, or null: never valid */
    this.convs = new Map(); /* ConversationId -> members */
    this.convOf = new Map(); /* members -> ConversationId */
    this.marks = new Map(); /* conv|user -> {sure, most} */
    this.base = null;
    this.epoch = null;
    this.now = 0;
  }

  bad(rule, text) {
    this.violations.push({ rule, text, at: this.now });
  }

  run() {
    this.history.entries.forEach((entry, index) => {
      this.now = index;
      const handler = this[`on_${entry.k}`];

      if (handler !== undefined) handler.call(this, entry, this.conns.get(entry.c));
    });
    this.now = this.history.entries.length;
    checkEnd(this);
    return this.violations;
  }

  /* ---- logins ---- */

  on_login(entry) {
    const device = this.devices.get(entry.d);
    const conn = {
      c: entry.c, device, user: this.users.get(device.user), login: entry,
      loginAt: this.now, maxBefore: this.users.get(device.user).max,
      isReady: false, isOver: false, at: null, start: null, passed: new Set(),
      requests: new Map(), answered: new Set(), unacked: [], acked: 0,
      open: 0, wasFull: false, receipts: new Map(), readyAt: null,
    };

    this.conns.set(entry.c, conn);
    conn.wasNew = device.maybeFrom === null;
    device.maybeFrom ??= this.now;
    /* Until it is answered, and for ever when it never is. */
    if (entry.last > conn.user.max || (conn.wasNew && entry.last === undefined))
      device.floating.set(conn.c, Infinity); /* some head, not known which */
    else if (entry.last !== undefined && entry.epoch !== 'wrong')
      device.floating.set(conn.c, entry.last);
  }

  /* Where logins without an answer may have put the cursor. */
  #floats(device, value) {
    const values = [...device.floating.values()];

    return values.includes(value) || values.includes(Infinity);
  }

  /* Devices of a user that the server surely, or possibly, knows. */
  #deviceCounts(user, from, to) {
    let sure = 0;
    let maybe = 0;

    for (const device of this.devices.values()) {
      if (device.user !== user || device.maybeFrom === null) continue;
      if (device.sureFrom !== null && device.sureFrom <= from &&
          (device.leaving === null || device.leaving > to)) sure++;
      if (device.maybeFrom <= to &&
          (!device.isGone || device.goneAt >= from)) maybe++;
    }
    return { sure, maybe };
  }

  on_loginReply(entry, conn) {
    const { device, user, login } = conn;
    const floor = entry.first - 1;

    if (entry.reason !== 'OK') {
      if (entry.reason !== 'UNAVAILABLE')
        this.bad('answer', `login of device ${device.d}: ${entry.reason}`);
      return;
    }
    if (conn.isReady) this.bad('answer', `login on ${conn.c} answered twice`);
    conn.isReady = true;
    conn.readyAt = this.now;
    this.epoch ??= entry.epoch;
    if (entry.epoch !== this.epoch)
      this.bad('epoch', `${entry.epoch} after ${this.epoch}`);
    this.base ??= floor; /* nothing is gone before the first device */
    if (entry.last < conn.maxBefore)
      this.bad('head', `user ${user.id}: head ${entry.last}, but ` +
        `${conn.maxBefore} was given out`);
    if (floor > entry.last || floor < this.base)
      this.bad('floor', `user ${user.id}: FirstSeq ${entry.first} of ${entry.last}`);
    for (const other of this.devices.values()) {
      if (other.user === user.id && other.sureFrom !== null &&
          other.leaving === null && other !== device &&
          floor > Math.max(other.maxCursor, ...other.floating.values()))
        this.bad('floor', `user ${user.id}: events up to ${floor} are gone, ` +
          `device ${other.d} has acknowledged at most ${other.maxCursor}`);
    }
    device.floating.delete(conn.c);
    if (user.hasForgotten) {
      user.hasForgotten = false;
      user.forgottenUpTo = entry.last;
    }
    this.#recovered(entry, conn, floor);
    this.#start(entry, conn, floor);
    device.sureFrom ??= this.now;
    device.maxCursor = Math.max(device.maxCursor, conn.start ?? entry.last);
    device.current = conn;
    if (login.last === undefined || login.epoch === 'wrong') return;
    device.exact = new Set([conn.start]);
  }

  #recovered(entry, { login, user }, floor) {
    const last = login.epoch === 'wrong' ? undefined : login.last;
    const expected = login.epoch !== 'wrong' &&
      !(last > entry.last) && !(last < floor && floor !== this.base);

    if (entry.recovered !== expected)
      this.bad('recovered', `user ${user.id}: ${entry.recovered}, LastSeq ` +
        `${login.last}, epoch ${login.epoch}, inbox ${entry.first}..${entry.last}`);
    if (!expected) user.mayMiss = true; /* the client was told */
  }

  /* Which Seq comes first on this connection, as far as it can be known. */
  #start(entry, conn, floor) {
    const { device, user, login } = conn;

    conn.head = entry.last;
    conn.floor = floor;
    conn.mayJump = !entry.recovered || conn.wasNew || device.high === null;
    if (login.last !== undefined && login.epoch !== 'wrong') {
      this.#setStart(conn, Math.min(Math.max(login.last, floor), entry.last));
      return;
    }
    if (conn.wasNew) {
      const { sure, maybe } = this.#deviceCounts(user.id, conn.loginAt, this.now);

      device.exact = new Set();
      if (sure === 0) device.exact.add(floor);
      if (maybe > 1) device.exact.add(entry.last);
    }
    if (device.exact?.size === 1 && device.floating.size === 0)
      this.#setStart(conn, [...device.exact][0]);
  }

  #setStart(conn, start) {
    const { device } = conn;

    conn.start = start;
    conn.at = start;
    if (device.high === null || conn.mayJump) device.high ??= start;
    /* A login whose reply was lost may have claimed more than there was. */
    if (start > device.high && !conn.mayJump && !this.#floats(device, start))
      this.bad('lost', `device ${device.d} has ${device.high}, the server goes ` +
        `on after ${start}`);
    device.high = Math.max(device.high, start);
  }

  /* The first Seq of a login without LastSeq tells where the cursor stood. */
  #learnStart(conn, seq) {
    const { device } = conn;
    let start = seq - 1;
    const isPossible = (value) => device.exact === null ||
      device.exact.has(value) || this.#floats(device, value);

    while (conn.passed.has(start) && !isPossible(start)) start--;
    if (!isPossible(start) || start < conn.floor)
      this.bad('start', `device ${device.d}: ${seq} comes first; the cursor can ` +
        `be one of ${[...(device.exact ?? []), ...device.floating.values()]}`);
    device.exact = new Set([start]);
    /* Replies to retries have stood for the events below. */
    while (conn.passed.has(start)) start--;
    this.#setStart(conn, start);
    conn.at = seq - 1;
    for (const acked of conn.ackedSeqs ?? []) this.#cursorMoves(device, acked);
  }

  #cursorMoves(device, seq) {
    device.maxCursor = Math.max(device.maxCursor, seq);
    if (device.exact === null) return;
    /* It has arrived or not, or a later one before it. */
    for (const value of [...device.exact])
      device.exact.add(Math.max(value, seq));
  }

  /* ---- requests and answers ---- */

  #asked(entry, conn, what) {
    if (conn.requests.has(entry.r)) throw new Error(`RequestId ${entry.r} again`);
    conn.requests.set(entry.r, what);
  }

  /* @return what was asked, or undefined */
  #answer(entry, conn) {
    const what = conn.requests.get(entry.r);

    if (!conn.isReady) this.bad('answer', `connection ${conn.c}: before the login`);
    if (what === undefined) {
      this.bad('answer', `connection ${conn.c}: nobody asked ${entry.r}`);
    } else if (conn.answered.has(entry.r)) {
      this.bad('answer', `connection ${conn.c}: ${entry.r} answered twice`);
      return undefined;
    }
    conn.answered.add(entry.r);
    return what;
  }

  on_request(entry, conn) {
    this.#asked(entry, conn, entry);
    if (entry.forget) {
      conn.device.leaving ??= this.now;
      conn.user.forgottenUpTo = Infinity;
      conn.user.mayMiss = true;
    }
    if (entry.command === 'P_MARK_READ') {
      const key = `${entry.conv}|${conn.device.user}`;
      const mark = this.marks.get(key) ?? { sure: '0', most: '0' };

      if (compareIds(entry.id, mark.most) > 0) mark.most = entry.id;
      this.marks.set(key, mark);
    }
  }

  on_reply(entry, conn) {
    const asked = this.#answer(entry, conn);
    const expected = asked?.expect ?? 'OK';

    if (asked === undefined) return;
    if (entry.command !== asked.command)
      this.bad('answer', `${asked.command} answered as ${entry.command}`);
    if (entry.reason !== expected && entry.reason !== 'UNAVAILABLE')
      this.bad('answer', `${asked.command}: ${entry.reason}, not ${expected}`);
    if (asked.forget && entry.reason === 'OK') {
      conn.device.isGone = true;
      conn.device.goneAt = this.now;
      conn.user.hasForgotten = true;
    }
    if (asked.command === 'P_LOGOUT' && entry.reason === 'OK' &&
        conn.device.exact !== null && conn.acked > 0 &&
        conn.device.current === conn)
      conn.device.exact = new Set([...conn.device.exact]
        .filter((value) => value >= conn.acked));
    if (asked.command === 'P_MARK_READ' && entry.reason === 'OK') {
      const mark = this.marks.get(`${asked.conv}|${conn.device.user}`);

      if (compareIds(asked.id, mark.sure) > 0) mark.sure = asked.id;
    }
  }

  /* ---- sends ---- */

  on_send(entry, conn) {
    const device = this.devices.get(entry.d);
    let send = this.sends.get(entry.m);

    if (send === undefined) {
      send = new Send(entry, device.user, device.sends++);
      send.firstAt = this.now;
      this.sends.set(entry.m, send);
      this.texts.set(entry.text, send);
      send.expect = entry.text === '' ? 'BAD_REQUEST'
        : entry.to.some((id) => !this.users.has(id)) ? 'NOT_FOUND' : 'OK';
      if (send.expect !== 'OK') this.texts.set(entry.text, null);
    }
    const attempt = {
      c: conn.c, isPart: entry.part === true, send,
      isOther: entry.text !== send.text || !same(entry.to, send.to),
      /* The same device had logged in elsewhere: must be thrown away. */
      isVoid: device.current !== null && device.current !== conn &&
        device.current.loginAt > conn.loginAt,
    };
    if (attempt.isOther) {
      attempt.wasStored = send.isStored;
      this.texts.set(entry.text, null);
    } else {
      send.attempts.push(attempt);
    }
    this.#asked(entry, conn, attempt);
    if (!attempt.isPart && ++conn.open >= 64) conn.wasFull = true;
  }

  on_sent(entry, conn) {
    const attempt = this.#answer(entry, conn);
    const isStored = entry.reason === 'OK' || entry.reason === 'DUPLICATE';

    conn.open--;
    if (attempt?.send === undefined) return;
    const { send } = attempt;
    if (attempt.isOther) {
      if (entry.reason !== 'CONFLICT' && attempt.wasStored)
        this.bad('answer', `${send.m} with another content: ${entry.reason}`);
      return;
    }
    if (isStored !== (send.expect === 'OK') ||
        (!isStored && entry.reason !== send.expect)) {
      this.bad('answer', `${send.m}: ${entry.reason}, not ${send.expect}`);
      return;
    }
    if (!isStored) return;
    if (attempt.isVoid || attempt.isPart)
      this.bad('discarded', `${send.m} was answered ${entry.reason} on a ` +
        `connection that did not count any more`);
    if (entry.reason === 'OK' && send.hasOk)
      this.bad('answer', `${send.m} was answered OK twice`);
    if (entry.reason === 'DUPLICATE' && send.attempts.length === 1)
      this.bad('answer', `${send.m} is DUPLICATE at its first try`);
    send.hasOk ||= entry.reason === 'OK';
    send.isStored = true;
    this.#place(send, entry, conn);
  }

  /* What the reply says of the message: ids, conversation, own Seq. */
  #place(send, entry, conn) {
    const { user, device } = conn;
    const { sure, maybe } = this.#deviceCounts(user.id, send.firstAt, this.now);
    const seq = entry.seq ?? 0;

    this.#id(send, entry.id);
    this.#conversation(entry.conv, send.members);
    if (seq === 0 && sure >= 2)
      this.bad('own', `${send.m}: no Seq, the user has other devices`);
    if (seq !== 0 && maybe < 2)
      this.bad('own', `${send.m}: Seq ${seq}, the user has no other device`);
    if (send.seq !== null && send.seq !== seq)
      this.bad('own', `${send.m}: Seq ${seq} after Seq ${send.seq}`);
    send.seq = seq;
    if (seq === 0) return;
    this.#inStream(user, seq, { id: entry.id, conv: entry.conv, send });
    if (entry.reason === 'OK') {
      if (conn.at === null) this.#learnStart(conn, seq);
      else if (seq !== conn.at + 1) this.#outOfPlace(conn, seq, 'reply');
      conn.at = Math.max(conn.at, seq);
    } else if (conn.at === null) {
      conn.passed.add(seq);
    } else if (seq > conn.at + 1) {
      this.#outOfPlace(conn, seq, 'reply');
    } else {
      conn.at = Math.max(conn.at, seq);
    }
    if (conn.at !== null) device.high = Math.max(device.high ?? 0, conn.at);
  }

  #outOfPlace(conn, seq, what) {
    if (seq > conn.at + 1)
      this.bad('gap', `connection ${conn.c}: ${what} ${seq} after ${conn.at}`);
    else
      this.bad('repeated', `connection ${conn.c}: ${what} ${seq} after ${conn.at}`);
  }

  #id(send, id) {
    if (send.id !== null && send.id !== id)
      this.bad('ids', `${send.m} is ${send.id} and ${id}`);
    send.id ??= id;
  }

  #conversation(conv, members) {
    const key = members.join();

    if (!this.convs.has(conv)) this.convs.set(conv, members);
    if (!this.convOf.has(key)) this.convOf.set(key, conv);
    if (!same(this.convs.get(conv), members) || this.convOf.get(key) !== conv)
      this.bad('conversation', `${conv} of ${key}; was ` +
        `${this.convs.get(conv)} and ${this.convOf.get(key)}`);
  }

  /* One Seq, one event, on whatever device it is seen. */
  #inStream(user, seq, event) {
    const known = user.stream.get(seq);

    user.max = Math.max(user.max, seq);
    if (known !== undefined) {
      if (known.id !== event.id || known.conv !== event.conv)
        this.bad('differs', `user ${user.id}: ${seq} is ${known.id} and ${event.id}`);
      return;
    }
    user.stream.set(seq, event);
    if (event.send === undefined) return;
    if (user.byText.has(event.send))
      this.bad('twice', `user ${user.id}: ${event.send.m} is ` +
        `${user.byText.get(event.send)} and ${seq}`);
    user.byText.set(event.send, seq);
  }

  /* ---- events ---- */

  on_event(entry, conn) {
    const { user, device } = conn;
    const send = this.texts.get(entry.text);

    if (!conn.isReady) this.bad('gap', `connection ${conn.c}: before the login`);
    if (conn.at === null) this.#learnStart(conn, entry.seq);
    else if (entry.seq !== conn.at + 1) this.#outOfPlace(conn, entry.seq, 'event');
    conn.at = Math.max(conn.at, entry.seq);
    device.high = Math.max(device.high, conn.at);
    this.#window(entry, conn);
    if (send === null) {
      this.bad('refused', `user ${user.id} got ${entry.text.slice(0, 60)}`);
      return;
    }
    if (send === undefined) {
      this.bad('unknown', `user ${user.id} got ${entry.text.slice(0, 60)}`);
      return;
    }
    this.#content(entry, conn, send);
    this.#inStream(user, entry.seq, { id: entry.id, conv: entry.conv, send });
    this.#id(send, entry.id);
  }

  #content(entry, conn, send) {
    const { user } = conn;
    const isOwn = send.user === user.id;

    if (!send.members.includes(user.id))
      this.bad('stranger', `user ${user.id} got ${send.m} to ${send.to}`);
    if (entry.from !== send.user || !same(sorted(entry.members), send.members))
      this.bad('conversation', `${send.m} from ${entry.from} among ${entry.members}`);
    this.#conversation(entry.conv, send.members);
    if (send.attempts.every((a) => a.isVoid || a.isPart))
      this.bad('discarded', `user ${user.id} got ${send.m}, submitted on a ` +
        'connection that did not count any more');
    if (!isOwn) return;
    if (entry.m !== send.m)
      this.bad('own', `${send.m} came back with ClientMessageId ${entry.m}`);
    if (this.#deviceCounts(user.id, send.firstAt, this.now).maybe < 2)
      this.bad('own', `${send.m} came back to the only device`);
    if (send.attempts.every((a) => a.c === conn.c))
      this.bad('own', `${send.m} came as an event beside its reply`);
  }

  #window(entry, conn) {
    while (conn.unacked.length > 0 && conn.unacked[0] <= conn.acked)
      conn.unacked.shift();
    conn.unacked.push(entry.seq);
    if (conn.unacked.length > this.history.window && !conn.wasFull)
      this.bad('window', `connection ${conn.c}: ${conn.unacked.length} ` +
        `events ahead of ${conn.acked}`);
  }

  on_ack(entry, conn) {
    const { device } = conn;

    conn.acked = Math.max(conn.acked, entry.seq);
    device.maxCursor = Math.max(device.maxCursor, entry.seq);
    (conn.ackedSeqs ??= []).push(entry.seq);
    if (conn.start !== null) this.#cursorMoves(device, entry.seq);
  }

  on_receipt(entry, conn) {
    const key = `${entry.conv}|${entry.user}`;
    const before = conn.receipts.get(key);
    const members = this.convs.get(entry.conv);

    if (members !== undefined && (!members.includes(conn.user.id) ||
                                  !members.includes(entry.user)))
      this.bad('stranger', `receipt of ${entry.user} in ${entry.conv}`);
    if (before !== undefined &&
        (compareIds(entry.delivered, before.delivered) < 0 ||
         compareIds(entry.read, before.read) < 0))
      this.bad('receipt', `of ${entry.user} in ${entry.conv} goes back`);
    conn.receipts.set(key, entry);
  }

  on_end(entry, conn) {
    if (conn !== undefined) conn.isOver = true;
  }

  on_strange(entry) {
    this.bad('answer', `not understood: ${entry.text}`);
  }

  on_stuck(entry) {
    this.bad('stuck', entry.why);
  }

  on_settled(entry, conn) {
    const device = this.devices.get(entry.d);

    device.isSettled = true;
    if (conn.at < conn.user.max || (conn.at > conn.user.max &&
        conn.user.max > 0 && !conn.user.mayMiss))
      this.bad('lost', `device ${device.d} ends at ${conn.at} of ${conn.user.max}`);
    if (conn.at > device.high)
      this.bad('lost', `device ${device.d} has seen ${device.high} of ${conn.at}`);
  }
}

/** @return [{rule, text, at: index of the entry}], empty when all is well */
export function check(history) {
  return new Checker(history).run();
}
