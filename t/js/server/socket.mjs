/*
 * socket.mjs - the WebSocket of a browser, on the wire of the history checker.
 *
 * Role: for Node before 22, which has none; and a page that is gone: after
 *       `Page.leave()` its sockets are reset and no further one opens.
 */

import { Wire } from '../../history/wire.mjs';

export class Page {
  #wires = new Set();
  #isGone = false;

  get WebSocket() {
    const page = this;
    return class {
      onopen = null;
      onmessage = null;
      onclose = null;
      #wire;

      constructor(url) {
        if (page.#isGone)
          throw new Error('the page is gone');
        this.#wire = new Wire(Number(new URL(url).port), {
          open: () => this.onopen?.({}),
          message: (data) => page.#isGone || this.onmessage?.({ data }),
          end: ({ code }) => {
            page.#wires.delete(this.#wire);
            this.onclose?.({ code: code || 1006 });
          },
        });
        page.#wires.add(this.#wire);
      }

      send(text) { this.#wire.send(text); }
      close() { this.#wire.close(); }
    };
  }

  /** The tab is closed, or its network is: nobody says goodbye. */
  leave() {
    this.#isGone = true;
    this.drop();
  }

  drop() {
    for (const wire of this.#wires)
      wire.reset();
  }
}
