/*
 * demo-model.js - what the demo page knows: people, groups, messages, calls.
 *
 * Role: plain data, no DOM and no connection, so that it can be tested. The
 *       same message may arrive as an event, in a page of history and as the
 *       reply to its own sending, in any order: it is kept once, by its id.
 * See:  demo-chat.js (feeds it), demo-view.js (shows it),
 *       t/js/demo-model.test.mjs.
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

/* Deleted, or edited after one had left the group: then it is not told. */
function isGone(message) {
  return message.Deleted || typeof message.Message !== 'string';
}

/* Of two copies of one message, or of a message and what became of it. */
function newerCopy(a, b) {
  if (a.Deleted || b.Deleted)
    return b.Deleted && !a.Deleted ? b : a;
  if (isGone(a) || isGone(b))
    return isGone(b) && !isGone(a) ? b : a;
  return (b.EditTime ?? 0) >= (a.EditTime ?? 0) ? b : a;
}

function sameMembers(a, b) {
  return a.length === b.length && a.every((id) => b.includes(id));
}

const CHANGES_MAX = 256;

export class Model {
  users = new Map();
  contacts = new Set();
  conversations = new Map();
  openId = null;
  ringing = undefined; /* the name of who calls */
  era = 0; /* grows when all history is to be loaded again */
  #changes = new Map(); /* by message id, the last that were told: a copy of
    the message that comes later may be older */

  /**
   * @param me           {UserId, Name}
   * @param edit_window  how long one's messages can be changed, ms
   */
  constructor(me, edit_window = Infinity) {
    this.me = me;
    this.editWindow = edit_window;
  }

  /** One of one's list. */
  putUser(user) {
    this.contacts.add(user.UserId);
    this.knowUser(user);
  }

  /** Somebody one shares a conversation with, contact or not. */
  knowUser(user) {
    this.users.set(user.UserId, { ...this.users.get(user.UserId), ...user });
  }

  nameOf(user_id) {
    return this.users.get(user_id)?.Name ?? `User ${user_id}`;
  }

  /** The conversation of two, made when it is first looked at. */
  withUser(user_id) {
    return this.conversation(pairId(this.me.UserId, user_id),
      [...new Set([this.me.UserId, user_id])]);
  }

  conversation(id, members) {
    let found = this.conversations.get(id);

    if (found === undefined) {
      found = { id, members: [], groupId: undefined, name: '', role: 'MEMBER',
        roles: new Map(), memberCount: 0, messages: [], pending: [],
        calls: new Map(), notes: [], receipts: new Map(), typing: new Set(),
        last: null, unread: 0, missed: 0, isLoaded: false, hasMore: true };
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
    if (conversation.groupId !== undefined)
      return conversation.name || 'A group you have left';
    if (this.isCall(conversation))
      return 'Said in a call';
    return this.others(conversation).map((id) => this.nameOf(id)).join(', ') ||
      'Notes to yourself';
  }

  target(conversation) {
    const others = this.others(conversation);

    return conversation.groupId === undefined
      ? { ToUserList: others.length > 0 ? others : [this.me.UserId] }
      : { GroupId: conversation.groupId };
  }

  /** One row of P_GET_CONVERSATIONS. */
  putConversation(row) {
    const found = this.conversation(row.ConversationId, row.Members);
    const last = row.LastMessage && this.#current(row.LastMessage);

    if (row.GroupId !== undefined)
      this.putGroup(row);
    if (last && (!found.last ||
        compareIds(last.MessageId, found.last.MessageId) >= 0)) {
      found.last = last;
      found.unread = row.UnreadCount ?? 0;
    }
    for (const receipt of row.Receipts ?? [])
      this.putReceipt({ ConversationId: row.ConversationId, ...receipt });
    return found;
  }

  /* ---- groups ---- */

  /** A row of P_GET_GROUPS, or what else names a group and one's role. */
  putGroup(row) {
    const found = this.conversation(row.ConversationId);

    found.groupId = row.GroupId;
    found.name = row.Name ?? found.name;
    found.role = row.Role ?? found.role;
    found.memberCount = row.MemberCount ?? found.memberCount;
    return found;
  }

  /** The whole list of a group's members. */
  putGroupMembers(conversation, members) {
    conversation.members = members.map(({ UserId }) => UserId);
    conversation.memberCount = members.length;
    conversation.roles.clear();
    for (const { UserId, Name, Role, ...receipt } of members) {
      conversation.roles.set(UserId, Role);
      if (!this.users.has(UserId) && UserId !== this.me.UserId)
        this.knowUser({ UserId, Name });
      if (receipt.ReadUpTo || receipt.DeliveredUpTo)
        this.putReceipt({ ConversationId: conversation.id, UserId,
          ...receipt });
    }
  }

  /** P_GROUP: what has changed, and who did it. */
  putGroupEvent(event) {
    const { Role: changes = [], ...row } = event;
    const found = this.putGroup(row);
    const mine = changes.find(({ UserId }) => UserId === this.me.UserId);
    const is_out = (id) => event.Removed?.includes(id) ||
      (event.Event === 'LEFT' && event.UserId === id);

    found.members = [...new Set([...found.members, ...event.Added ?? []])]
      .filter((id) => !is_out(id));
    for (const { UserId, Role } of changes)
      found.roles.set(UserId, Role);
    if (is_out(this.me.UserId))
      found.role = 'NONE';
    else if (event.Added?.includes(this.me.UserId))
      found.role = 'MEMBER';
    found.role = mine?.Role ?? found.role;
    if (event.ServerTime !== undefined)
      found.notes.push(event);
    return found;
  }

  isGroup(conversation) { return conversation.groupId !== undefined; }

  /** What was said in one. This page shows it and has no place to write it. */
  isCall(conversation) { return conversation.id.startsWith('c'); }

  mayWrite(conversation) {
    return conversation.role !== 'NONE' && !this.isCall(conversation);
  }

  mayManage(conversation) {
    return ['OWNER', 'ADMIN'].includes(conversation.role);
  }

  /* ---- calls ---- */

  /** A past call, in the conversation of those who took part in it. */
  putCall(call, is_live = false) {
    const found = this.#conversationOf(call);
    const is_new = !found.calls.has(call.CollaborationId);

    found.calls.set(call.CollaborationId, call);
    if (is_live && is_new && this.#isMissed(call))
      found.missed++;
    return found;
  }

  /** MISSED, REJECTED, … as it was for oneself. */
  outcomeOf(call) {
    const self = call.Participants?.find(
      ({ UserId }) => UserId === this.me.UserId);

    return self?.Outcome ?? call.Outcome;
  }

  #isMissed(call) {
    return this.outcomeOf(call) !== 'ANSWERED' &&
      this.outcomeOf(call) !== 'REJECTED' &&
      call.FromUser?.UserId !== this.me.UserId;
  }

  /* Of several who are no conversation: that with who called. */
  #conversationOf(call) {
    const ids = (call.Participants ?? []).map(({ UserId }) => UserId);
    const others = [call.FromUser?.UserId, ...ids]
      .filter((id) => id !== undefined && id !== this.me.UserId);
    const same = ids.length > 2 && [...this.conversations.values()]
      .find(({ members }) => sameMembers(members, ids));

    return same || this.withUser(others[0] ?? this.me.UserId);
  }

  /* ---- messages ---- */

  /** An event or a reply made one; false if it was known already. */
  putMessage(copy) {
    const message = this.#current(copy);
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

  /**
   * A page of history, in either order.
   *
   * @param era  when it was asked for: an older one is not of this history
   */
  putPage(conversation, messages, has_more, era = this.era) {
    if (era !== this.era)
      return;
    for (const message of messages)
      this.#insert(conversation, this.#current(message));
    conversation.isLoaded = true;
    conversation.hasMore = Boolean(has_more);
    conversation.last = laterMessage(conversation.last,
      conversation.messages.at(-1));
  }

  /** Edited, or deleted: then `Message` is gone. */
  changeMessage(conversation_id, message_id, changes) {
    const found = this.conversations.get(conversation_id);
    const all = [...found?.messages ?? [], found?.last];

    this.#noteChange(message_id, changes);
    for (const message of all) {
      if (message?.MessageId === message_id)
        Object.assign(message, this.#current(message));
    }
  }

  #noteChange(id, changes) {
    const known = this.#changes.get(id);

    this.#changes.delete(id); /* it is the last now */
    this.#changes.set(id, known ? newerCopy(known, changes) : changes);
    if (this.#changes.size > CHANGES_MAX)
      this.#changes.delete(this.#changes.keys().next().value);
  }

  #current(message) {
    const change = this.#changes.get(message.MessageId);

    return change !== undefined && newerCopy(message, change) === change
      ? { ...message, ...change } : message;
  }

  isOwn(message) { return message.FromUser.UserId === this.me.UserId; }

  /** As this computer's clock has it; the server has the last word. */
  mayChange(message) {
    return this.isOwn(message) && !this.isGone(message) &&
      Date.now() - message.ServerTime < this.editWindow;
  }

  isGone(message) { return isGone(message); }

  /** What there is to read of it, or why there is nothing. */
  textOf(message) {
    if (!isGone(message))
      return message.Message;
    return message.Deleted ? 'Message deleted' : 'Edited after you left';
  }

  /** What a message answers; null: not loaded, undefined: nothing. */
  repliedTo(conversation, message) {
    if (message.ReplyTo === undefined)
      return undefined;
    return conversation.messages.find(
      ({ MessageId }) => MessageId === message.ReplyTo) ?? null;
  }

  /** All that a conversation shows, in its order: {message | call | note}.
   *  Calls and notes that are older than the loaded history wait for it. */
  timeline(conversation) {
    const { messages, pending, calls, notes, hasMore } = conversation;
    const from = hasMore ? messages[0]?.ServerTime ?? Infinity : 0;
    const others = [
      ...[...calls.values()].map((call) =>
        ({ call, time: call.EndedAt ?? call.CreatedAt ?? 0 })),
      ...notes.map((note) => ({ note, time: note.ServerTime })),
    ].filter(({ time }) => time >= from).sort((a, b) => a.time - b.time);
    const items = [];

    for (const message of messages) {
      while (others.length > 0 && others[0].time < message.ServerTime)
        items.push(others.shift());
      items.push({ message, time: message.ServerTime });
    }
    return [...items, ...others,
      ...pending.map((message) => ({ message, time: message.ServerTime }))];
  }

  /** Written, but not yet known to be safe. */
  addPending(conversation, text, client_message_id, now, reply_to) {
    const message = { ClientMessageId: client_message_id, Message: text,
      FromUser: this.me, ServerTime: now, ClientInitiationTime: now,
      ConversationId: conversation.id, Members: conversation.members,
      ReplyTo: reply_to, error: null };

    conversation.pending.push(message);
    return message;
  }

  /** A message of an earlier page, by its fields: to several, whose
   *  conversation only the reply tells. */
  sentBefore({ ToUserList, ClientMessageId, Message, ReplyTo, Attachment,
    ClientInitiationTime }) {
    return { ClientMessageId, Message, ReplyTo, Attachment, FromUser: this.me,
      Members: ToUserList && [this.me.UserId, ...ToUserList],
      ClientInitiationTime, ServerTime: ClientInitiationTime };
  }

  /** By the sender's own id; undefined: there is none such. */
  pendingOf(client_message_id) {
    for (const { pending } of this.conversations.values()) {
      const found = pending.find(
        ({ ClientMessageId }) => ClientMessageId === client_message_id);
      if (found !== undefined)
        return found;
    }
    return undefined;
  }

  /** Whose fields these are; undefined: the id of one with several people is
   *  the server's to know. */
  conversationOfTarget({ ToUserList, GroupId }) {
    if (GroupId !== undefined)
      return this.putGroup({ ConversationId: `g${GroupId}`, GroupId });
    return ToUserList?.length === 1 ? this.withUser(ToUserList[0]) : undefined;
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
    const are_known = others.length > 0 && (!this.isGroup(conversation) ||
      others.length + 1 >= conversation.memberCount);
    const has = (name) => are_known && others.every((receipt) =>
      receipt[name] && compareIds(message.MessageId, receipt[name]) <= 0);
    if (has('read'))
      return 'read';
    return has('delivered') ? 'delivered' : 'sent';
  }

  /** History is to be loaded again; what is not yet sent stays. */
  forgetHistory() {
    this.era++;
    this.#changes.clear();
    for (const found of this.conversations.values()) {
      found.messages = [];
      found.notes = [];
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
      total += found.unread + found.missed;
    return total;
  }

  /** Conversations for the list: the last spoken in first, then by name. */
  rows() {
    for (const user_id of this.contacts) {
      if (user_id !== this.me.UserId)
        this.withUser(user_id);
    }
    const time = (row) => Math.max(this.lastOf(row)?.ServerTime ?? 0,
      this.lastCallOf(row)?.EndedAt ?? 0, row.notes.at(-1)?.ServerTime ?? 0);
    return [...this.conversations.values()].sort((a, b) =>
      time(b) - time(a) || this.title(a).localeCompare(this.title(b)));
  }

  lastOf(conversation) {
    return conversation.pending.at(-1) ?? conversation.last;
  }

  lastCallOf(conversation) {
    return [...conversation.calls.values()]
      .reduce((a, b) => ((a?.EndedAt ?? 0) > (b.EndedAt ?? 0) ? a : b),
        undefined);
  }

  #insert(conversation, message) {
    const { messages } = conversation;
    let at = messages.length;

    while (at > 0 &&
        compareIds(messages[at - 1].MessageId, message.MessageId) > 0)
      at--;
    if (messages[at - 1]?.MessageId === message.MessageId) {
      messages[at - 1] = newerCopy(messages[at - 1], message);
      return false;
    }
    messages.splice(at, 0, message);
    return true;
  }
}
