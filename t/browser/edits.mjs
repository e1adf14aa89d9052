/*
 * edits.mjs - what can be done with a message on the demo page: answer it,
 * change it, take it back.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { story, until } from './lib/stage.mjs';

let alice;
let bruno;

async function act(tab, text, name) {
  const message = tab.page.locator('.message', { has:
    tab.page.locator('.text', { hasText: text }) }).last();

  await message.hover();
  await message.getByRole('button', { name, exact: true }).click();
}

async function shows(tab, texts) {
  await until(async () =>
    JSON.stringify(await tab.texts()) === JSON.stringify(texts),
  `${tab.name} sees ${texts}`);
}

story('edits', { after, before, test }, {
  'two people talk': async (stage) => {
    alice = await stage.enter('1');
    bruno = await stage.enter('2');
    await alice.talkTo('Bruno Keller');
    await bruno.talkTo('Alice Martin');
    for (const text of ['Lunch at twelf?', 'Or later?'])
      await alice.say(text);
    await bruno.hear('Or later?');
  },

  'a reply shows what it answers, to both': async () => {
    await act(bruno, 'Lunch at twelf?', 'Reply');
    await bruno.see('#composer-context-text', 'Reply to Alice Martin');
    await bruno.say('Yes, gladly');
    for (const tab of [alice, bruno])
      await tab.see('.message .quote', 'Alice Martin: Lunch at twelf?');
  },

  'only what is one\'s own can be changed': async () => {
    assert.equal(await bruno.page.locator('.message:not(.own)')
      .getByRole('button', { name: 'Edit', includeHidden: true }).count(), 0);
  },

  'a change is seen by the other, with a mark': async () => {
    await act(alice, 'Lunch at twelf?', 'Edit');
    await alice.see('#composer-context-text', 'Editing a message');
    await alice.say('Lunch at twelve?');
    await shows(bruno, ['Lunch at twelve?', 'Or later?', 'Yes, gladly']);
    await bruno.see('.message time', 'edited');
    await bruno.see('.message .quote', 'Lunch at twelve?');
    await shows(alice, ['Lunch at twelve?', 'Or later?', 'Yes, gladly']);
  },

  'the arrow up changes the last of one\'s own; Escape lets it be':
    async () => {
      await alice.page.locator('#text').press('ArrowUp');
      assert.equal(await alice.page.locator('#text').inputValue(),
        'Or later?');
      await alice.page.locator('#text').press('Escape');
      assert.equal(await alice.page.locator('#text').inputValue(), '');
      await alice.gone('#composer-context');
    },

  'what one was writing is there again after an edit, given up or made':
    async () => {
      const text = alice.page.locator('#text');

      await text.fill('Half a thou');
      await act(alice, 'Lunch at twelve?', 'Edit');
      await text.press('Escape');
      assert.equal(await text.inputValue(), 'Half a thou');
      await act(alice, 'Yes, gladly', 'Reply');
      await act(alice, 'Lunch at twelve?', 'Edit');
      await alice.say('Lunch at noon?');
      await shows(bruno, ['Lunch at noon?', 'Or later?', 'Yes, gladly']);
      assert.equal(await text.inputValue(), 'Half a thou');
      await alice.see('#composer-context-text', 'Reply to Bruno Keller');
      await alice.page.getByRole('button', { name: /^Cancel/ }).click();
      assert.equal(await text.inputValue(), 'Half a thou');
      await text.fill('');
      await act(alice, 'Lunch at noon?', 'Edit');
      await alice.say('Lunch at twelve?');
      await bruno.hear('Lunch at twelve?');
    },

  'a reply to what is gone meanwhile is a message': async () => {
    await bruno.say('A slip');
    await alice.hear('A slip');
    await act(alice, 'A slip', 'Reply');
    await alice.page.locator('#text').fill('What?');
    await alice.talkTo('Chiara Rossi');
    await act(bruno, 'A slip', 'Delete');
    await alice.see('#list .preview', 'Message deleted');
    await alice.talkTo('Bruno Keller');
    assert.equal(await alice.page.locator('#text').inputValue(), 'What?');
    await alice.gone('#composer-context');
    await alice.page.locator('#text').fill('');
  },

  'what is taken back is gone on both pages, its place stays': async () => {
    await act(alice, 'Or later?', 'Delete');
    for (const tab of [alice, bruno])
      await shows(tab, ['Lunch at twelve?', 'Message deleted', 'Yes, gladly',
        'Message deleted']);
    assert.equal((await bruno.page.content()).includes('Or later?'), false);
  },

  'a reload shows the same': async () => {
    for (const [tab, name] of [[alice, 'Bruno Keller'],
      [bruno, 'Alice Martin']]) {
      await tab.page.reload();
      await tab.isReady();
      await tab.talkTo(name);
      await shows(tab, ['Lunch at twelve?', 'Message deleted', 'Yes, gladly',
        'Message deleted']);
    }
    await alice.see('.message .quote', 'Lunch at twelve?');
  },
});
