/*
 * keep.c - units of shm/keep.c.
 *
 * Role:    what was written is there again; what is no such file is made anew.
 * Process: the test.
 * Blocks:  on files.
 * Trust:   not applicable.
 * See:     shm/keep.h.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/keep.h"

#define SIZE 10000

static char dir[] = "keep-XXXXXX";
static char path[64];

static uint8_t *
opened(size_t size)
{
	void *mem = NULL;

	assert_int_equal(keep_open(dir, "kept", size, &mem), 0);
	assert_int_equal((uintptr_t)mem % 64, 0);
	return mem;
}

static void
closed(uint8_t *mem, size_t size)
{
	void *map = mem;

	keep_close(&map, size);
	assert_null(map);
}

static bool
is_zero(const uint8_t *mem, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (mem[i] != 0)
			return false;
	}
	return true;
}

static void
leave_something(void)
{
	uint8_t *mem = opened(SIZE);

	memset(mem, 7, SIZE);
	closed(mem, SIZE);
}

/* Overwrite a byte of the file. */
static void
spoil(off_t at)
{
	int fd = open(path, O_WRONLY);

	assert_int_equal(pwrite(fd, "?", 1, at), 1);
	close(fd);
}

static void
a_successor_finds_it(void **state)
{
	struct stat st;
	uint8_t *mem;

	(void)state;
	mem = opened(SIZE);
	assert_true(is_zero(mem, SIZE));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(st.st_blocks * 512 >= SIZE);
	memset(mem, 7, SIZE);
	closed(mem, SIZE);
	mem = opened(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(mem[i], 7);
	closed(mem, SIZE);
	closed(NULL, SIZE);
}

static void
anything_else_is_made_anew(void **state)
{
	uint8_t *mem;

	(void)state;
	leave_something();
	mem = opened(SIZE + 1);
	assert_true(is_zero(mem, SIZE + 1));
	closed(mem, SIZE + 1);
	/* magic, size, start of the machine */
	for (off_t at = 0; at < 24; at += 8) {
		leave_something();
		spoil(at);
		mem = opened(SIZE);
		assert_true(is_zero(mem, SIZE));
		closed(mem, SIZE);
	}
	leave_something();
	assert_int_equal(truncate(path, SIZE / 2), 0);
	mem = opened(SIZE);
	assert_true(is_zero(mem, SIZE));
	closed(mem, SIZE);
}

static void
links_are_not_followed(void **state)
{
	struct stat st;
	void *mem = NULL;

	(void)state;
	(void)unlink(path);
	assert_int_equal(symlink("elsewhere", path), 0);
	assert_int_equal(keep_open(dir, "kept", SIZE, &mem), ERR_IO);
	assert_null(mem);
	assert_int_equal(stat("elsewhere", &st), -1);
	assert_int_equal(
	    keep_open("no/such/folder", "kept", SIZE, &mem), ERR_IO);
}

static int
make_dir(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/kept", dir);
	return 0;
}

static int
remove_dir(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_successor_finds_it),
	    cmocka_unit_test(anything_else_is_made_anew),
	    cmocka_unit_test(links_are_not_followed),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
