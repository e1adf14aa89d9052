/*
 * migration.c - unit: batches of a file, with the lines at which they begin.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "ctl/migration.h"

/* Claims that a text has these batches, then no more. */
static void
expect(const char *text, const char *const *batches, const unsigned *lines,
    size_t count)
{
	struct migration migration = {0};
	struct migration_batch batch = {0};

	buf_add_str(&migration.text, text);
	for (size_t i = 0; i < count; i++) {
		assert_true(migration_next(&migration, &batch));
		assert_string_equal(batch.sql.data, batches[i]);
		assert_int_equal(batch.line, lines[i]);
	}
	assert_false(migration_next(&migration, &batch));
	assert_false(migration_next(&migration, &batch));
	migration_batch_fini(&batch);
	buf_fini(&migration.text);
}

static void
batches_have_their_lines(void **state)
{
	(void)state;
	expect("", NULL, NULL, 0);
	expect("GO\nGO\n\n \t\nGO", NULL, NULL, 0);
	expect("a", (const char *const[]){"a"}, (const unsigned[]){1}, 1);
	expect("a\nb\nGO\nc\n", (const char *const[]){"a\nb\n", "c\n"},
	    (const unsigned[]){1, 4}, 2);
	expect("GO\n\n-- x\na\nGO\n\nGO\nb",
	    (const char *const[]){"\n-- x\na\n", "b"}, (const unsigned[]){2, 8},
	    2);
	expect("a\r\n go \r\nb\r\n\tGo\t\r\n",
	    (const char *const[]){"a\r\n", "b\r\n"}, (const unsigned[]){1, 3},
	    2);
}

static void
only_go_alone_ends_one(void **state)
{
	(void)state;
	expect("GOTO x\nGO 5\nNGO\nG\nGO;\n-- GO\n",
	    (const char *const[]){"GOTO x\nGO 5\nNGO\nG\nGO;\n-- GO\n"},
	    (const unsigned[]){1}, 1);
}

static void
expect_words(const char *text, const char *words)
{
	struct migration migration = {0};
	struct migration_batch batch = {0};
	char out[MIGRATION_WORDS_MAX];

	buf_add_str(&migration.text, text);
	assert_true(migration_next(&migration, &batch));
	assert_string_equal(migration_words(&batch, out), words);
	migration_batch_fini(&batch);
	buf_fini(&migration.text);
}

static void
words_are_no_comment(void **state)
{
	char lots[201];
	char most[MIGRATION_WORDS_MAX];

	(void)state;
	expect_words("-- one\n\n-- two\nSELECT 1 \r\nGO\n", "SELECT 1");
	expect_words("-- nothing else", "");
	/* Cut between characters: 79 bytes hold 39 of two. */
	for (size_t i = 0; i < 200; i += 2)
		memcpy(lots + i, "\xc3\xa9", 2);
	lots[200] = '\0';
	memcpy(most, lots, sizeof(most));
	most[MIGRATION_WORDS_MAX - 2] = '\0';
	expect_words(lots, most);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(batches_have_their_lines),
	    cmocka_unit_test(only_go_alone_ends_one),
	    cmocka_unit_test(words_are_no_comment),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
