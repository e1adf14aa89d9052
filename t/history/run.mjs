/*
 * run.mjs - one schedule against a server, and the history it leaves.
 *
 * Role: carries the steps out, brings every device to the end of its inbox,
 *       asks for the final state, hands the history back.
 */

import { setTimeout as sleep } from 'node:timers/promises';

import { Device } from './device.mjs';
import { Random } from './random.mjs';
import { makeToken } from './server.mjs';

const END_MS = 90_000; /* for each part of the end */
const STRANGER = 2 ** 52; /* nobody's id */

export class Run {
  /** ids: of the users of the plan; server: anything with a port. */
  constructor(plan, ids, server) {
    this.plan = plan;
    this.seed = plan.seed;
    this.ids = ids;
    this.server = server;
    this.random = new Random(plan.seed + 0x10000000);
    this.entries = [];
    this.deviceNames = {};
    this.texts = new Map();
    this.nextConn = 1;
    this.nextInstance = 1;
    this.epoch = null;
    this.isOver = false;
    this.isEnding = false;
    this.started = Date.now();
    this.tokens = ids.map(makeToken);
    this.devices = plan.devices.map((d) => this.#makeDevice(d));
  }

  #makeDevice({ user, window, ack }) {
    return new Device(this, {
      user: this.ids[user], token: this.tokens[user], window, ack,
      random: this.random,
    });
  }

  port() {
    return this.server.port;
  }

  note(k, fields) {
    this.entries.push({ k, t: Date.now() - this.started, ...fields });
  }

  noteDevice(device) {
    this.deviceNames[device.instance] = { user: device.user, name: device.name };
  }

  /* One string for a text, however often it comes. */
  intern(text, isNew = false) {
    if (isNew) this.texts.set(text, text);
    return this.texts.get(text) ?? text;
  }

  other(user) {
    return this.ids.find((id) => id !== user);
  }

  stuck(why) {
    if (!this.isOver) this.note('stuck', { why });
  }

  history() {
    return {
      seed: this.seed,
      window: this.server.window,
      users: this.ids,
      devices: this.deviceNames,
      entries: this.entries,
    };
  }

  /** @return the history */
  async play() {
    try {
      await this.#steps();
      await this.#settle();
    } catch (error) {
      this.stuck(error.message);
    }
    this.isOver = true;
    for (const { session, replacing } of this.devices) {
      session?.wire.close();
      replacing?.wire.close();
    }
    return this.history();
  }

  async #steps() {
    for (const step of this.plan.steps) {
      const wait = this.started + step.at - Date.now();

      if (wait > 0) await sleep(wait);
      this.#step(step, this.devices[step.device]);
    }
  }

  #step(step, device) {
    switch (step.op) {
      case 'login':
        device.connect();
        break;
      case 'send':
        device.send(step.count, step.to.map((i) => this.ids[i]), step.size);
        break;
      case 'refused':
        this.#refused(step, device);
        break;
      case 'conflict':
        device.conflict(step);
        break;
      case 'mark':
        device.markRead(step);
        break;
      case 'ack':
        device.setAck(step);
        break;
      case 'beyond':
        device.ackBeyond();
        break;
      case 'cut':
        device.cut(step);
        break;
      case 'replace':
        device.replace(step);
        break;
      case 'forget':
        device.forget(step);
        break;
      case 'device': {
        const user = this.ids.indexOf(device.user);
        const further = this.#makeDevice({ ...step, user });

        this.devices.push(further);
        further.connect();
        break;
      }
      default:
        throw new Error(`no such step: ${step.op}`);
    }
  }

  #refused({ why }, device) {
    const to = [this.other(device.user)];

    if (why === 'empty') device.send(1, to, 0, 'empty');
    else device.send(1, why === 'mixed' ? [...to, STRANGER] : [STRANGER], 0);
  }

  async #until(what, check) {
    const deadline = Date.now() + END_MS;

    while (!check()) {
      if (Date.now() > deadline) throw new Error(`never: ${what}`);
      await sleep(5);
    }
  }

  /* ---- the end ---- */

  async #settle() {
    const ends = this.plan.end;

    this.isEnding = true;
    this.devices.forEach((device, index) => {
      const isFirst = device === this.#firstOf(device.user);

      device.isOnline = true;
      device.setAck({ mode: 'each' });
      if (device.session === null && !device.replacing) device.connect();
      else if (isFirst || (ends[index] && !ends[index].isKept))
        device.cut({ how: ends[index]?.how ?? 'close', delay: 5 });
    });
    await this.#until('every send is answered', () =>
      this.devices.every((d) => d.session?.isReady && !d.replacing &&
                                d.queue.length + d.unanswered.length === 0));
    for (const user of this.ids) await this.#drain(user);
    /* An empty inbox shows that every acknowledgement has arrived. */
    for (const user of this.ids) await this.#trimmed(user);
    await this.#finalState();
  }

  #firstOf(user) {
    return this.devices.find((d) => d.user === user);
  }

  #devicesOf(user) {
    return this.devices.filter((d) => d.user === user);
  }

  /* No sends are under way: the head stands still. */
  async #drain(user) {
    const devices = this.#devicesOf(user);
    const target = await this.#head(devices);

    await this.#until(`all of ${user} have ${target}`, () => {
      for (const device of devices) {
        /* Where it stands is not known: begin at the oldest event. */
        if (device.session?.isReady && device.session.at === null) {
          device.processed ??= device.session.reply.FirstSeq - 1;
          device.cut({ how: 'close', delay: 1 });
        }
      }
      return devices.every((d) =>
        d.session?.isReady && (d.session.at ?? -1) >= target);
    });
    for (const device of devices) {
      device.ackNow();
      this.note('settled', { c: device.session.id, d: device.instance });
    }
  }

  async #head(devices) {
    const [first] = devices;
    let before = first.session;

    first.cut({ how: 'close', delay: 1 });
    await this.#until(`${first.label()} logs in`, () =>
      first.session?.isReady && first.session !== before);
    before = first.session;
    return before.reply.LastSeq;
  }

  async #finalState() {
    const deadline = Date.now() + END_MS;

    for (const user of this.ids) {
      const device = this.#firstOf(user);
      const list = await this.#conversations(device, deadline);

      this.note('conversations', { user, list });
      for (const { conv } of list)
        this.note('messages', {
          user, conv, list: await this.#messages(device, conv, deadline),
        });
    }
  }

  async #conversations(device, deadline) {
    const found = [];
    let cursor;

    do {
      const reply = await device.ask('P_GET_CONVERSATIONS',
        { Cursor: cursor, Limit: this.plan.pages.limit }, deadline);

      if (reply.Reason !== 'OK')
        throw new Error(`P_GET_CONVERSATIONS: ${reply.Reason}`);
      for (const c of reply.Conversations)
        found.push({
          conv: c.ConversationId, members: c.Members, unread: c.UnreadCount,
          receipts: c.Receipts,
          last: { id: c.LastMessage.MessageId, from: c.LastMessage.FromUser.UserId },
        });
      cursor = reply.NextCursor ?? undefined; /* null: that was all */
    } while (cursor !== undefined);
    return found;
  }

  /* All of a conversation, oldest first. */
  async #messages(device, conv, deadline) {
    const { limit, isForward } = this.plan.pages;
    const pages = [];
    let edge = isForward ? '1' : undefined;
    let reply;

    do {
      const side = isForward ? { After: edge } : { Before: edge };

      reply = await device.ask('P_GET_MESSAGES',
        { ConversationId: conv, Limit: limit, ...side }, deadline);
      if (reply.Reason !== 'OK')
        throw new Error(`P_GET_MESSAGES: ${reply.Reason}`);
      edge = reply.Messages.at(-1)?.MessageId ?? edge;
      pages.push(...reply.Messages.map((m) => ({
        id: m.MessageId, from: m.FromUser.UserId, members: m.Members,
        text: this.intern(m.Message), conv: m.ConversationId,
      })));
    } while (reply.HasMore && reply.Messages.length > 0);
    return isForward ? pages : pages.reverse();
  }

  /* Everything is acknowledged: the inbox becomes empty. */
  async #trimmed(user) {
    const patience = Date.now() + 10_000;
    let reply;

    do {
      await this.#head(this.#devicesOf(user));
      ({ reply } = this.#firstOf(user).session ?? { reply });
    } while (reply?.FirstSeq !== reply?.LastSeq + 1 && Date.now() < patience &&
             (await sleep(30, true)));
    this.note('trimmed', { user, first: reply?.FirstSeq, last: reply?.LastSeq });
  }
}
