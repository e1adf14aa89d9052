/*
 * plan.mjs - a schedule: who is there and what each does when.
 *
 * Role: pure; the same seed makes the same schedule. How the server and its
 *       deaths fall in between is up to the run.
 */

import { Random } from './random.mjs';

const KINDS = ['mixed', 'mixed', 'mixed', 'rush', 'flood', 'churn'];

const OPS = {
  mixed: { send: 40, many: 8, mark: 8, ack: 8, cut: 14, replace: 5, forget: 2,
    device: 2, refused: 4, conflict: 4, beyond: 2 },
  rush: { send: 30, many: 30, mark: 4, ack: 4, cut: 14, replace: 6, forget: 1,
    device: 1, refused: 2, conflict: 4, beyond: 1 },
  flood: { send: 10, flood: 30, mark: 2, ack: 8, cut: 6, replace: 2, forget: 1,
    device: 1, refused: 1, conflict: 1, beyond: 1 },
  churn: { send: 40, many: 4, mark: 4, ack: 4, cut: 40, replace: 20, forget: 6,
    device: 3, refused: 2, conflict: 4, beyond: 2 },
};

const CUTS = { close: 3, drop: 4, reset: 4, part: 3, logout: 2 };
const POSITIONS = { exact: 12, older: 3, none: 3, above: 1 };
const EPOCHS = { right: 10, none: 4, wrong: 1 };
const DEVICES_MAX = 6; /* of a user, over the whole schedule */

function position(random) {
  return {
    position: random.weighted(POSITIONS),
    back: random.between(1, 30),
    epoch: random.weighted(EPOCHS),
    delay: random.chance(0.5) ? random.below(20) : random.below(300),
  };
}

function ackMode(random) {
  const mode = random.weighted({ each: 4, every: 3, late: 3, hold: 2 });

  return { mode, every: random.between(2, 20), late: random.between(5, 200) };
}

function textSize(random) {
  const kind = random.weighted({ small: 30, middle: 4, large: 1 });

  if (kind === 'small') return random.below(200);
  return kind === 'middle' ? random.between(1000, 8000) : random.between(20000, 60000);
}

function recipients(random, plan, user) {
  const others = plan.users.map((_, index) => index).filter((i) => i !== user);

  return random.some(others, random.chance(0.7) ? 1 : random.between(1, others.length));
}

function makeDevice(random, plan, user) {
  plan.devices.push({
    user,
    window: random.pick([1, 2, 4, 8, 16, 32, 63, 64]),
    ack: ackMode(random),
  });
}

const MAKERS = {
  send: (random, plan, device) => ({
    count: random.between(1, 4),
    to: recipients(random, plan, device.user),
    size: textSize(random),
  }),
  many: (random, plan, device) => ({
    op: 'send',
    count: random.between(5, 70),
    to: recipients(random, plan, device.user),
    size: random.below(100),
  }),
  flood: (random, plan, device) => ({
    op: 'send',
    count: random.between(100, 300),
    to: recipients(random, plan, device.user),
    size: random.below(40),
  }),
  mark: (random) => ({ back: random.below(10) }),
  ack: (random) => ackMode(random),
  cut: (random) => ({
    how: random.weighted(CUTS),
    share: random.below(100) / 100,
    ...position(random),
  }),
  replace: (random) => ({
    ...position(random),
    before: random.below(10), /* sent on the old one while the login waits */
    after: random.chance(0.4) ? random.between(1, 3) : 0,
  }),
  forget: (random) => ({ isSameName: random.chance(0.5), delay: random.below(100) }),
  device: (random) => ({ window: random.between(1, 63), ack: ackMode(random) }),
  refused: (random) => ({ why: random.pick(['stranger', 'empty', 'mixed']) }),
  conflict: (random) => ({ back: random.below(60) }),
  beyond: () => ({}),
};

/**
 * @return {seed, kind, users, devices: [{user, window, ack}],
 *          steps: [{at, device, op, ...}], length}; times in ms
 */
export function makePlan(seed) {
  const random = new Random(seed);
  const kind = random.pick(KINDS);
  const plan = {
    seed,
    kind,
    users: Array.from({ length: random.between(2, 5) }, (_, i) => i),
    devices: [],
    steps: [],
    length: random.between(800, 2500),
  };
  const made = plan.users.map(() => 0);
  let steps = kind === 'flood' ? random.between(8, 16) : random.between(15, 60);

  for (const user of plan.users) {
    for (let i = random.between(1, 3); i > 0; i--, made[user]++)
      makeDevice(random, plan, user);
  }
  plan.devices.forEach((_, device) => {
    const isLate = random.chance(0.2);

    plan.steps.push({
      at: random.below(isLate ? plan.length : 60), device, op: 'login',
    });
  });
  for (; steps > 0; steps--) {
    const device = random.below(plan.devices.length);
    const op = random.weighted(OPS[kind]);
    const { user } = plan.devices[device];
    const step = { at: random.below(plan.length), device, op };

    if (op === 'device' && ++made[user] > DEVICES_MAX) continue;
    plan.steps.push({ ...step, ...MAKERS[op](random, plan, plan.devices[device]) });
  }
  plan.steps.sort((a, b) => a.at - b.at);
  plan.end = plan.devices.map(() => ({
    isKept: random.chance(0.5),
    how: random.weighted({ close: 1, drop: 1, reset: 1 }),
  }));
  plan.pages = { limit: random.between(1, 200), isForward: random.chance(0.5) };
  return plan;
}

/** One step on one line, for people. */
export function describeStep({ at, device, op, ...rest }) {
  return `${String(at).padStart(5)} ms  device ${device}  ${op} ${JSON.stringify(rest)}`;
}
