/*
 * demo-model.js - what the demo page knows: people, conversations, messages.
 *
 * Role: plain data, no DOM and no connection, so that it can be tested. The
 *       same message may arrive as an event, in a page of history and as the
 *       reply to its own sending, in any order: it is kept once, by its id.
 * See:  demo.js (feeds it), demo-view.js (shows it), t/js/demo-model.test.mjs.
 */

import { compareIds } from './parley.js';

function pairId(a, b) {
  return `${Math.min(a, b)}-${Math.max(a, b)}`;
}

function laterId(a, b) {
  return !a || (b && compareIds(b, a) > 0) ? b : a;
}

function laterMessage(a, b) {
  return !a || (b && compareIds(b.MessageId, a.MessageId) >= 0)
    ? b ?? null : a;
}

export class Model {
  users = new Map();
  conversations = new Map();
  openId = null;

  /** @param me  {UserId, Name} */
  constructor(me) {
    this.me = me;
  }

  putUser(user) {
    this.users.set(user.UserId, { ...this.users.get(user.UserId), ...user });
  }

  nameOf(user_id) {
    return this.users.get(user_id)?.Name ?? `User ${user_id}`;
  }

  /** The conversation of two, made when it is first looked at. */
  withUser(user_id) {
    return this.conversation(pairId(this.me.UserId, user_id),
      [this.me.UserId, user_id]);
  }

  conversation(id, members) {
    let found = this.conversations.get(id);

    if (found === undefined) {
      found = { id, members: [], groupId: undefined, messages: [],
        pending: [], receipts: new Map(), typing: new Set(), last: null,
        unread: 0, isLoaded: false, hasMore: true };
      this.conversations.set(id, found);
    }
    if (members?.length)
      found.members = members;
    return found;
  }

  others(conversation) {
    return conversation.members.filter((id) => id !== this.me.UserId);
  }

  title(conversation) {
    return this.others(conversation).map((id) => this.nameOf(id)).join(', ') ||
      'Group';
  }

  target(conversation) {
    return conversation.groupId === undefined
      ? { ToUserList: this.others(conversation) }
      : { GroupId: conversation.groupId };
  }

  /** One row of P_GET_CONVERSATIONS. */
  putConversation(row) {
    const found = this.conversation(row.ConversationId, row.Members);
    const last = row.LastMessage;

    if (last && (!found.last ||
        compareIds(last.MessageId, found.last.MessageId) >= 0)) {
      found.last = last;
      found.unread = row.UnreadCount ?? 0;
    }
    found.groupId = row.GroupId ?? found.groupId;
    for (const receipt of row.Receipts ?? [])
      this.putReceipt({ ConversationId: row.ConversationId, ...receipt });
    return found;
  }

  /** An event or a reply made one; false if it was known already. */
  putMessage(message) {
    const found = this.conversation(message.ConversationId, message.Members);
    const is_new = this.#insert(found, message);
    const is_last = !found.last ||
      compareIds(message.MessageId, found.last.MessageId) > 0;

    found.groupId = message.GroupId ?? found.groupId;
    found.pending = found.pending.filter(
      (sent) => sent.ClientMessageId !== message.ClientMessageId);
    found.typing.delete(message.FromUser.UserId);
    if (is_last)
      found.last = message;
    if (is_last && is_new && message.FromUser.UserId !== this.me.UserId)
      found.unread++;
    return is_new;
  }

  /** A page of history, in either order. */
  putPage(conversation, messages, has_more) {
    for (const message of messages)
      this.#insert(conversation, message);
    conversation.isLoaded = true;
    conversation.hasMore = Boolean(has_more);
    conversation.last = laterMessage(conversation.last,
      conversation.messages.at(-1));
  }

  changeMessage(conversation_id, message_id, changes) {
    const found = this.conversations.get(conversation_id);
    const all = [...found?.messages ?? [], found?.last];

    for (const message of all) {
      if (message?.MessageId === message_id)
        Object.assign(message, changes);
    }
  }

  /** Written, but not yet known to be safe. */
  addPending(conversation, text, client_message_id, now) {
    const message = { ClientMessageId: client_message_id, Message: text,
      FromUser: this.me, ServerTime: now, ClientInitiationTime: now,
      ConversationId: conversation.id, Members: conversation.members,
      error: null };

    conversation.pending.push(message);
    return message;
  }

  putReceipt({ ConversationId, UserId, DeliveredUpTo, ReadUpTo }) {
    const found = this.conversation(ConversationId);
    const old = found.receipts.get(UserId) ?? {};
    const read = laterId(old.read, ReadUpTo);

    found.receipts.set(UserId,
      { delivered: laterId(old.delivered, DeliveredUpTo), read });
    if (UserId === this.me.UserId && found.last && read &&
        compareIds(read, found.last.MessageId) >= 0)
      found.unread = 0; /* read on another device */
  }

  /** How far one's own message has come with everybody. */
  progress(conversation, message) {
    if (message.MessageId === undefined)
      return message.error === null ? 'sending' : 'failed';
    const others = this.others(conversation)
      .map((id) => conversation.receipts.get(id) ?? {});
    const has = (name) => others.length > 0 && others.every((receipt) =>
      receipt[name] && compareIds(message.MessageId, receipt[name]) <= 0);
    if (has('read'))
      return 'read';
    return has('delivered') ? 'delivered' : 'sent';
  }

  /** History is to be loaded again; what is not yet sent stays. */
  forgetHistory() {
    for (const found of this.conversations.values()) {
      found.messages = [];
      found.last = null;
      found.unread = 0;
      found.isLoaded = false;
      found.hasMore = true;
    }
  }

  get unsentCount() {
    let count = 0;
    for (const found of this.conversations.values())
      count += found.pending.length;
    return count;
  }

  get unreadTotal() {
    let total = 0;
    for (const found of this.conversations.values())
      total += found.unread;
    return total;
  }

  /** Conversations for the list: the last spoken in first, then by name. */
  rows() {
    for (const user_id of this.users.keys()) {
      if (user_id !== this.me.UserId)
        this.withUser(user_id);
    }
    const time = (row) => this.lastOf(row)?.ServerTime ?? 0;
    return [...this.conversations.values()].sort((a, b) =>
      time(b) - time(a) || this.title(a).localeCompare(this.title(b)));
  }

  lastOf(conversation) {
    return conversation.pending.at(-1) ?? conversation.last;
  }

  #insert(conversation, message) {
    const { messages } = conversation;
    let at = messages.length;

    while (at > 0 &&
        compareIds(messages[at - 1].MessageId, message.MessageId) > 0)
      at--;
    if (messages[at - 1]?.MessageId === message.MessageId)
      return false;
    messages.splice(at, 0, message);
    return true;
  }
}
