/*
 * server.mjs - one parleyd on a folder of its own, and the violence done to it.
 *
 * Role: starts it, kills its processes one by one or all at once, starts it
 *       again on the same data, stops it, reads its log.
 */

import { createHmac } from 'node:crypto';
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const SECRET = 'secret-of-the-histories-0123456789abcdef';
const START_MS = 60_000;
const STOP_MS = 60_000;

/* Lines that no kill excuses. */
const BAD_LINES =
  /panic|Sanitizer|runtime error|corrupt|record-set-aside|record-refused|storage-state|position-refused|errored|backlog-failed/;

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = net.createServer();

    probe.on('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();

      probe.close(() => resolve(port));
    });
  });
}

function base64url(value) {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

export function makeToken(user) {
  const claims = {
    sub: String(user),
    name: `User ${user}`,
    exp: Math.floor(Date.now() / 1000) + 86400,
  };
  const text = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url(claims)}`;

  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

function program(build, name) {
  for (const folder of ['.', 'src']) {
    const file = path.join(build, folder, name);

    if (fs.existsSync(file)) return path.resolve(file);
  }
  throw new Error(`${name} is not built in ${build}`);
}

export class Server {
  #build;
  #child = null;
  #exited = Promise.resolve();
  #mayExit = false;
  #isDown = true;

  constructor(build, { window }) {
    const shm = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir();

    this.#build = build;
    this.window = window;
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'parley-history-'));
    this.runDir = fs.mkdtempSync(path.join(shm, 'parley-history-'));
    this.conf = path.join(this.dir, 'parleyd.conf');
    this.logFile = path.join(this.dir, 'parleyd.log');
    this.kills = {};
    this.killsSinceStart = new Map();
    this.failure = null;
  }

  async prepare() {
    this.port = await freePort();
    fs.mkdirSync(path.join(this.dir, 'data'), { mode: 0o700 });
    fs.writeFileSync(
      this.conf,
      `[server]\nlisten = 127.0.0.1:${this.port}\n` +
        `data_dir = ${this.dir}/data\nrun_dir = ${this.runDir}\n` +
        'user =\nworkers = 2\nauth_timeout = 60s\n' +
        `[auth]\njwt_hs256_secret = ${SECRET}\n` +
        '[store]\nmap_size = 4G\npresence_map_size = 256M\n' +
        `[policy]\npresence_grace = 200ms\ninbox_window = ${this.window}\n` +
        '[ops]\nlisten = 127.0.0.1:0\n' +
        `[log]\ntarget = ${this.logFile}\n`,
      { mode: 0o600 },
    );
  }

  ctl(...args) {
    const file = program(this.#build, 'parleyctl');

    return new Promise((resolve) => {
      execFile(file, ['-c', this.conf, ...args], { timeout: 60_000 },
        (error, stdout, stderr) => {
          resolve({ ok: error === null, stdout, stderr });
        });
    });
  }

  async status() {
    const { ok, stdout } = await this.ctl('status', '--json');

    if (!ok) return null;
    try {
      return JSON.parse(stdout);
    } catch {
      return null;
    }
  }

  async start() {
    const out = fs.openSync(path.join(this.dir, 'stderr'), 'a');
    const child = spawn(program(this.#build, 'parleyd'), ['-f', '-c', this.conf],
      { stdio: ['ignore', out, out], detached: true });
    const deadline = Date.now() + START_MS;

    fs.closeSync(out);
    this.#child = child;
    this.#mayExit = false;
    this.#exited = new Promise((resolve) => {
      child.on('exit', (code, signal) => {
        this.#isDown = true;
        if (!this.#mayExit)
          this.failure = `parleyd ended by itself: ${code ?? signal}`;
        resolve(code);
      });
    });
    for (;;) {
      const status = await this.status();

      if (status?.processes?.every((p) => p.state === 'running') &&
          status.processes.length > 3) break;
      if (this.failure !== null) throw new Error(this.failure);
      if (Date.now() > deadline) throw new Error('parleyd does not start');
      await sleep(20);
    }
    this.#isDown = false;
    this.killsSinceStart.clear();
  }

  /**
   * Users first .. first+count*9-1; those at the same place of each piece of
   * count, up to the fifth, are contacts of each other.
   */
  async addUsers(first, count) {
    const pairs = [];

    for (let i = 0; i < 4; i++) pairs.push([first + i * count, count]);
    pairs.push([first, 2 * count], [first + 2 * count, 2 * count]);
    pairs.push([first, 3 * count], [first, 4 * count]);
    await this.#must('user', 'add', '--range', `${first}-${first + 9 * count - 1}`);
    for (const [from, length] of pairs)
      await this.#must('contact', 'add', '--pairs', String(from), String(length));
  }

  async #must(...args) {
    const { ok, stderr } = await this.ctl(...args);

    if (!ok) throw new Error(`parleyctl ${args.join(' ')}: ${stderr}`);
  }

  #count(what) {
    this.kills[what] = (this.kills[what] ?? 0) + 1;
  }

  /** kill -9 one process by its name. */
  async killProcess(name) {
    const status = await this.status();
    const process_ = status?.processes?.find((p) => p.name === name);

    if (this.#isDown || !process_?.pid) return false;
    try {
      process.kill(process_.pid, 'SIGKILL');
    } catch {
      return false;
    }
    this.#count(name);
    this.killsSinceStart.set(name, (this.killsSinceStart.get(name) ?? 0) + 1);
    return true;
  }

  /** Everything dies and is started again on the same data. */
  async killAll({ onlySupervisor = false, wipeRun = false } = {}) {
    this.#mayExit = true;
    this.#count(onlySupervisor ? 'supervisor' : wipeRun ? 'all, presence gone' : 'all');
    process.kill(onlySupervisor ? this.#child.pid : -this.#child.pid, 'SIGKILL');
    await this.#exited;
    if (wipeRun) {
      /* Whoever outlives the supervisor dies with it; not the same instant. */
      await this.#groupGone();
      for (const file of fs.readdirSync(this.runDir))
        fs.rmSync(path.join(this.runDir, file), { recursive: true, force: true });
    }
    await this.start();
  }

  async #groupGone() {
    const deadline = Date.now() + STOP_MS;

    for (;;) {
      try {
        process.kill(-this.#child.pid, 0);
      } catch {
        return true;
      }
      if (Date.now() > deadline) return false;
      await sleep(5);
    }
  }

  /** In order. @return what was wrong with the end, or null */
  async stop() {
    this.#mayExit = true;
    this.#child.kill('SIGTERM');
    const code = await Promise.race([this.#exited, sleep(STOP_MS, 'late', { ref: false })]);

    if (code === 0 && (await this.#groupGone())) return this.failure;
    try {
      process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      /* nobody left */
    }
    return this.failure ?? `parleyd did not stop in order: ${code}`;
  }

  /** For the end of this program, whatever happened. */
  destroy() {
    this.#mayExit = true;
    try {
      if (this.#child !== null) process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      /* nobody left */
    }
  }

  remove() {
    fs.rmSync(this.dir, { recursive: true, force: true });
    fs.rmSync(this.runDir, { recursive: true, force: true });
  }

  /** Lines of its log that are wrong whatever was killed. */
  badLines() {
    let text = '';

    for (const name of ['parleyd.log', 'stderr']) {
      const file = path.join(this.dir, name);

      if (fs.existsSync(file)) text += fs.readFileSync(file, 'utf8');
    }
    return text.split('\n').filter((line) => BAD_LINES.test(line));
  }
}
