/*
 * flush.c - what the disk takes for a flush of pages that lie apart, and of
 * pages in a row: the scale for doc/decisions/001-row-layout.md.
 *
 * Role:    one file of 256 MiB, 1..4096 pages written, one fdatasync; medians.
 * Process: one.
 * Blocks:  on the disk, that is the point.
 * Trust:   none needed.
 * See:     t/bench/rowlayout.c.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define PAGE_BYTES 4096
#define FILE_PAGES 65536
#define ROUNDS     25

static int
compare_i64(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a;
	int64_t y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static void
page_write(int fd, long page)
{
	static const char bytes[PAGE_BYTES] = {1};

	if (pwrite(fd, bytes, sizeof(bytes), page * PAGE_BYTES) !=
	    (ssize_t)sizeof(bytes))
		fatal("pwrite: %s", strerror(errno));
}

static void
flush(int fd)
{
	if (fdatasync(fd) == -1)
		fatal("fdatasync: %s", strerror(errno));
}

/* @return median us of one flush */
static int64_t
measure(int fd, int pages, int is_apart)
{
	int64_t us[ROUNDS];

	for (int round = 0; round < ROUNDS; round++) {
		long start = random() % (FILE_PAGES - pages);

		for (int i = 0; i < pages; i++)
			page_write(
			    fd, is_apart ? random() % FILE_PAGES : start + i);
		us[round] = clock_mono_us();
		flush(fd);
		us[round] = clock_mono_us() - us[round];
	}
	qsort(us, ROUNDS, sizeof(us[0]), compare_i64);
	return us[ROUNDS / 2];
}

int
main(int argc, char **argv)
{
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: flush FILE\n");
		return 2;
	}
	fd = open(argv[1], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd == -1)
		fatal("%s: %s", argv[1], strerror(errno));
	for (long page = 0; page < FILE_PAGES; page++)
		page_write(fd, page);
	flush(fd);
	for (int pages = 1; pages <= 4096; pages *= 8)
		printf("fdatasync of %4d pages: apart %6lld us, in a row %6lld "
		       "us\n",
		    pages, (long long)measure(fd, pages, 1),
		    (long long)measure(fd, pages, 0));
	close(fd);
	unlink(argv[1]);
	return 0;
}
