/*
 * metrics.c - the scoreboard in the text format of Prometheus.
 *
 * Role:    one family per row of counters.def, one sample per process that it
 *          is of.
 * Process: console; pure otherwise.
 * Blocks:  never.
 * Trust:   numbers only; names come from our own tables.
 * See:     base/counters.def, t/unit/metrics.c.
 */
#include "config.h"

#include "console/metrics.h"

#include <string.h>

#include "base/count.h"
#include "shm/health.h"

/* Every fifth edge: about 20 lines per histogram, a factor of 2.4 apart. */
#define EDGE_STEP 5

enum metric_kind { KIND_COUNTER, KIND_GAUGE };

/* Of which processes: an alarm on a percentage that is low must not see the
 * zeros of those that know nothing of it. */
enum metric_of {
	OF_any,
	OF_directory,
	OF_holder,
	OF_keeper,
	OF_supervisor,
	OF_worker,
};

static const struct {
	const char *name;
	const char *help;
	enum metric_kind kind;
	enum metric_of of;
} counters[] = {
#define COUNTER(name, help)   {#name, help, KIND_COUNTER, OF_any},
#define GAUGE(name, of, help) {#name, help, KIND_GAUGE, OF_##of},
#define HISTOGRAM(name, help)
#include "base/counters.def"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
};

static const struct {
	const char *name; /* "commit_us" */
	const char *help;
} histograms[] = {
#define COUNTER(name, help)
#define GAUGE(name, of, help)
#define HISTOGRAM(name, help) {#name, help},
#include "base/counters.def"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
};

static int
next_used(struct board *board, int slot)
{
	do {
		slot++;
	} while (slot < board_slot_end(board) && !health_is_used(board, slot));
	return slot;
}

#define EACH_PROCESS(board, slot)                                              \
	for (int slot = next_used((board), -1); slot < board_slot_end(board);  \
	     slot = next_used((board), slot))

static const char *
process_name(struct board *board, int slot, char buf[24])
{
	return board_slot_name(board, slot, buf);
}

static void
head(struct buf *out, const char *name, const char *suffix, const char *type,
    const char *help)
{
	buf_printf(out, "# HELP parley_%s%s %s\n# TYPE parley_%s%s %s\n", name,
	    suffix, help, name, suffix, type);
}

static bool
is_of(enum metric_of of, int slot)
{
	switch (of) {
	case OF_any:
		return true;
	case OF_directory:
		return slot == SLOT_DIRECTORY;
	case OF_holder:
		return slot_is_holder(slot);
	case OF_keeper:
		return slot == SLOT_KEEPER;
	case OF_supervisor:
		return slot == SLOT_SUPERVISOR;
	case OF_worker:
		return slot_is_worker(slot);
	}
	return false;
}

static void
write_counter(struct buf *out, struct board *board, int id)
{
	bool is_gauge = counters[id].kind == KIND_GAUGE;
	const char *suffix = is_gauge ? "" : "_total";
	char name[24];

	head(out, counters[id].name, suffix, is_gauge ? "gauge" : "counter",
	    counters[id].help);
	EACH_PROCESS(board, slot)
	{
		const struct board_slot *at = board_slot(board, slot);
		uint64_t value = atomic_load(&at->count.counters[id]);

		if (!is_of(counters[id].of, slot))
			continue;
		/* what a dead process said of itself is not so any more */
		if (is_gauge && atomic_load(&at->pid) == 0)
			continue;
		buf_printf(out, "parley_%s%s{process=\"%s\"} ",
		    counters[id].name, suffix, process_name(board, slot, name));
		if (is_gauge)
			buf_add_i64(out, (int64_t)value);
		else
			buf_add_u64(out, value);
		buf_add_char(out, '\n');
	}
}

/* The writer goes on meanwhile: the count is the sum of what was read. */
static void
write_buckets(struct buf *out, const struct histogram *histogram,
    const char *name, int name_len, const char *process)
{
	uint64_t total = 0;

	for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		total += atomic_load(&histogram->buckets[i]);
		if (i % EDGE_STEP != EDGE_STEP - 1 ||
		    i == HISTOGRAM_BUCKETS - 1)
			continue;
		buf_printf(out,
		    "parley_%.*s_seconds_bucket{process=\"%s\",le=\"%.6g\"} "
		    "%llu\n",
		    name_len, name, process, (double)histogram_edge_us(i) / 1e6,
		    (unsigned long long)total);
	}
	buf_printf(out,
	    "parley_%.*s_seconds_bucket{process=\"%s\",le=\"+Inf\"} %llu\n"
	    "parley_%.*s_seconds_sum{process=\"%s\"} %.6f\n"
	    "parley_%.*s_seconds_count{process=\"%s\"} %llu\n",
	    name_len, name, process, (unsigned long long)total, name_len, name,
	    process, (double)atomic_load(&histogram->sum_us) / 1e6, name_len,
	    name, process, (unsigned long long)total);
}

static void
write_histogram(struct buf *out, struct board *board, int id)
{
	const char *name = histograms[id].name;
	int len = (int)strlen(name) - 3; /* without "_us" */
	char process[24];

	buf_printf(out,
	    "# HELP parley_%.*s_seconds %s\n"
	    "# TYPE parley_%.*s_seconds histogram\n",
	    len, name, histograms[id].help, len, name);
	EACH_PROCESS(board, slot)
	{
		const struct histogram *histogram =
		    &board_slot(board, slot)->count.histograms[id];

		write_buckets(out, histogram, name, len,
		    process_name(board, slot, process));
	}
}

static void
write_processes(struct buf *out, struct board *board)
{
	char name[24];

	head(out, "process_up", "", "gauge",
	    "1 while the process serves, else 0");
	EACH_PROCESS(board, slot)
	{
		buf_printf(out, "parley_process_up{process=\"%s\"} %d\n",
		    process_name(board, slot, name),
		    health_is_serving(board, slot) ? 1 : 0);
	}
	head(out, "process_restarts", "_total", "counter",
	    "starts of the process after its first one");
	EACH_PROCESS(board, slot)
	{
		const struct board_slot *at = board_slot(board, slot);

		buf_printf(out,
		    "parley_process_restarts_total{process=\"%s\"} %u\n",
		    process_name(board, slot, name),
		    atomic_load(&at->restarts));
	}
}

void
metrics_write(struct buf *out, struct board *board)
{
	for (int id = 0; id < COUNTER_END; id++)
		write_counter(out, board, id);
	for (int id = 0; id < HISTOGRAM_END; id++)
		write_histogram(out, board, id);
	write_processes(out, board);
	head(out, "build_info", "", "gauge", "1, with the version as a label");
	buf_add_str(
	    out, "parley_build_info{version=\"" PACKAGE_VERSION "\"} 1\n");
}
