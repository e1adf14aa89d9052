/*
 * device.mjs - one device of one user: a client that keeps the rules of
 * protocol.md, whatever happens to its connections, and writes down what it
 * sees.
 *
 * Role: sends within its window, retries what is unanswered first and in
 *       order, acknowledges as told, forgets nothing it has processed.
 *       Judging is left to check.mjs.
 */

import { setTimeout as sleep } from 'node:timers/promises';

import { Wire } from './wire.mjs';

const LOGIN_MS = 60_000;
const KEEP_ANSWERED = 100; /* for conflicts: the server remembers 128 */

/** One connection; its end and its answers go to its device. */
class Session {
  constructor(device, login) {
    this.device = device;
    this.run = device.run;
    this.id = this.run.nextConn++;
    this.login = login;
    this.isReady = false;
    this.isOver = false;
    this.at = null; /* Seq reached; null: not known yet */
    this.waiting = new Map(); /* RequestId of what is not a send */
    this.nextRequest = 1;
    this.wire = new Wire(this.run.port(), {
      open: () => this.#authenticate(),
      message: (text) => this.#message(text),
      end: (how) => this.#end(how),
    });
    this.timer = setTimeout(() => {
      if (!this.isReady && !this.isOver)
        this.run.stuck(`login of ${device.label()} unanswered`);
    }, LOGIN_MS);
    this.timer.unref();
  }

  note(kind, fields) {
    this.run.note(kind, { c: this.id, ...fields });
  }

  #authenticate() {
    const { last, epoch } = this.login;
    const request = { Token: this.device.token, DeviceId: this.device.name };

    if (last !== undefined) request.LastSeq = last;
    if (epoch === 'wrong') request.Epoch = '0123456789abcdef';
    if (epoch === 'right' && this.run.epoch) request.Epoch = this.run.epoch;
    this.note('login', { d: this.device.instance, last, epoch });
    this.request('P_AUTHENTICATE', request);
  }

  request(command, fields = {}, extra = {}) {
    const r = this.nextRequest++;

    if (command !== 'P_AUTHENTICATE')
      this.note('request', { r, command, ...extra });
    this.wire.send(JSON.stringify({ Command: command, RequestId: r, ...fields }));
    return new Promise((resolve) => this.waiting.set(r, resolve));
  }

  submit(op, text = op.text) {
    const r = this.nextRequest++;

    this.note('send', { r, m: op.m, to: op.to, text, d: this.device.instance });
    this.wire.send(this.#sendText(op, text, r));
    return r;
  }

  #sendText(op, text, r) {
    return JSON.stringify({
      Command: 'P_SEND_MESSAGE',
      RequestId: r,
      ToUserList: op.to,
      Message: text,
      ClientMessageId: op.m,
    });
  }

  submitPart(op, share) {
    const r = this.nextRequest++;

    this.note('send', {
      r, m: op.m, to: op.to, text: op.text, d: this.device.instance, part: true,
    });
    this.wire.sendPart(this.#sendText(op, op.text, r), share);
  }

  ack(seq) {
    this.note('ack', { seq });
    this.wire.send(JSON.stringify({ Command: 'P_ACK', Seq: seq }));
  }

  /* An acknowledgement that must be refused: it gets an answer. */
  ackBeyond(seq) {
    const r = this.nextRequest++;

    this.note('request', { r, command: 'P_ACK', expect: 'BAD_REQUEST' });
    this.wire.send(JSON.stringify({ Command: 'P_ACK', RequestId: r, Seq: seq }));
  }

  #message(text) {
    const message = JSON.parse(text);

    if (message.Command === 'P_SEND_MESSAGE') this.#sent(message);
    else if (message.RequestId !== undefined) this.#reply(message);
    else if (message.Command === 'P_MESSAGE') this.#event(message);
    else if (message.Command === 'P_RECEIPT')
      this.note('receipt', {
        conv: message.ConversationId, user: message.UserId,
        delivered: message.DeliveredUpTo, read: message.ReadUpTo,
      });
    else if (message.Command === 'P_CLOSE')
      this.note('closing', { reason: message.Reason });
    else if (message.Command !== 'P_PRESENCE' && message.Command !== 'P_TYPING')
      this.note('strange', { text: text.slice(0, 500) });
  }

  #event(message) {
    this.note('event', {
      seq: message.Seq, id: message.MessageId, conv: message.ConversationId,
      members: message.Members, from: message.FromUser?.UserId,
      text: this.run.intern(message.Message), m: message.ClientMessageId,
    });
    this.at = Math.max(this.at ?? 0, message.Seq);
    this.device.received(this, message);
  }

  #sent(message) {
    this.note('sent', {
      r: message.RequestId, reason: message.Reason, id: message.MessageId,
      seq: message.Seq, conv: message.ConversationId, users: message.UserIds,
    });
    if (message.Seq !== undefined &&
        (message.Reason === 'OK' || message.Seq === (this.at ?? -1) + 1))
      this.at = message.Seq;
    this.device.answered(this, message);
  }

  #reply(message) {
    const resolve = this.waiting.get(message.RequestId);

    this.waiting.delete(message.RequestId);
    if (message.Command === 'P_AUTHENTICATE') {
      this.note('loginReply', {
        reason: message.Reason, first: message.FirstSeq, last: message.LastSeq,
        recovered: message.Recovered, epoch: message.Epoch,
      });
      if (message.Reason === 'OK') this.#loggedIn(message);
      else this.wire.drop();
    } else {
      this.note('reply', {
        r: message.RequestId, command: message.Command, reason: message.Reason,
      });
    }
    resolve?.(message);
  }

  #loggedIn(message) {
    const { last, epoch } = this.login;

    this.isReady = true;
    this.reply = message;
    clearTimeout(this.timer);
    this.run.epoch ??= message.Epoch;
    if (last !== undefined && epoch !== 'wrong')
      this.at = Math.min(Math.max(last, message.FirstSeq - 1), message.LastSeq);
    /* Something is gone: history would be read anew. */
    if (!message.Recovered && this.at !== null) this.device.processed = this.at;
    this.device.loggedIn(this);
  }

  #end(how) {
    this.isOver = true;
    this.isReady = false;
    clearTimeout(this.timer);
    this.note('end', how);
    for (const resolve of this.waiting.values()) resolve(null);
    this.waiting.clear();
    this.device.ended(this);
  }
}

export class Device {
  constructor(run, { user, token, window, ack, random }) {
    this.run = run;
    this.user = user;
    this.token = token;
    this.window = window;
    this.ackMode = ack;
    this.random = random;
    this.session = null;
    this.queue = []; /* not sent yet */
    this.unanswered = []; /* sent, in order */
    this.answeredOps = []; /* the last ones stored */
    this.isOnline = false; /* wants to be connected */
    this.ackTimer = null;
    this.replacing = null;
    this.isForgetting = false;
    this.becomeNew(`device-${run.nextInstance}`);
  }

  /** To the server another device from now on. */
  becomeNew(name) {
    this.instance = this.run.nextInstance++;
    this.name = name;
    this.processed = null; /* Seq */
    this.nextSend = 1;
    this.unanswered = [];
    this.answeredOps = [];
    this.lastMessages = [];
    this.run.noteDevice(this);
  }

  label() {
    return `user ${this.user} ${this.name} (${this.instance})`;
  }

  #loginFields({ position = 'exact', back = 1, epoch = 'right' } = {}) {
    if (this.processed === null || position === 'none') return { epoch };
    if (position === 'older')
      return { last: Math.max(0, this.processed - back), epoch };
    if (position === 'above') return { last: this.processed + 100_000, epoch };
    return { last: this.processed, epoch };
  }

  connect(position) {
    if (this.isForgetting) return;
    this.isOnline = true;
    if (this.session !== null) return;
    this.session = new Session(this, this.#loginFields(position));
  }

  /** The session ends for a reason of ours; another one after the delay. */
  cut({ how, share, delay, ...position }) {
    const { session } = this;

    if (session === null || this.replacing) return;
    this.isOnline = false;
    this.session = null;
    if (how === 'close') session.wire.close();
    else if (how === 'drop') session.wire.drop();
    else if (how === 'reset') session.wire.reset();
    else if (how === 'logout' && session.isReady) session.request('P_LOGOUT');
    else if (how === 'part' && session.isReady && this.queue.length > 0 &&
             this.unanswered.length < this.window) {
      const op = this.queue.shift();

      this.unanswered.push(op);
      session.submitPart(op, share);
    } else session.wire.drop();
    this.#later(delay, () => this.connect(position));
  }

  #later(delay, fn) {
    this.isOnline = true;
    setTimeout(() => {
      if (!this.run.isOver && this.isOnline && this.session === null) fn();
    }, delay);
  }

  /** The same device on a second connection while the first is in use. */
  replace({ before, after, ...position }) {
    const old = this.session;

    if (old === null || !old.isReady || this.replacing) return;
    const next = new Session(this, this.#loginFields(position));

    next.replaces = { old, before, after };
    this.replacing = next;
  }

  /** Log out for ever; then a new device in this one's place. */
  async forget({ isSameName, delay }) {
    const { session } = this;

    if (session === null || !session.isReady || this.replacing) return;
    this.session = null;
    this.isOnline = false;
    this.isForgetting = true;
    const reply = await session.request('P_LOGOUT', { Forget: true }, { forget: true });

    /* The connection is closed by the server; do not wait for it. */
    this.isForgetting = false;
    this.becomeNew(reply?.Reason === 'OK' && isSameName
      ? this.name : `device-${this.run.nextInstance}`);
    this.#later(delay, () => this.connect());
  }

  send(count, to, size, bad) {
    for (let i = 0; i < count; i++) {
      const m = `${this.instance}-${this.nextSend++}`;
      const start = `${this.run.seed}/${this.user}/${m}`;
      const text = bad === 'empty' ? '' : this.run.intern(start.padEnd(size, '.'), true);

      this.queue.push({ m, to, text });
    }
    this.pump();
  }

  /** The id of a stored message for another text. */
  conflict({ back }) {
    const op = this.answeredOps[this.answeredOps.length - 1 - back];

    if (op === undefined || !this.session?.isReady ||
        this.unanswered.length >= this.window) return;
    this.session.submit(op, this.run.intern(`${op.text.slice(0, 40)} changed`, true));
  }

  pump() {
    const { session } = this;

    while (session?.isReady && this.unanswered.length < this.window &&
           this.queue.length > 0) {
      const op = this.queue.shift();

      this.unanswered.push(op);
      op.r = session.submit(op);
      op.c = session.id;
    }
  }

  #take(session) {
    const { replaces } = session;

    this.session = session;
    this.replacing = null;
    for (const op of this.unanswered) {
      op.r = session.submit(op);
      op.c = session.id;
    }
    if (replaces === undefined || replaces.old.isOver) return;
    /* The old connection does not know yet that it does not count. */
    for (let i = 0; i < replaces.after; i++) {
      const m = `${this.instance}-late-${this.nextSend++}`;
      const text = this.run.intern(`${this.run.seed}/${this.user}/${m}`, true);

      replaces.old.submit({ m, to: [this.run.other(this.user)], text });
    }
  }

  loggedIn(session) {
    if (session !== this.session && session !== this.replacing) return;
    this.#take(session);
    /* A further device begins at the head: it has nothing to process. */
    this.pump();
  }

  /* The login of the second connection is under way: go on with the first. */
  #goOnMeanwhile(session) {
    const { replacing } = this;

    if (!replacing || replacing.replaces.before <= 0 || session === replacing) return;
    replacing.replaces.before--;
    this.pump();
  }

  answered(session, { RequestId, Reason, Seq }) {
    const index = this.unanswered.findIndex((op) =>
      op.r === RequestId && op.c === session.id);

    if (session === this.session && session.at !== null && Seq === session.at)
      this.#reached(session);
    if (index >= 0) {
      const [op] = this.unanswered.splice(index, 1);

      if (Reason === 'UNAVAILABLE') {
        this.run.note('refusedForNow', { m: op.m });
      } else if (Reason === 'OK' || Reason === 'DUPLICATE') {
        this.answeredOps.push(op);
        if (this.answeredOps.length > KEEP_ANSWERED) this.answeredOps.shift();
      }
    }
    this.#goOnMeanwhile(session);
    if (!this.replacing) this.pump();
  }

  received(session, message) {
    this.lastMessages.push([message.ConversationId, message.MessageId]);
    if (this.lastMessages.length > 20) this.lastMessages.shift();
    if (session === this.session) this.#reached(session);
  }

  #reached(session) {
    this.processed = Math.max(this.processed ?? 0, session.at);
    this.#acknowledge(session);
  }

  #acknowledge(session) {
    const { mode, every, late } = this.ackMode;

    if (mode === 'each') {
      session.ack(session.at);
    } else if (mode === 'every') {
      if (session.at % every === 0) session.ack(session.at);
    } else if (mode === 'late' && this.ackTimer === null) {
      this.ackTimer = setTimeout(() => {
        this.ackTimer = null;
        this.ackNow();
      }, late);
    }
  }

  ackNow() {
    if (this.session?.isReady && this.session.at !== null)
      this.session.ack(this.session.at);
  }

  setAck(mode) {
    this.ackMode = mode;
    this.ackNow();
  }

  ackBeyond() {
    if (this.session?.isReady)
      this.session.ackBeyond((this.session.at ?? this.session.reply.LastSeq) + 100_000);
  }

  markRead({ back }) {
    const mark = this.lastMessages[this.lastMessages.length - 1 - back];

    if (mark === undefined || !this.session?.isReady) return;
    this.session.request('P_MARK_READ',
      { ConversationId: mark[0], MessageId: mark[1] },
      { conv: mark[0], id: mark[1] });
  }

  ended(session) {
    if (session === this.session) this.session = null;
    else if (session === this.replacing) this.replacing = null;
    else return;
    if (this.session !== null || this.replacing || !this.isOnline ||
        this.run.isOver) return;
    const position = this.run.isEnding ? 'exact'
      : this.random.weighted({ exact: 8, none: 1, older: 1 });

    this.#later(this.random.between(2, 100),
      () => this.connect({ position, back: 3 }));
  }

  /** A request that outlives connections: sent until it is answered. */
  async ask(command, fields, until) {
    while (Date.now() < until) {
      const { session } = this;

      if (session?.isReady) {
        const reply = await session.request(command, fields);

        if (reply !== null && reply.Reason !== 'UNAVAILABLE') return reply;
      }
      await sleep(10);
    }
    throw new Error(`${command} of ${this.label()} was not answered in time`);
  }
}
