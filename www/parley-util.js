/*
 * parley-util.js - what parley.js needs that knows nothing of a connection.
 *
 * Role: ids and tokens, what is kept between page loads, what waits to be sent,
 *       named timers.
 * See:  parley-session.js, its user.
 */

const SENDS_MAX = 64; /* unanswered; beyond, the server stops reading */
const TIMER_MAX_MS = 2 ** 31 - 1; /* above, setTimeout fires at once */

/** What a refused or abandoned request is rejected with. */
export class ParleyError extends Error {
  constructor(reason, message, reply = {}) {
    super(message || reason);
    this.name = 'ParleyError';
    this.reason = reason;
    this.retryAfter = reply.RetryAfter ?? 0; /* ms */
    this.reply = reply;
  }
}

/** An unguessable id for a device or a message, 22 characters. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes))
    .replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
}

/** Order of two message ids: decimal strings too large for a Number. */
export function compareIds(a, b) {
  return a.length - b.length || (a < b ? -1 : Number(a > b));
}

/** The claims of a JWT, unverified; {} if it is something else. */
export function tokenClaims(token) {
  try {
    const part = token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/');
    const bytes = Uint8Array.from(atob(part), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) ?? {};
  } catch {
    return {};
  }
}

/** Whose cursor the storage keeps; null: the token does not tell. */
export function tokenAccount(token) {
  const { sub } = tokenClaims(token);
  return sub === undefined ? null : `sub:${sub}`;
}

export function isLargerThan(text, max_bytes) {
  return text.length * 3 > max_bytes &&
    new TextEncoder().encode(text).length > max_bytes;
}

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
    let cursor = {};
    if (account !== null) {
      try {
        cursor = JSON.parse(this.#read(this.#cursorKey(account))) ?? {};
      } catch {
        /* not ours: as if it were not there */
      }
    }
    return {
      epoch: cursor.epoch ?? null,
      lastSeq: Number.isSafeInteger(cursor.lastSeq) ? cursor.lastSeq : null,
    };
  }

  saveCursor(account, cursor) {
    if (account !== null)
      this.#write(this.#cursorKey(account), JSON.stringify(cursor));
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

/**
 * Messages not yet known to be safe, oldest first; the first #sentCount of
 * them are on the wire.
 */
export class Outbox {
  #sends = [];
  #sentCount = 0;

  get length() { return this.#sends.length; }

  /** @return promise of the reply; the fields are copied, for a retry that
   *          differs from the first try would be a CONFLICT */
  add(fields) {
    const copy = JSON.parse(JSON.stringify(fields));

    return new Promise((resolve, reject) => {
      this.#sends.push({ fields: copy, resolve, reject });
    });
  }

  /** The next to be sent; null: none, or too many are unanswered. */
  takeNext() {
    if (this.#sentCount >= Math.min(this.#sends.length, SENDS_MAX))
      return null;
    return this.#sends[this.#sentCount++];
  }

  /** One that was taken has got its answer. */
  remove(send) {
    this.#sends.splice(this.#sends.indexOf(send), 1);
    this.#sentCount--;
  }

  /** The connection is lost: all will be taken again, in order. */
  rewind() { this.#sentCount = 0; }

  rejectAll(error) {
    this.#sentCount = 0;
    for (const send of this.#sends.splice(0))
      send.reject(error);
  }
}

/** Timers by name, on a clock that tests replace. */
export class Timers {
  #clock;
  #pending = new Map();
  #epoch = 0;

  constructor(clock) {
    this.#clock = clock ?? {
      now: () => performance.now(), /* Date jumps */
      setTimeout: (fn, ms) => setTimeout(fn, ms),
      clearTimeout: (timer) => clearTimeout(timer),
    };
  }

  /** Milliseconds, from an arbitrary start. */
  now() { return this.#clock.now(); }

  has(name) { return this.#pending.has(name); }

  /** Replaces the timer of that name; fires early rather than at once where
   *  the delay is more than a timer can hold (24 days). */
  set(name, ms, fn) {
    this.clear(name);
    this.#pending.set(name, this.#clock.setTimeout(() => {
      this.#pending.delete(name);
      fn();
    }, Math.min(ms, TIMER_MAX_MS)));
  }

  clear(name) {
    this.#clock.clearTimeout(this.#pending.get(name));
    this.#pending.delete(name);
  }

  /** The connection they belong to is gone. */
  clearAll() {
    this.#epoch++;
    for (const name of [...this.#pending.keys()])
      this.clear(name);
  }

  /** Changes with clearAll(): tells what waits for something else than a
   *  timer that it is too late. */
  get epoch() { return this.#epoch; }
}
