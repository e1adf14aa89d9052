/*
 * supervisor_limits.c - units of src/supervisor/limits.c.
 *
 * Role:    checks each limit just above and just below what is asked for.
 * Process: the test.
 * Blocks:  never.
 * Trust:   not applicable.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "supervisor/limits.h"

static const struct limits roomy = {
    .descriptors = 20000,
    .files = 2000000,
    .epoll_watches = 2000000,
    .descriptors_extra = 256,
};

static void
expect(struct limits limits, int64_t max_connections, int workers,
    const char *word)
{
	char text[256] = "";
	int rc =
	    limits_check(&limits, max_connections, workers, text, sizeof(text));

	assert_int_equal(rc, word == NULL ? 0 : ERR_FULL);
	if (word != NULL)
		assert_non_null(strstr(text, word));
	assert_true(strlen(text) < sizeof(text) - 1); /* not cut off */
}

static void
what_fits_is_not_mentioned(void **state)
{
	(void)state;
	expect(roomy, 17900, 56, NULL);
	expect(roomy, 19744, 1, NULL);
}

static void
nothing_asked_for_is_nothing_missed(void **state)
{
	struct limits tiny = {1, 1, 1, 256};

	(void)state;
	expect(tiny, 0, 64, NULL);
}

static void
each_limit_is_named_with_its_cure(void **state)
{
	struct limits limits = roomy;

	(void)state;
	expect(limits, 19745, 1, "ulimit -Hn");
	limits.files = 17900 * 56 + 256;
	expect(limits, 17900, 56, NULL);
	limits.files--;
	expect(limits, 17900, 56, "fs.file-max");
	limits = roomy;
	limits.epoll_watches = 17900 * 56;
	expect(limits, 17900, 56, NULL);
	limits.epoll_watches--;
	expect(limits, 17900, 56, "fs.epoll.max_user_watches");
}

static void
the_largest_configuration_does_not_overflow(void **state)
{
	struct limits none = {INT64_MAX, INT64_MAX, INT64_MAX, 256};

	(void)state;
	expect(none, 4000000, 64, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_fits_is_not_mentioned),
	    cmocka_unit_test(nothing_asked_for_is_nothing_missed),
	    cmocka_unit_test(each_limit_is_named_with_its_cure),
	    cmocka_unit_test(the_largest_configuration_does_not_overflow),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
