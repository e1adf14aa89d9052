/*
 * demo-model.test.mjs - what the demo page knows, whatever order it came in.
 *
 * Role: each message is shown once and in its place, unread counts and ticks
 *       follow the receipts.
 */

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { Model } from '../../www/demo-model.js';

const ME = { UserId: 7, Name: 'Ann' };
const BOB = { UserId: 9, Name: 'Bob' };
let model;

function message(id, from = BOB, fields = {}) {
  return { MessageId: String(id), ConversationId: '7-9', Members: [7, 9],
    FromUser: from, Message: `m${id}`, ServerTime: id, ...fields };
}

function shown(conversation) {
  return conversation.messages.map((one) => one.MessageId);
}

beforeEach(() => {
  model = new Model(ME);
  model.putUser(BOB);
});

test('events and pages are merged by id, each message once', () => {
  const pair = model.withUser(9);
  model.putMessage(message(100));
  model.putPage(pair, [message(100), message(99), message(9)], true);
  assert.equal(model.putMessage(message(100)), false);
  model.putMessage(message(101));
  model.putPage(pair, [message(8)], false);
  assert.deepEqual(shown(pair), ['8', '9', '99', '100', '101']);
  assert.equal(pair.hasMore, false);
  assert.equal(pair.last.MessageId, '101');
});

test('what others wrote is unread once, what oneself wrote never', () => {
  const pair = model.withUser(9);
  model.putMessage(message(10));
  model.putMessage(message(10));
  model.putMessage(message(11, ME));
  model.putMessage(message(5));
  assert.equal(pair.unread, 1);
  assert.equal(model.unreadTotal, 1);
});

test('the server\'s count holds, but not an old one over newer events', () => {
  const pair = model.withUser(9);
  const row = { ConversationId: '7-9', Members: [7, 9],
    LastMessage: message(10), UnreadCount: 4, Receipts: [] };
  model.putConversation(row);
  assert.equal(pair.unread, 4);
  model.putMessage(message(11));
  model.putConversation(row);
  assert.equal(pair.unread, 5);
  assert.equal(pair.last.MessageId, '11');
});

test('reading on another device clears the count', () => {
  const pair = model.withUser(9);
  model.putMessage(message(10));
  model.putReceipt({ ConversationId: '7-9', UserId: 7, ReadUpTo: '9' });
  assert.equal(pair.unread, 1);
  model.putReceipt({ ConversationId: '7-9', UserId: 7, ReadUpTo: '10' });
  assert.equal(pair.unread, 0);
});

test('an own message goes from sending to read, and never back', () => {
  const pair = model.withUser(9);
  const sent = model.addPending(pair, 'hi', 'c1', 10);
  const tick = () => model.progress(pair, pair.messages[0] ?? sent);
  assert.equal(tick(), 'sending');
  sent.error = 'no';
  assert.equal(tick(), 'failed');
  model.putMessage(message(10, ME, { ClientMessageId: 'c1' }));
  assert.equal(pair.pending.length, 0);
  assert.equal(tick(), 'sent');
  model.putReceipt({ ConversationId: '7-9', UserId: 9, DeliveredUpTo: '9' });
  assert.equal(tick(), 'sent');
  model.putReceipt({ ConversationId: '7-9', UserId: 9, DeliveredUpTo: '10' });
  assert.equal(tick(), 'delivered');
  model.putReceipt({ ConversationId: '7-9', UserId: 9, DeliveredUpTo: '10',
    ReadUpTo: '10' });
  model.putReceipt({ ConversationId: '7-9', UserId: 9, DeliveredUpTo: '4',
    ReadUpTo: '4' });
  assert.equal(tick(), 'read');
});

test('in a group the slowest member counts', () => {
  const group = model.conversation('m1', [7, 9, 11]);
  const own = message(10, ME, { ConversationId: 'm1', Members: [7, 9, 11] });
  model.putMessage(own);
  model.putReceipt({ ConversationId: 'm1', UserId: 9, ReadUpTo: '10',
    DeliveredUpTo: '10' });
  assert.equal(model.progress(group, own), 'sent');
  model.putReceipt({ ConversationId: 'm1', UserId: 11, DeliveredUpTo: '12' });
  assert.equal(model.progress(group, own), 'delivered');
});

test('the list holds everybody, the last spoken with first', () => {
  model.putUser({ UserId: 11, Name: 'Abe' });
  model.putUser({ UserId: 12, Name: 'Zoe' });
  model.putMessage(message(10, { UserId: 12, Name: 'Zoe' },
    { ConversationId: '7-12', Members: [7, 12] }));
  assert.deepEqual(model.rows().map((row) => model.title(row)),
    ['Zoe', 'Abe', 'Bob']);
  assert.deepEqual(model.target(model.rows()[0]), { ToUserList: [12] });
});

test('a group is written to by its id', () => {
  model.putMessage(message(10, BOB, { ConversationId: 'g5', Members: undefined,
    GroupId: '5' }));
  assert.deepEqual(model.target(model.conversations.get('g5')),
    { GroupId: '5' });
});

test('after a reset the history goes, what is unsent stays', () => {
  const pair = model.withUser(9);
  model.putPage(pair, [message(10)], false);
  model.addPending(pair, 'hi', 'c1', 11);
  model.forgetHistory();
  assert.deepEqual(shown(pair), []);
  assert.equal(model.unsentCount, 1);
  assert.equal(pair.isLoaded, false);
  assert.equal(pair.hasMore, true);
});

test('an edit reaches the message wherever it is shown', () => {
  const pair = model.withUser(9);
  model.putConversation({ ConversationId: '7-9', LastMessage: message(10) });
  model.putPage(pair, [message(9)], false);
  model.changeMessage('7-9', '10', { Message: 'better' });
  model.changeMessage('7-9', '9', { Message: null });
  model.changeMessage('no-such', '9', { Message: 'x' });
  assert.equal(pair.last.Message, 'better');
  assert.equal(pair.messages[0].Message, null);
});
