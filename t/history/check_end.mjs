/*
 * check_end.mjs - the whole history and the state the server was left in.
 *
 * Role: pure; the second half of check.mjs: streams without holes and in
 *       order, every stored message with every recipient, history,
 *       receipts, unread counts, empty inboxes.
 */

import { compareIds } from './check.mjs';

function checkStream(checker, user) {
  const { stream } = user;
  const lastOf = new Map(); /* device -> order of its last send */
  let before = null;

  for (let seq = checker.base + 1; seq <= user.max; seq++) {
    const event = stream.get(seq);

    if (event === undefined) {
      if (!user.mayMiss) checker.bad('lost', `user ${user.id}: no event ${seq}`);
      continue;
    }
    if (before !== null && compareIds(event.id, before.id) <= 0)
      checker.bad('order', `user ${user.id}: ${event.id} at ${seq} after ${before.id}`);
    before = event;
    const { send } = event;
    if (send === undefined) continue;
    const last = lastOf.get(send.d);
    if (last !== undefined && send.order < last.order)
      checker.bad('order', `user ${user.id}: ${send.m} after ${last.m}`);
    lastOf.set(send.d, send);
  }
}

function checkSends(checker) {
  for (const send of checker.sends.values()) {
    if (!send.isStored) continue;
    for (const id of send.to) {
      const user = checker.users.get(id);

      if (!user.mayMiss && !user.byText.has(send))
        checker.bad('lost', `${send.m} was stored, user ${id} never got it`);
    }
    if (send.seq > 0 && checker.users.get(send.user).stream.get(send.seq)?.id !== send.id)
      checker.bad('differs', `${send.m} is not event ${send.seq} of its sender`);
  }
}

/* ClientMessageIds and MessageIds: one to one. */
function checkIds(checker) {
  const byId = new Map();

  for (const send of checker.sends.values()) {
    if (send.id === null) continue;
    if (byId.has(send.id))
      checker.bad('ids', `${send.id} is ${byId.get(send.id).m} and ${send.m}`);
    byId.set(send.id, send);
  }
}

/* A connection that was still up at the end owes no answer. */
function checkAnswers(checker) {
  for (const conn of checker.conns.values()) {
    if (!conn.isReady || conn.isOver || conn.device.current !== conn) continue;
    for (const [r, what] of conn.requests) {
      if (!conn.answered.has(r))
        checker.bad('answer', `connection ${conn.c}: ${what.command ?? what.send.m} ` +
          `(${r}) was never answered`);
    }
  }
}

function messagesOf(checker, user, conv) {
  const expected = new Map();
  const members = checker.convs.get(conv);

  for (const { stream } of checker.users.values()) {
    for (const event of stream.values()) {
      if (event.conv === conv && event.send !== undefined)
        expected.set(event.id, event.send);
    }
  }
  for (const send of checker.sends.values()) {
    if (send.isStored && members !== undefined &&
        send.members.join() === members.join()) expected.set(send.id, send);
  }
  return expected;
}

function checkHistory(checker, { user, conv, list }) {
  const expected = messagesOf(checker, user, conv);
  const found = new Set();
  let before = '0';

  for (const message of list) {
    const send = checker.texts.get(message.text);

    if (compareIds(message.id, before) <= 0)
      checker.bad('history', `${conv} of ${user}: ${message.id} after ${before}`);
    before = message.id;
    found.add(message.id);
    if (!send) {
      checker.bad(send === null ? 'refused' : 'unknown',
        `history of ${user} has ${message.text.slice(0, 60)}`);
      continue;
    }
    if (message.conv !== conv || message.from !== send.user ||
        send.members.join() !== checker.convs.get(conv)?.join() ||
        !send.members.includes(user))
      checker.bad('conversation', `${conv} of ${user} has ${send.m} to ${send.to}`);
    if (send.id !== null && send.id !== message.id)
      checker.bad('ids', `${send.m} is ${send.id}, in the history ${message.id}`);
    if (!expected.has(message.id) &&
        !send.to.some((id) => checker.users.get(id)?.mayMiss))
      checker.bad('history', `${conv} of ${user} has ${send.m}, nobody got it`);
  }
  for (const [id, send] of expected) {
    if (!found.has(id))
      checker.bad('history', `${conv} of ${user} lacks ${send.m} (${id})`);
  }
}

/* The newest message that a user must have acknowledged. */
function newestIn(checker, id, conv) {
  const { stream, forgottenUpTo } = checker.users.get(id);
  let newest = '0';

  for (const [seq, event] of stream) {
    if (event.conv === conv && seq > forgottenUpTo &&
        compareIds(event.id, newest) > 0) newest = event.id;
  }
  return newest;
}

function checkReceipts(checker, user, { conv, receipts, last }) {
  for (const receipt of receipts) {
    const { UserId: id, DeliveredUpTo: delivered, ReadUpTo: read } = receipt;
    const mark = checker.marks.get(`${conv}|${id}`) ?? { sure: '0', most: '0' };

    if (compareIds(read, mark.sure) < 0 || compareIds(read, mark.most) > 0)
      checker.bad('receipt', `${conv}: user ${id} has read up to ${mark.sure}, ` +
        `asked for ${mark.most}; seen by ${user}: ${read}`);
    if (checker.users.has(id) &&
        compareIds(delivered, newestIn(checker, id, conv)) < 0)
      checker.bad('receipt', `${conv}: user ${id} has acknowledged ` +
        `${newestIn(checker, id, conv)}; seen by ${user}: ${delivered}`);
    if (compareIds(delivered, last.id) > 0)
      checker.bad('receipt', `${conv}: delivered ${delivered}, the last is ${last.id}`);
  }
}

function checkConversations(checker, { user, list }, histories) {
  const seen = new Set();

  for (const item of list) {
    const messages = histories.get(`${user}|${item.conv}`) ?? [];
    const own = item.receipts.find((receipt) => receipt.UserId === user);
    const unread = messages.filter((message) => message.from !== user &&
      compareIds(message.id, own?.ReadUpTo ?? '0') > 0).length;

    if (seen.has(item.conv))
      checker.bad('conversation', `${item.conv} is twice in the list of ${user}`);
    seen.add(item.conv);
    if (item.members.join() !== checker.convs.get(item.conv)?.join())
      checker.bad('conversation', `${item.conv} of ${user}: ${item.members}`);
    if (item.unread !== unread)
      checker.bad('unread', `${item.conv} of ${user}: ${item.unread}, not ${unread}`);
    if (item.last.id !== messages.at(-1)?.id)
      checker.bad('history', `${item.conv} of ${user} ends with ${item.last.id}`);
    checkReceipts(checker, user, item);
  }
  for (const [conv, members] of checker.convs) {
    if (members.includes(user) && !seen.has(conv))
      checker.bad('conversation', `${conv} is not in the list of ${user}`);
  }
}

function checkTrimmed(checker, { user, first, last }) {
  const devices = [...checker.devices.values()].filter((device) =>
    device.user === user && device.maybeFrom !== null && !device.isGone);

  if (devices.every((device) => device.isSettled) && first !== last + 1)
    checker.bad('floor', `user ${user}: all have acknowledged ${last}, the ` +
      `inbox still begins at ${first}`);
}

export function checkEnd(checker) {
  const { entries } = checker.history;
  const histories = new Map();

  for (const user of checker.users.values()) checkStream(checker, user);
  checkSends(checker);
  checkIds(checker);
  checkAnswers(checker);
  for (const entry of entries) {
    if (entry.k !== 'messages') continue;
    histories.set(`${entry.user}|${entry.conv}`, entry.list);
    checkHistory(checker, entry);
  }
  for (const entry of entries) {
    if (entry.k === 'conversations') checkConversations(checker, entry, histories);
    if (entry.k === 'trimmed') checkTrimmed(checker, entry);
  }
}
