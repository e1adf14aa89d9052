/*
 * limits.c - does the machine allow what the configuration asks for?
 *
 * Role:    one line at the start instead of a mystery at full load.
 * Process: supervisor.
 * Blocks:  never.
 * Trust:   what cannot be read is taken as unlimited: the warning is a help,
 *          not a guard; the worker meets the real limit and says so.
 * See:     doc/operations.md, Many connections; t/unit/supervisor_limits.c
 */
#include "config.h"

#include "supervisor/limits.h"

#include <stdio.h>
#include <sys/resource.h>

#include "base/err.h"
#include "base/log.h"

static int64_t
read_number(const char *path)
{
	FILE *file = fopen(path, "re");
	long long value = INT64_MAX;

	if (file == NULL)
		return INT64_MAX;
	if (fscanf(file, "%lld", &value) != 1)
		value = INT64_MAX;
	fclose(file);
	return value;
}

int
limits_check(const struct limits *limits, int64_t max_connections, int workers,
    char *text_out, size_t text_len)
{
	int64_t per_worker = max_connections + limits->descriptors_extra;
	int64_t all = max_connections * workers;

	if (max_connections == 0)
		return 0;
	if (per_worker > limits->descriptors) {
		snprintf(text_out, text_len,
		    "a process may open %lld descriptors, max_connections "
		    "needs %lld; raise ulimit -Hn (fs.nr_open) or use more "
		    "workers with fewer connections each",
		    (long long)limits->descriptors, (long long)per_worker);
		return ERR_FULL;
	}
	if (all + limits->descriptors_extra > limits->files) {
		snprintf(text_out, text_len,
		    "the machine may open %lld files, %d workers need %lld; "
		    "raise fs.file-max",
		    (long long)limits->files, workers,
		    (long long)(all + limits->descriptors_extra));
		return ERR_FULL;
	}
	if (all > limits->epoll_watches) {
		snprintf(text_out, text_len,
		    "a user may watch %lld descriptors, %d workers need %lld; "
		    "raise fs.epoll.max_user_watches",
		    (long long)limits->epoll_watches, workers, (long long)all);
		return ERR_FULL;
	}
	return 0;
}

void
limits_tell(int64_t max_connections, int workers, int64_t descriptors_extra)
{
	struct limits limits = {
	    .descriptors = INT64_MAX,
	    .files = read_number("/proc/sys/fs/file-max"),
	    .epoll_watches = read_number("/proc/sys/fs/epoll/max_user_watches"),
	    .descriptors_extra = descriptors_extra,
	};
	struct rlimit limit;
	char text[256];

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
	    limit.rlim_cur != RLIM_INFINITY)
		limits.descriptors = (int64_t)limit.rlim_cur;
	if (limits_check(
		&limits, max_connections, workers, text, sizeof(text)) != 0)
		log_warn(NULL, "limit-too-low",
		    "max_connections=%lld workers=%d hint=\"%s\"",
		    (long long)max_connections, workers, text);
}
