/*
 * demo-chat.js - one logged-in user: what arrives, what is done.
 *
 * Role: feeds what the server says to the model, has it shown, and turns what
 *       the user does into requests. A server that does not know a part of the
 *       protocol (UNKNOWN_COMMAND) is used without it.
 * See:  parley.js, demo-model.js, demo-view.js, demo-composer.js,
 *       demo-calls.js, demo-groups.js.
 */

import { newId } from './parley.js';
import { CallDesk } from './demo-calls.js';
import { Composer } from './demo-composer.js';
import { announce, element, setText, toast, unannounce } from './demo-dom.js';
import { GroupDialog } from './demo-groups.js';
import { Model } from './demo-model.js';
import { View } from './demo-view.js';

const PAGE_SIZE = 40;
const CALLS_SHOWN = 50;
const NEAR_TOP_PX = 120;
const TYPING_END_MS = 6_000;
const ONE_COLUMN = matchMedia('(max-width: 44rem)');

const FINAL_TEXTS = {
  KICKED: 'You were logged out by an administrator.',
  LOGOUT: '',
  TOKEN_EXPIRED: 'Your token has expired.',
};

export class Chat {
  #parley;
  #shell;
  #model;
  #view;
  #composer;
  #calls;
  #groups;
  #isPainting = false;
  #pages = new Set(); /* conversations whose history is under way */
  #typingEnds = new Map();
  #countTimer = 0;
  #editCount = 0; /* under way: they are in memory only */
  #isGone = false; /* the page is somebody else's, or nobody's */
  #ending = new AbortController(); /* takes the listeners off at the end */

  /** @param shell  setBanner(text, …), ended(error), replaced(): see demo.js */
  constructor(parley, calls, login, shell) {
    const on = (target, type, take) => this.#on(target, type, take);

    this.#parley = parley;
    this.#shell = shell;
    this.#model = new Model({ UserId: login.UserId, Name: login.Name },
      login.EditWindow);
    this.#view = new View(this.#model, {
      open: (conversation) => this.#open(conversation),
      retry: (conversation, message) => this.#send(conversation, message),
      reply: (message) => this.#composer.reply(message),
      edit: (message) => this.#composer.edit(message),
      delete: (message) => this.#delete(message),
      jump: (message_id) => this.#view.messages.jump(message_id),
    });
    this.#composer = new Composer(on, {
      send: (text, reply_to) => this.#write(text, reply_to),
      edit: (message, text) => this.#edit(message, text),
      typing: (is_typing) => this.#tellTyping(is_typing),
      lastOwn: () => this.#openConversation()?.messages.findLast(
        (message) => this.#model.mayChange(message)),
    });
    this.#calls = new CallDesk(calls, this.#model, on, {
      open: (conversation) => this.#open(conversation),
      current: () => this.#openConversation(),
      paint: () => this.#paint(),
    });
    this.#groups = new GroupDialog(parley, this.#model, on, {
      made: (conversation) => this.#open(conversation),
      changed: (conversation) => this.#loadMembers(conversation),
    });
    shell.setBanner('');
    this.#showLeaving(false);
    element('my-status').value = 'ONLINE';
    element('login').hidden = true;
    element('chat').hidden = false;
    element('chat').dataset.view = 'list';
    this.#listenToServer();
    this.#listenToPage();
    this.#addUnsent();
    this.#authenticated(login);
  }

  #on(target, type, listener) {
    target.addEventListener(type, listener, { signal: this.#ending.signal });
  }

  #listenToServer() {
    const on = (type, take) => this.#on(this.#parley, type, ({ detail }) => {
      take(detail);
      this.#paint();
    });

    on('state', (detail) => this.#stateChanged(detail));
    on('reset', () => {
      this.#model.forgetHistory();
      this.#pages.clear();
      this.#loadAll();
    });
    on('message', (message) => this.#arrived(message));
    on('message-edited', ({ ConversationId, MessageId, Message, EditTime }) =>
      this.#model.changeMessage(ConversationId, MessageId,
        { Message, EditTime: EditTime ?? Date.now() }));
    on('message-deleted', ({ ConversationId, MessageId }) =>
      this.#forgetMessage(ConversationId, MessageId));
    on('receipt', (receipt) => this.#model.putReceipt(receipt));
    on('presence', (presence) => this.#presenceChanged(presence));
    on('typing', (event) => this.#typed(event));
    on('group', (event) => this.#groupChanged(event));
    on('collaboration-outcome', (call) => this.#callEnded(call));
    on('sent', ({ message, reply }) => this.#wasSent(message, reply));
    on('refused', ({ message, error }) => {
      const pending = this.#model.pendingOf(message.ClientMessageId);
      if (pending !== undefined)
        pending.error = `Not sent: ${error.message}`;
    });
  }

  /* ---- connection ---- */

  #stateChanged({ state, delay, reason, message, login }) {
    if (state === 'authenticated') {
      this.#shell.setBanner('');
      this.#authenticated(login);
    } else if (state === 'reconnecting') {
      this.#countDown(performance.now() + delay);
    } else if (state === 'closed') {
      this.#closed(reason, message);
    } else {
      this.#shell.setBanner('Reconnecting…', { figures: this.#unsentText() });
    }
  }

  #countDown(until) {
    const seconds = Math.ceil((until - performance.now()) / 1000);

    clearTimeout(this.#countTimer);
    if (this.#parley.state !== 'reconnecting')
      return;
    this.#shell.setBanner('Connection lost.', { figures: (seconds > 1
      ? `Next try in ${seconds} s.` : 'Reconnecting…') + this.#unsentText() });
    this.#countTimer = setTimeout(() => this.#countDown(until), 1000);
  }

  #unsentText() {
    const count = this.#parley.unsentCount;

    return count === 0 ? '' : count === 1 ? ' One message waits to be sent.'
      : ` ${count} messages wait to be sent.`;
  }

  /* Nothing of what was said stays on a page that is nobody's any more. */
  #closed(reason, message) {
    const { unsentCount } = this.#model;
    const text = FINAL_TEXTS[reason] ?? message;

    this.#ending.abort();
    this.#calls.close();
    this.#groups.close();
    if (reason === 'REPLACED') {
      this.#shell.replaced();
      return;
    }
    this.#isGone = true;
    this.#view.clear();
    this.#shell.ended(text && unsentCount > 0
      ? `${text} Messages that could not be sent: ${unsentCount}.` : text);
  }

  /* Presence and receipts are not in the inbox: read anew at each login. */
  #authenticated(login) {
    for (const user of login.Users ?? [])
      this.#model.putUser(user);
    this.#loadAll(Boolean(login.NextCursor));
  }

  async #loadAll(has_more_users = false) {
    try {
      if (has_more_users) {
        for (const user of await this.#parley.getUsers())
          this.#model.putUser(user);
      }
      for await (const row of this.#parley.conversations())
        this.#model.putConversation(row);
      this.#paint();
      await this.#ifKnown('groups', async () => {
        for (const group of await this.#parley.getGroups())
          this.#model.putGroup(group);
      });
      await this.#ifKnown('calls', () => this.#loadCalls());
      const open = this.#openConversation();
      if (open !== undefined && !open.isLoaded)
        await this.#loadPage(open);
      this.#markRead();
    } catch (error) {
      this.#failed(error);
    }
    this.#paint();
  }

  async #loadCalls() {
    let count = 0;

    for await (const call of this.#parley.collaborationHistory(
      { limit: CALLS_SHOWN })) {
      this.#model.putCall(call);
      if (++count === CALLS_SHOWN)
        break;
    }
  }

  /* The page hides what this server cannot do. */
  async #ifKnown(part, load) {
    let is_known = true;

    try {
      await load();
    } catch (error) {
      if (error.reason !== 'UNKNOWN_COMMAND')
        throw error;
      is_known = false;
    }
    element('chat').classList.toggle(`no-${part}`, !is_known);
  }

  /* What a lost connection cut off is asked again at the next login. */
  #failed(error) {
    if (error.reason !== 'DISCONNECTED' && !this.#isGone)
      toast(error.message);
  }

  /* ---- what arrives ---- */

  #arrived(message) {
    const is_new = this.#model.putMessage(message);
    const from = message.FromUser;

    this.#endTyping(message.ConversationId, from.UserId);
    for (const user_id of [from.UserId, ...message.Members ?? []])
      this.#meet(user_id);
    if (is_new && from.UserId !== this.#model.me.UserId)
      announce(`${from.Name}: ${this.#model.textOf(message)}`,
        message.MessageId);
    this.#markRead();
  }

  #forgetMessage(conversation_id, message_id) {
    this.#composer.forget(message_id);
    unannounce(message_id);
    this.#model.changeMessage(conversation_id, message_id,
      { Message: undefined, Attachment: undefined, Deleted: true });
  }

  /* Somebody who is not in the list may be a member of a conversation. */
  async #meet(user_id) {
    if (this.#model.users.has(user_id) || user_id === this.#model.me.UserId)
      return;
    this.#model.knowUser({ UserId: user_id, Name: `User ${user_id}` });
    try {
      this.#model.knowUser(await this.#parley.getUser(user_id));
      this.#paint();
    } catch (error) {
      if (error.reason !== 'NOT_FOUND') /* a stranger in a group */
        this.#failed(error);
    }
  }

  #presenceChanged({ UserId, LastSeen, ...presence }) {
    if (UserId === this.#model.me.UserId)
      return;
    this.#meet(UserId);
    this.#model.putUser({ UserId, ...presence, ...LastSeen && { LastSeen } });
  }

  #typed({ UserId, ConversationId, State }) {
    const key = `${ConversationId} ${UserId}`;

    this.#endTyping(ConversationId, UserId);
    if (State !== 'STARTED')
      return;
    this.#model.conversation(ConversationId).typing.add(UserId);
    this.#typingEnds.set(key, setTimeout(() => {
      this.#endTyping(ConversationId, UserId);
      this.#paint();
    }, TYPING_END_MS));
  }

  #endTyping(conversation_id, user_id) {
    const key = `${conversation_id} ${user_id}`;

    clearTimeout(this.#typingEnds.get(key));
    this.#typingEnds.delete(key);
    this.#model.conversations.get(conversation_id)?.typing.delete(user_id);
  }

  #groupChanged(event) {
    const conversation = this.#model.putGroupEvent(event);

    for (const user_id of [event.UserId, ...event.Added ?? []])
      this.#meet(user_id);
    if (conversation.id === this.#model.openId &&
        this.#model.mayWrite(conversation))
      this.#loadMembers(conversation);
  }

  #callEnded(call) {
    const conversation = this.#model.putCall(call, true);

    if (conversation.id === this.#model.openId && document.hasFocus())
      conversation.missed = 0;
  }

  /* ---- one conversation ---- */

  #openConversation() {
    return this.#model.conversations.get(this.#model.openId);
  }

  #open(conversation) {
    this.#model.openId = conversation.id;
    this.#composer.open(conversation.id);
    if (element('chat').dataset.view === 'list')
      history.pushState({ view: 'conversation' }, '');
    element('chat').dataset.view = 'conversation';
    this.#paintNow();
    this.#composer.focus();
    if (this.#model.isGroup(conversation) && this.#model.mayWrite(conversation))
      this.#loadMembers(conversation);
    if (!conversation.isLoaded)
      this.#loadPage(conversation);
    this.#markRead();
  }

  /* Back on a phone: the list, and nothing is being read any more. */
  #showList() {
    element('chat').dataset.view = 'list';
    if (!ONE_COLUMN.matches)
      return;
    this.#model.openId = null;
    this.#composer.open(null);
    this.#paintNow();
    document.querySelector('#list button')?.focus();
  }

  async #loadMembers(conversation) {
    const members = [];
    let cursor;

    try {
      do {
        const page = await this.#parley.request('P_GET_GROUPS',
          { GroupId: conversation.groupId, Cursor: cursor });
        members.push(...page.Members);
        cursor = page.NextCursor || undefined;
      } while (cursor !== undefined);
      this.#model.putGroupMembers(conversation, members);
    } catch (error) {
      this.#failed(error);
    }
    this.#paint();
  }

  /* The newest page, or the one above the oldest message there is. */
  async #loadPage(conversation) {
    const { era } = this.#model;
    const oldest = conversation.isLoaded
      ? conversation.messages[0]?.MessageId : undefined;

    if (this.#pages.has(conversation.id) || !conversation.hasMore)
      return;
    this.#pages.add(conversation.id);
    try {
      const page = await this.#pageBefore(conversation, oldest);
      this.#model.putPage(conversation, page.Messages, page.HasMore, era);
    } catch (error) {
      this.#failed(error); /* asked again when one scrolls, or at a login */
      return;
    } finally {
      if (era === this.#model.era)
        this.#pages.delete(conversation.id);
    }
    if (this.#isGone || era !== this.#model.era)
      return;
    this.#paintNow();
    this.#markRead();
    const pane = element('messages');
    if (conversation.id === this.#model.openId &&
        pane.scrollHeight <= pane.clientHeight)
      this.#loadPage(conversation); /* too few to scroll */
  }

  async #pageBefore(conversation, before) {
    try {
      return await this.#parley.getMessages({ before,
        conversationId: conversation.id, limit: PAGE_SIZE });
    } catch (error) {
      if (error.reason !== 'NOT_FOUND')
        throw error;
      return { Messages: [], HasMore: false }; /* nothing was said yet */
    }
  }

  #markRead() {
    const conversation = this.#openConversation();
    const last = conversation?.messages.at(-1);

    if (conversation === undefined || !document.hasFocus())
      return;
    if (conversation.missed > 0) {
      conversation.missed = 0;
      this.#paint();
    }
    if (!last || conversation.unread === 0)
      return;
    conversation.unread = 0;
    this.#paint();
    this.#parley.markRead(conversation.id, last.MessageId)
      .catch((error) => this.#failed(error));
  }

  /* ---- what is written ---- */

  #write(text, reply_to) {
    const conversation = this.#openConversation();

    if (conversation === undefined)
      return;
    this.#send(conversation, this.#model.addPending(conversation, text,
      newId(), Date.now(), reply_to));
    this.#paintNow();
    this.#view.messages.scrollToEnd();
  }

  /* A retry is the same message: same id, same time. What becomes of it the
     events `sent` and `refused` tell, after a reload as well. */
  #send(conversation, message) {
    message.error = null;
    this.#paint();
    this.#parley.send(this.#model.target(conversation), message.Message, {
      clientMessageId: message.ClientMessageId,
      clientInitiationTime: message.ClientInitiationTime,
      replyTo: message.ReplyTo }).catch(() => {});
  }

  #wasSent(sent, reply) {
    const { error, ...content } = this.#model.pendingOf(sent.ClientMessageId) ??
      this.#model.sentBefore(sent);

    this.#model.putMessage({ ...content, MessageId: reply.MessageId,
      ConversationId: reply.ConversationId,
      ServerTime: reply.ServerTime ?? content.ServerTime });
  }

  /* Written on this page before it was loaded again. */
  #addUnsent() {
    for (const fields of this.#parley.unsent) {
      const conversation = this.#model.conversationOfTarget(fields);
      if (conversation !== undefined)
        this.#model.addPending(conversation, fields.Message,
          fields.ClientMessageId, fields.ClientInitiationTime, fields.ReplyTo);
    }
  }

  async #edit(message, text) {
    const { ConversationId, MessageId } = message;

    this.#editCount++;
    try {
      const reply = await this.#parley.editMessage(MessageId, text);
      this.#model.changeMessage(ConversationId, MessageId,
        { Message: text, EditTime: reply.EditTime ?? Date.now() });
    } catch (error) {
      this.#failed(error);
      if (!this.#isGone && !this.#model.isGone(message))
        this.#composer.editAgain(message, text);
    }
    this.#editCount--;
    this.#paint();
  }

  async #delete({ ConversationId, MessageId }) {
    try {
      await this.#parley.deleteMessage(MessageId);
      this.#forgetMessage(ConversationId, MessageId);
    } catch (error) {
      this.#failed(error);
    }
    this.#paintNow();
    this.#composer.focus(); /* the button that had it is gone */
  }

  #tellTyping(is_typing) {
    const conversation = this.#openConversation();

    if (conversation !== undefined)
      this.#parley.typing(this.#model.target(conversation), is_typing);
  }

  /* ---- page ---- */

  #listenToPage() {
    this.#on(element('messages'), 'scroll', () => {
      const conversation = this.#openConversation();
      if (conversation?.isLoaded && element('messages').scrollTop < NEAR_TOP_PX)
        this.#loadPage(conversation);
    });
    this.#on(element('messages'), 'keydown',
      (event) => this.#view.messages.step(event));
    this.#on(element('my-status'), 'change', (event) =>
      this.#parley.updateStatus(event.target.value)
        .catch((error) => this.#failed(error)));
    this.#on(element('log-out'), 'click', () => this.#logOut());
    this.#on(element('group-new'), 'click', () => this.#groups.open());
    this.#on(element('group-open'), 'click',
      () => this.#groups.open(this.#openConversation()));
    this.#on(element('back'), 'click', () => history.back());
    this.#on(window, 'popstate', () => this.#showList());
    this.#on(window, 'focus', () => this.#markRead());
    this.#on(window, 'beforeunload', (event) => {
      if (this.#waitingCount > 0)
        event.preventDefault(); /* what is unsent lives in this tab only */
    });
  }

  /* Written and not safe yet, or refused. */
  get #waitingCount() {
    return Math.max(this.#model.unsentCount, this.#parley.unsentCount) +
      this.#editCount;
  }

  #logOut() {
    const count = this.#waitingCount;
    const what = count === 1 ? 'One message has' : `${count} messages have`;

    if (count > 0 &&
        !confirm(`${what} not been sent and would be lost. Log out?`))
      return;
    this.#showLeaving(true);
    this.#parley.logout(); /* `closed` follows */
  }

  #showLeaving(is_leaving) {
    element('log-out').disabled = is_leaving;
    setText(element('log-out'), is_leaving ? 'Logging out…' : 'Log out');
  }

  /* However many events a frame brings, it is painted once. */
  #paint() {
    if (this.#isPainting)
      return;
    this.#isPainting = true;
    setTimeout(() => this.#paintNow(), document.hidden ? 500 : 16);
  }

  #paintNow() {
    this.#isPainting = false;
    if (this.#isGone)
      return;
    this.#view.paint();
    this.#calls.paint();
  }
}
