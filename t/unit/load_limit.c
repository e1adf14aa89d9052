/*
 * load_limit.c - what limited a run follows from who used the machine.
 *
 * Role:    feeds report_cpu.c shares of the machine; reads this process' own
 *          figures back from /proc.
 * Process: a unit test; prints TAP.
 * Blocks:  reading /proc.
 * Trust:   nothing to distrust.
 * See:     src/load/report_cpu.c, src/load/proc.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "load/report_priv.h"

static void
the_one_without_cpu_is_named(void **state)
{
	static const struct {
		struct report_shares shares;
		enum report_limit limit;
	} rows[] = {
	    /* two cores: 50 % of all is one */
	    {{.own = 48, .server = 20, .idle = 32, .own_core = 96},
		LIMIT_GENERATOR},
	    {{.own = 60, .server = 38, .idle = 2, .own_core = 60},
		LIMIT_GENERATOR},
	    {{.own = 20, .server = 50, .strangers = 29, .idle = 1},
		LIMIT_STRANGERS},
	    {{.own = 20, .server = 50, .stolen = 29, .idle = 1},
		LIMIT_STRANGERS},
	    {{.own = 20, .server = 48, .idle = 30, .server_core = 95},
		LIMIT_SERVER},
	    {{.own = 15, .server = 68, .interrupts = 14, .idle = 3},
		LIMIT_CORES},
	    {{.own = 10, .server = 30, .strangers = 20, .idle = 40},
		LIMIT_NO_CPU},
	    {{.own = 10, .server = 30, .idle = 60}, LIMIT_NO_CPU},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(
		    report_limit_of(&rows[i].shares, true), rows[i].limit);
}

static void
without_the_server_only_oneself_is_known(void **state)
{
	const struct report_shares busy = {.own = 48, .own_core = 96};
	const struct report_shares calm = {.own = 10, .strangers = 90};

	(void)state;
	assert_int_equal(report_limit_of(&busy, false), LIMIT_GENERATOR);
	assert_int_equal(report_limit_of(&calm, false), LIMIT_UNKNOWN);
}

static void
own_switches_and_bytes_are_found(void **state)
{
	struct proc_sample before;
	struct proc_sample after;
	const struct proc_group *from;
	const struct proc_group *to;
	char byte = 'x';
	int ends[2];

	(void)state;
	proc_sample_take(getpid(), &before);
	assert_int_equal(pipe(ends), 0);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(write(ends[1], &byte, 1), 1);
		assert_int_equal(read(ends[0], &byte, 1), 1);
	}
	proc_sample_take(getpid(), &after);
	assert_int_equal(before.group_count, 1);
	from = &before.groups[0];
	to = proc_group_find(&after, from->name);
	assert_non_null(to);
	assert_int_equal(to->count, 1);
	assert_true(to->written_bytes >= from->written_bytes + 1000);
	assert_true(to->voluntary >= from->voluntary);
	assert_true(to->involuntary >= from->involuntary);
	assert_true(after.total_us >= before.total_us);
	assert_true(after.busy_us + after.interrupt_us + after.stolen_us <=
		    after.total_us);
	assert_null(proc_group_find(&after, "no such name"));
	close(ends[0]);
	close(ends[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_one_without_cpu_is_named),
	    cmocka_unit_test(without_the_server_only_oneself_is_known),
	    cmocka_unit_test(own_switches_and_bytes_are_found),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
