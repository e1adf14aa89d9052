/*
 * main.mjs - many schedules against one parleyd after the other, under kills.
 *
 * Usage: node main.mjs --build DIR [--schedules N] [--seed N] [--parallel N]
 *                      [--window N] [--calm] [--only NAME] [--failed DIR]
 *                      [--seconds N]
 *
 * Role: starts servers, keeps --parallel schedules going, kills processes
 *       meanwhile, has every history checked. A violation is printed with
 *       its seed, its steps and what was seen around it; the history and the
 *       server's log stay in the folder --failed. --calm kills nothing,
 *       --only nothing but the process of that name (more often).
 * Exit: 0 all histories are good; 1 violations; 2 usage.
 */

import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';

import { check } from './check.mjs';
import { describeStep, makePlan } from './plan.mjs';
import { Random } from './random.mjs';
import { Run } from './run.mjs';
import { Server } from './server.mjs';

const PER_SERVER = 250; /* schedules before a fresh store */
const WINDOWS = [256, 16]; /* of one server after the other */
const PLACES = 9; /* ids per schedule; five are used */
const FIRST_ID = 1000;
const KILLS_OF_ONE_MAX = 6; /* ten early deaths in a row are for good */
const SHOWN_MAX = 12;

function readOptions() {
  const { values } = parseArgs({
    options: {
      build: { type: 'string', default: '.' },
      schedules: { type: 'string', default: '1000' },
      seed: { type: 'string', default: '1' },
      parallel: { type: 'string', default: '24' },
      window: { type: 'string' },
      calm: { type: 'boolean', default: false },
      only: { type: 'string' },
      failed: { type: 'string', default: 'history-failed' },
      seconds: { type: 'string', default: '0' },
    },
  });

  return {
    ...values,
    schedules: Number(values.schedules),
    seed: Number(values.seed),
    parallel: Number(values.parallel),
    seconds: Number(values.seconds),
    windows: values.window ? [Number(values.window)] : WINDOWS,
  };
}

class Campaign {
  constructor(options) {
    this.options = options;
    this.failed = 0;
    this.done = 0;
    this.counts = {};
    this.started = Date.now();
  }

  isLate() {
    const { seconds } = this.options;

    return seconds > 0 && Date.now() - this.started > seconds * 1000;
  }

  async run() {
    const { schedules, windows } = this.options;
    const size = Math.min(PER_SERVER, Math.ceil(schedules / windows.length));

    for (let from = 0, n = 0; from < schedules && !this.isLate(); from += size, n++) {
      await this.#onOneServer(windows[n % windows.length], from,
        Math.min(size, schedules - from));
    }
    this.#summary();
    return this.failed === 0;
  }

  async #onOneServer(window, from, count) {
    const server = new Server(this.options.build, { window });
    const killing = { isOver: false };
    const failedBefore = this.failed;
    let wrong = null;

    process.once('exit', () => server.destroy());
    try {
      await server.prepare();
      await server.start();
      await server.addUsers(FIRST_ID, count);
      const killer = this.options.calm ? null
        : this.#kill(server, killing, new Random(this.options.seed + from))
          .catch((error) => {
            server.failure ??= error.message;
          });
      await this.#playAll(server, from, count);
      killing.isOver = true;
      await killer;
      wrong = await server.stop();
    } catch (error) {
      killing.isOver = true;
      wrong = error.stack;
    }
    server.destroy();
    for (const line of [wrong, ...server.badLines()]) {
      if (line === null) continue;
      this.failed++;
      console.log(`# the server: ${line}`);
    }
    for (const [what, times] of Object.entries(server.kills))
      this.#count(`killed: ${what}`, times);
    if (this.failed > failedBefore) this.#keepLog(server, from);
    server.remove();
  }

  #keepLog(server, from) {
    const folder = path.join(this.options.failed,
      `server-${this.options.seed + from}`);

    fs.mkdirSync(folder, { recursive: true });
    for (const name of ['parleyd.log', 'stderr', 'parleyd.conf'])
      fs.copyFileSync(path.join(server.dir, name), path.join(folder, name));
    console.log(`# the server's log: ${folder}`);
  }

  async #playAll(server, from, count) {
    let next = 0;
    const work = async () => {
      while (next < count && !this.isLate() && server.failure === null) {
        const index = next++;
        const plan = makePlan(this.options.seed + from + index);
        const ids = plan.users.map((place) => FIRST_ID + place * count + index);
        const run = new Run(plan, ids, server);

        this.#judge(plan, await run.play());
      }
    };

    await Promise.all(Array.from({ length: this.options.parallel }, work));
  }

  async #kill(server, killing, random) {
    const { only } = this.options;

    while (!killing.isOver && server.failure === null) {
      await sleep(random.between(200, only === undefined ? 1500 : 500));
      if (killing.isOver) return;
      const most = Math.max(0, ...server.killsSinceStart.values());
      const what = most >= KILLS_OF_ONE_MAX ? 'all' : only ?? random.weighted({
        'worker-0': 6, 'worker-1': 6, keeper: 7, directory: 2, all: 2,
        supervisor: 1, wipe: 1,
      });

      if (what === 'all') await server.killAll();
      else if (what === 'supervisor') await server.killAll({ onlySupervisor: true });
      else if (what === 'wipe') await server.killAll({ wipeRun: true });
      else await server.killProcess(what);
    }
  }

  #count(what, n = 1) {
    this.counts[what] = (this.counts[what] ?? 0) + n;
  }

  #judge(plan, history) {
    const violations = check(history);

    this.done++;
    for (const entry of history.entries) {
      this.#count(entry.k);
      if (entry.k === 'sent') this.#count(`sent: ${entry.reason}`);
      if (entry.k === 'loginReply' && entry.recovered === false)
        this.#count('login not recovered');
    }
    if (violations.length === 0) return;
    this.failed++;
    this.#show(plan, history, violations);
  }

  #show(plan, history, violations) {
    const folder = path.join(this.options.failed, `seed-${plan.seed}`);
    const { steps, devices, ...rest } = plan;

    fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(path.join(folder, 'history.json'), JSON.stringify(history));
    fs.writeFileSync(path.join(folder, 'plan.json'), JSON.stringify(plan, null, 1));
    console.log(`# seed ${plan.seed}: ${violations.length} violations, ` +
      `users ${history.users}, kept in ${folder}`);
    for (const { rule, text, at } of violations.slice(0, SHOWN_MAX))
      console.log(`#   ${rule}: ${text} (entry ${at})`);
    console.log(`#   schedule: ${JSON.stringify(rest)}`);
    devices.forEach((device, index) =>
      console.log(`#   device ${index}: ${JSON.stringify(device)}`));
    for (const step of steps) console.log(`#   ${describeStep(step)}`);
    this.#showAround(history, violations[0].at);
  }

  /* The last things that the connection concerned has seen. */
  #showAround(history, at) {
    const { c } = history.entries[at] ?? {};
    const around = history.entries
      .map((entry, index) => [index, entry])
      .filter(([index, entry]) => index <= at && (c === undefined || entry.c === c))
      .slice(-SHOWN_MAX);

    for (const [index, { text, ...entry }] of around)
      console.log(`#   ${index} ${JSON.stringify({ ...entry, text: text?.slice(0, 40) })}`);
  }

  #summary() {
    const seconds = ((Date.now() - this.started) / 1000).toFixed(1);
    const counts = Object.entries(this.counts).sort()
      .map(([what, times]) => `#   ${what}: ${times}`);

    console.log(`# ${this.done} schedules from seed ${this.options.seed}, ` +
      `${this.failed} failed, ${seconds} s`);
    console.log(counts.join('\n'));
  }
}

let options;
try {
  options = readOptions();
} catch (error) {
  console.error(error.message);
  process.exit(2);
}
for (const signal of ['SIGINT', 'SIGTERM'])
  process.on(signal, () => process.exit(130));
const campaign = new Campaign(options);
const isGood = await campaign.run();
process.exit(isGood ? 0 : 1);
