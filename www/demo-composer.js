/*
 * demo-composer.js - where one writes: a new message, a reply, an edit.
 *
 * Role: keeps a draft for each conversation, says what is being answered or
 *       changed, tells that one types. Escape gives up a reply or an edit; the
 *       arrow up in an empty field edits the last message of one's own.
 * See:  demo-chat.js, its user.
 */

import { element, setText } from './demo-dom.js';

const NOTHING = { kind: 'new' };

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
      this.#give(NOTHING, '');
      this.#text.focus();
    });
  }

  /** The conversation on the screen is another, or none. */
  open(conversation_id) {
    if (this.#conversationId !== null)
      this.#drafts.set(this.#conversationId, { context: this.#context,
        text: this.#text.value });
    this.#conversationId = conversation_id;
    const draft = this.#drafts.get(conversation_id);
    this.#give(draft?.context ?? NOTHING, draft?.text ?? '');
  }

  focus() { this.#text.focus(); }

  reply(message) {
    this.#give({ kind: 'reply', message },
      this.#context.kind === 'edit' ? '' : this.#text.value);
    this.#text.focus();
  }

  edit(message) {
    this.#give({ kind: 'edit', message }, message.Message);
    this.#text.focus();
  }

  /** What one answers or changes is gone. */
  forget(message_id) {
    if (this.#context.message?.MessageId === message_id)
      this.#give(NOTHING, this.#context.kind === 'edit' ? ''
        : this.#text.value);
  }

  #give(context, text) {
    this.#context = context;
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
    this.#give(NOTHING, '');
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
      this.#give(NOTHING, '');
    } else if (event.key === 'ArrowUp' && this.#text.value === '') {
      const message = this.#hooks.lastOwn();
      if (message !== undefined) {
        event.preventDefault();
        this.edit(message);
      }
    }
  }
}
