/*
 * parley-util.js - what parley.js needs that knows nothing of a connection.
 *
 * Role: ids and tokens, named timers, events, errors.
 * See:  parley-session.js, its user.
 */

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

/* CustomEvent, which Node has from 19 on only. */
class DetailEvent extends Event {
  constructor(type, detail) {
    super(type);
    this.detail = detail;
  }
}

export function emit(target, type, detail) {
  target.dispatchEvent(new DetailEvent(type, detail));
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

/** null for what is no JSON, such as what others left in a storage. */
export function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
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

  /** Never ends where the timer is cleared. */
  wait(name, ms) {
    return new Promise((resolve) => {
      this.set(name, ms, resolve);
    });
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
