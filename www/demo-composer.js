/*
 * demo-composer.js - where one writes: a new message, a reply, an edit.
 *
 * Role: keeps a draft for each conversation, says what is being answered or
 *       changed, tells that one types. Escape gives up a reply or an edit; the
 *       arrow up in an empty field edits the last message of one's own. Under
 *       an edit lies the draft that it has interrupted.
 * See:  demo-chat.js, its user.
 */

import { element, setText } from './demo-dom.js';

const NOTHING = { kind: 'new' };
const EMPTY = { context: NOTHING, text: '' };

export class Composer {
  #hooks;
  #context = NOTHING;
  #conversationId = null;
  #drafts = new Map();
  #text = element('text');

  /**
   * @param on     adds a listener that ends with the chat: (target, type, fn)
   * @param hooks  send(text, reply_to), edit(message, text), typing(is_typing),
   *               lastOwn() for the message that the arrow up edits
   */
  constructor(on, hooks) {
    this.#hooks = hooks;
    on(element('composer'), 'submit', (event) => {
      event.preventDefault();
      this.#submit();
      this.#text.focus();
    });
    on(this.#text, 'keydown', (event) => this.#keyPressed(event));
    on(this.#text, 'input', () => {
      if (this.#context.kind !== 'edit')
        this.#hooks.typing(this.#text.value.trim() !== '');
    });
    on(element('composer-cancel'), 'click', () => {
      this.#give(this.#without(this.#draft));
      this.#text.focus();
    });
  }

  /** The conversation on the screen is another, or none. */
  open(conversation_id) {
    if (this.#conversationId !== null)
      this.#drafts.set(this.#conversationId, this.#draft);
    this.#conversationId = conversation_id;
    this.#give(this.#drafts.get(conversation_id) ?? EMPTY);
  }

  focus() { this.#text.focus(); }

  reply(message) {
    const { text } = this.#withoutEdit(this.#draft);

    this.#give({ context: { kind: 'reply', message }, text });
    this.#text.focus();
  }

  edit(message) {
    this.#give(this.#editOf(message, message.Message, this.#draft));
    this.#text.focus();
  }

  /** An edit that was not taken: it may be tried again. */
  editAgain(message, text) {
    const id = message.ConversationId;

    if (id === this.#conversationId)
      this.#give(this.#editOf(message, text, this.#draft));
    else
      this.#drafts.set(id,
        this.#editOf(message, text, this.#drafts.get(id) ?? EMPTY));
  }

  /** What one answers or changes is gone. */
  forget(message_id) {
    const left = (draft) => {
      const rest = draft.context.message?.MessageId === message_id
        ? this.#without(draft) : draft;
      return rest.context.under === undefined ? rest : { ...rest, context:
        { ...rest.context, under: left(rest.context.under) } };
    };

    for (const [id, draft] of this.#drafts)
      this.#drafts.set(id, left(draft));
    this.#give(left(this.#draft));
  }

  get #draft() { return { context: this.#context, text: this.#text.value }; }

  #editOf(message, text, draft) {
    return { context: { kind: 'edit', message,
      under: this.#withoutEdit(draft) }, text };
  }

  #withoutEdit(draft) { return draft.context.under ?? draft; }

  /* An edit is given up, a reply becomes a message. */
  #without({ context, text }) {
    return context.under ?? { context: NOTHING, text };
  }

  #give({ context, text }) {
    this.#context = context;
    if (this.#text.value !== text) /* else the caret would move */
      this.#text.value = text;
    element('composer-context').hidden = context.kind === 'new';
    setText(element('composer-context-text'),
      context.kind === 'edit' ? 'Editing a message'
        : context.kind === 'reply' ? `Reply to ${
          context.message.FromUser.Name}: ${context.message.Message}` : '');
  }

  #submit() {
    const { kind, message } = this.#context;
    const text = this.#text.value.trim();

    if (text === '')
      return;
    this.#give(this.#context.under ?? EMPTY);
    if (kind !== 'edit')
      this.#hooks.send(text, message?.MessageId);
    else if (text !== message.Message)
      this.#hooks.edit(message, text);
  }

  #keyPressed(event) {
    if (event.isComposing)
      return;
    if (event.key === 'Enter' && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === 'Escape' && this.#context.kind !== 'new') {
      event.preventDefault();
      this.#give(this.#without(this.#draft));
    } else if (event.key === 'ArrowUp' && this.#text.value === '') {
      const message = this.#hooks.lastOwn();
      if (message !== undefined) {
        event.preventDefault();
        this.edit(message);
      }
    }
  }
}
