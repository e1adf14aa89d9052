/* parley-call.d.ts - the types of parley-call.js, calls over WebRTC. */

import type { CollaborationEvent, Id, Kind, Options, Parley, Participant,
  TypedTarget } from './parley.js';

export interface CallsOptions {
  /** Instead of the browser's own, for tests and other engines. */
  RTCPeerConnection?: new (configuration?: RTCConfiguration) =>
    RTCPeerConnection;
  MediaStream?: new () => MediaStream;
  clock?: Options['clock'];
  /** Added to the configuration with the server's IceServers. */
  configuration?: RTCConfiguration;
}

export type CallState = 'calling' | 'ringing' | 'active' | 'ended';

export type EndReason =
  /** Who was called said no, or we did. */
  'REJECTED' |
  /** Who was called is busy, and it did not ring there. */
  'BUSY' |
  /** The caller gave up while it was ringing. */
  'CANCELLED' |
  /** Nobody answered in time. */
  'MISSED' |
  /** Another device of this user has taken it. */
  'ANSWERED_ELSEWHERE' |
  /** We left; the others may go on. */
  'LEFT' |
  /** It is over for all. */
  'ENDED' |
  /** It could not be made: see `ready`. */
  'REFUSED' |
  /** It ended, or went on without us, while there was no connection. */
  'LOST' |
  /** This client was closed. */
  'CLOSED';

export interface CallEventDetails {
  /** Ringing, active and ended; calling before the server has answered. */
  state: { state: CallState; previous: CallState; reason?: EndReason };
  /** Somebody was invited, accepted, rejected, joined, left, … */
  participant: CollaborationEvent;
  /** Media of another participant; again when a track is added. */
  track: { userId: number; track: MediaStreamTrack; stream: MediaStream };
  /** The state of the way to one participant; `closed`: it is gone, or made
   *  anew because he has loaded his page again. */
  peer: { userId: number; state: RTCPeerConnectionState };
  /** Kind DATA: the data channel is open. */
  channel: { userId: number; channel: RTCDataChannel };
  /** Once. */
  ended: { reason: EndReason };
  /** Of a peer connection; the call goes on. */
  warning: { userId: number; error: Error };
}

/** One peer of a call: another participant. */
export interface PeerInfo {
  readonly userId: number;
  readonly state: RTCPeerConnectionState;
  /** What came from there, in one stream. */
  readonly stream: MediaStream;
  readonly channel: RTCDataChannel | null;
}

export interface Call extends TypedTarget<CallEventDetails> {}
export class Call {
  private constructor();
  /** null while `calling`. */
  readonly id: Id | null;
  readonly kind: Kind;
  readonly state: CallState;
  readonly isIncoming: boolean;
  /** Whether this device takes part in it, not only rings. */
  readonly hasJoined: boolean;
  /** Who called; oneself for outgoing calls. */
  readonly fromUserId: number | null;
  readonly payload: any;
  /** As the server told last. */
  readonly participants: Participant[];
  readonly peers: PeerInfo[];
  readonly endReason: EndReason | null;

  /** Answer a ringing call, or take part again after a reload. */
  accept(stream?: MediaStream | null): Promise<void>;
  /** Once it is answered, the same as hangUp(). */
  reject(): Promise<void>;
  /** Whatever ends one's own part now: reject, cancel or leave. */
  hangUp(): Promise<void>;
  /** End it for all. */
  end(): Promise<void>;
  invite(to: number | number[]): Promise<void>;

  /** What one sends: replaces the tracks of all peers, without a new offer
   *  where a track replaces one of its kind. The tracks stay the caller's:
   *  nothing stops them but the application. */
  setStream(stream: MediaStream | null): Promise<void>;
  readonly stream: MediaStream | null;
  /** Show the screen instead of the camera; null: the camera again. It ends by
   *  itself when the track ends. */
  shareScreen(track: MediaStreamTrack | null): Promise<void>;
  readonly isSharing: boolean;
  /** Mute or unmute what one sends; the kind is audio or video. */
  setEnabled(kind: 'audio' | 'video', enabled: boolean): void;
  isEnabled(kind: 'audio' | 'video'): boolean;
  /** By user id. */
  stats(): Promise<Map<number, RTCStatsReport>>;
}

export interface CallsEventDetails {
  /** One that rings here; or, after a reload of the page, one that this
   *  device was in (`state` is active): accept() or hangUp() it. Listen at
   *  once: of a client that is logged in, they are told right after new. */
  call: { call: Call };
}

export interface Calls extends TypedTarget<CallsEventDetails> {}
export class Calls {
  constructor(parley: Parley, options?: CallsOptions);
  /** Those not ended. */
  readonly all: Call[];
  /** Ring others. The call is there at once, in state `calling`; when it
   *  cannot be made it ends and the error is that of `ready`. */
  start(to: number | number[], opts?: { kind?: Kind;
    stream?: MediaStream | null; payload?: any }): Call & {
    readonly ready: Promise<void> };
  /** Hang up everything and listen no more. */
  close(): void;
}
