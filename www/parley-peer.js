/*
 * parley-peer.js - the way to one other participant of a call.
 *
 * Role:    one RTCPeerConnection with perfect negotiation (W3C WebRTC 1.0,
 *          10.7), and its signals: in order, each until it was handed on.
 * Signals: {From, To?, Ask?, Echo?, Description?, Round?, Candidates?}. From
 *          and To name the two ends as they are now: a page that was loaded
 *          again is another end. One without To is a greeting, answered by
 *          one with To; all else goes To an end that is known. An end takes
 *          the place of a known one when it has echoed what it was asked: the
 *          late signals of a page that is gone cannot. Round numbers the
 *          offers of an end, an answer has that of its offer: what is
 *          repeated, or comes late, does no harm.
 * Ends:    close(), which leaves no RTCPeerConnection and no timer behind.
 * See:     parley-call.js, its user; t/js/peer.test.mjs (any schedule);
 *          README.md, Calls, for clients of another make.
 */

import { newId } from './parley-util.js';

const ASKED_MAX = 16;
const FIRST_OFFER_MS = 2_000;
const RETRY_MS = 1_000; /* where the server does not tell */
const CANDIDATES_MAX = 40; /* in one signal, which has 64 KiB */

/* After these the same signal may be handed on later. */
const RETRY_REASONS = new Set(
  ['DISCONNECTED', 'RATE_LIMITED', 'SERVER_ERROR', 'UNAVAILABLE']);

export class Peer {
  #hooks;
  #isPolite;
  #id = newId();
  #remoteId = null;
  #asked = new Map(); /* ends that may take its place: what they are to echo */
  #pc = null; /* there once the other end is known */
  #senders = new Map(); /* by kind */
  #round = 0; /* of our last offer */
  #takenRound = 0; /* of the other end's last offer that was taken */
  #isOffering = false;
  #hasIgnored = false; /* the other end's last offer, so its candidates, too */
  #early = []; /* candidates, until there is a description */
  #out = [];
  #isSending = false;
  #incoming = Promise.resolve();
  #isClosed = false;

  /**
   * @param is_polite  gives way when both offer: true at one end only
   * @param hooks.connect    makes an RTCPeerConnection
   * @param hooks.connected  it is there: time to add tracks
   * @param hooks.send       hands a signal on; rejected as P_SIGNAL is
   * @param hooks.refresh    gets fresh ICE servers; null: keep the old ones
   * @param hooks.emit       track, peer, channel, warning: see parley-call.js
   * @param hooks.timers     Timers of this peer
   */
  constructor(is_polite, hooks) {
    this.#isPolite = is_polite;
    this.#hooks = hooks;
    this.#enqueue({});
  }

  get state() { return this.#pc?.connectionState ?? 'new'; }

  close() {
    this.#isClosed = true;
    this.#out = [];
    this.#hooks.timers.clearAll();
    this.#disconnect();
  }

  /** Send this track in place of the one of its kind; null: nothing. */
  async setTrack(kind, track, stream) {
    const sender = this.#senders.get(kind);

    if (this.#pc === null)
      return; /* connected() will */
    if (sender !== undefined)
      await sender.replaceTrack(track).catch((error) => this.#warn(error));
    else if (track !== null)
      this.#senders.set(kind, stream ? this.#pc.addTrack(track, stream)
        : this.#pc.addTrack(track));
  }

  /** Signals may have been lost: one of the two ends was without connection. */
  resume() {
    this.#enqueue(this.#remoteId === null ? {} : { To: this.#remoteId });
    if (!this.#repeatOffer() && this.#pc?.remoteDescription &&
        this.state !== 'connected')
      this.#pc.restartIce();
  }

  stats() { return this.#pc?.getStats() ?? new Map(); }

  /** One from the other end; they are taken one after the other. */
  take(signal) {
    this.#incoming = this.#incoming.then(() => this.#take(signal))
      .catch((error) => this.#warn(error));
  }

  /* ---- the connection ---- */

  #connect() {
    const { emit } = this.#hooks;
    const pc = this.#hooks.connect();

    this.#disconnect();
    this.#pc = pc;
    pc.onnegotiationneeded = () => this.#negotiate();
    pc.onicecandidate = ({ candidate }) => this.#addCandidate(candidate);
    pc.ontrack = ({ track }) => emit('track', { track });
    pc.onconnectionstatechange = () => {
      emit('peer', { state: pc.connectionState });
      if (pc.connectionState === 'failed')
        this.#restart();
    };
    this.#hooks.connected(pc);
  }

  #disconnect() {
    const pc = this.#pc;

    if (pc === null)
      return;
    pc.onnegotiationneeded = pc.onicecandidate = pc.ontrack =
      pc.onconnectionstatechange = null;
    pc.close();
    this.#pc = null;
    this.#senders.clear();
    this.#isOffering = this.#hasIgnored = false;
    this.#takenRound = 0;
    this.#early = [];
    if (!this.#isClosed)
      this.#hooks.emit('peer', { state: 'closed' });
  }

  async #restart() {
    const pc = this.#pc;
    const servers = await this.#hooks.refresh();

    if (pc !== this.#pc)
      return;
    if (servers !== null)
      pc.setConfiguration({ ...pc.getConfiguration(), iceServers: servers });
    pc.restartIce();
  }

  /* ---- negotiation ---- */

  /* At the beginning both have something to offer. Who would give way waits a
     little, for who has nothing to send offers nothing: of two offers at once
     one is rolled back, after which Chromium 156 at times gathers nothing. */
  #negotiate() {
    const pc = this.#pc;

    if (!this.#isPolite || pc.remoteDescription !== null)
      this.#offer();
    else
      this.#hooks.timers.set('offer', FIRST_OFFER_MS, () => {
        if (pc === this.#pc && pc.remoteDescription === null)
          this.#offer();
      });
  }

  async #offer() {
    const pc = this.#pc;

    try {
      this.#isOffering = true;
      await pc.setLocalDescription();
      if (pc === this.#pc && pc.localDescription?.type === 'offer')
        this.#describe(pc.localDescription, ++this.#round);
    } catch (error) {
      if (pc === this.#pc)
        this.#warn(error);
    } finally {
      if (pc === this.#pc)
        this.#isOffering = false;
    }
  }

  async #take({ From, To, Ask, Echo, Description, Round, Candidates }) {
    if (this.#isClosed || typeof From !== 'string' ||
        (To !== undefined && To !== this.#id))
      return; /* for an end that is gone */
    if (Ask !== undefined)
      this.#enqueue({ To: From, Echo: Ask });
    if (!this.#isFromRemote(From, Echo))
      return;
    if (To === undefined)
      this.#enqueue({ To: From });
    if (Ask !== undefined)
      this.#repeatOffer(); /* it did not listen to us before */
    if (Description?.type === 'offer')
      await this.#takeOffer(Description, Round);
    else if (Description?.type === 'answer')
      await this.#takeAnswer(Description, Round);
    for (const candidate of Candidates ?? [])
      await this.#takeCandidate(candidate);
  }

  #isFromRemote(from, echo) {
    if (from === this.#remoteId)
      return true;
    if (this.#remoteId !== null &&
        (echo === undefined || echo !== this.#asked.get(from))) {
      if (this.#asked.size >= ASKED_MAX)
        this.#asked.clear();
      if (!this.#asked.has(from))
        this.#asked.set(from, newId());
      this.#enqueue({ To: from, Ask: this.#asked.get(from) });
      return false;
    }
    this.#remoteId = from;
    this.#asked.clear();
    this.#out = this.#out.filter((signal) => signal.To === from);
    this.#connect();
    return true;
  }

  async #takeOffer(description, round) {
    const pc = this.#pc;
    const is_collision = this.#isOffering || pc.signalingState !== 'stable';

    this.#hooks.timers.clear('offer'); /* what is ours goes into the answer */
    if (round < this.#takenRound)
      return;
    if (round === this.#takenRound && !is_collision) {
      if (pc.localDescription.type === 'answer') /* which may have been lost */
        this.#describe(pc.localDescription, round);
      return;
    }
    this.#hasIgnored = is_collision && !this.#isPolite;
    if (this.#hasIgnored)
      return;
    this.#takenRound = round;
    await pc.setRemoteDescription(description); /* rolls our offer back */
    await this.#takeEarly();
    await pc.setLocalDescription();
    if (pc === this.#pc)
      this.#describe(pc.localDescription, round);
  }

  async #takeAnswer(description, round) {
    if (round !== this.#round ||
        this.#pc.signalingState !== 'have-local-offer')
      return; /* to an offer that was given up, or for the second time */
    this.#hasIgnored = false;
    await this.#pc.setRemoteDescription(description);
    await this.#takeEarly();
  }

  async #takeEarly() {
    for (const candidate of this.#early.splice(0))
      await this.#takeCandidate(candidate);
  }

  async #takeCandidate(candidate) {
    if (this.#pc.remoteDescription === null) {
      if (!this.#hasIgnored)
        this.#early.push(candidate);
      return;
    }
    try {
      await this.#pc.addIceCandidate(candidate);
    } catch (error) {
      if (!this.#hasIgnored)
        this.#warn(error);
    }
  }

  /* ---- what goes out ---- */

  #repeatOffer() {
    const is_open = this.#pc?.signalingState === 'have-local-offer';

    if (is_open)
      this.#describe(this.#pc.localDescription, this.#round);
    return is_open;
  }

  #describe({ type, sdp }, round) {
    this.#enqueue({ To: this.#remoteId, Description: { type, sdp },
      Round: round });
  }

  /* Those that come while a signal is under way go in one. */
  #addCandidate(candidate) {
    const last = this.#out.at(-1);

    if (candidate === null)
      return;
    if (last === undefined || last.isUnderWay || last.To !== this.#remoteId ||
        last.Candidates?.length >= CANDIDATES_MAX)
      this.#enqueue({ To: this.#remoteId, Candidates: [candidate] });
    else
      last.Candidates = [...last.Candidates ?? [], candidate];
  }

  #enqueue(signal) {
    if (this.#isClosed)
      return;
    this.#out.push(signal);
    this.#flush();
  }

  async #flush() {
    if (this.#isSending)
      return;
    this.#isSending = true;
    while (this.#out.length > 0)
      await this.#sendFirst();
    this.#isSending = false;
  }

  async #sendFirst() {
    const signal = this.#out[0];
    const { isUnderWay, ...fields } = signal;

    signal.isUnderWay = true;
    try {
      await this.#hooks.send({ From: this.#id, ...fields });
    } catch (error) {
      if (RETRY_REASONS.has(error.reason) && !this.#isClosed) {
        await this.#hooks.timers.wait('signal',
          Math.max(error.retryAfter, RETRY_MS));
        return;
      }
      this.#warn(error);
    }
    if (this.#out[0] === signal) /* else the other end is another one now */
      this.#out.shift();
  }

  #warn(error) {
    if (!this.#isClosed)
      this.#hooks.emit('warning', { error });
  }
}
