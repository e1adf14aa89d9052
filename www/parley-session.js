/*
 * parley-session.js - one device's connection: login, order, retries.
 *
 * Role:   keeps a connection, delivers each event once and in order, sends
 *         again what was not answered; knows the envelope, not the commands.
 * States: idle, then connecting, open (logging in), authenticated,
 *         reconnecting (waiting) and closed; #setState alone changes them.
 * Ends:   #lost, after which it comes back by itself, or #stop.
 * See:    parley.js (events), parley-watch.js, parley-util.js.
 */

import { DeviceStore, Outbox, ParleyError, Timers, isLargerThan,
  tokenAccount } from './parley-util.js';
import { Liveness, TokenRefresh } from './parley-watch.js';

const SUBPROTOCOL = 'parley.v1';
const BACKOFF_BASE_MS = 500;
const BACKOFF_MAX_MS = 30_000;
const STABLE_AFTER_MS = 10_000; /* a shorter session keeps the back-off */
const CONNECT_TIMEOUT_MS = 15_000;
const LOGIN_TIMEOUT_MS = 30_000;
const ACK_DELAY_MS = 50;
const ACK_EVENT_COUNT = 32; /* an eighth of the server's window */

/* A login refused for one of these may succeed later; for others never. */
const LOGIN_RETRY_REASONS = new Set(
  ['UNAVAILABLE', 'RATE_LIMITED', 'SERVER_ERROR', 'STORAGE_FULL']);

/* Final closes, by their code, in case P_CLOSE itself did not arrive. */
const FINAL_CLOSES = new Map([[4002, 'REPLACED'], [4003, 'KICKED']]);

/* CustomEvent, which Node has from 19 on only. */
class DetailEvent extends Event {
  constructor(type, detail) {
    super(type);
    this.detail = detail;
  }
}

export class Session extends EventTarget {
  #url;
  #credentials;
  #status;
  #store;
  #WebSocket;
  #timers;
  #liveness;
  #random;

  #state = 'idle';
  #ready = null; /* the promise of connect(), with its two ends */
  #turn = 0; /* grows with each attempt; what belongs to an older one ends */
  #socket = null;
  #attempt = 0;
  #notBefore = 0; /* RetryAfter of the server, on our clock */
  #farewell = null; /* P_CLOSE, until the close frame follows */
  #isLeaving = false;
  #authenticatedAt = 0;
  #login = null;
  #onlineListener = () => this.#wake();

  #nextRequestId = 1;
  #requests = new Map();
  #outbox = new Outbox();
  #eventNames;

  #account = null;
  #userId = null;
  #epoch = null;
  #lastSeq = null; /* null: not known, the next event tells */
  #unackedCount = 0;
  #gapSeq = null;

  /**
   * @param options.url       of the WebSocket, such as wss://host:3333/ws
   * @param options.token     a JWT, or a function (async or not) that gets a
   *                          fresh one; it is called for each login and, where
   *                          the token tells its `exp`, before it expires
   * @param options.userName, options.password  instead of a token; held in
   *                          memory for reconnects
   * @param options.status    ONLINE, AWAY, BUSY or INVISIBLE at login
   * @param options.storage   getItem, setItem, removeItem; see above
   * @param options.deviceId  instead of one chosen and kept in the storage
   * @param options.WebSocket, options.clock, options.random  for tests
   * @param event_names       Map from a server's event to that of ours
   */
  constructor(options, event_names) {
    super();
    this.#eventNames = event_names;
    this.#url = String(options.url);
    this.#credentials = options;
    this.#status = options.status;
    this.#store =
      new DeviceStore(options.storage, this.#url, options.deviceId);
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.#timers = new Timers(options.clock);
    this.#liveness = new Liveness(this.#timers,
      () => this.#ask('P_HEARTBEAT', {}, { resolve() {}, reject() {} }),
      () => this.#lost({ reason: 'SILENT', message: 'the server is silent' }));
    this.#random = options.random ?? Math.random;
  }

  get state() { return this.#state; }
  get userId() { return this.#userId; }
  get lastSeq() { return this.#lastSeq; }
  get deviceId() { return this.#store.deviceId; }

  /** How many messages are not yet known to be safe on the server. */
  get unsentCount() { return this.#outbox.length; }

  /**
   * Connect and stay connected until close(), logout() or a final refusal.
   *
   * @return the reply of the first successful login; rejected when there
   *         will be none
   */
  connect() {
    if (this.#ready === null) {
      this.#ready = {};
      this.#ready.promise = new Promise((resolve, reject) => {
        Object.assign(this.#ready, { resolve, reject });
      });
      this.#attempt = 0;
      this.#notBefore = 0;
      this.#isLeaving = false;
      globalThis.addEventListener?.('online', this.#onlineListener);
      this.#start();
    }
    return this.#ready.promise;
  }

  /** connect() with `{token}` or `{userName, password}`. */
  authenticate(credentials) {
    if (this.#ready !== null)
      return Promise.reject(new ParleyError('CONFLICT', 'already connecting'));
    this.#credentials = credentials;
    return this.connect();
  }

  async updateStatus(status, statusText) {
    this.#status = status; /* also for the next login */
    return this.request('P_UPDATE_STATUS',
      { Status: status, StatusText: statusText });
  }

  /** Log out, close and forget the credentials; with `forget` the server
   *  forgets this device as well. */
  async logout({ forget = false } = {}) {
    const account = this.#account; /* #stop clears it */

    if (this.#state === 'authenticated') {
      if (this.#unackedCount > 0)
        this.#acknowledge();
      const reply = this.request('P_LOGOUT', forget ? { Forget: true } : {});
      this.#isLeaving = true;
      await reply.catch(() => {}); /* gone either way */
    }
    this.#stop({ reason: 'LOGOUT', message: 'logged out' });
    this.#credentials = {};
    if (forget)
      this.#store.forget(account);
  }

  /** Close and do not come back by itself; connect() may be called again. */
  close() {
    this.#stop({ reason: 'CLOSED', message: 'closed by the application' });
  }

  /**
   * Any command that has a reply, such as P_CREATE_GROUP; not for
   * P_SEND_MESSAGE, which send() retries.
   *
   * @return the reply; rejected with DISCONNECTED when the connection ends
   *         first, for then it is unknown whether it was carried out
   */
  request(command, fields = {}) {
    return new Promise((resolve, reject) => {
      if (this.#state !== 'authenticated' || this.#isLeaving)
        reject(new ParleyError('DISCONNECTED', 'not connected'));
      else
        this.#ask(command, fields, { resolve, reject });
    });
  }

  /**
   * P_SEND_MESSAGE, kept and retried until it is answered; see send().
   *
   * @param fields  copied: a retry that differs would be a CONFLICT
   */
  async submit(fields) {
    if (this.#state === 'closed' || this.#isLeaving)
      throw new ParleyError('DISCONNECTED', 'the client is closed');
    const outcome = this.#outbox.add(fields);
    this.#pump();
    return outcome;
  }

  /** A command without a reply, such as P_SIGNAL; false if not connected. */
  post(command, fields) {
    if (this.#state !== 'authenticated')
      return false;
    this.#transmit(JSON.stringify({ Command: command, ...fields }));
    return true;
  }

  /* ---- connection ---- */

  async #start() {
    const turn = ++this.#turn;
    let token;
    let login;

    this.#setState('connecting');
    try {
      /* before the socket is opened: the server grants a login 10 s */
      token = await this.#currentToken();
      if (turn !== this.#turn)
        return;
      login = this.#loginFields(token);
    } catch (error) {
      if (turn === this.#turn)
        this.#loginFailed(error);
      return;
    }
    try {
      this.#socket = new this.#WebSocket(this.#url, [SUBPROTOCOL]);
    } catch (error) {
      this.#stop({ reason: 'BAD_REQUEST', message: error.message });
      return;
    }
    this.#socket.onopen = () => this.#opened(login);
    this.#socket.onmessage = (event) => this.#received(event.data);
    this.#socket.onclose = (event) => this.#closed(event.code);
    this.#timers.set('connect', CONNECT_TIMEOUT_MS, () =>
      this.#lost({ reason: 'TIMEOUT', message: 'no connection in time' }));
  }

  async #currentToken() {
    const { token } = this.#credentials;

    return typeof token === 'function' ? token() : token;
  }

  #loginFields(token) {
    const { userName, password } = this.#credentials;
    const fields = { DeviceId: this.#store.deviceId, Status: this.#status };

    if (token !== undefined) {
      this.#enterAccount(tokenAccount(token));
      fields.Token = token;
    } else if (userName !== undefined) {
      this.#enterAccount(`name:${userName}`);
      Object.assign(fields, { UserName: userName, Password: password });
    } else {
      throw new ParleyError('AUTH_FAILED', 'neither token nor user name');
    }
    if (this.#epoch !== null)
      fields.Epoch = this.#epoch;
    if (this.#lastSeq !== null)
      fields.LastSeq = this.#lastSeq;
    return fields;
  }

  #opened(fields) {
    this.#setState('open');
    this.#timers.set('connect', LOGIN_TIMEOUT_MS, () =>
      this.#lost({ reason: 'TIMEOUT', message: 'no answer to the login' }));
    this.#ask('P_AUTHENTICATE', fields, {
      resolve: (reply) => this.#authenticated(reply, fields),
      reject: (error) => {
        if (error.reason !== 'DISCONNECTED')
          this.#loginFailed(error);
      },
    });
  }

  #authenticated(reply, fields) {
    const now = this.#timers.now();
    const has_new_epoch = this.#epoch !== null && reply.Epoch !== this.#epoch;
    const is_reset = reply.Recovered === false || has_new_epoch;

    this.#timers.clear('connect');
    if (this.#userId !== null && reply.UserId !== this.#userId) {
      /* what waits in the outbox was written by somebody else */
      this.#stop({ reason: 'CONFLICT', message: 'logged in as another user' });
      return;
    }
    this.#userId = reply.UserId;
    this.#epoch = reply.Epoch ?? null;
    if (is_reset)
      this.#lastSeq = null;
    this.#login = reply;
    this.#authenticatedAt = now;
    this.#saveCursor();
    this.#liveness.start(reply);
    this.#watchToken(fields.Token);
    this.#setState('authenticated', { login: reply });
    this.#ready?.resolve(reply);
    if (is_reset && this.#state === 'authenticated')
      this.#emit('reset',
        { reason: has_new_epoch ? 'EPOCH' : 'NOT_RECOVERED' });
    this.#pump();
  }

  #watchToken(token) {
    const provider = this.#credentials.token;

    if (typeof provider === 'function')
      new TokenRefresh(this.#timers, provider,
        (fresh) => this.request('P_REFRESH_TOKEN', { Token: fresh }),
        (error) => this.#emit('warning', { Command: 'P_REFRESH_TOKEN',
          Reason: error.reason, Message: error.message }),
      ).start(token, this.#login.ServerTime);
  }

  #loginFailed(error) {
    const is_expired = error.reason === 'TOKEN_EXPIRED' &&
      typeof this.#credentials.token === 'function';
    const cause = {
      reason: error.reason ?? 'UNAVAILABLE', /* the token function threw */
      message: error.message,
      retryAfter: error.retryAfter,
    };

    if (is_expired || LOGIN_RETRY_REASONS.has(cause.reason))
      this.#lost(cause);
    else
      this.#stop(cause);
  }

  #closed(code) {
    this.#lost({ reason: FINAL_CLOSES.get(code) ?? 'CONNECTION_LOST',
      message: 'the connection was closed', code, ...this.#farewell });
  }

  #lost(cause) {
    if (this.#isLeaving)
      this.#stop({ reason: 'LOGOUT', message: 'logged out' });
    else if (cause.reason === 'REPLACED' || cause.reason === 'KICKED')
      this.#stop(cause);
    else
      this.#reconnect(cause);
  }

  #reconnect(cause) {
    const now = this.#timers.now();
    const was_stable = this.#state === 'authenticated' &&
      now - this.#authenticatedAt >= STABLE_AFTER_MS;
    const retry_after = Math.max(0, Number(cause.retryAfter) || 0);
    let delay;

    this.#attempt = was_stable ? 0 : this.#attempt;
    /* full jitter: a server that restarts is not met by all at once */
    delay = this.#random() *
      Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** this.#attempt);
    delay = Math.max(delay, retry_after);
    this.#attempt++;
    this.#notBefore = now + retry_after;
    this.#detach();
    this.#timers.set('reconnect', delay, () => this.#start());
    this.#setState('reconnecting',
      { delay, reason: cause.reason, message: cause.message });
    if (this.#state === 'reconnecting') /* a handler may have closed us */
      this.#emit('close', { ...cause, willReconnect: true });
  }

  /* Nothing follows by itself; what waits is told so. */
  #stop(cause) {
    const ready = this.#ready;
    const error = new ParleyError(cause.reason, cause.message,
      { RetryAfter: cause.retryAfter });

    if (this.#state === 'closed')
      return;
    if (this.#unackedCount > 0)
      this.#acknowledge();
    this.#ready = null;
    this.#detach();
    this.#isLeaving = false;
    /* the next login may be another user's; the storage knows each one's */
    this.#account = this.#userId = this.#epoch = this.#lastSeq = null;
    globalThis.removeEventListener?.('online', this.#onlineListener);
    this.#outbox.rejectAll(error);
    this.#setState('closed', { reason: cause.reason, message: cause.message });
    this.#emit('close', { ...cause, willReconnect: false });
    ready?.promise.catch(() => {}); /* if nobody waits, the event tells */
    ready?.reject(error);
  }

  /* Leave the socket at once; its close handshake may take a minute. */
  #detach() {
    const socket = this.#socket;
    const requests = [...this.#requests.values()];

    this.#turn++;
    this.#socket = null;
    this.#farewell = null;
    this.#login = null;
    this.#saveCursor();
    this.#unackedCount = 0; /* LastSeq at the next login says it all */
    this.#outbox.rewind();
    this.#requests.clear();
    this.#timers.clearAll();
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    for (const request of requests)
      request.reject(new ParleyError('DISCONNECTED', 'connection lost'));
  }

  /* The network is back: no need to wait out the back-off. */
  #wake() {
    if (this.#state === 'reconnecting' &&
        this.#timers.now() >= this.#notBefore) {
      this.#timers.clear('reconnect');
      this.#start();
    }
  }

  /* ---- requests ---- */

  #ask(command, fields, handlers) {
    const id = this.#nextRequestId++;
    const text = JSON.stringify({ Command: command, RequestId: id, ...fields });

    /* the server would close, and a retry would close it again */
    if (isLargerThan(text, this.#login?.MaxMessageSize ?? Infinity)) {
      handlers.reject(new ParleyError('TOO_LARGE', 'too large to be sent'));
      return;
    }
    this.#requests.set(id, handlers);
    this.#transmit(text);
  }

  #transmit(text) {
    this.#liveness.spoke();
    this.#socket.send(text);
  }

  #pump() {
    let send;

    while (this.#state === 'authenticated' && !this.#isLeaving &&
        (send = this.#outbox.takeNext()) !== null)
      this.#ask('P_SEND_MESSAGE', send.fields, this.#sendHandlers(send));
  }

  #sendHandlers(send) {
    return {
      resolve: (reply) => {
        this.#outbox.remove(send);
        send.resolve(reply);
        this.#pump();
      },
      reject: (error) => {
        if (error.reason === 'DISCONNECTED')
          return; /* it stays for a retry */
        this.#outbox.remove(send);
        send.reject(error);
        this.#pump();
      },
    };
  }

  /* ---- what arrives ---- */

  #received(data) {
    let frame = null;

    this.#liveness.heard();
    try {
      frame = JSON.parse(data);
    } catch {
      /* below */
    }
    if (typeof frame?.Command !== 'string')
      this.#emit('warning', { Message: 'not a message of this protocol' });
    else if (frame.Command === 'P_CLOSE')
      this.#farewell = { reason: frame.Reason, message: frame.Message,
        retryAfter: frame.RetryAfter };
    else if (frame.Reason !== undefined)
      this.#takeReply(frame);
    else
      this.#takeEvent(frame);
  }

  #takeReply(reply) {
    const handlers = this.#requests.get(reply.RequestId);
    const turn = this.#turn;

    if (handlers === undefined) {
      this.#emit('warning', reply);
      return;
    }
    this.#requests.delete(reply.RequestId);
    if (reply.Reason === 'OK' || reply.Reason === 'DUPLICATE')
      handlers.resolve(reply);
    else
      handlers.reject(new ParleyError(reply.Reason, reply.Message, reply));
    if (reply.Seq === undefined || turn !== this.#turn)
      return;
    /* a DUPLICATE repeats a Seq of the past: no more than a hint */
    const is_next =
      this.#lastSeq !== null && reply.Seq === this.#lastSeq + 1;
    if (is_next || (reply.Reason === 'OK' && this.#isNew(reply.Seq)))
      this.#count(reply.Seq);
  }

  #takeEvent(event) {
    const name = this.#eventNames.get(event.Command) ?? 'event';

    if (event.Seq === undefined) {
      this.#emit(name, event);
    } else if (this.#isNew(event.Seq)) {
      this.#lastSeq = event.Seq; /* first: a handler may close us */
      const turn = this.#turn;
      this.#emit(name, event);
      if (turn === this.#turn)
        this.#count(event.Seq);
    }
  }

  #isNew(seq) {
    if (this.#lastSeq === null || seq === this.#lastSeq + 1)
      return true;
    if (seq <= this.#lastSeq)
      return false;
    /* A hole, which the protocol excludes. A new login asks for what is
       missing; if the hole is still there, the history must be read again. */
    if (this.#gapSeq !== this.#lastSeq) {
      this.#gapSeq = this.#lastSeq;
      this.#lost({ reason: 'GAP', message: 'events are missing' });
      return false;
    }
    this.#gapSeq = null;
    this.#emit('reset', { reason: 'GAP' });
    return this.#state === 'authenticated'; /* a handler may close us */
  }

  #count(seq) {
    this.#lastSeq = seq;
    if (++this.#unackedCount >= ACK_EVENT_COUNT)
      this.#acknowledge();
    else if (!this.#timers.has('ack'))
      this.#timers.set('ack', ACK_DELAY_MS, () => this.#acknowledge());
  }

  #acknowledge() {
    this.#timers.clear('ack');
    this.#unackedCount = 0;
    this.#saveCursor();
    this.post('P_ACK', { Seq: this.#lastSeq });
  }

  /* ---- small things ---- */

  #setState(state, detail = {}) {
    const previous = this.#state;

    this.#state = state;
    this.#emit('state', { state, previous, ...detail });
  }

  #emit(type, detail) {
    this.dispatchEvent(new DetailEvent(type, detail));
  }

  /* One client serves one user until it stops: what waits in the outbox
     must not be sent as somebody else. */
  #enterAccount(account) {
    if (this.#userId !== null && account !== this.#account)
      throw new ParleyError('CONFLICT', 'a token of another user');
    if (this.#userId !== null)
      return;
    this.#account = account;
    ({ epoch: this.#epoch, lastSeq: this.#lastSeq } =
      this.#store.loadCursor(account));
  }

  #saveCursor() {
    if (this.#userId !== null)
      this.#store.saveCursor(this.#account,
        { epoch: this.#epoch, lastSeq: this.#lastSeq });
  }
}
