/*
 * random.mjs - chance from a seed, the same on every machine.
 *
 * Role: every choice of a schedule comes from here, so that its seed is
 *       enough to make the same schedule again.
 */

export class Random {
  #state;

  constructor(seed) {
    this.#state = (Math.imul(seed >>> 0, 0x9e3779b1) ^ 0x5bf03635) >>> 0;
    this.#next();
    this.#next();
  }

  /* mulberry32 */
  #next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let x = this.#state;

    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  }

  /** 0 .. below-1 */
  below(below) {
    return Math.floor((this.#next() / 0x100000000) * below);
  }

  /** from .. to, both included */
  between(from, to) {
    return from + this.below(to - from + 1);
  }

  chance(share) {
    return this.#next() / 0x100000000 < share;
  }

  pick(list) {
    return list[this.below(list.length)];
  }

  /** A key of {key: weight}. */
  weighted(weights) {
    const entries = Object.entries(weights);
    let left = this.below(entries.reduce((sum, [, weight]) => sum + weight, 0));

    for (const [key, weight] of entries) {
      left -= weight;
      if (left < 0) return key;
    }
    throw new Error('no weights');
  }

  /** Some of the list, at least one, in its order. */
  some(list, count) {
    const rest = [...list];

    while (rest.length > count) rest.splice(this.below(rest.length), 1);
    return rest;
  }
}
