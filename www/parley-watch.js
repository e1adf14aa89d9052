/*
 * parley-watch.js - what must not fall silent or expire during a session.
 *
 * Role:  Liveness notices a dead connection, TokenRefresh renews the token.
 *        Both use the session's timers, which end with the connection.
 * See:   parley-session.js, their user.
 */

import { ParleyError, tokenAccount, tokenClaims } from './parley-util.js';

const PING_INTERVAL_MS = 25_000; /* where the login does not tell */
const PONG_GRACE_MS = 8_000;
const REFRESH_LEAD_MS = 60_000;
const REFRESH_LOOK_MS = 3_600_000; /* how often a later date is looked at */
const REFRESH_RETRY_MS = 5_000;

/** A browser does not show the server's pings: ask when it says nothing. */
export class Liveness {
  #timers;
  #onProbe;
  #onSilence;
  #heardAt = 0;
  #spokeAt = 0;
  #probedAt = null; /* asked, and nothing heard since */
  #pingMs;
  #speakMs;

  constructor(timers, on_probe, on_silence) {
    this.#timers = timers;
    this.#onProbe = on_probe;
    this.#onSilence = on_silence;
  }

  start(login) {
    this.#pingMs = login.PingInterval || PING_INTERVAL_MS;
    this.#speakMs = (login.HeartbeatInterval || Infinity) / 2;
    this.#arm();
  }

  heard() {
    this.#heardAt = this.#timers.now();
    this.#probedAt = null;
  }

  spoke() { this.#spokeAt = this.#timers.now(); }

  #due() {
    if (this.#probedAt === null)
      return Math.min(this.#heardAt + this.#pingMs,
        this.#spokeAt + this.#speakMs);
    return Math.max(this.#heardAt + this.#pingMs, this.#probedAt) +
      PONG_GRACE_MS;
  }

  /* Not moved with every frame: it looks again when it fires. */
  #arm() {
    this.#timers.set('liveness',
      Math.max(this.#due() - this.#timers.now(), 0), () => this.#check());
  }

  #check() {
    if (this.#timers.now() >= this.#due()) {
      if (this.#probedAt !== null) {
        this.#onSilence();
        return;
      }
      this.#probedAt = this.#timers.now();
      this.#onProbe();
    }
    this.#arm();
  }
}

/** Gets a fresh token before the old one's `exp`, which is server time. */
export class TokenRefresh {
  #timers;
  #provider;
  #replace;
  #onFailure;
  #serverOffset = 0;

  /**
   * @param provider    function for a fresh token
   * @param replace     hands it to the server; rejected if refused
   * @param on_failure  told each error; it is tried again until `exp`
   */
  constructor(timers, provider, replace, on_failure) {
    this.#timers = timers;
    this.#provider = provider;
    this.#replace = replace;
    this.#onFailure = on_failure;
  }

  start(token, server_time) {
    this.#serverOffset = server_time - this.#timers.now();
    this.#arm(token);
  }

  #arm(token, at_least_ms = REFRESH_RETRY_MS) {
    const left = tokenClaims(token).exp * 1000 -
      (this.#timers.now() + this.#serverOffset);
    const delay = Math.max(left - Math.min(REFRESH_LEAD_MS, left / 5),
      at_least_ms);

    if (!(left > 0)) /* or NaN: the token does not tell */
      return;
    this.#timers.set('refresh', Math.min(delay, REFRESH_LOOK_MS), () => {
      if (delay > REFRESH_LOOK_MS)
        this.#arm(token);
      else
        this.#renew(token);
    });
  }

  async #renew(old_token) {
    const epoch = this.#timers.epoch;
    let token = old_token;
    let retry_after;

    try {
      const fresh = await this.#provider();
      if (epoch !== this.#timers.epoch)
        return; /* of a connection that is gone */
      if (tokenAccount(fresh) !== tokenAccount(old_token))
        throw new ParleyError('CONFLICT', 'a token of another user');
      await this.#replace(fresh);
      token = fresh;
    } catch (error) {
      retry_after = error.retryAfter || undefined;
      this.#onFailure(error);
    }
    if (epoch === this.#timers.epoch)
      this.#arm(token, retry_after);
  }
}
