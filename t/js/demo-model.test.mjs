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

test('what was said in a call is shown, and not taken for a note', () => {
  const said = { ConversationId: 'c6', CollaborationId: '6' };
  model.putMessage(message(12, BOB, { ...said, Members: undefined }));
  const call = model.conversations.get('c6');
  assert.equal(model.title(call), 'Said in a call');
  assert.equal(model.mayWrite(call), false);
  model.putConversation({ ...said, UnreadCount: 1, LastMessage: call.last });
  assert.equal(call.unread, 1);
  assert.ok(model.rows().includes(call));
});

test('a change that overtakes the message is not lost', () => {
  const pair = model.withUser(9);
  model.changeMessage('7-9', '10', { Message: undefined, Deleted: true });
  model.changeMessage('7-9', '11', { Message: 'old', EditTime: 5 });
  model.changeMessage('7-9', '11', { Message: 'new', EditTime: 6 });
  model.changeMessage('7-9', '12', { Message: 'newer', EditTime: 5 });
  model.putConversation({ ConversationId: '7-9', Members: [7, 9],
    LastMessage: message(12), UnreadCount: 0 });
  assert.equal(pair.last.Message, 'newer');
  model.putPage(pair, [message(10, ME, { Attachment: {} }), message(11),
    message(12, BOB, { Message: 'newest', EditTime: 7 })], false);
  assert.deepEqual(pair.messages.map((one) => one.Message),
    [undefined, 'new', 'newest']);
  assert.ok(model.isGone(pair.messages[0]));
  model.putMessage(message(10));
  model.changeMessage('7-9', '10', { Message: 'again', EditTime: 9 });
  assert.equal(pair.messages[0].Message, undefined, 'deleted is deleted');
});

test('a later copy of a known message counts, an earlier one does not', () => {
  const pair = model.withUser(9);
  model.putPage(pair, [message(10), message(11, BOB,
    { Message: 'edited', EditTime: 5 })], true);
  model.putPage(pair, [message(10, BOB, { Message: undefined, Deleted: true }),
    message(11)], false);
  assert.deepEqual(pair.messages.map((one) => one.Message),
    [undefined, 'edited']);
});

test('what was edited after one had left is not said to be deleted', () => {
  const pair = model.withUser(9);
  model.putPage(pair, [message(10, BOB, { Message: undefined, EditTime: 5 }),
    message(11, BOB, { Message: undefined, Deleted: true }), message(12)],
  false);
  assert.deepEqual(pair.messages.map((one) => model.textOf(one)),
    ['Edited after you left', 'Message deleted', pair.messages[2].Message]);
  model.changeMessage('7-9', '10', { Message: undefined, Deleted: true });
  assert.equal(model.textOf(pair.messages[0]), 'Message deleted');
});

test('changes are not kept without end', () => {
  const pair = model.withUser(9);
  for (let id = 1000; id < 2000; id++)
    model.changeMessage('7-9', String(id), { Deleted: true });
  model.putPage(pair, [message(1000), message(1999)], false);
  assert.deepEqual(pair.messages.map((one) => Boolean(one.Deleted)),
    [false, true]);
});

test('a page that was asked for before a reset is dropped', () => {
  const pair = model.withUser(9);
  const { era } = model;
  model.forgetHistory();
  model.putPage(pair, [message(10)], false, era);
  assert.deepEqual([shown(pair), pair.isLoaded], [[], false]);
  model.putPage(pair, [message(11)], false, model.era);
  assert.deepEqual(shown(pair), ['11']);
});

test('one writes to oneself', () => {
  const notes = model.putConversation({ ConversationId: '7-7', Members: [7],
    LastMessage: message(10, ME), UnreadCount: 0 });
  assert.equal(model.title(notes), 'Notes to yourself');
  assert.deepEqual(model.target(notes), { ToUserList: [7] });
  assert.equal(model.conversationOfTarget({ ToUserList: [7] }), notes);
  assert.deepEqual(notes.members, [7]);
});

test('what an earlier page wrote to several is shown when it is sent', () => {
  const sent = model.sentBefore({ ToUserList: [9, 11], Message: 'hi',
    ClientMessageId: 'c1', ClientInitiationTime: 3 });
  model.putMessage({ ...sent, MessageId: '10', ConversationId: 'm1' });
  const several = model.conversations.get('m1');
  assert.deepEqual([shown(several), several.members], [['10'], [7, 9, 11]]);
  assert.equal(several.last.Message, 'hi');
});

/* ---- groups ---- */

const GROUP = { ConversationId: 'g5', GroupId: '5', Name: 'Ward', Role: 'OWNER',
  MemberCount: 2 };

test('a group has its name, and its members when they are known', () => {
  const group = model.putConversation({ ...GROUP, UnreadCount: 0 });
  assert.equal(model.title(group), 'Ward');
  assert.deepEqual(model.target(group), { GroupId: '5' });
  model.putGroupMembers(group, [{ UserId: 7, Name: 'Ann', Role: 'OWNER' },
    { UserId: 11, Name: 'Eve', Role: 'MEMBER', ReadUpTo: '9' }]);
  assert.deepEqual(model.others(group), [11]);
  assert.equal(model.nameOf(11), 'Eve');
  assert.equal(model.progress(group, message(9, ME)), 'read');
  assert.ok(!model.rows().includes(model.conversations.get('7-11')),
    'a stranger in a group is no contact');
});

test('a group whose members are not all known has not read it', () => {
  const group = model.putGroup({ ...GROUP, MemberCount: 3 });
  model.putReceipt({ ConversationId: 'g5', UserId: 11, DeliveredUpTo: '9',
    ReadUpTo: '9' });
  model.putGroupEvent({ GroupId: '5', ConversationId: 'g5', MemberCount: 3,
    Event: 'UPDATED', UserId: 9, Added: [11], ServerTime: 1 });
  assert.equal(model.progress(group, message(9, ME)), 'sent');
});

test('who is added and removed is told, and oneself may write no more', () => {
  const group = model.putGroup(GROUP);
  const tell = (event) => model.putGroupEvent({ GroupId: '5', UserId: 9,
    ConversationId: 'g5', Name: 'Ward', ServerTime: 1, ...event });
  model.putGroupMembers(group, [{ UserId: 7 }, { UserId: 9 }]);
  tell({ Event: 'UPDATED', Added: [11] });
  assert.deepEqual(group.members, [7, 9, 11]);
  tell({ Event: 'UPDATED', Role: [{ UserId: 7, Role: 'ADMIN' }] });
  assert.equal(model.mayManage(group), true);
  tell({ Event: 'LEFT', UserId: 11 });
  tell({ Event: 'UPDATED', Removed: [7] });
  assert.deepEqual(group.members, [9]);
  assert.equal(model.mayWrite(group), false);
  assert.equal(group.notes.length, 4);
});

/* ---- calls ---- */

function call(id, outcome, fields = {}) {
  return { CollaborationId: String(id), Kind: 'VIDEO', FromUser: BOB,
    CreatedAt: id, EndedAt: id, Outcome: outcome,
    Participants: [{ UserId: 9 }, { UserId: 7, Outcome: outcome }], ...fields };
}

test('a call stands where it was made; one that was missed counts once', () => {
  const pair = model.putCall(call(20, 'MISSED'), true);
  model.putCall(call(20, 'MISSED'), true);
  model.putCall(call(21, 'ANSWERED'), true);
  model.putCall(call(22, 'MISSED', { FromUser: ME }), true);
  assert.equal(pair.id, '7-9');
  assert.equal(pair.missed, 1);
  assert.equal(model.unreadTotal, 1);
  assert.equal(model.lastCallOf(pair).CollaborationId, '22');
});

test('a past call that is read again is not missed anew', () => {
  assert.equal(model.putCall(call(20, 'MISSED')).missed, 0);
});

test('a call of several without a conversation stands with the caller', () => {
  const participants = [{ UserId: 9 }, { UserId: 7 }, { UserId: 11 }];
  const several = call(20, 'MISSED', { Participants: participants });
  assert.equal(model.putCall(several).id, '7-9');
  model.conversation('x', [7, 9, 11]);
  assert.equal(model.putCall(several).id, 'x');
});

test('the timeline is in order and begins where the history does', () => {
  const pair = model.withUser(9);
  model.putCall(call(5, 'ANSWERED'));
  model.putCall(call(15, 'ANSWERED'));
  model.putPage(pair, [message(20), message(10)], true);
  model.addPending(pair, 'next', 'c1', 12);
  const told = () => model.timeline(pair).map((item) =>
    item.call?.CollaborationId ?? item.message.Message);
  assert.deepEqual(told(), ['m10', '15', 'm20', 'next']);
  model.putPage(pair, [], false);
  assert.deepEqual(told(), ['5', 'm10', '15', 'm20', 'next']);
});

test('what was written before a reload is found by its target', () => {
  assert.equal(model.conversationOfTarget({ ToUserList: [9] }).id, '7-9');
  assert.equal(model.conversationOfTarget({ GroupId: '5' }).id, 'g5');
  assert.equal(model.conversationOfTarget({ ToUserList: [9, 11] }), undefined);
});

test('a reply knows what it answers, if that is loaded', () => {
  const pair = model.withUser(9);
  model.putMessage(message(10));
  const reply = message(11, ME, { ReplyTo: '10' });
  assert.equal(model.repliedTo(pair, reply).Message, 'm10');
  assert.equal(model.repliedTo(pair, message(12, ME, { ReplyTo: '1' })), null);
  assert.equal(model.repliedTo(pair, message(12)), undefined);
});

test('a message can be changed while it is young, one\'s own, and there', () => {
  const now = Date.now();
  const strict = new Model(ME, 1_000);
  const may = (age, from, fields) => strict.mayChange(
    message(1, from, { ServerTime: now - age, ...fields }));
  assert.equal(may(0, ME), true);
  assert.equal(may(2_000, ME), false);
  assert.equal(may(0, BOB), false);
  assert.equal(may(0, ME, { Message: undefined, Deleted: true }), false);
  assert.equal(model.mayChange(message(1, ME)), true);
});
