/*
 * rtc.mjs - RTCPeerConnections of a world that the tests of calls drive.
 *
 * Role: what WebRTC 1.0 says about signalling states, the chain of operations
 *       (4.4.1.2), implicit rollback and negotiation-needed, without media.
 *       Stricter than a browser where that shows a mistake: an answer that is
 *       not to this very offer, and a candidate of other descriptions, are
 *       errors. Two are connected when each has the other's present
 *       description and a candidate of it.
 *       All that takes time is a task in a lane of the World; lanes keep their
 *       order, and which lane goes next is random, from a seed.
 */

import { settle } from './fake.mjs';

export class World {
  #lanes = new Map();
  #random;
  connections = []; /* those not closed */
  made = 0;

  constructor(random) {
    this.#random = random;
  }

  post(lane, task) {
    if (!this.#lanes.has(lane))
      this.#lanes.set(lane, []);
    this.#lanes.get(lane).push(task);
  }

  drop(lane) { this.#lanes.delete(lane); }

  get isQuiet() { return this.#lanes.size === 0; }

  async step() {
    const lane = this.#random.pick([...this.#lanes.keys()]);
    const tasks = this.#lanes.get(lane);
    const task = tasks.shift();

    if (tasks.length === 0)
      this.#lanes.delete(lane);
    task();
    await settle();
  }

  async run(steps = 5_000) {
    await settle();
    for (let i = 0; i < steps && !this.isQuiet; i++)
      await this.step();
    if (!this.isQuiet && steps === 5_000)
      throw new Error(`it never ends: ${[...this.#lanes.keys()]}`);
  }

  /** A clock for Timers: each timer is a lane, so it may fire at any time. */
  get clock() {
    return {
      now: () => 0,
      setTimeout: (fn) => {
        const lane = Symbol('timer');
        this.post(lane, fn);
        return lane;
      },
      clearTimeout: (lane) => this.drop(lane),
    };
  }

  get RTCPeerConnection() {
    const world = this;
    return class extends FakeConnection {
      constructor(configuration) {
        super(world, configuration);
      }
    };
  }
}

let nextNumber = 1;

export class FakeTrack extends EventTarget {
  enabled = true;

  constructor(kind) {
    super();
    this.kind = kind;
    this.id = `track-${nextNumber++}`;
  }
}

export class FakeStream {
  #tracks;

  constructor(tracks = []) {
    this.#tracks = [...tracks];
  }

  getTracks() { return [...this.#tracks]; }
  addTrack(track) { this.#tracks.push(track); }
}

function invalid(message) {
  return new DOMException(message, 'InvalidStateError');
}

class FakeConnection {
  #world;
  #lane = Symbol('connection');
  #chain = [];
  #isBusy = false;
  #isNeeded = false;
  #wantsRestart = false;
  #newest = 0; /* generation of ICE credentials */
  #generation = 0; /* of the last description set */
  #applied = 0; /* of the last one that was answered */
  #gathered = new Map(); /* ufrag: number of candidates */
  #senders = [];
  #channels = 0;
  #heard = new Set(); /* remote tracks */
  #hasRemoteCandidate = new Set(); /* of these ufrags */
  #number = nextNumber++;
  #configuration;
  #current = { local: null, remote: null };
  #pending = { local: null, remote: null };
  signalingState = 'stable';
  connectionState = 'new';
  isPathBroken = false;

  constructor(world, configuration) {
    this.#world = world;
    this.#configuration = configuration;
    world.connections.push(this);
    world.made++;
  }

  get localDescription() {
    const description = this.#pending.local ?? this.#current.local;

    if (description === null)
      return null;
    const content = JSON.parse(description.sdp);
    return { type: description.type, sdp: JSON.stringify(
      { ...content, candidates: this.#gathered.get(content.ufrag) ?? 0 }) };
  }

  get remoteDescription() {
    return this.#pending.remote ?? this.#current.remote;
  }

  getConfiguration() { return this.#configuration; }
  setConfiguration(configuration) { this.#configuration = configuration; }
  async getStats() { return new Map([['number', this.#number]]); }

  get sentTracks() {
    return this.#senders.map((sender) => sender.track?.id ?? null);
  }

  get heardTracks() { return [...this.#heard]; }

  addTrack(track) {
    const sender = { track, kind: track.kind, replaceTrack: async (next) => {
      if (next !== null && next.kind !== track.kind)
        throw new TypeError('of another kind');
      sender.track = next;
    } };
    this.#refuseClosed();
    this.#senders.push(sender);
    this.#update();
    return sender;
  }

  createDataChannel(label, options) {
    this.#channels++;
    this.#update();
    return { label, ...options, onopen: null };
  }

  restartIce() {
    this.#wantsRestart = true;
    this.#update();
  }

  close() {
    const { connections } = this.#world;

    this.signalingState = 'closed';
    this.connectionState = 'closed';
    this.#chain = [];
    this.#world.drop(this.#lane);
    if (connections.includes(this))
      connections.splice(connections.indexOf(this), 1);
  }

  setLocalDescription(description) {
    return this.#enqueue(() => this.#setLocal(description));
  }

  setRemoteDescription(description) {
    return this.#enqueue(() => this.#setRemote(description));
  }

  addIceCandidate(candidate) {
    return this.#enqueue(() => {
      const known = [this.#pending.remote, this.#current.remote]
        .filter(Boolean).map(({ sdp }) => JSON.parse(sdp).ufrag);
      if (known.length === 0)
        throw invalid('no remote description');
      if (!known.includes(candidate.ufrag))
        throw new DOMException('of another description', 'OperationError');
      this.#hasRemoteCandidate.add(candidate.ufrag);
      this.#connectAll();
    });
  }

  /** What the network does. */
  breakPath() {
    this.isPathBroken = true;
    this.#become('failed');
  }

  /** No pair of candidates has worked for too long. */
  giveUp() {
    if (this.connectionState === 'failed')
      this.#become('connecting');
    this.#become('failed');
  }

  /* ---- the chain of operations ---- */

  #enqueue(operation) {
    return new Promise((resolve, reject) => {
      if (this.signalingState === 'closed') {
        reject(invalid('closed'));
        return;
      }
      this.#chain.push({ operation, resolve, reject });
      this.#next();
    });
  }

  #next() {
    if (this.#isBusy || this.#chain.length === 0)
      return;
    this.#isBusy = true;
    this.#post(() => {
      const { operation, resolve, reject } = this.#chain.shift();
      this.#isBusy = false;
      try {
        resolve(operation());
      } catch (error) {
        reject(error);
      }
      this.#next();
      this.#update();
    });
  }

  #post(task) {
    if (this.signalingState !== 'closed')
      this.#world.post(this.#lane, task);
  }

  #refuseClosed() {
    if (this.signalingState === 'closed')
      throw invalid('closed');
  }

  /* ---- descriptions ---- */

  /* An answer has the media lines of its offer, no further ones. */
  #content(line_count) {
    return { number: this.#number, ufrag: `${this.#number}:${this.#generation}`,
      tracks: this.#senders.slice(0, line_count)
        .map((sender) => sender.track?.id ?? null),
      lines: line_count, channels: this.#channels };
  }

  get #lineCount() {
    const { local } = this.#current;
    return Math.max(this.#senders.length,
      local === null ? 0 : JSON.parse(local.sdp).lines);
  }

  #setLocal(description) {
    const is_answer = this.signalingState === 'have-remote-offer';

    if (description?.type === 'rollback') {
      this.#rollback();
      return;
    }
    const offer = is_answer ? JSON.parse(this.#pending.remote.sdp) : null;
    /* a restart of the other end is one of this end, too */
    const restarts = is_answer ? this.#current.remote !== null &&
      JSON.parse(this.#current.remote.sdp).ufrag !== offer.ufrag
      : this.#wantsRestart;
    this.#generation = restarts ? ++this.#newest : this.#applied;
    if (is_answer) {
      this.#settle({ type: 'answer', sdp: JSON.stringify(
        { ...this.#content(offer.lines), to: offer.nonce }) },
      this.#pending.remote);
    } else {
      this.#pending.local = { type: 'offer', sdp: JSON.stringify(
        { ...this.#content(this.#lineCount), nonce: nextNumber++ }) };
      this.#setState('have-local-offer');
    }
    this.#gather();
  }

  #setRemote(description) {
    const content = JSON.parse(description.sdp);

    if (content.candidates > 0)
      this.#hasRemoteCandidate.add(content.ufrag);
    if (description.type === 'offer') {
      if (this.signalingState === 'have-local-offer')
        this.#rollback();
      if (this.signalingState === 'have-remote-offer')
        throw invalid('an offer is being answered');
      this.#pending.remote = description;
      this.#setState('have-remote-offer');
    } else {
      if (this.signalingState !== 'have-local-offer')
        throw invalid('no offer was made');
      if (JSON.parse(this.#pending.local.sdp).nonce !== content.to)
        throw new DOMException('the answer is to another offer',
          'OperationError');
      this.#settle(this.#pending.local, description);
    }
    for (const track of content.tracks.filter((id) => !this.#heard.has(id))) {
      this.#heard.add(track);
      this.#post(() => this.ontrack?.({ track: { id: track }, streams: [] }));
    }
  }

  #rollback() {
    this.#generation = this.#applied;
    this.#pending = { local: null, remote: null };
    this.#setState('stable');
  }

  #settle(local, remote) {
    this.#current = { local, remote };
    this.#pending = { local: null, remote: null };
    /* rolled back, a restart is wanted still */
    this.#wantsRestart &&= this.#generation === this.#applied;
    this.#applied = this.#generation;
    this.#setState('stable');
    this.#connectAll();
  }

  #setState(state) {
    this.signalingState = state;
  }

  #gather() {
    const { ufrag } = this.#content(0);

    if (this.#gathered.has(ufrag))
      return;
    this.#gathered.set(ufrag, 0);
    for (let i = 0; i < 2; i++)
      this.#post(() => {
        this.#gathered.set(ufrag, i + 1);
        this.onicecandidate?.({ candidate:
          { candidate: `candidate ${i}`, ufrag } });
      });
    this.#post(() => this.onicecandidate?.({ candidate: null }));
  }

  /* WebRTC 1.0, 4.7.3 */
  #update() {
    if (this.#isNeeded || !this.#isNegotiationNeeded)
      return;
    this.#isNeeded = true;
    this.#post(() => {
      this.#isNeeded = false;
      if (this.#chain.length === 0 && this.signalingState === 'stable' &&
          this.#isNegotiationNeeded)
        this.onnegotiationneeded?.();
    });
  }

  get #isNegotiationNeeded() {
    if (this.signalingState !== 'stable')
      return false;
    const negotiated = this.#current.local === null ? {}
      : JSON.parse(this.#current.local.sdp);
    return this.#wantsRestart || this.#channels > (negotiated.channels ?? 0) ||
      this.#senders.length > (negotiated.tracks?.length ?? 0);
  }

  /* ---- connectivity ---- */

  #connectAll() {
    for (const one of this.#world.connections) {
      for (const other of this.#world.connections)
        FakeConnection.#connectPair(one, other);
    }
  }

  static #connectPair(one, other) {
    if (one === other || !one.#reaches(other) || !other.#reaches(one))
      return;
    for (const end of [one, other]) {
      end.isPathBroken = false;
      end.#become('connected');
    }
  }

  #reaches(other) {
    const mine = this.#current.remote && JSON.parse(this.#current.remote.sdp);
    const theirs = other.#current.local && JSON.parse(other.#current.local.sdp);

    if (!mine || !theirs || mine.number !== theirs.number ||
        mine.ufrag !== theirs.ufrag)
      return false;
    /* a path that broke comes back with new descriptions only */
    return (!this.isPathBroken || this.#brokenUfrag !== mine.ufrag) &&
      this.#hasRemoteCandidate.has(mine.ufrag);
  }

  #brokenUfrag = null;

  #become(state) {
    if (this.connectionState === state || this.signalingState === 'closed')
      return;
    if (state === 'failed')
      this.#brokenUfrag = this.#current.remote &&
        JSON.parse(this.#current.remote.sdp).ufrag;
    this.connectionState = state;
    this.#post(() => this.onconnectionstatechange?.());
  }
}
