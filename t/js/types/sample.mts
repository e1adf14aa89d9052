/*
 * sample.mts - how an application uses the types of www/; compiled, never run.
 *
 * Role: t/15-js.t has tsc check it. What must not compile stands behind
 *       @ts-expect-error, so that a type which is too loose fails as well.
 */

import { Parley, ParleyError, compareIds, newId } from '../../../www/parley.js';
import type { Message, Options, Unsent } from '../../../www/parley.js';
import { Calls } from '../../../www/parley-call.js';
import type { Call, EndReason } from '../../../www/parley-call.js';

const options: Options = {
  url: new URL('wss://localhost:3333/ws'),
  token: async () => 'jwt',
  outbox: localStorage,
};
const parley = new Parley(options);

parley.addEventListener('message', ({ detail }) => {
  const text: string = detail.Message ?? 'deleted';
  const id: string = detail.MessageId;
  /* @ts-expect-error an id is no number */
  const wrong: number = detail.MessageId;
  return [text, id, wrong];
});
parley.addEventListener('message-edited', ({ detail }) => detail.Message);
parley.addEventListener('message-deleted', ({ detail }) =>
  [detail.MessageId, detail.DeleteTime > 0]);
parley.addEventListener('group', ({ detail }) => detail.GroupId);
parley.addEventListener('presence', ({ detail }) => {
  /* @ts-expect-error there is no such status */
  return detail.Status === 'GONE';
});
parley.addEventListener('collaboration', ({ detail }) => {
  if (detail.Event === 'INVITED')
    parley.rejectCollaboration(detail.CollaborationId);
});
parley.addEventListener('collaboration-outcome', ({ detail }) =>
  detail.Outcome === 'MISSED');
parley.addEventListener('signal', ({ detail }) => detail.Signal);
parley.addEventListener('state', ({ detail }) =>
  detail.login?.Collaborations.map((call) => call.State));
parley.addEventListener('refused', ({ detail }) =>
  [detail.message.ClientMessageId, detail.error.reason]);
parley.addEventListener('something-later', (event) => event.type);

export async function chat(): Promise<number> {
  await parley.connect();
  try {
    const reply = await parley.send([2, 3], 'hello', { replyTo: '17',
      attachment: { Url: 'https://localhost/x.pdf', Size: 12 } });
    await parley.editMessage(reply.MessageId, 'hello!');
  } catch (error) {
    if (!(error instanceof ParleyError) || error.reason !== 'NOT_FOUND')
      throw error;
  }
  /* @ts-expect-error one target, not two */
  parley.typing({ GroupId: '1', CollaborationId: '2' });
  const all: Message[] = [];
  for await (const message of parley.messages({ userId: 2 }))
    all.push(message);
  all.sort((a, b) => compareIds(a.MessageId, b.MessageId));
  const { GroupId } = await parley.createGroup(newId(), [2]);
  for (const { UserId, Role } of await parley.getGroupMembers(GroupId))
    console.log(UserId, Role === 'OWNER');
  await parley.updateGroup(GroupId, { roles: [{ UserId: 2, Role: 'ADMIN' }] });
  const unsent: Unsent[] = parley.unsent;
  return unsent.length + all.length;
}

export const target: EventTarget = parley;
const calls = new Calls(parley);

calls.addEventListener('call', ({ detail }) => show(detail.call));

export function show(call: Call): void {
  call.addEventListener('track', ({ detail }) => {
    const video = document.createElement('video');
    video.srcObject = detail.stream;
  });
  call.addEventListener('ended', ({ detail }) => {
    const reason: EndReason = detail.reason;
    /* @ts-expect-error there is no such reason */
    return reason === 'BORED';
  });
  call.accept(new MediaStream());
  call.setEnabled('audio', false);
  /* @ts-expect-error calls are made by Calls */
  new Call();
}

export async function ring(stream: MediaStream): Promise<void> {
  const call = calls.start(2, { kind: 'VIDEO', stream });
  show(call);
  await call.ready;
  for (const [userId, report] of await call.stats())
    console.log(userId, report.size);
}
