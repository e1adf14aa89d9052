/*
 * stage.mjs - a browser on the server of a story, and people at its pages.
 *
 * Role:  starts Debian's Chromium with a camera and a microphone that are
 *        none, opens the demo page for users, and waits for what they should
 *        see; deadlines, never sleeps. Whatever a page complains about that is
 *        not a lost connection is a failure of the story.
 * Needs: the environment that t/lib/Parley/Browser.pm sets.
 * Usage: const stage = await Stage.open(); const ann = await stage.enter('1');
 */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';

const { BROWSER_URL, BROWSER_CTL, BROWSER_CONF, BROWSER_PROGRAM,
  BROWSER_MODULES, BROWSER_FAILED, BROWSER_SLOW } = process.env;
const DEADLINE_MS = 20_000 * Number(BROWSER_SLOW || 1);

/* What Chromium says when a server goes away is what the story wanted. */
const EXPECTED_COMPLAINTS =
  /WebSocket connection to|WebSocket is already in|ERR_CONNECTION_/;

const { chromium } =
  createRequire(path.join(BROWSER_MODULES, 'x.js'))('playwright-core');
const run = promisify(execFile);

const FLAGS = [
  '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
  '--auto-select-desktop-capture-source=Entire screen',
  '--allow-loopback-in-peer-connection', '--disable-gpu',
  '--disable-features=WebRtcHideLocalIpsWithMdns',
  ...process.getuid() === 0 ? ['--no-sandbox'] : [],
];

/** The first true value of look(), asked again until the deadline. */
export async function until(look, claim) {
  const end = Date.now() + DEADLINE_MS;

  for (;;) {
    const value = await look();
    if (value)
      return value;
    if (Date.now() > end)
      throw new Error(`not in time: ${claim}`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

/* Before the page's own scripts: what its peer connections do can be asked,
   and whether a camera, a microphone or the screen is still on. */
function watchPeers() {
  const { mediaDevices } = navigator;

  globalThis.captured = [];
  for (const name of mediaDevices ? ['getUserMedia', 'getDisplayMedia'] : []) {
    const get = mediaDevices[name].bind(mediaDevices);
    mediaDevices[name] = async (...parameters) => {
      const stream = await get(...parameters);
      globalThis.captured.push(...stream.getTracks());
      return stream;
    };
  }
  globalThis.peerConnections = [];
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...parameters) {
      super(...parameters);
      globalThis.peerConnections.push(this);
    }
  };
}

/* For a failure: how far each connection has come. */
async function describePeers() {
  const lines = [];

  for (const peer of globalThis.peerConnections) {
    const kinds = [...(await peer.getStats()).values()]
      .filter(({ type }) => /candidate/.test(type))
      .map((report) => [report.type, report.candidateType, report.protocol,
        report.address, report.state].filter(Boolean).join(' '));

    lines.push(`${peer.connectionState} ${peer.signalingState} ${
      peer.iceConnectionState} ${peer.iceGatheringState}: ${
      kinds.join(', ')}`);
  }
  return lines;
}

/** One tab: a device of one user. */
export class Tab {
  constructor(page, name) {
    this.page = page;
    this.name = name;
    this.complaints = [];
    page.setDefaultTimeout(DEADLINE_MS);
    page.on('pageerror', (error) => this.complaints.push(String(error)));
    page.on('console', (line) => {
      if (line.type() === 'error' && !EXPECTED_COMPLAINTS.test(line.text()))
        this.complaints.push(line.text());
    });
  }

  /** Chooses who to be on the log-in page. */
  async logIn() {
    await this.page.getByRole('button', { name: this.name }).click();
    await this.isReady();
  }

  async isReady() {
    await this.see('#chat');
    await this.page.locator('#banner').waitFor({ state: 'hidden' });
  }

  see(selector, text) {
    return this.page.locator(selector,
      text === undefined ? {} : { hasText: text }).first().waitFor();
  }

  gone(selector) {
    return this.page.locator(selector).first().waitFor({ state: 'hidden' });
  }

  click(selector) { return this.page.locator(selector).first().click(); }

  /** Opens the conversation whose row shows this name. */
  async talkTo(name) {
    await this.page.locator('#list button', { has:
      this.page.locator('.name', { hasText: name }) }).click();
    await this.see('#title', name);
  }

  async say(text) {
    await this.page.locator('#text').fill(text);
    await this.page.locator('#text').press('Enter');
  }

  hear(text) { return this.see('.message .text', text); }

  /** The texts of the open conversation, from top to bottom. */
  texts() { return this.page.locator('.message .text').allTextContents(); }

  /** Everything an element says from now on, however short: an array that is
   *  read by said(). */
  listenTo(selector) {
    return this.page.locator(selector).evaluate((node) => {
      node.said = [];
      new MutationObserver(() => {
        if (node.said.at(-1) !== node.textContent)
          node.said.push(node.textContent);
      }).observe(node, { subtree: true, childList: true, characterData: true });
    });
  }

  said(selector) {
    return this.page.locator(selector).evaluate((node) => node.said);
  }

  /** How many frames of video were decoded on connections that are open. */
  framesDecoded() {
    return this.page.evaluate(async () => {
      let count = 0;

      for (const peer of globalThis.peerConnections) {
        if (peer.connectionState !== 'connected')
          continue;
        for (const report of (await peer.getStats()).values()) {
          if (report.type === 'inbound-rtp' && report.kind === 'video')
            count += report.framesDecoded ?? 0;
        }
      }
      return count;
    });
  }

  /** Video arrives and is decoded: so many frames more than there were. */
  async seesVideo(frames = 15) {
    const before = await this.framesDecoded();

    await until(async () => await this.framesDecoded() >= before + frames,
      `${frames} more frames than ${before}`);
  }

  /** The state of the tick beside one's own message. */
  progressOf(text) {
    return this.page.locator('.message.own', { hasText: text }).last()
      .locator('.tick').getAttribute('data-progress');
  }

  async progressIs(text, wanted) {
    await until(async () => await this.progressOf(text) === wanted,
      `"${text}" is ${wanted}`);
  }
}

export class Stage {
  #browser;
  #tabs = [];
  #users;

  static async open(options = {}) {
    const stage = new Stage();

    stage.#browser = await chromium.launch({ executablePath: BROWSER_PROGRAM,
      args: FLAGS, timeout: DEADLINE_MS, ...options });
    const { Users } = await (await fetch(`${BROWSER_URL}demo.json`)).json();
    stage.#users = Users;
    return stage;
  }

  get url() { return BROWSER_URL; }

  /** A new tab, with nothing kept from any other, at the log-in page. */
  async visit(user_name, options = {}) {
    const context = await this.#browser.newContext({ locale: 'en-GB',
      permissions: ['camera', 'microphone'],
      viewport: { width: 1100, height: 720 }, ...options });
    const { Name } = this.#users.find((user) => user.UserName === user_name);
    await context.addInitScript(watchPeers);
    const tab = new Tab(await context.newPage(), Name);

    this.#tabs.push(tab);
    await tab.page.goto(BROWSER_URL);
    return tab;
  }

  async enter(user_name, options = {}) {
    const tab = await this.visit(user_name, options);

    await tab.logIn();
    return tab;
  }

  /** Gone as when its window is closed. */
  async leave(tab) {
    this.#tabs = this.#tabs.filter((other) => other !== tab);
    assert.deepEqual(tab.complaints, []);
    await tab.page.context().close();
  }

  /** For a story that failed: what each tab shows, beside the server's log. */
  async keep(story) {
    fs.mkdirSync(BROWSER_FAILED, { recursive: true });
    for (const [i, tab] of this.#tabs.entries()) {
      await tab.page.screenshot({ timeout: 5_000, path:
        path.join(BROWSER_FAILED, `${story}-${process.pid}-tab${i}.png`) })
        .catch(() => {});
      const peers = await tab.page.evaluate(describePeers).catch(() => []);
      if (peers.length > 0)
        process.stderr.write(`# tab${i}: ${peers.join('\n# tab' + i + ': ')}\n`);
    }
  }

  async close() {
    const complaints = this.#tabs.flatMap((tab) => tab.complaints);

    await this.#browser.close();
    assert.deepEqual(complaints, [], 'no page had anything to complain of');
  }

  /* ---- the server ---- */

  async ctl(...args) {
    return (await run(BROWSER_CTL, ['-c', BROWSER_CONF, ...args])).stdout;
  }

  async #pidOf(name) {
    const { processes } = JSON.parse(await this.ctl('status', '--json'));
    const found = processes.find((one) => one.name === name);

    return found?.state === 'running' ? found.pid : 0;
  }

  /** kill -9 by name, all at once. @return promise of their successors */
  async kill9(...names) {
    const pids = await Promise.all(names.map((name) => this.#pidOf(name)));

    for (const [i, pid] of pids.entries()) {
      assert.ok(pid > 0, `${names[i]} runs`);
      process.kill(pid, 'SIGKILL');
    }
    return Promise.all(names.map((name, i) => until(async () => {
      const pid = await this.#pidOf(name);
      return pid !== 0 && pid !== pids[i];
    }, `${name} runs again`)));
  }
}

/**
 * The frame of a story file: one browser for its tests, which are steps of
 * one story; what the tabs showed is kept when a step fails.
 */
export function story(name, { before, after, test }, steps) {
  let stage = null;
  let has_failed = false;

  before(async () => { stage = await Stage.open(); });
  for (const [claim, step] of Object.entries(steps)) {
    test(claim, { timeout: 3 * DEADLINE_MS }, async () => {
      assert.ok(!has_failed, 'an earlier step of the story failed');
      try {
        await step(stage);
      } catch (error) {
        has_failed = true;
        await stage.keep(name);
        throw error;
      }
    });
  }
  after(() => stage?.close());
}
