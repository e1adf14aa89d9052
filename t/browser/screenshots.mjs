/*
 * screenshots.mjs - the pictures of the README: make screenshots.
 *
 * Role: has a small conversation among the demo users, calls, and takes the
 *       page in light and dark. No part of check.
 */

import path from 'node:path';
import { after, before, test } from 'node:test';

import { story } from './lib/stage.mjs';

const FOLDER = process.env.BROWSER_SCREENSHOTS;
const VIEW = { viewport: { width: 1000, height: 640 } };

const TALK = [
  ['bruno', 'Good morning! Are you free for the 10 o’clock?'],
  ['alice', 'Yes. I have read the results.'],
  ['bruno', 'And?'],
  ['alice', 'All values are back to normal, she will be glad.'],
  ['bruno', 'That is good news!'],
  ['bruno', 'Shall we tell her together?'],
  ['alice', 'Gladly. I call you in a minute.'],
];

const people = {};

async function picture(tab, name) {
  for (const colorScheme of ['light', 'dark']) {
    await tab.page.emulateMedia({ colorScheme });
    await tab.page.screenshot({ animations: 'disabled',
      path: path.join(FOLDER, `${name}-${colorScheme}.png`) });
  }
}

story('screenshots', { after, before, test }, {
  'the chat': async (stage) => {
    people.alice = await stage.enter('1', VIEW);
    people.bruno = await stage.enter('2', VIEW);
    people.chiara = await stage.enter('3', VIEW);
    await people.chiara.talkTo('Alice Martin');
    await people.chiara.say('The room is booked for Thursday.');
    await people.chiara.say('Coffee is ready, too.');
    await people.bruno.page.getByRole('button', { name: 'New group' }).click();
    await people.bruno.page.getByLabel('Name', { exact: true })
      .fill('Ward round');
    await people.bruno.page.getByLabel('Alice Martin').check();
    await people.bruno.page.getByLabel('Chiara Rossi').check();
    await people.bruno.page.getByRole('button', { name: 'Make the group' })
      .click();
    await people.bruno.see('#title', 'Ward round');
    await people.bruno.say('Eight o’clock, room 12, as always.');
    await people.alice.see('#list .preview', 'Eight o’clock');
    await people.alice.talkTo('Bruno Keller');
    await people.bruno.talkTo('Alice Martin');
    for (const [who, text] of TALK) {
      await people[who].say(text);
      await people.alice.hear(text);
      await people.bruno.hear(text);
    }
    await people.alice.progressIs(TALK.at(-1)[1], 'read');
    await picture(people.alice, 'chat');
  },

  'the call': async () => {
    const press = (tab, name) =>
      tab.page.getByRole('button', { name, exact: true }).click();

    await press(people.bruno, 'Video call');
    await people.alice.see('.ring', 'Bruno Keller');
    await press(people.alice, 'Accept');
    await people.alice.seesVideo(40);
    await people.bruno.say('Here she is');
    await people.alice.hear('Here she is');
    await people.alice.see('#call-time', /:0[3-9]/);
    await picture(people.alice, 'call');
    await press(people.alice, 'Hang up');
  },
});
