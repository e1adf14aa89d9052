/*
 * random.mjs - random schedules that can be run again.
 *
 * Role: PARLEY_JS_SEED repeats one that failed, PARLEY_JS_ROUNDS makes it
 *       longer. The seed stands in the message of what fails.
 */

import { Random } from '../../history/random.mjs';

export function makeRandom(seed) {
  return new Random(seed);
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
