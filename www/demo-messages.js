/*
 * demo-messages.js - the messages, calls and changes of one conversation.
 *
 * Role: shows what the model's timeline holds; what one may do with a message
 *       appears on it when it is pointed at or has the focus. One message is
 *       in the order of the Tab key, the arrows go from one to the next.
 * See:  demo-view.js (calls it), demo-dom.js.
 */

import { arrange, clockTime, dayName, drawing, duration, element, iconButton,
  keep, make, setText, textButton } from './demo-dom.js';

const BOTTOM_PX = 60; /* nearer than this counts as being at the end */
const QUOTE_MAX = 140;

const PROGRESS = {
  sending: { label: 'Sending', path: 'M8 2a5 5 0 1 0 .01 0M8 4.5V7l1.8 1.2' },
  failed: { label: 'Not sent', path: 'M8 2v6M8 11v.01' },
  sent: { label: 'Sent', path: 'M4 6.5l3 3L13 2.5' },
  delivered: { label: 'Delivered',
    path: 'M1 6.5l3 3L10 2.5M8.2 8.7l.8.8L15 2.5' },
  read: { label: 'Read', path: 'M1 6.5l3 3L10 2.5M8.2 8.7l.8.8L15 2.5' },
};

const CALL_TEXTS = {
  /* outcome: [one's own call, somebody else's] */
  ANSWERED: ['Call', 'Call'],
  MISSED: ['No answer', 'Missed call'],
  CANCELLED: ['Call cancelled', 'Missed call'],
  REJECTED: ['Call declined', 'Call declined'],
  FAILED: ['Call failed', 'Missed call'],
};

/** A past call in words. */
export function callText(model, call) {
  const is_own = call.FromUser?.UserId === model.me.UserId;
  const outcome = is_own ? call.Outcome : model.outcomeOf(call);
  const text = (CALL_TEXTS[outcome] ?? CALL_TEXTS.FAILED)[is_own ? 0 : 1];

  return (call.Kind === 'VIDEO' ? text.replace(/\bcall\b/, 'video call')
    .replace(/^Call\b/, 'Video call') : text) +
    (outcome === 'ANSWERED' && call.Duration
      ? `, ${duration(call.Duration)}` : '');
}

/** A change of a group in words. */
export function noteText(model, { Event, UserId, Name, Added, Removed }) {
  const names = (ids) => ids.map((id) => (id === model.me.UserId ? 'you'
    : model.nameOf(id))).join(', ');
  const who = UserId === model.me.UserId ? 'You' : model.nameOf(UserId);

  if (Event === 'CREATED')
    return `${who} made the group “${Name}”`;
  if (Event === 'LEFT')
    return `${who} left`;
  if (Added?.length)
    return `${who} added ${names(Added)}`;
  if (Removed?.length)
    return `${who} removed ${names(Removed)}`;
  return `${who} changed the group “${Name}”`;
}

/* Of an attachment only what leads to a page is made a link. */
function attachmentLink({ Url, Name }) {
  let url = null;

  try {
    url = new URL(Url);
  } catch {
    /* below */
  }
  if (!/^https?:$/.test(url?.protocol))
    return make('span', 'attachment', Name ?? 'Attachment');
  const link = make('a', 'attachment', Name ?? url.href);
  link.href = url.href;
  link.target = '_blank';
  link.rel = 'noopener noreferrer';
  return link;
}

export class MessagesView {
  #model;
  #actions;
  #nodes = new Map();
  #shownId = null;
  #isAtEnd = true;
  #resizes = null;

  constructor(model, actions) {
    const pane = element('messages');

    this.#model = model;
    this.#actions = actions;
    pane.onscroll = () => {
      this.#isAtEnd =
        pane.scrollHeight - pane.scrollTop - pane.clientHeight < BOTTOM_PX;
    };
    /* a call begins, the window changes: who reads the end goes on with it */
    this.#resizes = new ResizeObserver(() => {
      if (this.#isAtEnd)
        this.scrollToEnd();
    });
    this.#resizes.observe(pane);
  }

  /** Nothing leads to the model any more. */
  close() {
    element('messages').onscroll = null;
    this.#resizes.disconnect();
  }

  paint(conversation) {
    const pane = element('messages');
    const has_moved = this.#shownId !== conversation.id;
    const first_before = element('message-list').querySelector('.message');
    const top_before = first_before?.getBoundingClientRect().top;

    if (has_moved)
      this.#nodes.clear();
    this.#shownId = conversation.id;
    arrange(element('message-list'), this.#itemNodes(conversation));
    this.#keepOneInTabOrder();
    if (has_moved || this.#isAtEnd)
      this.scrollToEnd();
    else if (first_before?.isConnected) /* older ones were put above it */
      pane.scrollTop += first_before.getBoundingClientRect().top - top_before;
  }

  scrollToEnd() {
    const pane = element('messages');

    pane.scrollTop = pane.scrollHeight;
    this.#isAtEnd = true;
  }

  /** Shows a message that is in the list. */
  jump(message_id) {
    const node = element('message-list')
      .querySelector(`[data-id="${CSS.escape(message_id)}"]`);

    node?.scrollIntoView({ block: 'center' });
    this.#focus(node);
  }

  /** The arrow keys, Home and End among the messages. */
  step(event) {
    const nodes = [...element('message-list').querySelectorAll('.message')];
    const at = nodes.indexOf(event.target.closest('.message'));
    const to = { ArrowUp: at < 0 ? nodes.length - 1 : at - 1,
      ArrowDown: at + 1, Home: 0, End: nodes.length - 1 }[event.key];

    if (to === undefined || nodes[to] === undefined)
      return;
    event.preventDefault();
    this.#focus(nodes[to]);
  }

  #focus(node) {
    this.#putInTabOrder(node);
    node?.focus();
  }

  /* The last, unless one is among them. */
  #keepOneInTabOrder() {
    const list = element('message-list');

    if (!list.contains(document.activeElement))
      this.#putInTabOrder([...list.querySelectorAll('.message')].at(-1));
  }

  #putInTabOrder(node) {
    if (!node || node.tabIndex === 0)
      return;
    for (const other of element('message-list')
      .querySelectorAll('.message[tabindex="0"]'))
      other.tabIndex = -1;
    node.tabIndex = 0;
  }

  /* ---- nodes ---- */

  #itemNodes(conversation) {
    const nodes = [];
    let previous = null;

    for (const item of this.#model.timeline(conversation)) {
      const day = new Date(item.time).toDateString();
      const is_new_day = previous === null ||
        new Date(previous.time).toDateString() !== day;
      if (is_new_day)
        nodes.push(this.#dayNode(day, item.time));
      nodes.push(this.#itemNode(conversation, item, !is_new_day &&
        previous.message !== undefined && previous.message.FromUser.UserId ===
        item.message?.FromUser.UserId));
      previous = item;
    }
    return nodes;
  }

  #dayNode(day, time) {
    const node = keep(this.#nodes, `day ${day}`, () => make('li', 'day'));

    setText(node, dayName(time));
    return node;
  }

  #itemNode(conversation, { message, call, note }, follows) {
    if (message !== undefined)
      return this.#messageNode(conversation, message, follows);
    const key = call ? `call ${call.CollaborationId}`
      : `note ${note.Seq ?? note.ServerTime}`;
    const node = keep(this.#nodes, key, () => make('li', 'note'));
    setText(node, call ? `${callText(this.#model, call)} · ${
      clockTime(call.EndedAt ?? call.CreatedAt)}`
      : noteText(this.#model, note));
    node.classList.toggle('missed', node.textContent.startsWith('Missed'));
    return node;
  }

  #messageNode(conversation, message, follows) {
    /* the node of a message stays when its sending is answered */
    const key = this.#model.isOwn(message) && message.ClientMessageId
      ? `own ${message.ClientMessageId}` : `id ${message.MessageId}`;
    const node = keep(this.#nodes, key,
      () => this.#makeMessage(conversation, message));
    const is_gone = this.#model.isGone(message);

    node.message = message;
    if (message.MessageId !== undefined)
      node.dataset.id = message.MessageId;
    node.classList.toggle('follows', follows);
    if (node.author)
      node.author.hidden = follows;
    this.#paintQuote(node, conversation, message);
    setText(node.text, this.#model.textOf(message));
    node.text.classList.toggle('gone', is_gone);
    if (node.attachment)
      node.attachment.hidden = is_gone;
    setText(node.time, (message.EditTime && !is_gone ? 'edited · ' : '') +
      clockTime(message.ServerTime));
    this.#paintActions(node, message, is_gone);
    if (node.tick)
      this.#paintProgress(node, conversation, message);
    return node;
  }

  #makeMessage(conversation, message) {
    const is_own = this.#model.isOwn(message);
    const node = make('li', is_own ? 'message own' : 'message');
    const meta = make('div', 'meta');

    node.tabIndex = -1;
    if (is_own) {
      node.append(make('span', 'unseen', 'You:'));
    } else if (this.#model.isGroup(conversation) ||
        this.#model.others(conversation).length !== 1) {
      node.author = make('div', 'author', message.FromUser.Name);
      node.append(node.author);
    } else {
      node.append(make('span', 'unseen', `${message.FromUser.Name}:`));
    }
    node.text = make('div', 'text');
    node.text.dir = 'auto';
    node.time = make('time', '');
    meta.append(node.time);
    node.append(node.text);
    if (message.Attachment?.Url) {
      node.attachment = attachmentLink(message.Attachment);
      node.append(node.attachment);
    }
    node.append(meta);
    if (is_own) {
      node.tick = make('span', 'tick');
      node.tick.setAttribute('role', 'img');
      meta.append(node.tick);
    }
    return node;
  }

  /* What it answers: a button that leads there, where it is loaded. */
  #paintQuote(node, conversation, message) {
    const original = this.#model.repliedTo(conversation, message);

    if (original === undefined)
      return;
    node.quote ??= textButton('', () => this.#actions.jump(message.ReplyTo),
      'quote');
    if (!node.quote.isConnected)
      node.text.before(node.quote);
    node.quote.disabled = original === null;
    setText(node.quote, original === null ? 'An earlier message'
      : `${original.FromUser.Name}: ${
        this.#model.textOf(original).slice(0, QUOTE_MAX)}`);
  }

  #paintActions(node, message, is_gone) {
    const has_actions = message.MessageId !== undefined && !is_gone;

    if (!has_actions) {
      node.actions?.remove();
      node.actions = undefined;
    } else if (node.actions === undefined) {
      const act = (name) => () => this.#actions[name](node.message);
      node.actions = make('div', 'actions');
      node.actions.append(iconButton('reply', 'Reply', act('reply')));
      node.changes = this.#model.isOwn(message)
        ? [iconButton('edit', 'Edit', act('edit')),
          iconButton('delete', 'Delete', act('delete'))] : [];
      node.actions.append(...node.changes);
      node.append(node.actions);
    }
    for (const button of node.actions ? node.changes : [])
      button.hidden = !this.#model.mayChange(message);
  }

  #paintProgress(node, conversation, message) {
    const progress = this.#model.progress(conversation, message);

    if (node.tick.dataset.progress === progress)
      return;
    node.tick.dataset.progress = progress;
    node.tick.ariaLabel = PROGRESS[progress].label;
    node.tick.title = PROGRESS[progress].label;
    node.tick.replaceChildren(drawing(PROGRESS[progress].path, '0 0 16 12'));
    node.classList.toggle('failed', progress === 'failed');
    node.failure?.remove();
    if (progress === 'failed') {
      node.failure = make('div', 'failure', message.error);
      node.failure.append(textButton('Try again',
        () => this.#actions.retry(conversation, message)));
      node.append(node.failure);
    }
  }
}
