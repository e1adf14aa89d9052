/*
 * parley-inbox.js - which events this device has seen, and who it is.
 *
 * Role:   Inbox drops what was seen, notices what is missing, acknowledges;
 *         DeviceStore keeps the device id and the cursor over page loads.
 * See:    parley-session.js, their user; doc/protocol.md, Inbox.
 */

import { newId, parseJson } from './parley-util.js';

const ACK_DELAY_MS = 50;
const ACK_EVENT_COUNT = 32; /* an eighth of the server's window */

function memoryStorage() {
  const items = new Map();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => items.set(key, value),
    removeItem: (key) => items.delete(key),
  };
}

function tabStorage() {
  try { /* a sandboxed page may not even look at the property */
    return globalThis.sessionStorage ?? memoryStorage();
  } catch {
    return memoryStorage();
  }
}

/**
 * The device id and, per user, how far its inbox was read.
 *
 * Storage may be full, forbidden or emptied at any time; then memory has to
 * do, and the server's own cursor counts after a reload.
 */
export class DeviceStore {
  #storage;
  #url;
  #deviceId;

  constructor(storage, url, device_id) {
    this.#storage = storage ?? tabStorage();
    this.#url = url;
    this.#deviceId = device_id;
  }

  get deviceId() {
    this.#deviceId ??= this.#read('parley:device');
    if (!this.#deviceId) {
      this.#deviceId = newId();
      this.#write('parley:device', this.#deviceId);
    }
    return this.#deviceId;
  }

  /** {epoch, lastSeq}, each null where not known. */
  loadCursor(account) {
    const cursor = account !== null &&
      parseJson(this.#read(this.#cursorKey(account))) || {};

    return {
      epoch: cursor.epoch ?? null,
      lastSeq: Number.isSafeInteger(cursor.lastSeq) ? cursor.lastSeq : null,
    };
  }

  saveCursor(account, cursor) {
    if (account !== null)
      this.#write(this.#cursorKey(account), JSON.stringify(cursor));
  }

  /** Whose messages the outbox holds; null where the token does not tell. */
  outboxName(account) {
    return account === null ? null
      : `parley:outbox:${this.#url}:${account}:${this.deviceId}`;
  }

  /** The next login is from a new device. */
  forget(account) {
    this.#deviceId = undefined;
    this.#remove('parley:device');
    this.#remove(this.#cursorKey(account));
  }

  #cursorKey(account) { return `parley:cursor:${this.#url}:${account}`; }

  #read(key) {
    try {
      return this.#storage.getItem(key);
    } catch {
      return null;
    }
  }

  #write(key, value) {
    try {
      this.#storage.setItem(key, value);
    } catch {
      this.#storage = memoryStorage();
      this.#storage.setItem(key, value);
    }
  }

  #remove(key) {
    try {
      this.#storage.removeItem(key);
    } catch {
      /* nothing was kept */
    }
  }
}

/** The order of one user's events, on one connection after the other. */
export class Inbox {
  #store;
  #timers;
  #sendAck;
  #account = null; /* whose cursor the storage keeps; null: cannot tell */
  #userId = null;
  #epoch = null;
  #lastSeq = null; /* null: not known, the next event tells */
  #unackedCount = 0;
  #gapSeq = null;

  /** @param send_ack  gets the Seq up to which all has been handled */
  constructor(store, timers, send_ack) {
    this.#store = store;
    this.#timers = timers;
    this.#sendAck = send_ack;
  }

  get account() { return this.#account; }
  get userId() { return this.#userId; }
  get lastSeq() { return this.#lastSeq; }

  /** Before a login; false: somebody else's, who may not follow here. */
  enter(account) {
    if (this.#userId !== null)
      return account === this.#account;
    this.#account = account;
    ({ epoch: this.#epoch, lastSeq: this.#lastSeq } =
      this.#store.loadCursor(account));
    return true;
  }

  /** Where the login is to go on. */
  get loginFields() {
    return { ...this.#epoch !== null && { Epoch: this.#epoch },
      ...this.#lastSeq !== null && { LastSeq: this.#lastSeq } };
  }

  /** @return why the history is to be loaded again; null: it is complete */
  loggedIn(reply) {
    const has_new_epoch = this.#epoch !== null && reply.Epoch !== this.#epoch;
    const is_reset = reply.Recovered === false || has_new_epoch;

    this.#userId = reply.UserId;
    this.#epoch = reply.Epoch ?? null;
    if (is_reset)
      this.#lastSeq = null;
    this.#save();
    return is_reset ? (has_new_epoch ? 'EPOCH' : 'NOT_RECOVERED') : null;
  }

  /** The connection is gone; LastSeq at the next login says it all. */
  disconnected() {
    this.#save();
    this.#unackedCount = 0;
  }

  /** The next login may be another user's. */
  leave() {
    this.#account = this.#userId = this.#epoch = this.#lastSeq = null;
  }

  /**
   * What to do with an event.
   *
   * @return NEW; SEEN: it is dropped; HOLE, which the protocol excludes: a new
   *         login asks for what is missing; GAP: the hole is still there after
   *         that, the history must be read again
   */
  judge(seq) {
    if (this.#lastSeq === null || seq === this.#lastSeq + 1)
      return 'NEW';
    if (seq <= this.#lastSeq)
      return 'SEEN';
    if (this.#gapSeq !== this.#lastSeq) {
      this.#gapSeq = this.#lastSeq;
      return 'HOLE';
    }
    this.#gapSeq = null;
    return 'GAP';
  }

  isNext(seq) { return this.#lastSeq !== null && seq === this.#lastSeq + 1; }

  /** It is being handled: not to be handled again. */
  begin(seq) { this.#lastSeq = seq; }

  /** It has been handled: to be acknowledged. */
  count(seq) {
    this.#lastSeq = seq;
    if (++this.#unackedCount >= ACK_EVENT_COUNT)
      this.acknowledge();
    else if (!this.#timers.has('ack'))
      this.#timers.set('ack', ACK_DELAY_MS, () => this.acknowledge());
  }

  acknowledge() {
    if (this.#unackedCount === 0)
      return;
    this.#timers.clear('ack');
    this.#unackedCount = 0;
    this.#save();
    this.#sendAck(this.#lastSeq);
  }

  #save() {
    if (this.#userId !== null)
      this.#store.saveCursor(this.#account,
        { epoch: this.#epoch, lastSeq: this.#lastSeq });
  }
}
