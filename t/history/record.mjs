/*
 * record.mjs - a small history from a run without kills, for check.test.mjs.
 *
 * Usage: node record.mjs BUILD SEED >recorded-a.json
 */

import { makePlan } from './plan.mjs';
import { Run } from './run.mjs';
import { Server } from './server.mjs';

const [build, seed] = process.argv.slice(2);
const server = new Server(build, { window: 16 });

try {
  await server.prepare();
  await server.start();
  const plan = makePlan(Number(seed));

  await server.addUsers(1, 1);
  const run = new Run(plan, plan.users.map((place) => place + 1), server);
  const { entries, ...rest } = await run.play();

  process.stdout.write(`${JSON.stringify(rest).slice(0, -1)},"entries":[\n` +
    `${entries.map((entry) => JSON.stringify(entry)).join(',\n')}\n]}\n`);
} finally {
  await server.stop();
  server.destroy();
  server.remove();
}
process.exit(0);
