/*
 * parley-queue.js - what waits for its answer: requests, and the outbox.
 *
 * Role: in what order, how many at a time, and what is tried again. A lane is
 *       what keeps its order by itself: the messages to one target, the
 *       changes of one message, group or call. Where the server cannot answer
 *       at the moment, the lane waits and the others go on; then one is tried,
 *       and after it succeeded all that follow.
 * See:  parley-session.js, their user; t/js/outbox.test.mjs.
 */

import { ParleyError, parseJson } from './parley-util.js';

const REQUEST_TRIES = 6;

export class Queue {
  #items = [];
  #lanes = new Map(); /* those with something sent or tried: see #laneOf */
  #sentCount = 0;
  #sentMax;
  #laneMax;
  #triesMax;

  constructor({ sentMax = Infinity, laneMax = 1, triesMax = REQUEST_TRIES }) {
    this.#sentMax = sentMax;
    this.#laneMax = laneMax;
    this.#triesMax = triesMax;
  }

  get length() { return this.#items.length; }

  get items() { return this.#items; }

  /** @param item  {command, fields, lane, isKept, resolve, reject}; isKept:
   *               it outlives the connection */
  add(item) { this.#items.push(item); }

  /** To the front, in this order; nothing has been sent yet. */
  prepend(items) { this.#items.unshift(...items); }

  /** The next to be sent; null: nothing may go out now. */
  takeNext() {
    if (this.#sentCount >= this.#sentMax)
      return null;
    const item = this.#items.find((next) => !next.isSent &&
      this.#hasRoom(this.#lanes.get(next.lane)));
    if (item === undefined)
      return null;
    item.isSent = true;
    this.#laneOf(item).sentCount++;
    this.#sentCount++;
    return item;
  }

  #hasRoom(lane) {
    return lane === undefined || (!lane.isHeld &&
      lane.sentCount < (lane.tries > 0 ? 1 : this.#laneMax));
  }

  #laneOf({ lane }) {
    if (!this.#lanes.has(lane))
      this.#lanes.set(lane, { sentCount: 0, tries: 0, isHeld: false });
    return this.#lanes.get(lane);
  }

  /** One that was taken has got its answer. @return 0 */
  remove(item) {
    const lane = this.#putBack(item);

    this.#items.splice(this.#items.indexOf(item), 1);
    lane.tries = 0;
    if (lane.sentCount === 0 && !lane.isHeld)
      this.#lanes.delete(item.lane);
    return 0;
  }

  #putBack(item) {
    const lane = this.#laneOf(item);

    item.isSent = false;
    lane.sentCount--;
    this.#sentCount--;
    return lane;
  }

  /**
   * One that was taken cannot be answered at the moment: its lane waits until
   * release().
   *
   * @return how often that was so in a row; 0: it has been tried enough, and
   *         is removed
   */
  hold(item) {
    const lane = this.#laneOf(item);

    if (!lane.isHeld)
      lane.tries++;
    if (lane.tries >= this.#triesMax)
      return this.remove(item);
    lane.isHeld = true;
    this.#putBack(item);
    return lane.tries;
  }

  release(name) {
    const lane = this.#lanes.get(name);

    if (lane !== undefined)
      lane.isHeld = false;
  }

  /** The connection is lost: what is kept will be taken again, in order. */
  rewind(error) {
    const lost = this.#items.filter((item) => !item.isKept);

    this.#items = this.#items.filter((item) => item.isKept);
    for (const item of this.#items)
      item.isSent = false;
    this.#lanes.clear();
    this.#sentCount = 0;
    for (const item of lost)
      item.reject(error);
  }

  /** There will be no connection. */
  rejectAll(error) {
    for (const item of this.#items)
      item.isKept = false;
    this.rewind(error);
  }
}

/**
 * Messages not yet known to be safe, oldest first; with a storage they outlive
 * the page. Under `name` is the list of their ids, under `name:id` each: the
 * list is written first and the message deleted first, so that no crash leaves
 * a message behind that nothing leads to.
 */
export class Outbox extends Queue {
  #storage;
  #name = null; /* of whose messages the storage holds; null: not known yet */
  #erased = Promise.resolve();
  #visit = 0; /* grows whenever that changes */
  #max;
  #onTrouble;

  /** @param on_trouble  told when the storage fails; memory has to do */
  constructor(storage, max, on_trouble) {
    super({ sentMax: 64, laneMax: Infinity, triesMax: Infinity });
    this.#storage = storage;
    this.#max = max;
    this.#onTrouble = on_trouble;
  }

  add(item) {
    if (this.length >= this.#max)
      throw new ParleyError('OUTBOX_FULL', 'too many messages wait already');
    super.add(item);
    this.#saveList();
    this.#save(item);
  }

  remove(item) {
    super.remove(item);
    this.#forget(item);
    this.#saveList();
    return 0;
  }

  /** Nothing is written under the old name any more. */
  leave() {
    this.#name = null;
    this.#visit++;
  }

  /**
   * What an earlier page of the same device and user could not send comes
   * first; what was written here since then is stored from now on.
   *
   * @param make  makes an item of the fields of one
   */
  async restore(name, make) {
    if (this.#storage === undefined || this.#name === name)
      return;
    const visit = ++this.#visit;
    const found = [];
    try {
      await this.#erased;
      for (const id of await this.#stored(name)) {
        const fields = parseJson(await this.#storage.getItem(`${name}:${id}`));
        if (fields?.ClientMessageId === id)
          found.push(fields);
      }
    } catch (error) {
      this.#onTrouble(error); /* what is there is left alone */
      return;
    }
    if (visit !== this.#visit)
      return; /* left meanwhile: these are not to be sent by who is next */
    /* from here on at once: a message may be written at any time */
    const ids = new Set(this.items.map(({ fields }) => fields.ClientMessageId));
    this.prepend(found.filter(({ ClientMessageId: id }) => !ids.has(id))
      .map(make));
    this.#name = name;
    this.#saveList();
    for (const item of this.items)
      this.#save(item);
  }

  /** Deletes what is stored under a name, which was left; null: nothing is. */
  erase(name) {
    if (this.#storage !== undefined && name !== null)
      this.#erased = this.#erase(name);
    return this.#erased;
  }

  async #erase(name) {
    try {
      for (const id of await this.#stored(name))
        await this.#storage.removeItem(`${name}:${id}`);
      await this.#storage.removeItem(name);
    } catch (error) {
      this.#onTrouble(error);
    }
  }

  async #stored(name) {
    return parseJson(await this.#storage.getItem(name)) ?? [];
  }

  #saveList() {
    if (this.length === 0)
      this.#write('removeItem', '');
    else
      this.#write('setItem', '',
        this.items.map(({ fields }) => fields.ClientMessageId));
  }

  #save({ fields }) {
    this.#write('setItem', `:${fields.ClientMessageId}`, fields);
  }

  #forget({ fields }) {
    this.#write('removeItem', `:${fields.ClientMessageId}`);
  }

  /* At once where the storage allows: the page may be gone in a moment. */
  #write(method, key, value) {
    if (this.#name === null || this.#storage === undefined)
      return;
    try {
      Promise.resolve(this.#storage[method](this.#name + key,
        value && JSON.stringify(value))).catch(this.#onTrouble);
    } catch (error) {
      this.#onTrouble(error);
    }
  }
}
