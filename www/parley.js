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
 *          `storage: localStorage`. Messages are never stored.
 * See:     doc/protocol.md (the wire), t/js/parley.test.mjs (every promise).
 *
 * Events (the server's object in `detail`): message, receipt,
 * presence, typing, message-edited, message-deleted, group, collaboration,
 * collaboration-outcome, signal; `event` for commands unknown to this file.
 * Of the client itself:
 *   state    {state, previous, delay?, reason?, message?, login?}; state is
 *            connecting, open, authenticated, reconnecting or closed
 *   close    {reason, message, retryAfter, code, willReconnect}
 *   reset    {reason}: events are missing; load the history again
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

export class Parley extends Session {
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
    return this.submit(fields);
  }

  /** Read up to here; never goes back. */
  markRead(conversationId, messageId) {
    return this.request('P_MARK_READ',
      { ConversationId: conversationId, MessageId: messageId });
  }

  /** Ephemeral: dropped while there is no connection. */
  typing(to, isTyping = true) {
    this.post('P_TYPING',
      { ...targetFields(to), State: isTyping ? 'STARTED' : 'STOPPED' });
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

  /** All users of one's list, over as many pages as there are. */
  async getUsers({ limit, refresh } = {}) {
    const users = [];
    const seen = new Set(); /* a cursor that repeats would never end */
    let cursor;
    do {
      const page = await this.request('P_GET_ALL_USER',
        { Cursor: cursor, Limit: limit, Refresh: refresh });
      users.push(...page.Users);
      seen.add(cursor);
      cursor = page.NextCursor || undefined;
      refresh = undefined;
    } while (cursor !== undefined && !seen.has(cursor));
    return users;
  }

  async getUser(userId) {
    return (await this.request('P_GET_USER', { UserId: userId })).User;
  }

  block(userId) { return this.request('P_BLOCK', { UserId: userId }); }

  unblock(userId) { return this.request('P_UNBLOCK', { UserId: userId }); }

  /** Of oneself: {name, profile}. */
  updateUser({ name, profile }) {
    return this.request('P_UPDATE_USER', { Name: name, Profile: profile });
  }

  editMessage(messageId, text) {
    return this.request('P_EDIT_MESSAGE',
      { MessageId: messageId, Message: text });
  }

  deleteMessage(messageId) {
    return this.request('P_DELETE_MESSAGE', { MessageId: messageId });
  }
}
