/*
 * room.mjs - a server of one call, for clients without a connection.
 *
 * Role: what doc/protocol.md says of collaborations, as far as the tests of
 *       parley-call.js go: who is in, who is told, signals in order. Each
 *       client has lanes of its own in the World, so that an event and a
 *       signal may overtake each other, as they do between two workers.
 */

import { ParleyError, emit } from '../../../www/parley-util.js';

/** What parley-call.js needs of a Parley. */
class Member extends EventTarget {
  state = 'authenticated';
  login = null;
  #room;

  constructor(room, userId, sessionId) {
    super();
    this.#room = room;
    this.userId = userId;
    this.sessionId = sessionId;
  }

  createCollaboration(to, { kind, payload }) {
    return this.#room.create(this, [to].flat(), kind, payload);
  }

  acceptCollaboration() { return this.#room.ask(this, 'ACCEPTED', 'JOINED'); }
  rejectCollaboration() { return this.#room.ask(this, 'REJECTED', 'REJECTED'); }
  leaveCollaboration() { return this.#room.ask(this, 'LEFT', 'LEFT'); }
  cancelCollaboration() {
    return this.#room.ask(this, 'CANCELLED', 'CANCELLED');
  }

  endCollaboration() { return this.#room.ask(this, 'ENDED', 'LEFT'); }
  inviteToCollaboration(id, to) { return this.#room.invite(this, to); }
  signal(id, to, signal) { return this.#room.signal(this, to, signal); }
}

export class Room {
  members = [];
  state = 'RINGING';
  #world;
  #people = new Map(); /* user id: {UserId, State, SessionId} */
  #about = {};

  constructor(world) {
    this.#world = world;
  }

  enter(userId, sessionId = `s${userId}`) {
    const member = new Member(this, userId, sessionId);
    this.members.push(member);
    return member;
  }

  /** Another page of the same device: the older one hears no more. */
  reload(member) {
    const index = this.members.indexOf(member);
    const person = this.#people.get(member.userId);
    const fresh = new Member(this, member.userId, `${member.sessionId}+`);

    this.members[index] = fresh;
    if (person?.State === 'JOINED') {
      person.SessionId = fresh.sessionId;
      this.#tell('REJOINED', member.userId, fresh);
    }
    return fresh;
  }

  get row() {
    return { CollaborationId: '77', State: this.state, ...this.#about,
      Participants: [...this.#people.values()].map((p) => ({ ...p })) };
  }

  loggedIn(member) {
    const person = this.#people.get(member.userId);
    const is_open = this.state !== 'ENDED' &&
      ['RINGING', 'JOINED'].includes(person?.State);
    emit(member, 'state', { state: 'authenticated',
      login: { Collaborations: is_open ? [this.row] : [] } });
  }

  async create(from, to, kind, payload) {
    this.#about = { Kind: kind, FromUser: { UserId: from.userId } };
    this.#join(from);
    for (const user of to)
      this.#people.set(user, { UserId: user, State: 'RINGING' });
    this.#tell('INVITED', from.userId, from, { UserIds: to, Payload: payload });
    return this.#reply(from);
  }

  async invite(from, to) {
    for (const user of [to].flat())
      this.#people.set(user, { UserId: user, State: 'RINGING' });
    this.#tell('INVITED', from.userId, from, { UserIds: [to].flat() });
    return this.#reply(from);
  }

  async ask(from, event, state) {
    const person = this.#people.get(from.userId);
    const was = person.State;

    if (this.state === 'ENDED')
      return this.#refuse(from);
    if (event === 'ACCEPTED' && was === 'JOINED')
      return this.#reply(from);
    if (event === 'LEFT' && was === 'JOINED' && this.state === 'RINGING')
      return this.ask(from, 'CANCELLED', 'CANCELLED');
    if (!this.#isPossible(event, person, from))
      return this.#refuse(from);
    if (event === 'ACCEPTED') {
      this.#join(from);
      this.state = 'ACTIVE';
    } else {
      this.#people.set(from.userId, { UserId: from.userId, State: state });
    }
    const left = [...this.#people.values()]
      .filter((p) => ['JOINED', 'RINGING'].includes(p.State)).length;
    if (event === 'ENDED' || event === 'CANCELLED' || left < 2)
      this.state = 'ENDED';
    this.#tell(event === 'ACCEPTED' && was === 'LEFT' ? 'JOINED' : event,
      from.userId, from);
    return this.#reply(from);
  }

  /* The rules of src/keeper/call_table.def that the page can run into. */
  #isPossible(event, { State: part, SessionId }, from) {
    const is_in = part === 'JOINED' && SessionId === from.sessionId;

    if (event === 'ACCEPTED')
      return part === 'RINGING' || (part === 'LEFT' && this.state === 'ACTIVE');
    if (event === 'REJECTED')
      return part === 'RINGING';
    return is_in && (event !== 'CANCELLED' || this.state === 'RINGING');
  }

  signal(from, to, signal) {
    const copy = structuredClone(signal);
    return new Promise((resolve, reject) => {
      this.#world.post(`${from.sessionId} sends`, () => {
        const target = this.members.find((m) => m.userId === to &&
          m.sessionId === this.#people.get(to)?.SessionId);
        if (this.state === 'ENDED' || target === undefined) {
          reject(new ParleyError('CONFLICT', 'not in it'));
          return;
        }
        this.#world.post(`${from.sessionId} to ${target.sessionId}`, () => {
          emit(target, 'signal', { CollaborationId: '77', Signal: copy,
            FromUserId: from.userId, FromSessionId: from.sessionId });
          resolve({ Reason: 'OK' });
        });
      });
    });
  }

  #join(member) {
    this.#people.set(member.userId, { UserId: member.userId, State: 'JOINED',
      SessionId: member.sessionId });
  }

  #reply(member) {
    const row = this.row;
    return new Promise((resolve) => {
      this.#world.post(`server to ${member.sessionId}`, () => resolve(
        { ...row, Reason: 'OK', IceServers: [{ urls: 'stun:s' }] }));
    });
  }

  #refuse(member) {
    const { state } = this;
    return new Promise((resolve, reject) => {
      this.#world.post(`server to ${member.sessionId}`, () =>
        reject(new ParleyError('CONFLICT', 'not now', { State: state })));
    });
  }

  #tell(event, about, except, more = {}) {
    const detail = { Event: event, UserId: about, ...this.row, ...more };

    for (const member of this.members.filter((m) => m !== except &&
      this.#people.has(m.userId)))
      this.#world.post(`server to ${member.sessionId}`, () =>
        emit(member, 'collaboration', structuredClone(detail)));
  }
}
