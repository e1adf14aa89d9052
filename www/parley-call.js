/*
 * parley-call.js - calls: who is in one, and the media between them.
 *
 * Role:    Calls watches a client for calls that ring and makes new ones; a
 *          Call follows one collaboration and has a peer for each other
 *          participant. On ending, for whatever reason, all peers are closed.
 * Needs:   RTCPeerConnection and MediaStream of a browser.
 * Keeps:   nothing. After a reload of the page the server tells of the calls
 *          that this device was in; the application accepts them again.
 * See:     parley-call.d.ts (events), parley-peer.js, README.md,
 *          t/js/call.test.mjs.
 */

import { Peer } from './parley-peer.js';
import { Timers, emit } from './parley-util.js';

const EARLY_MAX = 64; /* signals while our own answer is under way */

/* Of a participant: one is connected with him, or may be before it is told. */
const PEER_STATES = new Set(['JOINED', 'RECONNECTING', 'RINGING']);

/* Of oneself, by another device or the server. */
const OWN_ENDS = new Set(['LEFT', 'MISSED', 'REJECTED']);

/* With these of an event, or of the participants, a call ends unanswered. */
const END_REASONS = ['REJECTED', 'BUSY', 'CANCELLED', 'MISSED'];

export class Call extends EventTarget {
  #client; /* {parley, options, forget, leaving, left} */
  #id = null;
  #kind;
  #payload;
  #state;
  #isIncoming;
  #fromUserId;
  #hasJoined = false;
  #isAnswering = false;
  #endReason = null;
  #participants = [];
  #peers = new Map(); /* by user id: {peer, stream, channel} */
  #early = [];
  #iceServers = [];
  #stream = null;
  #screen = null;
  #disabled = new Set(); /* kinds that are muted */

  constructor(client, { kind, payload, fromUserId, isIncoming, id = null }) {
    super();
    this.#client = client;
    this.#kind = kind;
    this.#payload = payload;
    this.#fromUserId = fromUserId;
    this.#isIncoming = isIncoming;
    this.#id = id;
    this.#state = isIncoming ? 'ringing' : 'calling';
  }

  get id() { return this.#id; }
  get kind() { return this.#kind; }
  get payload() { return this.#payload; }
  get state() { return this.#state; }
  get isIncoming() { return this.#isIncoming; }
  get fromUserId() { return this.#fromUserId; }
  get hasJoined() { return this.#hasJoined; }
  get endReason() { return this.#endReason; }
  get participants() { return this.#participants; }
  get stream() { return this.#stream; }
  get isSharing() { return this.#screen !== null; }

  get peers() {
    return [...this.#peers].map(([userId, { peer, stream, channel }]) =>
      ({ userId, state: peer.state, stream, channel }));
  }

  /* ---- one's own part ---- */

  /** Answer, or take part again after a reload. */
  async accept(stream = null) {
    if (this.#state === 'ended' || this.#hasJoined || this.#isAnswering)
      return;
    this.#isAnswering = true;
    this.setStream(stream); /* nobody to send it to yet */
    try {
      this.#joined(await this.#client.parley.acceptCollaboration(this.#id));
    } catch (error) {
      this.#isAnswering = false;
      this.ended('LOST'); /* too late, most often */
      throw error;
    }
  }

  /** Once it is answered, hangUp(). */
  async reject() { await this.hangUp(); }

  /** End one's own part, whatever it is: reject, cancel or leave. */
  async hangUp() {
    const { state } = this;
    const rings_here = this.#isIncoming && !this.#isAnswering &&
      this.#me?.State === 'RINGING';

    if (state === 'ended')
      return;
    this.ended(rings_here ? 'REJECTED'
      : state === 'active' ? 'LEFT' : 'CANCELLED');
    if (state !== 'calling') /* else started() does */
      await this.#tell(rings_here ? 'reject' : 'leave');
  }

  /** For all; refused where one may not. */
  async end() {
    await this.#client.parley.endCollaboration(this.#id);
    this.ended('ENDED');
  }

  async invite(to) {
    await this.#client.parley.inviteToCollaboration(this.#id, to);
  }

  /* To leave what one has made and nobody has answered is to cancel it: the
     server knows which it is, here an answer may be on its way.
     Over already, or never made: that is what was wanted. */
  async #tell(verb) {
    this.#client.leaving(this.#id, verb);
    try {
      await this.#client.parley[`${verb}Collaboration`](this.#id);
    } catch (error) {
      if (error.reason !== 'CONFLICT' && error.reason !== 'NOT_FOUND')
        throw error;
    } finally {
      this.#client.left(this.#id);
    }
  }

  get #me() {
    return this.#participants.find(
      ({ UserId }) => UserId === this.#client.parley.userId);
  }

  /* ---- media ---- */

  async setStream(stream) {
    this.#stream = stream;
    for (const kind of ['audio', 'video'])
      this.setEnabled(kind, this.isEnabled(kind));
    await Promise.all([...this.#peers.values()].map((p) => this.#send(p.peer)));
  }

  /** The screen instead of the camera; null: the camera again. */
  async shareScreen(track) {
    if (this.#state === 'ended')
      return;
    this.#screen = track;
    track?.addEventListener('ended', () => {
      if (this.#screen === track)
        this.shareScreen(null);
    });
    await Promise.all([...this.#peers.values()].map((p) => this.#send(p.peer)));
  }

  setEnabled(kind, enabled) {
    if (enabled)
      this.#disabled.delete(kind);
    else
      this.#disabled.add(kind);
    for (const track of this.#stream?.getTracks() ?? []) {
      if (track.kind === kind)
        track.enabled = enabled;
    }
  }

  isEnabled(kind) { return !this.#disabled.has(kind); }

  /** By user id. */
  async stats() {
    const all = [...this.#peers].map(async ([userId, { peer }]) =>
      [userId, await peer.stats()]);
    return new Map(await Promise.all(all));
  }

  #track(kind) {
    const own = this.#stream?.getTracks().find((t) => t.kind === kind) ?? null;
    return kind === 'video' ? this.#screen ?? own : own;
  }

  async #send(peer) {
    for (const kind of ['audio', 'video'])
      await peer.setTrack(kind, this.#track(kind), this.#stream);
  }

  /* ---- what the server says: called by Calls ---- */

  /** The reply to P_COLLABORATION_CREATE. */
  started(reply) {
    this.#id = reply.CollaborationId;
    if (this.#state === 'ended') {
      this.#tell('leave').catch(() => {}); /* hung up meanwhile */
      return;
    }
    this.#setState('ringing');
    this.#joined(reply);
  }

  #joined(reply) {
    if (this.#state === 'ended') /* hung up meanwhile */
      return;
    this.#hasJoined = true;
    this.#isAnswering = false;
    this.#iceServers = reply.IceServers ?? [];
    this.update(reply);
    for (const event of this.#early.splice(0))
      this.signalled(event);
  }

  /** P_COLLABORATION, or a row of Collaborations at login. */
  update(event) {
    const { Event: name, State: state, UserId: user } = event;
    const users = event.UserIds ?? [user]; /* whom it is about */
    const { userId, sessionId } = this.#client.parley;

    this.#participants = event.Participants ?? this.#participants;
    const me = this.#me;
    if (me?.State === 'JOINED' && me.SessionId !== sessionId)
      this.ended('ANSWERED_ELSEWHERE');
    else if (OWN_ENDS.has(name) && users.includes(userId))
      this.ended(name);
    else if (state === 'ENDED')
      this.ended(this.#reasonOf(name));
    if (this.#state === 'ended')
      return;
    if (state === 'ACTIVE')
      this.#setState('active');
    if (this.#hasJoined)
      this.#meet();
    if (name !== undefined)
      emit(this, 'participant', event);
    if (name === 'REJOINED')
      users.forEach((id) => this.#peers.get(id)?.peer.resume());
  }

  /* Why it is over: what became of those who were called. */
  #reasonOf(name) {
    const states = this.#participants.map((person) => person.State);

    if (this.#state === 'active')
      return 'ENDED';
    return END_REASONS.find((reason) => reason === name) ??
      END_REASONS.find((reason) => states.includes(reason)) ?? 'ENDED';
  }

  /** P_SIGNAL of another participant. */
  signalled(event) {
    const user = event.FromUserId;

    if (this.#isAnswering && this.#early.length < EARLY_MAX)
      this.#early.push(event); /* it has overtaken the reply to us */
    if (!this.#hasJoined || this.#state === 'ended')
      return;
    this.#peer(user).take(event.Signal ?? {});
  }

  /** There is a connection again. */
  resume() {
    for (const { peer } of this.#peers.values())
      peer.resume();
  }

  ended(reason) {
    if (this.#state === 'ended')
      return;
    this.#endReason = reason;
    for (const user of [...this.#peers.keys()])
      this.#drop(user);
    this.#screen = null;
    this.#hasJoined = false;
    this.#client.forget(this);
    this.#setState('ended', { reason });
    emit(this, 'ended', { reason });
  }

  #setState(state, detail = {}) {
    const previous = this.#state;

    if (state === previous)
      return;
    this.#state = state;
    emit(this, 'state', { state, previous, ...detail });
  }

  /* ---- peers ---- */

  #meet() {
    for (const { UserId: user, State: state } of this.#participants) {
      if (user === this.#client.parley.userId)
        continue;
      if (state === 'JOINED')
        this.#peer(user);
      else if (!PEER_STATES.has(state))
        this.#drop(user);
    }
  }

  #drop(user) {
    const entry = this.#peers.get(user);

    this.#peers.delete(user);
    entry?.peer.close();
    if (entry !== undefined)
      emit(this, 'peer', { userId: user, state: 'closed' });
  }

  #peer(user) {
    if (!this.#peers.has(user)) {
      const { parley } = this.#client;
      const entry = { stream: null, channel: null };

      /* both ends know both ids: one of them is the greater */
      entry.peer = new Peer(parley.userId > user, this.#hooks(user, entry));
      this.#peers.set(user, entry);
    }
    return this.#peers.get(user).peer;
  }

  #hooks(userId, entry) {
    const { options, parley } = this.#client;

    return {
      timers: new Timers(options.clock),
      connect: () => new options.RTCPeerConnection(
        { ...options.configuration, iceServers: this.#iceServers }),
      connected: (pc) => this.#connected(userId, entry, pc),
      send: (signal) => parley.signal(this.#id, userId, signal),
      refresh: () => this.#refresh(),
      emit: (type, detail) => {
        if (type === 'track') {
          entry.stream.addTrack(detail.track);
          detail.stream = entry.stream;
        }
        emit(this, type, { userId, ...detail });
      },
    };
  }

  #connected(userId, entry, pc) {
    entry.stream = new this.#client.options.MediaStream();
    if (this.#kind === 'DATA') {
      const channel =
        pc.createDataChannel('parley', { negotiated: true, id: 0 });
      entry.channel = channel;
      channel.onopen = () => emit(this, 'channel', { userId, channel });
    }
    this.#send(entry.peer);
  }

  /* Credentials of TURN servers run out. Who is in a call and accepts it again
     changes nothing and gets new ones. */
  async #refresh() {
    try {
      const reply = await this.#client.parley.acceptCollaboration(this.#id);
      this.#iceServers = reply.IceServers ?? this.#iceServers;
      return this.#iceServers;
    } catch {
      return null;
    }
  }
}

export class Calls extends EventTarget {
  #parley;
  #options;
  #calls = new Set();
  #starting = new Set(); /* promises */
  #held = new Map(); /* by id, what may be of those: the last that was told */
  #leaving = new Map(); /* by id, what was said but is not answered yet */
  #ending = new AbortController();

  constructor(parley, options = {}) {
    super();
    this.#parley = parley;
    this.#options = { RTCPeerConnection: globalThis.RTCPeerConnection,
      MediaStream: globalThis.MediaStream, ...options };
    const on = (type, take) => parley.addEventListener(type,
      ({ detail }) => take(detail), { signal: this.#ending.signal });
    on('collaboration', (event) => this.#told(event));
    on('signal', (event) => this.#find(event)?.signalled(event));
    on('state', (detail) => this.#stateChanged(detail));
    if (parley.login) /* of a client that is logged in already */
      this.#stateChanged(parley);
  }

  get all() { return [...this.#calls]; }

  start(to, { kind = 'VIDEO', stream = null, payload } = {}) {
    const call = this.#add({ kind, payload, isIncoming: false,
      fromUserId: this.#parley.userId });

    call.setStream(stream);
    const made = this.#parley.createCollaboration(to, { kind, payload })
      .then((reply) => {
        this.#held.delete(reply.CollaborationId); /* older than the reply */
        call.started(reply);
      }, (error) => {
        call.ended(error.reason === 'DISCONNECTED' ? 'CLOSED' : 'REFUSED');
        throw error;
      });
    this.#starting.add(made);
    made.catch(() => {}).then(() => {
      this.#starting.delete(made);
      if (this.#starting.size === 0)
        this.#release();
    });
    call.ready = made;
    made.catch(() => {}); /* `ended` tells who does not wait for it */
    return call;
  }

  close() {
    this.#ending.abort();
    for (const call of this.all)
      call.hangUp().catch(() => {});
  }

  #add(fields) {
    const call = new Call({ parley: this.#parley, options: this.#options,
      forget: (gone) => this.#calls.delete(gone),
      leaving: (id, verb) => this.#leaving.set(id, verb),
      left: (id) => this.#leaving.delete(id) }, fields);

    this.#calls.add(call);
    return call;
  }

  #find({ CollaborationId: id }) {
    return this.all.find((call) => call.id === id);
  }

  /* P_COLLABORATION, or a row of a login. One that is being made may be told
     before the reply that names it. */
  #told(event) {
    const { CollaborationId: id } = event;
    const call = this.#find(event);

    if (this.#isOver(event))
      return;
    if (call !== undefined)
      call.update(event);
    else if (this.#held.has(id) ||
        (this.#starting.size > 0 && this.#isIn(event)))
      this.#held.set(id, event);
    else if (this.#isIn(event) || this.#ringsHere(event))
      this.#rings(event);
  }

  /* All are made: what is left is of an earlier page. */
  #release() {
    const events = [...this.#held.values()];

    this.#held.clear();
    for (const event of events)
      this.#told(event);
  }

  /* Hung up here, which the server did not know yet; unless one was called
     again meanwhile. */
  #isOver({ CollaborationId: id, Event: name, UserIds: users }) {
    if (name === 'INVITED' && users?.includes(this.#parley.userId) &&
        this.#leaving.get(id) === 'leave')
      this.#leaving.delete(id);
    return this.#leaving.has(id);
  }

  #me({ Participants: people = [] }) {
    return people.find(({ UserId }) => UserId === this.#parley.userId);
  }

  #ringsHere(event) { return this.#me(event)?.State === 'RINGING'; }

  /* With this device: one of another device of this user is not ours. */
  #isIn(event) {
    const me = this.#me(event);

    return me?.State === 'JOINED' && me.SessionId === this.#parley.sessionId;
  }

  #rings(row) {
    const call = this.#add({ id: row.CollaborationId, kind: row.Kind,
      payload: row.Payload, isIncoming: true,
      fromUserId: row.FromUser?.UserId ?? null });

    call.update(row);
    if (call.state !== 'ended')
      emit(this, 'call', { call });
  }

  #stateChanged({ state, login }) {
    if (state === 'closed') {
      this.#held.clear();
      for (const call of this.all)
        call.ended('CLOSED');
    } else if (state === 'authenticated') {
      this.#compare(login.Collaborations ?? []);
    }
  }

  /* What the login tells of open calls, against what is known here. One that
     is being made has no id yet, and is in the rows or not. */
  #compare(rows) {
    const ids = new Set(rows
      .filter((row) => this.#isIn(row) || this.#ringsHere(row))
      .map((row) => row.CollaborationId));

    this.#held.clear();
    for (const call of this.all) {
      if (call.id !== null && !ids.has(call.id))
        call.ended('LOST');
    }
    for (const row of rows) {
      this.#told(row);
      this.#find(row)?.resume();
    }
  }
}
