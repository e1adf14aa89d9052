/*
 * random.mjs - random schedules that can be run again.
 *
 * Role: PARLEY_JS_SEED repeats one that failed, PARLEY_JS_ROUNDS makes it
 *       longer. The seed stands in the name of what fails.
 */

/** A generator of numbers below 1 (mulberry32), with helpers. */
export function makeRandom(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    below: (count) => Math.floor(next() * count),
    chance: (part) => next() < part,
    pick: (list) => list[Math.floor(next() * list.length)],
  };
}

/** Runs `round(random)` with so many seeds; an error tells which. */
export async function eachSeed(count, round) {
  const { PARLEY_JS_SEED: only, PARLEY_JS_ROUNDS: rounds } = process.env;
  const first = only === undefined ? Date.now() % 1e9 : Number(only);
  const total = only === undefined ? Number(rounds ?? count) : 1;

  for (let seed = first; seed < first + total; seed++) {
    try {
      await round(makeRandom(seed));
    } catch (error) {
      error.message = `PARLEY_JS_SEED=${seed}: ${error.message}`;
      throw error;
    }
  }
}
