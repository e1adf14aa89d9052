/*
 * vitals.c - what the kernel says of a process: its state, time and memory.
 *
 * Role:    reads /proc for the watchdog and for max_memory_restart_*.
 * Process: supervisor.
 * Blocks:  never: none of these files asks for a lock of the process.
 * Trust:   the kernel's text; what does not parse is "unknown".
 * See:     proc(5), watchdog.c, memory.c, t/unit/supervisor_vitals.c.
 *
 * status and not smaps_rollup: the latter needs the right to trace, which an
 * unprivileged supervisor does not have over processes that are not dumpable,
 * and it walks all pages while holding the lock that the process needs for
 * every mmap. RssAnon and not resident minus shared: swap belongs to it.
 */
#include "config.h"

#include "supervisor/vitals.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATUS_MAX    8192
#define NS_PER_MS     1000000
#define MS_PER_SECOND 1000

/* A file of /proc, NUL-terminated. @return bytes, -1: not there */
static ssize_t
read_text(pid_t pid, const char *name, char *text, size_t text_len)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return -1;
	n = read(fd, text, text_len - 1);
	close(fd);
	if (n >= 0)
		text[n] = '\0';
	return n;
}

/* "PID (comm) STATE ...": comm may hold anything, also blanks and brackets. */
int
vitals_parse_stat(const char *text, struct vitals *vitals_out)
{
	const char *at = strrchr(text, ')');
	unsigned long long user;
	unsigned long long kernel;
	char state;

	if (at == NULL ||
	    sscanf(at, ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
		&state, &user, &kernel) != 3)
		return ERR_BAD_REQUEST;
	vitals_out->state = state;
	vitals_out->cpu_ms =
	    (int64_t)(user + kernel) * MS_PER_SECOND / sysconf(_SC_CLK_TCK);
	vitals_out->delay_ms = -1;
	return 0;
}

int64_t
vitals_parse_kb(const char *text, const char *name)
{
	size_t len = strlen(name);
	const char *at = text;
	int64_t kb;

	while (at != NULL) {
		if (strncmp(at, name, len) == 0 && at[len] == ':')
			return sscanf(at + len, ": %" SCNd64 " kB", &kb) == 1
				   ? kb
				   : -1;
		at = strchr(at, '\n');
		if (at != NULL)
			at++;
	}
	return -1;
}

int
vitals_read(pid_t pid, struct vitals *vitals_out)
{
	char text[1024];
	unsigned long long run_ns;
	unsigned long long delay_ns;

	if (read_text(pid, "stat", text, sizeof(text)) <= 0 ||
	    vitals_parse_stat(text, vitals_out) != 0)
		return ERR_NOT_FOUND;
	/* of the main thread alone, and finer than ticks; not in each kernel */
	if (read_text(pid, "schedstat", text, sizeof(text)) > 0 &&
	    sscanf(text, "%llu %llu", &run_ns, &delay_ns) == 2) {
		vitals_out->cpu_ms = (int64_t)(run_ns / NS_PER_MS);
		vitals_out->delay_ms = (int64_t)(delay_ns / NS_PER_MS);
	}
	return 0;
}

int64_t
vitals_private_bytes(pid_t pid)
{
	char text[STATUS_MAX];
	int64_t anonymous;
	int64_t swapped;

	if (read_text(pid, "status", text, sizeof(text)) <= 0)
		return -1;
	anonymous = vitals_parse_kb(text, "RssAnon");
	swapped = vitals_parse_kb(text, "VmSwap");
	if (anonymous < 0)
		return -1;
	return (anonymous + (swapped > 0 ? swapped : 0)) * 1024;
}
