/*
 * groups.mjs - three people at the demo page: a group from its making to
 * one's leaving.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { story, until } from './lib/stage.mjs';

let alice;
let bruno;
let chiara;

story('groups', { after, before, test }, {
  'three people log in': async (stage) => {
    alice = await stage.enter('1');
    bruno = await stage.enter('2');
    chiara = await stage.enter('3');
  },

  'one makes a group, and is in it': async () => {
    await alice.page.getByRole('button', { name: 'New group' }).click();
    await alice.page.getByLabel('Name', { exact: true }).fill('Ward 4');
    await alice.page.getByLabel('Bruno Keller').check();
    await alice.page.getByLabel('Chiara Rossi').check();
    await alice.page.keyboard.press('Enter');
    await alice.see('#title', 'Ward 4');
    await alice.see('#subtitle', '3 people');
  },

  'the others see it at once, and what is written to it': async () => {
    for (const tab of [bruno, chiara]) {
      await tab.talkTo('Ward 4');
      await tab.see('.note', 'Alice Martin made the group');
    }
    await alice.say('Welcome, both of you');
    for (const tab of [bruno, chiara])
      await tab.hear('Welcome, both of you');
    await bruno.say('Thank you');
    await chiara.see('.message .author', 'Bruno Keller');
    await alice.hear('Thank you');
  },

  'one sees who types': async () => {
    const text = chiara.page.locator('#text');
    const seen = Promise.all([alice, bruno]
      .map((tab) => tab.see('#typing', 'Chiara Rossi is typing')));
    let isSeen = false;

    seen.then(() => { isSeen = true; }, () => { isSeen = true; });
    /* Typing is told anew every few seconds, and once may get lost. */
    while (!isSeen)
      await text.pressSequentially('I', { delay: 200 });
    await seen;
  },

  'a reload shows the group and what was said in it': async () => {
    await chiara.page.reload();
    await chiara.isReady();
    await chiara.talkTo('Ward 4');
    await chiara.hear('Thank you');
    assert.deepEqual(await chiara.texts(),
      ['Welcome, both of you', 'Thank you']);
  },

  'its owner gives it another name and one member less': async () => {
    await alice.page.getByRole('button', { name: 'Members' }).click();
    await alice.page.getByLabel('Name', { exact: true }).fill('Ward 5');
    await alice.page.getByLabel('Chiara Rossi').uncheck();
    await alice.page.getByRole('button', { name: 'Save' }).click();
    await bruno.see('#title', 'Ward 5');
    await alice.see('#subtitle', '2 people');
    await chiara.gone('#composer');
  },

  'who is out hears no more of it': async () => {
    await alice.say('Just the two of us');
    await bruno.hear('Just the two of us');
    /* what goes to her now comes after what must not */
    await alice.talkTo('Chiara Rossi');
    await alice.say('Sorry, Chiara');
    await chiara.see('#list .preview', 'Sorry, Chiara');
    assert.equal((await chiara.page.content()).includes('Just the two'), false);
  },

  'a member sees who is in it, changes nothing and leaves': async () => {
    await bruno.page.getByRole('button', { name: 'Members' }).click();
    assert.equal(await bruno.page.getByLabel('Chiara Rossi').isDisabled(),
      true);
    await bruno.page.getByRole('button', { name: 'Leave the group' }).click();
    await bruno.gone('#composer');
    await alice.talkTo('Ward 5');
    await until(async () => (await alice.page.locator('#subtitle')
      .textContent()) === '1 people', 'he has left');
  },

  'logged out by an administrator, one leaves nothing, not even a dialog':
    async (stage) => {
      await alice.page.getByRole('button', { name: 'Members' }).click();
      await alice.see('#group');
      await stage.ctl('user', 'remove', '1');
      await alice.see('#login-error', 'logged out by an administrator');
      await alice.gone('#group');
      const left = await alice.page.evaluate(() => [...document
        .querySelectorAll('body *:not(#login *)')].flatMap((node) =>
        [node.value, ...[...node.childNodes].map(({ data }) => data)])
        .filter((text) => /Ward|Rossi|Keller|Alice/.test(text)));
      assert.deepEqual(left, []);
    },
});
