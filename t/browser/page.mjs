/*
 * page.mjs - what one may ask of any page: small, quick, by keyboard, legible.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { story, until } from './lib/stage.mjs';

const PAGE_MAX_BYTES = 100_000; /* all files, as they were transferred */
const FIRST_PAINT_MAX_MS = 1_000 * Number(process.env.BROWSER_SLOW || 1);
const CONTRAST_MIN = 4.5; /* WCAG 2.1, 1.4.3 */
const PHONE = { viewport: { width: 360, height: 640 } };

let alice;
let bruno;

/* In the page: texts whose colours are too near to each other. */
function paleTexts(least) {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d',
    { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map(
    (value, i) => value * a / 255 + below[i] * (1 - a / 255));
  const luminance = (color) => color.map((value) => value / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const backgroundOf = (node) => {
    if (node === null)
      return [255, 255, 255];
    const color = rgba(getComputedStyle(node).backgroundColor);
    return color[3] === 255 ? color.slice(0, 3)
      : over(color, backgroundOf(node.parentElement));
  };
  const walker = document.createTreeWalker(document.body,
    NodeFilter.SHOW_TEXT);
  const pale = [];
  let count = 0;

  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const style = getComputedStyle(node);
    if (walker.currentNode.data.trim() === '' || !node.checkVisibility(
      { visibilityProperty: true }) || node.closest('.unseen, option'))
      continue;
    const background = backgroundOf(node);
    const [a, b] = [luminance(over(rgba(style.color), background)),
      luminance(background)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    count++;
    if (ratio < least)
      pale.push(`${ratio.toFixed(2)} ${node.id || node.className}: ${
        walker.currentNode.data}`);
  }
  return { count, pale };
}

async function isLegible(tab, texts_min) {
  for (const colorScheme of ['light', 'dark']) {
    await tab.page.emulateMedia({ colorScheme });
    const { count, pale } = await tab.page.evaluate(paleTexts, CONTRAST_MIN);
    assert.ok(count >= texts_min, `${count} texts were seen`);
    assert.deepEqual(pale, [], `in ${colorScheme}`);
  }
}

/* In the page: what stands out of it to the right. */
function overflowing() {
  return [...document.querySelectorAll('body *')].filter((node) =>
    node.checkVisibility() && !node.closest('.unseen') &&
    node.getBoundingClientRect().right > innerWidth + 1)
    .map((node) => node.id || node.className || node.tagName);
}

function focused(tab) {
  return tab.page.evaluate(() => {
    const node = document.activeElement;

    return node === document.body ? ''
      : node.id || node.ariaLabel || node.textContent;
  });
}

async function tabTo(tab, wanted, key = 'Tab') {
  for (let i = 0; i < 30; i++) {
    if (new RegExp(wanted).test(await focused(tab)))
      return;
    await tab.page.keyboard.press(key);
  }
  assert.fail(`${wanted} is not reached by ${key}`);
}

story('page', { after, before, test }, {
  'the page is small and paints at once': async (stage) => {
    alice = await stage.visit('1');
    await alice.see('#login-users button');
    const paint = await until(() => alice.page.evaluate(() => performance
      .getEntriesByName('first-contentful-paint')[0]?.startTime), 'a paint');
    const files = await alice.page.evaluate(() => [
      ...performance.getEntriesByType('navigation'),
      ...performance.getEntriesByType('resource')]
      .map(({ name, transferSize }) => ({ name, transferSize })));
    const bytes = files.reduce((sum, file) => sum + file.transferSize, 0);

    process.stderr.write(`# ${files.length} files, ${bytes} bytes, ` +
      `first paint after ${Math.round(paint)} ms\n`);
    assert.ok(files.length > 10 && files.every((file) => file.transferSize > 0),
      'all files are counted');
    assert.ok(bytes < PAGE_MAX_BYTES, `${bytes} bytes`);
    assert.deepEqual(await alice.page.evaluate(() => {
      const wanted = [...document.querySelectorAll('[rel=modulepreload], script')]
        .map(({ href, src }) => href ?? src);
      return performance.getEntriesByType('resource').map(({ name }) => name)
        .filter((name) => name.endsWith('.js') && !wanted.includes(name));
    }), [], 'no module waits for another one to name it');
    assert.ok(paint < FIRST_PAINT_MAX_MS, `${paint} ms`);
    assert.ok(files.every(({ name }) => name.startsWith(stage.url)),
      'nothing comes from elsewhere');
  },

  'log-in, list, message: all by keyboard': async (stage) => {
    await isLegible(alice, 4);
    bruno = await stage.enter('2');
    await tabTo(alice, 'Alice Martin');
    await alice.page.keyboard.press('Enter');
    await alice.isReady();
    await tabTo(alice, 'Bruno Keller');
    await alice.page.keyboard.press('Enter');
    await alice.see('#title', 'Bruno Keller');
    assert.equal(await focused(alice), 'text');
    for (let i = 1; i <= 3; i++) {
      await alice.page.keyboard.type(`Message ${i}`);
      await alice.page.keyboard.press('Enter');
    }
    await alice.progressIs('Message 3', 'delivered');
    const outline = await alice.page.evaluate(() =>
      getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(outline, 'solid', 'the focus is seen');
  },

  'a message is reached by the arrows, what one does with it by Tab':
    async () => {
      await alice.page.keyboard.press('Shift+Tab');
      await tabTo(alice, '^You:Message 3', 'Shift+Tab');
      await alice.page.keyboard.press('ArrowUp');
      assert.match(await focused(alice), /^You:Message 2/);
      await alice.page.keyboard.press('Tab');
      assert.equal(await focused(alice), 'Reply');
      await alice.page.keyboard.press('Enter');
      await alice.see('#composer-context-text', 'Message 2');
      assert.equal(await focused(alice), 'text');
      await alice.page.keyboard.press('Escape');
      await alice.gone('#composer-context');
    },

  'a new message is announced to who does not see it': async () => {
    await bruno.talkTo('Alice Martin');
    await bruno.say('Do you hear me?');
    await until(async () => (await alice.page.locator('#announcer')
      .textContent()).includes('Bruno Keller: Do you hear me?'), 'announced');
    assert.equal(await alice.page.locator('#announcer')
      .getAttribute('aria-live'), 'polite');
  },

  'every button and field has a name': async () => {
    const mute = await alice.page.evaluate(() =>
      [...document.querySelectorAll('button, input, select, textarea')]
        .filter((node) => !(node.ariaLabel || node.textContent.trim() ||
          node.labels?.length))
        .map((node) => node.id || node.outerHTML)
        .filter((id) => !/^(banner-button|call-|group-save)/.test(id)));
    assert.deepEqual(mute, []);
  },

  'the dialog of a group closes with Escape and gives the focus back':
    async () => {
      const button = alice.page.getByRole('button', { name: 'New group' });

      await button.press('Enter');
      assert.equal(await focused(alice), 'group-name');
      await isLegible(alice, 12);
      await alice.page.keyboard.press('Escape');
      await alice.gone('#group');
      assert.equal(await focused(alice), 'group-new');
    },

  'all texts are legible, in light and in dark': async () => {
    await alice.page.locator('.message').last().hover();
    await isLegible(alice, 15);
  },

  'older messages come in above, and what one reads stays in its place':
    async () => {
      const pane = alice.page.locator('#messages');
      const count = 90;

      for (let i = 1; i <= count; i++)
        await bruno.say(`Line ${i}`);
      await alice.hear(`Line ${count}`);
      await alice.page.reload();
      await alice.isReady();
      await alice.talkTo('Bruno Keller');
      await alice.hear(`Line ${count}`);
      const shown = (await alice.texts()).length;
      assert.ok(shown < count, 'not all of them at once');
      /* in one go, so that nothing comes between the two */
      const [text, top] = await pane.evaluate((node) => {
        const first = node.querySelector('.message');
        node.scrollTop = 60;
        return [first.querySelector('.text').textContent,
          first.getBoundingClientRect().top];
      });
      await until(async () => (await alice.texts()).length > shown,
        'more messages');
      const top_now = await pane.evaluate((node, wanted) =>
        [...node.querySelectorAll('.message')].find((message) =>
          message.querySelector('.text').textContent === wanted)
          .getBoundingClientRect().top, text);
      assert.ok(Math.abs(top_now - top) <= 1, `from ${top} to ${top_now}`);
    },

  'a phone shows one thing at a time, and nothing sticks out': async (stage) => {
    const phone = await stage.enter('3', PHONE);

    assert.deepEqual(await phone.page.evaluate(overflowing), []);
    await phone.talkTo('Alice Martin');
    await phone.gone('#list');
    await phone.say(`${'long '.repeat(50)}${'x'.repeat(300)}`);
    await phone.see('.message .text', 'long');
    assert.deepEqual(await phone.page.evaluate(overflowing), []);
    await phone.page.goBack();
    await phone.see('#list');
    await phone.gone('#conversation');
  },
});
