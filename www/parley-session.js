/*
 * parley-session.js - one device's connection: login, order, retries.
 *
 * Role:   keeps a connection, delivers each event once and in order, sends
 *         again what was not answered; knows the envelope, not the commands.
 * States: idle, then connecting, open (logging in), authenticated,
 *         reconnecting (waiting) and closed; #setState alone changes them.
 * Ends:   #lost, after which it comes back by itself, or #stop.
 * See:    parley.js (events), parley-queue.js (what is sent again),
 *         parley-watch.js, parley-util.js.
 */

import { DeviceStore, Inbox } from './parley-inbox.js';
import { Outbox, Queue } from './parley-queue.js';
import { ParleyError, Timers, emit, isLargerThan, parseJson, tokenAccount }
  from './parley-util.js';
import { Liveness, TokenRefresh } from './parley-watch.js';

const SUBPROTOCOL = 'parley.v1';
const BACKOFF_MS = { first: 500, most: 30_000 };
const STABLE_AFTER_MS = 10_000; /* a shorter session keeps the back-off */
const CONNECT_TIMEOUT_MS = 15_000;
const LOGIN_TIMEOUT_MS = 30_000;
const OUTBOX_MAX = 1000;

/* A login refused for one of these may succeed later; for others never. */
const LOGIN_RETRY_REASONS = new Set(
  ['UNAVAILABLE', 'RATE_LIMITED', 'SERVER_ERROR', 'STORAGE_FULL']);

/* Final closes, by their code, in case P_CLOSE itself did not arrive. */
const FINAL_CLOSES = new Map([[4002, 'REPLACED'], [4003, 'KICKED']]);

/* A request answered so was not carried out and is repeated, but for those
   that have their own way or mean this moment. */
const REPEAT_REASONS = new Set(['RATE_LIMITED', 'UNAVAILABLE']);
const ONCE_COMMANDS = new Set(['P_LOGOUT', 'P_REFRESH_TOKEN', 'P_SIGNAL']);

function copyOf(fields) {
  return JSON.parse(JSON.stringify(fields));
}

function messageItem(fields) {
  const { ToUserList, GroupId, CollaborationId } = fields;
  const lane = `to ${JSON.stringify([ToUserList, GroupId, CollaborationId])}`;

  return { command: 'P_SEND_MESSAGE', fields, lane, isKept: true,
    resolve() {}, reject() {} };
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
  #account = null; /* of the last login that was tried: logout() after it */
  #onlineListener = () => this.#wake();

  #nextRequestId = 1;
  #requests = new Map();
  #queue = new Queue({});
  #outbox;
  #inbox;
  #eventNames;

  /**
   * @param options.url       of the WebSocket, such as wss://host:3333/ws
   * @param options.token     a JWT, or a function (async or not) that gets a
   *                          fresh one; it is called for each login and, where
   *                          the token tells its `exp`, before it expires
   * @param options.userName, options.password  instead of a token; held in
   *                          memory for reconnects
   * @param options.status    ONLINE, AWAY, BUSY or INVISIBLE at login
   * @param options.storage   getItem, setItem, removeItem; see above
   * @param options.outbox    getItem, setItem, removeItem, with promises or
   *                          without: outboxMax messages outlive the page
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
    this.#outbox = new Outbox(options.outbox, options.outboxMax ?? OUTBOX_MAX,
      (error) => this.#emit('warning',
        { Message: `outbox: ${error.message}` }));
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.#timers = new Timers(options.clock);
    this.#inbox = new Inbox(this.#store, this.#timers,
      (seq) => this.post('P_ACK', { Seq: seq }));
    this.#liveness = new Liveness(this.#timers,
      () => this.#ask('P_HEARTBEAT', {}, { resolve() {}, reject() {} }),
      () => this.#lost({ reason: 'SILENT', message: 'the server is silent' }));
    this.#random = options.random ?? Math.random;
  }

  get state() { return this.#state; }
  get userId() { return this.#inbox.userId; }
  get login() { return this.#login; }
  get sessionId() { return this.#login?.SessionId ?? null; }
  get lastSeq() { return this.#inbox.lastSeq; }
  get deviceId() { return this.#store.deviceId; }

  /** How many messages are not yet known to be safe on the server. */
  get unsentCount() { return this.#outbox.length; }
  get unsent() { return this.#outbox.items.map(({ fields }) => fields); }

  /**
   * Connect and stay connected until close(), logout() or a final refusal.
   *
   * @return the reply of the first successful login; rejected when there
   *         will be none
   */
  connect() {
    const ready = this.#ready ?? {};

    if (this.#ready === null) {
      this.#ready = ready;
      ready.promise = new Promise((resolve, reject) => {
        Object.assign(ready, { resolve, reject });
      });
      this.#attempt = 0;
      this.#notBefore = 0;
      this.#isLeaving = false;
      globalThis.addEventListener?.('online', this.#onlineListener);
      this.#start(); /* a handler may close us */
    }
    return ready.promise;
  }

  /** connect() with `{token}` or `{userName, password}`. */
  authenticate(credentials) {
    if (this.#ready !== null)
      return Promise.reject(new ParleyError('CONFLICT', 'already connecting'));
    this.#credentials = credentials;
    return this.connect();
  }

  /** The status of this and each further login. */
  updateStatus(status, statusText) {
    this.#status = status;
    return this.request('P_UPDATE_STATUS',
      { Status: status, StatusText: statusText });
  }

  /** Log out, close and forget the credentials; with `forget` the server
   *  forgets this device as well. */
  async logout({ forget = false } = {}) {
    if (this.#state === 'authenticated') {
      this.#inbox.acknowledge();
      const reply = this.request('P_LOGOUT', forget ? { Forget: true } : {});
      this.#isLeaving = true;
      await reply.catch(() => {}); /* gone either way */
    }
    this.#stop({ reason: 'LOGOUT', message: 'logged out' });
    this.#credentials = {};
    const name = this.#store.outboxName(this.#account);
    if (forget)
      this.#store.forget(this.#account);
    await this.#outbox.erase(name);
  }

  /** Close and do not come back by itself; connect() may be called again. */
  close() {
    this.#stop({ reason: 'CLOSED', message: 'closed by the application' });
  }

  /**
   * Any command that has a reply; repeated while the server cannot answer.
   *
   * @return the reply; rejected with DISCONNECTED when the connection ends
   *         first, for then it is unknown whether it was carried out
   */
  async request(command, fields = {}) {
    if (this.#state !== 'authenticated' || this.#isLeaving)
      throw new ParleyError('DISCONNECTED', 'not connected');
    return this.#enqueue(this.#queue, { command, fields, lane: {} });
  }

  /**
   * A command that may be carried out twice: kept until there is a connection
   * and repeated over reconnects until it is answered.
   *
   * @param fields  copied
   * @param lane    those of one lane go out one after the other
   */
  async requestKept(command, fields = {}, lane = command) {
    this.#refuseIfGone();
    return this.#enqueue(this.#queue,
      { command, fields: copyOf(fields), lane, isKept: true });
  }

  /**
   * P_SEND_MESSAGE, kept and retried until it is answered; see send().
   *
   * @param fields  copied: a retry that differs would be a CONFLICT
   */
  async submit(fields) {
    this.#refuseIfGone();
    return this.#enqueue(this.#outbox, messageItem(copyOf(fields)));
  }

  /** A command without a reply, such as P_TYPING; false if not connected. */
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
      await this.#outbox.restore(this.#store.outboxName(this.#inbox.account),
        messageItem);
      if (turn !== this.#turn)
        return;
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
    const has_token = token !== undefined;
    const account = has_token ? tokenAccount(token) : `name:${userName}`;

    if (!has_token && userName === undefined)
      throw new ParleyError('AUTH_FAILED', 'neither token nor user name');
    /* One client serves one user until it stops: what waits in the outbox
       must not be sent as somebody else. */
    if (!this.#inbox.enter(account))
      throw new ParleyError('CONFLICT', 'a token of another user');
    this.#account = account;
    return { DeviceId: this.#store.deviceId, Status: this.#status,
      ...has_token ? { Token: token }
        : { UserName: userName, Password: password },
      ...this.#inbox.loginFields };
  }

  #opened(fields) {
    this.#setState('open');
    if (this.#state !== 'open')
      return; /* a handler has closed us */
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
    const { userId } = this.#inbox;

    this.#timers.clear('connect');
    if (userId !== null && reply.UserId !== userId) {
      /* what waits in the outbox was written by somebody else */
      this.#stop({ reason: 'CONFLICT', message: 'logged in as another user' });
      return;
    }
    const reset = this.#inbox.loggedIn(reply);
    this.#login = reply;
    this.#authenticatedAt = this.#timers.now();
    this.#liveness.start(reply);
    this.#watchToken(fields.Token);
    this.#setState('authenticated', { login: reply });
    this.#ready?.resolve(reply);
    if (reset !== null && this.#state === 'authenticated')
      this.#emit('reset', { reason: reset });
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
    const cause = { message: error.message, retryAfter: error.retryAfter,
      reason: error.reason ?? 'UNAVAILABLE' }; /* the token function threw */

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

    this.#attempt = was_stable ? 0 : this.#attempt;
    const delay = this.#backOff(this.#attempt, retry_after);
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
    this.#inbox.acknowledge();
    this.#ready = null;
    this.#detach();
    this.#isLeaving = false;
    this.#inbox.leave();
    globalThis.removeEventListener?.('online', this.#onlineListener);
    this.#queue.rejectAll(error);
    this.#outbox.rejectAll(error);
    this.#outbox.leave();
    this.#setState('closed', { reason: cause.reason, message: cause.message });
    this.#emit('close', { ...cause, willReconnect: false });
    ready?.promise.catch(() => {}); /* if nobody waits, the event tells */
    ready?.reject(error);
  }

  /* Leave the socket at once; its close handshake may take a minute. */
  #detach() {
    const socket = this.#socket;
    const requests = [...this.#requests.values()];
    const error = new ParleyError('DISCONNECTED', 'connection lost');

    this.#turn++;
    this.#socket = null;
    this.#farewell = null;
    this.#login = null;
    this.#inbox.disconnected();
    this.#outbox.rewind(error);
    this.#queue.rewind(error);
    this.#requests.clear();
    this.#timers.clearAll();
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    for (const request of requests)
      request.reject(error);
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

  #refuseIfGone() {
    if (this.#state === 'closed' || this.#isLeaving)
      throw new ParleyError('DISCONNECTED', 'the client is closed');
  }

  #enqueue(queue, item) {
    const answer = new Promise((resolve, reject) => {
      queue.add({ ...item, resolve, reject });
    });
    this.#pump();
    return answer;
  }

  /* What is kept was unanswered at the last connection, or is new, in this
     order; messages first. */
  #pump() {
    for (const queue of [this.#outbox, this.#queue]) {
      let item;
      while (this.#state === 'authenticated' && !this.#isLeaving &&
          (item = queue.takeNext()) !== null)
        this.#ask(item.command, item.fields, this.#handlers(queue, item));
    }
  }

  #handlers(queue, item) {
    return {
      resolve: (reply) => {
        queue.remove(item);
        this.#settle(queue, item, 'sent', { reply });
      },
      reject: (error) => {
        /* at a disconnect the queue knows what becomes of it */
        if (error.reason !== 'DISCONNECTED' &&
            !this.#isRepeated(queue, item, error))
          this.#settle(queue, item, 'refused', { error });
      },
    };
  }

  #settle(queue, item, type, result) {
    if (result.reply)
      item.resolve(result.reply);
    else
      item.reject(result.error);
    if (queue === this.#outbox)
      this.#emit(type, { message: item.fields, ...result });
    this.#pump();
  }

  /* Removes it where it is not. */
  #isRepeated(queue, item, error) {
    const { command, lane } = item;
    const tries = REPEAT_REASONS.has(error.reason) &&
      !ONCE_COMMANDS.has(command) ? queue.hold(item) : queue.remove(item);

    if (tries > 0)
      this.#timers.set(lane, this.#backOff(tries, error.retryAfter), () => {
        queue.release(lane);
        this.#pump();
      });
    return tries > 0;
  }

  /* Full jitter: a server that restarts is not met by all at once. */
  #backOff(attempt, retry_after) {
    return Math.max(retry_after, this.#random() *
      Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** attempt));
  }

  /* ---- what arrives ---- */

  #received(data) {
    const frame = parseJson(data);

    this.#liveness.heard();
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
    if (this.#inbox.isNext(reply.Seq) ||
        (reply.Reason === 'OK' && this.#isNew(reply.Seq)))
      this.#inbox.count(reply.Seq);
  }

  #takeEvent(event) {
    const name = this.#eventNames.get(event.Command) ?? 'event';

    if (event.Seq === undefined) {
      this.#emit(name, event);
    } else if (this.#isNew(event.Seq)) {
      this.#inbox.begin(event.Seq); /* first: a handler may close us */
      const turn = this.#turn;
      this.#emit(name, event);
      if (turn === this.#turn)
        this.#inbox.count(event.Seq);
    }
  }

  #isNew(seq) {
    const judgement = this.#inbox.judge(seq);

    if (judgement === 'HOLE')
      this.#lost({ reason: 'GAP', message: 'events are missing' });
    else if (judgement === 'GAP')
      this.#emit('reset', { reason: 'GAP' });
    return judgement === 'NEW' ||
      (judgement === 'GAP' && this.#state === 'authenticated');
  }

  #setState(state, detail = {}) {
    const previous = this.#state;

    this.#state = state;
    this.#emit('state', { state, previous, ...detail });
  }

  #emit(type, detail) {
    emit(this, type, detail);
  }
}
