/*
 * demo-dom.js - nodes, words and icons that the demo page's views share.
 *
 * Role: makes nodes and keeps them by key, so that focus, selection and scroll
 *       position survive each update. Text from people goes in as text nodes,
 *       never as markup.
 * See:  demo-view.js, demo-messages.js, demo-calls.js, demo-groups.js.
 */

const SVG = 'http://www.w3.org/2000/svg';
const TINT_COUNT = 6;

/* In a box of 24 by 24. */
const ICONS = {
  answer: 'M6 3l4 5-2 2a12 12 0 0 0 6 6l2-2 5 4-2 3C11 21 3 13 3 5z',
  camera: 'M3 6h12v12H3zM15 10l6-4v12l-6-4',
  cameraOff: 'M3 6h9m3 3v9H3V6M15 10l6-4v12l-5-3M2 2l20 20',
  delete: 'M4 7h16M9 7V4h6v3M6 7l1 14h10l1-14M10 11v6M14 11v6',
  edit: 'M4 20h4L20 8l-4-4L4 16zM13 7l4 4',
  group: 'M9 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM2 21c0-5 3-7 7-7s7 2 7 7' +
    'M16 3a4 4 0 0 1 0 8M18 14c3 .6 4 3 4 7',
  hangUp: 'M3 14c5-6 13-6 18 0l-3 3-4-2v-3a9 9 0 0 0-4 0v3l-4 2z',
  mic: 'M12 3a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3z' +
    'M5 11a7 7 0 0 0 14 0M12 18v3',
  micOff: 'M9 9V6a3 3 0 0 1 6 0v5M5 11a7 7 0 0 0 11 5M12 18v3M2 2l20 20',
  phone: 'M6 3l4 5-2 2a12 12 0 0 0 6 6l2-2 5 4-2 3C11 21 3 13 3 5z',
  plus: 'M12 5v14M5 12h14',
  reply: 'M10 6L4 12l6 6M4 12h10c4 0 6 2 6 6',
  screen: 'M3 4h18v12H3zM8 21h8M12 16v5M12 13V7M9 10l3-3 3 3',
};

const TIME = new Intl.DateTimeFormat(undefined,
  { hour: '2-digit', minute: '2-digit' });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: 'short' });
const DAY = new Intl.DateTimeFormat(undefined,
  { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const SHORT_DAY = new Intl.DateTimeFormat(undefined,
  { day: 'numeric', month: 'numeric', year: '2-digit' });
const RELATIVE = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });

/* ---- nodes ---- */

export function element(id) {
  return document.getElementById(id);
}

export function make(tag, class_name, text = '') {
  const node = document.createElement(tag);

  node.className = class_name;
  node.textContent = text;
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text)
    node.textContent = text;
}

/** A drawing, as a child of a node that says what it means. */
export function drawing(path, box = '0 0 24 24') {
  const svg = document.createElementNS(SVG, 'svg');
  const shape = document.createElementNS(SVG, 'path');

  svg.setAttribute('viewBox', box);
  svg.setAttribute('aria-hidden', 'true');
  svg.classList.add('icon');
  shape.setAttribute('d', path);
  svg.append(shape);
  return svg;
}

/** Makes a button of a drawing; its words are for those who listen, and for a
 *  pointer that rests on it. */
export function label(button, icon, words) {
  if (button.dataset.icon !== icon) {
    button.dataset.icon = icon;
    button.querySelector('svg')?.remove();
    button.prepend(drawing(ICONS[icon]));
  }
  if (button.title !== words) {
    button.title = words;
    button.ariaLabel = words;
  }
}

export function iconButton(icon, words, on_click, class_name = '') {
  const button = make('button', `round ${class_name}`);

  button.type = 'button';
  label(button, icon, words);
  button.addEventListener('click', on_click);
  return button;
}

export function textButton(text, on_click, class_name = '') {
  const button = make('button', class_name, text);

  button.type = 'button';
  button.addEventListener('click', on_click);
  return button;
}

/** Makes the children of a node these, in this order, keeping those it has. */
export function arrange(parent, nodes) {
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
export function keep(map, key, make_node) {
  let node = map.get(key);

  if (node === undefined) {
    node = make_node();
    map.set(key, node);
  }
  return node;
}

/** For those who listen instead of look.
 *  @param id  of the message, for unannounce() */
export function announce(text, id) {
  const announcer = element('announcer');
  const line = make('p', '', text);

  line.dataset.of = id;
  announcer.append(line);
  while (announcer.children.length > 5)
    announcer.firstChild.remove();
}

/** A message is taken back: no trace of it stays. */
export function unannounce(id) {
  for (const line of [...element('announcer').children]) {
    if (line.dataset.of === id)
      line.remove();
  }
}

let toast_timer = 0;

/** What went wrong, for everybody to see; it goes away by itself. */
export function toast(text) {
  const node = element('toast');

  node.textContent = text;
  clearTimeout(toast_timer);
  toast_timer = setTimeout(() => { node.textContent = ''; }, 8_000);
}

/* ---- people ---- */

function initialsOf(name) {
  const initials = name.match(/(?<![\p{L}\p{N}’'])[\p{L}\p{N}]/gu) ?? ['?'];

  return (initials[0] + (initials.length > 1 ? initials.at(-1) : ''))
    .toUpperCase();
}

export function paintAvatar(node, name, user_id, user) {
  setText(node, initialsOf(name));
  node.dataset.tint = user_id % TINT_COUNT;
  if (user === undefined)
    delete node.dataset.status;
  else
    node.dataset.status = user.InCollaboration ? 'CALL'
      : user.Status ?? 'OFFLINE';
}

export function avatarOf(name, user_id) {
  const node = make('span', 'avatar');

  node.ariaHidden = 'true';
  paintAvatar(node, name, user_id);
  return node;
}

/* ---- time ---- */

export function clockTime(time) { return TIME.format(time); }

export function daysAgo(time) {
  const midnight = (t) => new Date(t).setHours(0, 0, 0, 0);

  return Math.round((midnight(Date.now()) - midnight(time)) / 86_400_000);
}

export function dayName(time) {
  const days = daysAgo(time);

  if (days > 1)
    return DAY.format(time);
  const name = RELATIVE.format(-days, 'day');
  return name[0].toUpperCase() + name.slice(1);
}

export function shortTime(time) {
  const days = daysAgo(time);

  if (days < 1)
    return TIME.format(time);
  return (days < 7 ? WEEKDAY : SHORT_DAY).format(time);
}

/** 0:07, 12:30 or 1:02:03. */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (number) => String(number).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600),
    Math.floor(seconds / 60) % 60, seconds % 60];

  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
