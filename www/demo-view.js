/*
 * demo-view.js - the list of conversations and the head of the open one.
 *
 * Role: puts the model on the screen; who is there, what is new, who types.
 * See:  demo-chat.js (calls it), demo-messages.js (the messages), demo-dom.js,
 *       index.html (the elements), demo.css.
 */

import { arrange, daysAgo, drawing, element, keep, make, paintAvatar, setText,
  shortTime } from './demo-dom.js';
import { MessagesView, callText, noteText } from './demo-messages.js';

const STATUS_NAMES = { ONLINE: 'Online', AWAY: 'Away', BUSY: 'Busy',
  INVISIBLE: 'Invisible', OFFLINE: 'Offline' };
const GROUP_MARK = 'M8 8a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM2 15c0-4 2-6 6-6s6 2 6 6' +
  'M14 3a3 3 0 0 1 0 6M15 10c3 .5 4 2 4 5';
const CALL_MAX = 8; /* a group of more is too large to be called */

function presenceText(user) {
  const status = user?.Status ?? 'OFFLINE';
  let text = user?.InCollaboration ? 'In a call'
    : STATUS_NAMES[status] ?? status;

  if (status === 'OFFLINE' && user?.LastSeen)
    text += `, last seen ${daysAgo(user.LastSeen) < 1 ? 'at ' : ''}` +
      shortTime(user.LastSeen);
  return user?.StatusText ? `${text} · ${user.StatusText}` : text;
}

export class View {
  #model;
  #actions;
  #messages;
  #rows = new Map();

  /** @param actions  {open(conversation), retry(conversation, message),
   *                   reply, edit, delete (message), jump(message_id)} */
  constructor(model, actions) {
    this.#model = model;
    this.#actions = actions;
    this.#messages = new MessagesView(model, actions);
    setText(element('my-name'), model.me.Name);
    paintAvatar(element('my-avatar'), model.me.Name, model.me.UserId);
  }

  get messages() { return this.#messages; }

  paint() {
    this.#paintList();
    this.#paintConversation();
    document.title = this.#model.ringing
      ? `${this.#model.ringing} is calling`
      : this.#model.unreadTotal > 0
        ? `(${this.#model.unreadTotal}) parley` : 'parley';
  }

  /* ---- list ---- */

  #paintList() {
    const nodes = this.#model.rows().map((conversation) => {
      const item = keep(this.#rows, conversation.id,
        () => this.#makeRow(conversation));
      this.#paintRow(item, conversation);
      return item;
    });
    arrange(element('list'), nodes);
  }

  #makeRow(conversation) {
    const item = make('li', '');
    const button = make('button', '');
    const body = make('span', 'grow');
    const first = make('span', 'row-line');
    const second = make('span', 'row-line');

    button.type = 'button';
    item.avatar = make('span', 'avatar');
    item.avatar.ariaHidden = 'true';
    item.name = make('span', 'name');
    item.status = make('span', 'unseen');
    item.when = make('span', 'when');
    item.preview = make('span', 'preview');
    item.badge = make('span', 'badge');
    item.badge.setAttribute('role', 'img');
    first.append(item.name, item.status, item.when);
    second.append(item.preview, item.badge);
    body.append(first, second);
    button.append(item.avatar, body);
    button.addEventListener('click', () => this.#actions.open(conversation));
    item.append(button);
    item.button = button;
    return item;
  }

  #paintRow(item, conversation) {
    const user = this.#onlyOther(conversation);
    const is_typing = conversation.typing.size > 0;
    const count = conversation.unread + conversation.missed;
    const { text, time } = this.#preview(conversation);

    this.#paintTheirAvatar(item.avatar, conversation);
    setText(item.name, this.#model.title(conversation));
    setText(item.status, user && text ? `, ${presenceText(user)}` : '');
    setText(item.when, time ? shortTime(time) : '');
    setText(item.preview, is_typing ? this.#typingText(conversation)
      : text || (user ? presenceText(user) : ''));
    item.preview.classList.toggle('typing', is_typing);
    item.badge.hidden = count === 0;
    setText(item.badge, count > 99 ? '99+' : String(count));
    item.badge.ariaLabel = `${count} unread`;
    item.button.setAttribute('aria-current',
      String(conversation.id === this.#model.openId));
  }

  /* Whatever happened last. */
  #preview(conversation) {
    const message = this.#model.lastOf(conversation);
    const call = this.#model.lastCallOf(conversation);
    const note = conversation.notes.at(-1);
    const time = message?.ServerTime ?? 0;

    if (call && call.EndedAt > Math.max(time, note?.ServerTime ?? 0))
      return { text: callText(this.#model, call), time: call.EndedAt };
    if (note && note.ServerTime > time)
      return { text: noteText(this.#model, note), time: note.ServerTime };
    if (!message)
      return { text: '', time: 0 };
    return { text: this.#authorText(conversation, message) +
      this.#model.textOf(message), time };
  }

  #authorText(conversation, message) {
    if (this.#model.isOwn(message))
      return 'You: ';
    return this.#onlyOther(conversation) ? ''
      : `${message.FromUser.Name.split(' ')[0]}: `;
  }

  /* ---- head of the conversation ---- */

  #paintConversation() {
    const conversation = this.#model.conversations.get(this.#model.openId);

    element('nobody').hidden = conversation !== undefined;
    element('somebody').hidden = conversation === undefined;
    if (conversation === undefined)
      return;
    this.#paintHeader(conversation);
    this.#messages.paint(conversation);
    setText(element('typing'), this.#typingText(conversation));
    element('composer').hidden = !this.#model.mayWrite(conversation);
  }

  #paintHeader(conversation) {
    const user = this.#onlyOther(conversation);
    const is_group = this.#model.isGroup(conversation);
    const count = conversation.memberCount || conversation.members.length;
    const can_call = this.#model.mayWrite(conversation) &&
      count > 1 && count <= CALL_MAX;

    setText(element('title'), this.#model.title(conversation));
    setText(element('subtitle'), user ? presenceText(user)
      : count > 0 ? `${count} people` : '');
    this.#paintTheirAvatar(element('their-avatar'), conversation);
    element('group-open').hidden = !is_group ||
      !this.#model.mayWrite(conversation);
    for (const id of ['call-video', 'call-audio'])
      element(id).hidden = !can_call && user === undefined;
  }

  /* Undefined where there are several, or it is a group. */
  #onlyOther(conversation) {
    const others = this.#model.others(conversation);

    return others.length === 1 && !this.#model.isGroup(conversation)
      ? this.#model.users.get(others[0]) ?? {} : undefined;
  }

  #paintTheirAvatar(node, conversation) {
    const user = this.#onlyOther(conversation);
    const is_marked = node.dataset.group === 'true';

    node.dataset.group = String(user === undefined);
    if (user !== undefined) {
      paintAvatar(node, this.#model.title(conversation),
        this.#model.others(conversation)[0], user);
    } else if (!is_marked) {
      node.dataset.tint = 0;
      delete node.dataset.status;
      node.replaceChildren(drawing(GROUP_MARK, '0 0 20 17'));
    }
  }

  #typingText(conversation) {
    const names = [...conversation.typing].map((id) => this.#model.nameOf(id));

    return names.length ? `${names.join(', ')} ${
      names.length > 1 ? 'are' : 'is'} typing…` : '';
  }

  /** Leaves no trace of the user on the page. */
  clear() {
    for (const id of ['list', 'message-list', 'announcer', 'toast', 'title',
      'subtitle', 'typing', 'my-name', 'my-avatar', 'their-avatar',
      'composer-context-text'])
      element(id).replaceChildren();
    element('text').value = '';
    this.#messages.close();
  }
}
