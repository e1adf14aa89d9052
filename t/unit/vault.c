/*
 * vault.c - units of shm/vault.c.
 *
 * Role:    what is put is got once, changes are seen, a reader cannot write.
 * Process: the test, and a child as reader.
 * Blocks:  on the child's end.
 * Trust:   not applicable.
 * See:     shm/vault.h.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/vault.h"

static void
test_what_is_put_is_got_once(void **state)
{
	struct vault *vault = NULL;
	struct buf out = {0};
	uint64_t serial = 0;
	uint64_t other = 0;

	(void)state;
	assert_int_equal(vault_create(&vault), 0);
	assert_false(vault_get(vault, VAULT_FILES, &serial, &out));
	assert_int_equal(
	    vault_put(vault, VAULT_FILES, "a longer secret", 15), 0);
	assert_true(vault_get(vault, VAULT_FILES, &serial, &out));
	assert_int_equal(out.len, 15);
	assert_memory_equal(out.data, "a longer secret", 15);
	buf_fini(&out);
	assert_false(vault_get(vault, VAULT_FILES, &serial, &out));
	assert_false(vault_get(vault, VAULT_TICKETS, &other, &out));
	assert_int_equal(vault_put(vault, VAULT_FILES, "short", 5), 0);
	assert_true(vault_get(vault, VAULT_FILES, &serial, &out));
	assert_int_equal(out.len, 5);
	buf_fini(&out);
	vault_free(&vault);
	assert_null(vault);
}

static void
test_sizes_are_limited(void **state)
{
	static char large[VAULT_FILES_MAX + 1];
	struct vault *vault = NULL;

	(void)state;
	assert_int_equal(vault_create(&vault), 0);
	assert_int_equal(
	    vault_put(vault, VAULT_TICKETS, large, VAULT_TICKETS_MAX), 0);
	assert_int_equal(
	    vault_put(vault, VAULT_TICKETS, large, VAULT_TICKETS_MAX + 1),
	    ERR_TOO_LARGE);
	assert_int_equal(
	    vault_put(vault, VAULT_FILES, large, VAULT_FILES_MAX), 0);
	assert_int_equal(
	    vault_put(vault, VAULT_FILES, large, VAULT_FILES_MAX + 1),
	    ERR_TOO_LARGE);
	vault_free(&vault);
}

/* The mapping of the vault, as the kernel lists it. */
static int
find_mapping(void **start_out, size_t *len_out)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];
	int found = -1;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		unsigned long from;
		unsigned long to;

		if (strstr(line, "parley-vault") == NULL ||
		    sscanf(line, "%lx-%lx", &from, &to) != 2)
			continue;
		*start_out = (void *)from;
		*len_out = to - from;
		found = 0;
	}
	if (file != NULL)
		fclose(file);
	return found;
}

/* @return 0, or the number of the claim that failed */
static int
read_in_child(struct vault *vault)
{
	struct buf out = {0};
	uint64_t serial = 0;
	void *start = NULL;
	size_t len = 0;

	if (vault_become_reader(vault) != 0)
		return 1;
	if (!vault_get(vault, VAULT_FILES, &serial, &out) || out.len != 3)
		return 2;
	buf_fini(&out);
	if (find_mapping(&start, &len) != 0)
		return 3;
	if (mprotect(start, len, PROT_READ | PROT_WRITE) == 0)
		return 4;
	return 0;
}

static void
test_a_reader_cannot_make_it_writable(void **state)
{
	struct vault *vault = NULL;
	int status = 0;
	pid_t pid;

	(void)state;
	assert_int_equal(vault_create(&vault), 0);
	assert_int_equal(vault_put(vault, VAULT_FILES, "abc", 3), 0);
	pid = fork();
	if (pid == 0)
		_exit(read_in_child(vault));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	vault_free(&vault);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_what_is_put_is_got_once),
	    cmocka_unit_test(test_sizes_are_limited),
	    cmocka_unit_test(test_a_reader_cannot_make_it_writable),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
