/*
 * demo-groups.js - the dialog in which a group is made, changed and left.
 *
 * Role: a name and a list of people with a tick; what differs at the end is
 *       what the server is asked for.
 * See:  demo-chat.js, its user; doc/protocol.md, Groups.
 */

import { avatarOf, element, make, setText } from './demo-dom.js';

const ROLE_NAMES = { OWNER: 'Owner', ADMIN: 'Admin', MEMBER: 'Member' };

export class GroupDialog {
  #parley;
  #model;
  #hooks;
  #group = null; /* the conversation; null: a new one */

  /** @param hooks  made(conversation), changed(conversation) */
  constructor(parley, model, on, hooks) {
    this.#parley = parley;
    this.#model = model;
    this.#hooks = hooks;
    on(element('group-form'), 'submit', (event) => {
      event.preventDefault();
      this.#do(() => (this.#group === null ? this.#make() : this.#change()));
    });
    on(element('group-leave'), 'click',
      () => this.#do(() => this.#leave()));
    on(element('group-cancel'), 'click', () => element('group').close());
  }

  /** @param group  a conversation; undefined: make a new group */
  open(group = null) {
    const is_new = group === null;
    const may_change = is_new || this.#model.mayManage(group);

    this.#group = group;
    setText(element('group-title'), is_new ? 'New group' : 'Group');
    setText(element('group-error'), '');
    setText(element('group-save'), is_new ? 'Make the group' : 'Save');
    element('group-save').hidden = !may_change;
    element('group-leave').hidden = is_new || group.role === 'OWNER';
    element('group-name').value = is_new ? '' : group.name;
    element('group-name').readOnly = !may_change;
    element('group-people').replaceChildren(
      ...this.#people().map((id) => this.#makeRow(id, may_change)));
    element('group').showModal();
    element('group-name').focus();
  }

  /** The chat is over. */
  close() {
    element('group').close();
    element('group-name').value = '';
    element('group-people').replaceChildren();
  }

  #people() {
    const ids = new Set([...this.#group?.members ?? [],
      ...this.#model.contacts]);

    ids.delete(this.#model.me.UserId);
    return [...ids].sort((a, b) =>
      this.#model.nameOf(a).localeCompare(this.#model.nameOf(b)));
  }

  #makeRow(user_id, may_change) {
    const item = make('li', '');
    const line = make('label', '');
    const tick = make('input', '');
    const name = this.#model.nameOf(user_id);
    const role = this.#group?.roles.get(user_id);

    tick.type = 'checkbox';
    tick.value = user_id;
    tick.checked = this.#group?.members.includes(user_id) ?? false;
    tick.disabled = !may_change || role === 'OWNER';
    line.append(tick, avatarOf(name, user_id), make('span', 'grow', name));
    if (tick.checked)
      line.append(make('span', 'quiet', ROLE_NAMES[role] ?? ''));
    item.append(line);
    return item;
  }

  #ticked() {
    return [...element('group-people').querySelectorAll('input')]
      .filter(({ checked }) => checked).map(({ value }) => Number(value));
  }

  /* The dialog stays open while there is something to put right. */
  async #do(change) {
    element('group-save').disabled = true;
    setText(element('group-error'), '');
    try {
      await change();
      element('group').close();
    } catch (error) {
      setText(element('group-error'), error.message);
    }
    element('group-save').disabled = false;
  }

  async #make() {
    const name = element('group-name').value.trim();
    const reply = await this.#parley.createGroup(name, this.#ticked());
    const group = this.#model.putGroup({ GroupId: reply.GroupId,
      ConversationId: reply.ConversationId ?? `g${reply.GroupId}`, Name: name,
      Role: 'OWNER' });

    this.#hooks.made(group);
  }

  async #change() {
    const group = this.#group;
    const name = element('group-name').value.trim();
    const ticked = this.#ticked();
    const others = this.#model.others(group);
    const add = ticked.filter((id) => !others.includes(id));
    const remove = others.filter((id) => !ticked.includes(id));
    const changes = {
      ...name !== group.name && { name },
      ...add.length > 0 && { add },
      ...remove.length > 0 && { remove },
    };

    if (Object.keys(changes).length === 0)
      return;
    await this.#parley.updateGroup(group.groupId, changes);
    group.name = name;
    this.#hooks.changed(group);
  }

  async #leave() {
    await this.#parley.leaveGroup(this.#group.groupId);
    this.#group.role = 'NONE';
    this.#hooks.changed(this.#group);
  }
}
