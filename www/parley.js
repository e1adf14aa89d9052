/*
 * parley.js - client of the parley.v1 protocol for browsers and Node.
 *
 * Role:    one object is one device of one user: it logs in, stays connected,
 *          delivers every event once and in order, and retries what it sent.
 * Needs:   WebSocket, EventTarget, crypto, and the files parley-*.js beside
 *          it; nothing foreign. Node before 22 passes its own WebSocket.
 * Keeps:   the device id and, per user, the last sequence number and epoch.
 *          By default in sessionStorage: the server knows a device by its id
 *          and lets the newer of two sessions with one id replace the older,
 *          so each tab must be a device of its own, and still be the same one
 *          after a reload. An application that has one window only may pass
 *          `storage: localStorage`. Messages are stored only where `outbox`
 *          is given, and only until they are sent.
 * See:     README.md, doc/protocol.md (the wire), parley-call.js (calls),
 *          t/js/*.test.mjs (every promise).
 *
 * Events (the server's object in `detail`): message, receipt,
 * presence, typing, message-edited, message-deleted, group, collaboration,
 * collaboration-outcome, signal; `event` for commands unknown to this file.
 * Of the client itself:
 *   state    {state, previous, delay?, reason?, message?, login?}; state is
 *            connecting, open, authenticated, reconnecting or closed
 *   close    {reason, message, retryAfter, code, willReconnect}
 *   reset    {reason}: events are missing; load the history again
 *   sent     {message, reply}: one of the outbox is safe
 *   refused  {message, error}: one of the outbox never will be
 *   warning  an error reply to something that expects none, or a bad frame
 */

import { Session } from './parley-session.js';
import { newId } from './parley-util.js';

export { ParleyError, compareIds, newId } from './parley-util.js';

/** A user id, a list of them, or an object naming exactly one target. */
function targetFields(to) {
  if (Array.isArray(to) || typeof to === 'number')
    return { ToUserList: [to].flat() };
  const names = ['ToUserList', 'GroupId', 'CollaborationId']
    .filter((name) => to?.[name] !== undefined);
  if (names.length !== 1)
    throw new TypeError('name one of ToUserList, GroupId, CollaborationId');
  return { [names[0]]: to[names[0]] };
}

const EVENT_NAMES = new Map([
  ['P_COLLABORATION', 'collaboration'],
  ['P_COLLABORATION_OUTCOME', 'collaboration-outcome'],
  ['P_DELETE_MESSAGE', 'message-deleted'],
  ['P_EDIT_MESSAGE', 'message-edited'],
  ['P_GROUP', 'group'],
  ['P_MESSAGE', 'message'],
  ['P_PRESENCE', 'presence'],
  ['P_RECEIPT', 'receipt'],
  ['P_SIGNAL', 'signal'],
  ['P_TYPING', 'typing'],
]);

const TYPING_REPEAT_MS = 4_000; /* others forget it after a little more */

export class Parley extends Session {
  #typing = new Map(); /* target: when the others were told last */

  /** @param options  url, token or userName and password, …: see Session */
  constructor(options) {
    super(options, EVENT_NAMES);
  }

  /**
   * Send a message; kept and retried over reconnects until it is answered.
   *
   * @param to    user id, array of them, or an object with one of ToUserList,
   *              GroupId, CollaborationId
   * @param opts  type, replyTo, attachment, clientMessageId and
   *              clientInitiationTime (default: a new id, now; to retry what
   *              was refused or abandoned, give the first ones again)
   * @return      the reply: it is on the server's disk
   */
  send(to, text, opts = {}) {
    const fields = {
      ...targetFields(to),
      Message: text,
      ClientMessageId: opts.clientMessageId ?? newId(),
      Type: opts.type,
      ReplyTo: opts.replyTo,
      Attachment: opts.attachment,
      ClientInitiationTime: opts.clientInitiationTime ?? Date.now(),
    };
    this.#typing.delete(JSON.stringify(targetFields(to)));
    return this.submit(fields);
  }

  editMessage(messageId, text) {
    return this.requestKept('P_EDIT_MESSAGE',
      { MessageId: messageId, Message: text }, `message ${messageId}`);
  }

  deleteMessage(messageId) {
    return this.requestKept('P_DELETE_MESSAGE', { MessageId: messageId },
      `message ${messageId}`);
  }

  /** Read up to here; never goes back. */
  markRead(conversationId, messageId) {
    return this.requestKept('P_MARK_READ',
      { ConversationId: conversationId, MessageId: messageId },
      `read ${conversationId}`);
  }

  /** May be called for every key; ephemeral: dropped without a connection. */
  typing(to, isTyping = true) {
    const target = targetFields(to);
    const key = JSON.stringify(target);
    const toldAt = this.#typing.get(key) ?? -Infinity;
    const now = performance.now();

    if (isTyping ? now - toldAt < TYPING_REPEAT_MS : toldAt === -Infinity)
      return;
    if (isTyping)
      this.#typing.set(key, now);
    else
      this.#typing.delete(key);
    this.post('P_TYPING',
      { ...target, State: isTyping ? 'STARTED' : 'STOPPED' });
  }

  /** @param query {conversationId | userId, before | after, limit} */
  getMessages({ conversationId, userId, before, after, limit }) {
    return this.request('P_GET_MESSAGES', {
      ConversationId: conversationId,
      UserId: userId,
      Before: before,
      After: after,
      Limit: limit,
    });
  }

  /** One page: {Conversations, NextCursor}. */
  getConversations({ cursor, limit } = {}) {
    return this.request('P_GET_CONVERSATIONS',
      { Cursor: cursor, Limit: limit });
  }

  /** Newest first; the pages are asked for as they are needed. */
  async *messages({ before, ...query }) {
    let page;
    do {
      page = await this.getMessages({ ...query, before });
      yield* page.Messages;
      before = page.Messages.at(-1)?.MessageId;
    } while (page.HasMore && before !== undefined);
  }

  /** The last spoken in first, over as many pages as are needed. */
  conversations({ limit } = {}) {
    return this.#pages('P_GET_CONVERSATIONS', 'Conversations',
      { Limit: limit });
  }

  /** Past calls, newest first, over as many pages as are needed. */
  async *collaborationHistory({ before, limit } = {}) {
    let page;
    do {
      page = await this.request('P_GET_COLLABORATION_HISTORY',
        { Before: before, Limit: limit });
      yield* page.Collaborations;
      before = page.Collaborations.at(-1)?.CollaborationId;
    } while (page.HasMore && before !== undefined);
  }

  async *#pages(command, name, fields) {
    const seen = new Set(); /* a cursor that repeats would never end */
    let cursor;
    do {
      const page = await this.request(command, { ...fields, Cursor: cursor });
      yield* page[name];
      seen.add(cursor);
      cursor = page.NextCursor || undefined;
      fields = { ...fields, Refresh: undefined }; /* the first is enough */
    } while (cursor !== undefined && !seen.has(cursor));
  }

  async #all(...query) {
    const rows = [];
    for await (const row of this.#pages(...query))
      rows.push(row);
    return rows;
  }

  /* ---- people ---- */

  /** All users of one's list, over as many pages as there are. */
  getUsers({ limit, refresh } = {}) {
    return this.#all('P_GET_ALL_USER', 'Users',
      { Limit: limit, Refresh: refresh });
  }

  async getUser(userId) {
    return (await this.request('P_GET_USER', { UserId: userId })).User;
  }

  block(userId) {
    return this.requestKept('P_BLOCK', { UserId: userId }, `user ${userId}`);
  }

  unblock(userId) {
    return this.requestKept('P_UNBLOCK', { UserId: userId }, `user ${userId}`);
  }

  /** Of oneself: {name, profile}. */
  updateUser({ name, profile }) {
    return this.requestKept('P_UPDATE_USER', { Name: name, Profile: profile });
  }

  /* ---- groups ---- */

  createGroup(name, members, { clientGroupId = newId() } = {}) {
    return this.requestKept('P_CREATE_GROUP', { Name: name, Members: members,
      ClientGroupId: clientGroupId });
  }

  /** @param changes {name, add, remove, roles: [{UserId, Role}]} */
  updateGroup(groupId, { name, add, remove, roles }) {
    return this.requestKept('P_UPDATE_GROUP', { GroupId: groupId, Name: name,
      Add: add, Remove: remove, Role: roles }, `group ${groupId}`);
  }

  leaveGroup(groupId) {
    return this.requestKept('P_LEAVE_GROUP', { GroupId: groupId },
      `group ${groupId}`);
  }

  getGroups() { return this.#all('P_GET_GROUPS', 'Groups', {}); }

  getGroupMembers(groupId) {
    return this.#all('P_GET_GROUPS', 'Members', { GroupId: groupId });
  }

  /* ---- calls: parley-call.js does all of these ---- */

  createCollaboration(to, { kind = 'VIDEO', payload,
    clientCollaborationId = newId() } = {}) {
    return this.requestKept('P_COLLABORATION_CREATE', { ...targetFields(to),
      Kind: kind, Payload: payload,
      ClientCollaborationId: clientCollaborationId }, clientCollaborationId);
  }

  acceptCollaboration(id) { return this.#collaborate('ACCEPT', id); }
  rejectCollaboration(id) { return this.#collaborate('REJECT', id); }
  cancelCollaboration(id) { return this.#collaborate('CANCEL', id); }
  leaveCollaboration(id) { return this.#collaborate('LEAVE', id); }
  endCollaboration(id) { return this.#collaborate('END', id); }

  inviteToCollaboration(id, to) {
    return this.#collaborate('INVITE', id, targetFields(to));
  }

  #collaborate(verb, id, fields) {
    return this.requestKept(`P_COLLABORATION_${verb}`,
      { CollaborationId: id, ...fields }, `call ${id}`);
  }

  /** Ephemeral; answered when it was handed on. */
  signal(id, userId, signal, sessionId) {
    return this.request('P_SIGNAL', { CollaborationId: id, ToUserId: userId,
      ToSessionId: sessionId, Signal: signal });
  }

  /* ---- push ---- */

  registerDevice(platform, pushToken) {
    return this.requestKept('P_REGISTER_DEVICE',
      { Platform: platform, PushToken: pushToken });
  }

  unregisterDevice() { return this.requestKept('P_UNREGISTER_DEVICE'); }
}
