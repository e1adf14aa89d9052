/*
 * group_rights.c - unit test of keeper/group_rights.c: each operation, by each
 * role, to each role, against the table of doc/protocol.md.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "keeper/group_rights.h"

/* What is permitted; all else is not. */
static const struct {
	enum group_operation operation;
	enum group_role actor;
	enum group_role target;
} permitted[] = {
    {GROUP_ADD, ROLE_ADMIN, ROLE_NONE},
    {GROUP_ADD, ROLE_OWNER, ROLE_NONE},
    {GROUP_MAKE_ADMIN, ROLE_OWNER, ROLE_MEMBER},
    {GROUP_MAKE_MEMBER, ROLE_OWNER, ROLE_ADMIN},
    {GROUP_MAKE_OWNER, ROLE_OWNER, ROLE_ADMIN},
    {GROUP_MAKE_OWNER, ROLE_OWNER, ROLE_MEMBER},
    {GROUP_REMOVE, ROLE_ADMIN, ROLE_MEMBER},
    {GROUP_REMOVE, ROLE_OWNER, ROLE_ADMIN},
    {GROUP_REMOVE, ROLE_OWNER, ROLE_MEMBER},
    {GROUP_RENAME, ROLE_ADMIN, ROLE_NONE},
    {GROUP_RENAME, ROLE_OWNER, ROLE_NONE},
};

static bool
is_permitted(enum group_operation operation, enum group_role actor,
    enum group_role target)
{
	for (size_t i = 0; i < sizeof(permitted) / sizeof(permitted[0]); i++) {
		if (permitted[i].operation == operation &&
		    permitted[i].actor == actor &&
		    permitted[i].target == target)
			return true;
	}
	return false;
}

static void
each_right_is_that_of_the_document(void **state)
{
	size_t count = 0;

	(void)state;
	for (int op = 0; op < GROUP_OPERATION_END; op++) {
		for (int actor = 0; actor < ROLE_END; actor++) {
			for (int target = 0; target < ROLE_END; target++) {
				bool may = group_may((enum group_operation)op,
				    (enum group_role)actor,
				    (enum group_role)target);

				assert_int_equal(
				    may, is_permitted((enum group_operation)op,
					     (enum group_role)actor,
					     (enum group_role)target));
				count += may;
			}
		}
	}
	assert_int_equal(count, sizeof(permitted) / sizeof(permitted[0]));
}

static void
what_is_no_role_may_do_nothing(void **state)
{
	(void)state;
	for (int op = 0; op <= GROUP_OPERATION_END; op++) {
		for (unsigned role = 0; role < 300; role++) {
			assert_false(group_may((enum group_operation)op,
			    (enum group_role)(ROLE_END + role), ROLE_MEMBER));
			assert_false(group_may((enum group_operation)op,
			    ROLE_OWNER, (enum group_role)(ROLE_END + role)));
		}
	}
	assert_int_equal(group_making(ROLE_NONE), GROUP_OPERATION_END);
	assert_int_equal(group_making(ROLE_END), GROUP_OPERATION_END);
	assert_false(
	    group_may(group_making(ROLE_NONE), ROLE_OWNER, ROLE_MEMBER));
}

static void
each_role_has_its_operation(void **state)
{
	(void)state;
	assert_int_equal(group_making(ROLE_MEMBER), GROUP_MAKE_MEMBER);
	assert_int_equal(group_making(ROLE_ADMIN), GROUP_MAKE_ADMIN);
	assert_int_equal(group_making(ROLE_OWNER), GROUP_MAKE_OWNER);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_right_is_that_of_the_document),
	    cmocka_unit_test(what_is_no_role_may_do_nothing),
	    cmocka_unit_test(each_role_has_its_operation),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("group_rights", tests, NULL, NULL);
}
