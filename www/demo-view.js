/*
 * demo-view.js - puts the model of the demo page on the screen.
 *
 * Role:  the only file that touches the DOM's contents. Text from people goes
 *        in as text nodes, never as markup. Nodes are kept by key, so that
 *        focus, selection and scroll position survive each update.
 * See:   demo.js (calls it), index.html (the elements), demo.css.
 */

const SVG = 'http://www.w3.org/2000/svg';
const TINT_COUNT = 6;
const BOTTOM_PX = 60; /* nearer than this counts as being at the end */

const STATUS_NAMES = { ONLINE: 'Online', AWAY: 'Away', BUSY: 'Busy',
  INVISIBLE: 'Invisible', OFFLINE: 'Offline' };

const PROGRESS = {
  sending: { label: 'Sending', path: 'M8 2a5 5 0 1 0 .01 0M8 4.5V7l1.8 1.2' },
  failed: { label: 'Not sent', path: 'M8 2v6M8 11v.01' },
  sent: { label: 'Sent', path: 'M4 6.5l3 3L13 2.5' },
  delivered: { label: 'Delivered',
    path: 'M1 6.5l3 3L10 2.5M8.2 8.7l.8.8L15 2.5' },
  read: { label: 'Read', path: 'M1 6.5l3 3L10 2.5M8.2 8.7l.8.8L15 2.5' },
};

const TIME = new Intl.DateTimeFormat(undefined,
  { hour: '2-digit', minute: '2-digit' });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: 'short' });
const DAY = new Intl.DateTimeFormat(undefined,
  { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const SHORT_DAY = new Intl.DateTimeFormat(undefined,
  { day: 'numeric', month: 'numeric', year: '2-digit' });
const RELATIVE = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });

export function element(id) {
  return document.getElementById(id);
}

function make(tag, class_name, text = '') {
  const node = document.createElement(tag);

  node.className = class_name;
  node.textContent = text;
  return node;
}

function setText(node, text) {
  if (node.textContent !== text)
    node.textContent = text;
}

function daysAgo(time) {
  const midnight = (t) => new Date(t).setHours(0, 0, 0, 0);

  return Math.round((midnight(Date.now()) - midnight(time)) / 86_400_000);
}

function dayName(time) {
  const days = daysAgo(time);

  if (days > 1)
    return DAY.format(time);
  const name = RELATIVE.format(-days, 'day');
  return name[0].toUpperCase() + name.slice(1);
}

function shortTime(time) {
  const days = daysAgo(time);

  if (days < 1)
    return TIME.format(time);
  return (days < 7 ? WEEKDAY : SHORT_DAY).format(time);
}

function presenceText(user) {
  const status = user?.Status ?? 'OFFLINE';
  let text = STATUS_NAMES[status] ?? status;

  if (status === 'OFFLINE' && user?.LastSeen)
    text += `, last seen ${daysAgo(user.LastSeen) < 1 ? 'at ' : ''}` +
      shortTime(user.LastSeen);
  return user?.StatusText ? `${text} · ${user.StatusText}` : text;
}

function initialsOf(name) {
  const initials = name.match(/(?<![\p{L}\p{N}’'])[\p{L}\p{N}]/gu) ?? ['?'];

  return (initials[0] + (initials.length > 1 ? initials.at(-1) : ''))
    .toUpperCase();
}

export function paintAvatar(node, name, user_id, status) {
  setText(node, initialsOf(name));
  node.dataset.tint = user_id % TINT_COUNT;
  if (status === undefined)
    delete node.dataset.status;
  else
    node.dataset.status = status;
}

/** Makes the children of a node these, in this order, keeping those it has. */
function arrange(parent, nodes) {
  const wanted = new Set(nodes);

  for (const child of [...parent.children]) {
    if (!wanted.has(child))
      child.remove();
  }
  nodes.forEach((node, i) => {
    if (parent.children[i] !== node)
      parent.insertBefore(node, parent.children[i] ?? null);
  });
}

/** A node kept in a map under a key, made when first asked for. */
function keep(map, key, make_node) {
  let node = map.get(key);

  if (node === undefined) {
    node = make_node();
    map.set(key, node);
  }
  return node;
}

export class View {
  #model;
  #actions;
  #rows = new Map();
  #messages = new Map();
  #shownId = null;

  /** @param actions  {open(conversation), retry(conversation, message)} */
  constructor(model, actions) {
    this.#model = model;
    this.#actions = actions;
    setText(element('my-name'), model.me.Name);
    paintAvatar(element('my-avatar'), model.me.Name, model.me.UserId);
  }

  paint() {
    this.#paintList();
    this.#paintConversation();
    document.title = this.#model.unreadTotal > 0
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
    const others = this.#model.others(conversation);
    const user = others.length === 1
      ? this.#model.users.get(others[0]) : undefined;
    const title = this.#model.title(conversation);
    const last = this.#model.lastOf(conversation);
    const is_typing = conversation.typing.size > 0;

    this.#paintTheirAvatar(item.avatar, conversation);
    setText(item.name, title);
    setText(item.status, user && last ? `, ${presenceText(user)}` : '');
    setText(item.when, last ? shortTime(last.ServerTime) : '');
    setText(item.preview, is_typing ? 'typing…'
      : this.#previewText(last) || presenceText(user));
    item.preview.classList.toggle('typing', is_typing);
    item.badge.hidden = conversation.unread === 0;
    setText(item.badge, conversation.unread > 99 ? '99+'
      : String(conversation.unread));
    item.badge.ariaLabel = `${conversation.unread} unread`;
    item.button.setAttribute('aria-current',
      String(conversation.id === this.#model.openId));
  }

  #previewText(message) {
    if (!message)
      return '';
    const is_own = message.FromUser.UserId === this.#model.me.UserId;
    return (is_own ? 'You: ' : '') + (message.Message ?? 'Message deleted');
  }

  /* ---- conversation ---- */

  #paintConversation() {
    const conversation = this.#model.conversations.get(this.#model.openId);

    element('nobody').hidden = conversation !== undefined;
    element('somebody').hidden = conversation === undefined;
    if (conversation === undefined)
      return;
    this.#paintHeader(conversation);
    this.#paintMessages(conversation);
    setText(element('typing'), this.#typingText(conversation));
  }

  #paintHeader(conversation) {
    const others = this.#model.others(conversation);

    setText(element('title'), this.#model.title(conversation));
    setText(element('subtitle'), others.length === 1
      ? presenceText(this.#model.users.get(others[0]))
      : `${conversation.members.length} people`);
    this.#paintTheirAvatar(element('their-avatar'), conversation);
  }

  /* Of several: how many they are. */
  #paintTheirAvatar(node, conversation) {
    const others = this.#model.others(conversation);

    if (others.length === 1)
      paintAvatar(node, this.#model.title(conversation), others[0],
        this.#model.users.get(others[0])?.Status ?? 'OFFLINE');
    else
      paintAvatar(node, String(conversation.members.length),
        conversation.members[0] ?? 0);
  }

  #typingText(conversation) {
    const names = [...conversation.typing].map((id) => this.#model.nameOf(id));

    return names.length ? `${names.join(', ')} ${
      names.length > 1 ? 'are' : 'is'} typing…` : '';
  }

  #paintMessages(conversation) {
    const pane = element('messages');
    const has_moved = this.#shownId !== conversation.id;
    const was_at_end = has_moved ||
      pane.scrollHeight - pane.scrollTop - pane.clientHeight < BOTTOM_PX;
    const first_before = element('message-list').querySelector('.message');
    const top_before = first_before?.getBoundingClientRect().top;

    if (has_moved)
      this.#messages.clear();
    this.#shownId = conversation.id;
    arrange(element('message-list'), this.#messageNodes(conversation));
    if (was_at_end)
      pane.scrollTop = pane.scrollHeight;
    else if (first_before?.isConnected) /* older ones were put above it */
      pane.scrollTop += first_before.getBoundingClientRect().top - top_before;
  }

  #messageNodes(conversation) {
    const nodes = [];
    let previous = null;

    for (const message of [...conversation.messages, ...conversation.pending]) {
      const day = new Date(message.ServerTime).toDateString();
      const is_new_day = previous === null ||
        new Date(previous.ServerTime).toDateString() !== day;
      if (is_new_day) {
        const node = keep(this.#messages, `day ${day}`,
          () => make('li', 'day'));
        setText(node, dayName(message.ServerTime));
        nodes.push(node);
      }
      nodes.push(this.#messageNode(conversation, message, !is_new_day &&
        previous.FromUser.UserId === message.FromUser.UserId));
      previous = message;
    }
    return nodes;
  }

  #messageNode(conversation, message, follows) {
    const is_own = message.FromUser.UserId === this.#model.me.UserId;
    /* the node of a message stays when its sending is answered */
    const key = is_own && message.ClientMessageId
      ? `own ${message.ClientMessageId}` : `id ${message.MessageId}`;
    const node = keep(this.#messages, key,
      () => this.#makeMessage(conversation, message, is_own));
    const is_gone = typeof message.Message !== 'string';

    node.classList.toggle('follows', follows);
    if (node.author)
      node.author.hidden = follows;
    setText(node.text, is_gone ? 'Message deleted' : message.Message);
    node.text.classList.toggle('gone', is_gone);
    setText(node.time, TIME.format(message.ServerTime));
    if (is_own)
      this.#paintProgress(node, conversation, message);
    return node;
  }

  #makeMessage(conversation, message, is_own) {
    const node = make('li', is_own ? 'message own' : 'message');
    const meta = make('div', 'meta');

    if (is_own) {
      node.append(make('span', 'unseen', 'You:'));
    } else if (this.#model.others(conversation).length > 1) {
      node.author = make('div', 'author', message.FromUser.Name);
      node.append(node.author);
    } else {
      node.append(make('span', 'unseen', `${message.FromUser.Name}:`));
    }
    node.text = make('div', 'text');
    node.text.dir = 'auto';
    node.time = make('time', '');
    meta.append(node.time);
    node.append(node.text, meta);
    if (is_own) {
      node.tick = make('span', 'tick');
      node.tick.setAttribute('role', 'img');
      node.shape = document.createElementNS(SVG, 'path');
      const svg = document.createElementNS(SVG, 'svg');
      svg.setAttribute('viewBox', '0 0 16 12');
      svg.append(node.shape);
      node.tick.append(svg);
      meta.append(node.tick);
    }
    return node;
  }

  #paintProgress(node, conversation, message) {
    const progress = this.#model.progress(conversation, message);

    if (node.tick.dataset.progress === progress)
      return;
    node.tick.dataset.progress = progress;
    node.tick.ariaLabel = PROGRESS[progress].label;
    node.shape.setAttribute('d', PROGRESS[progress].path);
    node.classList.toggle('failed', progress === 'failed');
    node.failure?.remove();
    if (progress === 'failed') {
      const retry = make('button', '', 'Try again');
      retry.type = 'button';
      retry.addEventListener('click',
        () => this.#actions.retry(conversation, message));
      node.failure = make('div', 'failure', message.error);
      node.failure.append(retry);
      node.append(node.failure);
    }
  }

  /** Leaves no trace of the user on the page. */
  clear() {
    for (const id of ['list', 'message-list', 'announcer', 'title', 'subtitle',
      'typing', 'my-name', 'my-avatar', 'their-avatar'])
      element(id).replaceChildren();
    element('text').value = '';
  }

  scrollToEnd() {
    const pane = element('messages');

    pane.scrollTop = pane.scrollHeight;
  }

  /** For those who listen instead of look. */
  announce(text) {
    const announcer = element('announcer');

    announcer.append(make('p', '', text));
    while (announcer.children.length > 5)
      announcer.firstChild.remove();
  }
}
