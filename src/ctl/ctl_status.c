/*
 * ctl_status.c - every process, from the scoreboard.
 *
 * Role:    works with a hanging or dead server: it only reads a file and
 *          /proc.
 * Process: parleyctl.
 * Blocks:  for the quarter of a second between two looks at the counters.
 * Trust:   the board's numbers are shown as they are.
 * See:     shm/board.h, shm/health.h.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "ctl/ctl_priv.h"
#include "shm/board.h"
#include "shm/health.h"

#define SAMPLE_MS 250
#define WATCH_MS  750 /* and the sample: once a second */

struct line {
	char name[24];
	int pid;
	uint32_t state;
	uint32_t restarts;
	uint32_t generation;
	bool is_realtime;
	int64_t uptime_s;
	int64_t connections;
	int64_t sessions;
	int64_t memory_bytes;
	int64_t beat_age_ms; /* -1: none */
	uint64_t messages_per_s;
};

struct report {
	const char *version; /* of the board */
	const struct conf *conf;
	struct board *board;
	struct health health;
	int pid; /* 0: not running */
	struct line lines[BOARD_SLOT_END];
	size_t line_count;
};

/* ---- gathering ---- */

/* The keeper's are messages stored, a worker's events sent to clients. */
static uint64_t
message_count(struct board *board, int slot)
{
	const struct board_slot *at = board_slot(board, slot);

	return atomic_load(
	    &at->count.counters[slot == SLOT_KEEPER ? COUNTER_messages
						    : COUNTER_deliveries]);
}

/* "Pss:  123 kB"; needs rights that only root has. @return -1: unknown */
static int64_t
read_pss(int pid)
{
	char path[48];
	char text[128];
	long long kib = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	file = fopen(path, "re");
	if (file == NULL)
		return -1;
	while (kib < 0 && fgets(text, sizeof(text), file) != NULL) {
		if (strncmp(text, "Pss:", 4) == 0)
			kib = strtoll(text + 4, NULL, 10);
	}
	fclose(file);
	return kib < 0 ? -1 : kib * 1024;
}

static int64_t
read_memory(int pid)
{
	int64_t bytes = read_pss(pid);
	char path[48];
	char text[128] = "";
	char *rest;
	FILE *file;

	if (bytes >= 0)
		return bytes;
	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	if (fgets(text, sizeof(text), file) == NULL)
		text[0] = '\0';
	fclose(file);
	strtoll(text, &rest, 10); /* size, then resident pages */
	return strtoll(rest, NULL, 10) * sysconf(_SC_PAGESIZE);
}

static int64_t
read_gauge(const struct board_slot *at, enum counter_id id)
{
	return (int64_t)atomic_load(&at->count.counters[id]);
}

static void
fill_line(struct report *report, int slot, struct line *line)
{
	const struct board_slot *at = board_slot(report->board, slot);
	bool is_alive;

	board_slot_name(report->board, slot, line->name);
	line->pid = atomic_load(&at->pid);
	is_alive = line->pid > 0 && report->pid != 0;
	line->restarts = atomic_load(&at->restarts);
	line->generation = atomic_load(&at->generation);
	if (!is_alive) {
		/* what stands there was true when the supervisor died */
		line->pid = 0;
		line->state = report->pid != 0 ? atomic_load(&at->state)
					       : (uint32_t)PROCESS_DEAD;
		line->beat_age_ms = -1;
		return;
	}
	line->state = atomic_load(&at->state);
	line->is_realtime = atomic_load(&at->realtime) != 0;
	line->uptime_s =
	    (clock_wall_ms() - atomic_load(&at->started_at_ms)) / 1000;
	if (line->uptime_s < 0)
		line->uptime_s = 0; /* the clock was set */
	line->connections = read_gauge(at, COUNTER_connections);
	line->sessions = read_gauge(at, COUNTER_sessions);
	line->memory_bytes = read_memory(line->pid);
	line->beat_age_ms =
	    health_beat_age_ms(report->board, slot, clock_mono_ms());
}

static void
gather(struct report *report)
{
	uint64_t before[BOARD_SLOT_END] = {0};
	int64_t from_ms = clock_mono_ms();
	int64_t passed_ms;

	report->pid = atomic_load(&board_header(report->board)->supervisor_pid);
	if (!ctl_is_parleyd(report->pid))
		report->pid = 0;
	for (int slot = 0; slot < board_slot_end(report->board); slot++) {
		if (health_is_used(report->board, slot))
			before[slot] = message_count(report->board, slot);
	}
	if (report->pid != 0)
		ctl_sleep_ms(SAMPLE_MS);
	passed_ms = clock_mono_ms() - from_ms;
	report->line_count = 0;
	for (int slot = 0; slot < board_slot_end(report->board); slot++) {
		struct line *line = &report->lines[report->line_count];
		uint64_t news;

		if (!health_is_used(report->board, slot))
			continue;
		memset(line, 0, sizeof(*line));
		fill_line(report, slot, line);
		news = message_count(report->board, slot) - before[slot];
		if (passed_ms > 0)
			line->messages_per_s =
			    news * 1000 / (uint64_t)passed_ms;
		report->line_count++;
	}
	report->health = health_read(report->board, clock_mono_ms());
}

/* The configured host with the port that was bound; only the first one's is
 * on the board. */
static void
format_address(const char *text, uint32_t port, char *out, size_t out_len)
{
	const char *colon = strrchr(text, ':');

	if (port == 0 || colon == NULL)
		snprintf(out, out_len, "%s", text);
	else
		snprintf(
		    out, out_len, "%.*s:%u", (int)(colon - text), text, port);
}

static void
listen_address(const struct report *report, size_t index, char out[128])
{
	uint32_t port = atomic_load(&board_header(report->board)->listen_port);

	format_address(report->conf->server_listen.items[index],
	    index == 0 ? port : 0, out, 128);
}

static void
listen_tls_address(const struct report *report, size_t index, char out[128])
{
	uint32_t port =
	    atomic_load(&board_header(report->board)->listen_tls_port);

	format_address(report->conf->server_listen_tls.items[index],
	    index == 0 ? port : 0, out, 128);
}

static void
ops_address(const struct report *report, char out[128])
{
	const char *text = report->conf->ops_listen;

	out[0] = '\0';
	if (text != NULL && *text != '\0')
		format_address(text,
		    atomic_load(&board_header(report->board)->ops_port), out,
		    128);
}

/* ---- showing ---- */

static void
put_line(struct buf *json, const struct line *line)
{
	json_object_begin(json);
	json_put_text(json, "name", line->name);
	json_put_i64(json, "pid", line->pid);
	json_put_text(json, "state", board_state_name(line->state));
	json_put_i64(json, "uptime_s", line->uptime_s);
	json_put_u64(json, "restarts", line->restarts);
	json_put_i64(json, "connections", line->connections);
	json_put_i64(json, "sessions", line->sessions);
	json_put_u64(json, "messages_per_s", line->messages_per_s);
	json_put_i64(json, "memory_bytes", line->memory_bytes);
	json_key(json, "heartbeat_age_ms");
	if (line->beat_age_ms >= 0)
		json_i64(json, line->beat_age_ms);
	else
		json_null(json);
	json_put_bool(json, "realtime", line->is_realtime);
	json_put_u64(json, "generation", line->generation);
	json_object_end(json);
}

static uint64_t
keeper_gauge(struct board *board, enum counter_id id)
{
	return atomic_load(&board_slot(board, SLOT_KEEPER)->count.counters[id]);
}

static void
put_outbox(struct buf *json, struct board *board)
{
	json_key(json, "outbox");
	json_object_begin(json);
	json_put_u64(
	    json, "waiting", keeper_gauge(board, COUNTER_outbox_depth));
	json_put_u64(json, "lag_seconds",
	    keeper_gauge(board, COUNTER_outbox_lag_seconds));
	json_put_u64(json, "dead", keeper_gauge(board, COUNTER_outbox_dead));
	json_object_end(json);
}

/* Nothing where there is nothing to say. */
static void
print_outbox(struct board *board)
{
	uint64_t waiting = keeper_gauge(board, COUNTER_outbox_depth);
	uint64_t dead = keeper_gauge(board, COUNTER_outbox_dead);

	if (waiting == 0 && dead == 0)
		return;
	printf("outbox  %llu waiting, the oldest for %llu s; %llu dead "
	       "letters\n",
	    (unsigned long long)waiting,
	    (unsigned long long)keeper_gauge(board, COUNTER_outbox_lag_seconds),
	    (unsigned long long)dead);
}

static bool
has_database(const struct report *report)
{
	return strcmp(report->conf->directory_backend, "mssql") == 0;
}

static void
put_database(struct buf *json, struct board *board)
{
	struct health_database database = health_database(board);

	json_key(json, "database");
	json_object_begin(json);
	json_put_u64(json, "connections", database.connections);
	json_put_u64(json, "waiting", database.waiting);
	json_put_bool(json, "spared", database.is_spared);
	json_put_bool(json, "setup_wrong", database.is_setup_wrong);
	json_object_end(json);
}

static void
print_database(struct board *board)
{
	struct health_database database = health_database(board);

	printf("mssql   %llu connections, %llu requests waiting%s%s\n",
	    (unsigned long long)database.connections,
	    (unsigned long long)database.waiting,
	    database.is_spared ? "; not reached" : "",
	    database.is_setup_wrong ? "; procedures or rights are wrong" : "");
}

static void
print_json(const struct report *report)
{
	bool is_running = report->pid != 0;
	struct buf json = {0};
	char address[128];

	json_object_begin(&json);
	json_put_text(&json, "version", report->version);
	json_put_bool(&json, "running", is_running);
	json_put_text(&json, "status",
	    is_running ? health_status_name(report->health.status) : "failed");
	json_put_bool(&json, "ready", is_running && report->health.is_ready);
	json_put_text(&json, "reason", report->health.reason);
	json_key(&json, "listen");
	json_array_begin(&json);
	for (size_t i = 0; i < report->conf->server_listen.count; i++) {
		listen_address(report, i, address);
		json_string(&json, address, strlen(address));
	}
	json_array_end(&json);
	json_key(&json, "listen_tls");
	json_array_begin(&json);
	for (size_t i = 0; i < report->conf->server_listen_tls.count; i++) {
		listen_tls_address(report, i, address);
		json_string(&json, address, strlen(address));
	}
	json_array_end(&json);
	ops_address(report, address);
	json_put_text(&json, "ops", address);
	put_outbox(&json, report->board);
	if (has_database(report))
		put_database(&json, report->board);
	json_key(&json, "processes");
	json_array_begin(&json);
	for (size_t i = 0; i < report->line_count; i++)
		put_line(&json, &report->lines[i]);
	json_array_end(&json);
	json_object_end(&json);
	printf("%.*s\n", (int)json.len, json.data);
	buf_fini(&json);
}

static void
format_uptime(int64_t s, char out[24])
{
	if (s < 60)
		snprintf(out, 24, "%llds", (long long)s);
	else if (s < 3600)
		snprintf(out, 24, "%lldm%02llds", (long long)(s / 60),
		    (long long)(s % 60));
	else if (s < 86400)
		snprintf(out, 24, "%lldh%02lldm", (long long)(s / 3600),
		    (long long)(s / 60 % 60));
	else
		snprintf(out, 24, "%lldd%02lldh", (long long)(s / 86400),
		    (long long)(s / 3600 % 24));
}

static void
print_line(const struct line *line)
{
	char uptime[24] = "-";
	char beat[24] = "-";

	if (line->pid != 0)
		format_uptime(line->uptime_s, uptime);
	if (line->beat_age_ms >= 0)
		snprintf(
		    beat, sizeof(beat), "%lldms", (long long)line->beat_age_ms);
	printf("%-12s %7d %-9s %8s %8u %11lld %8llu %8.1f %9s%s\n", line->name,
	    line->pid, board_state_name(line->state), uptime, line->restarts,
	    (long long)line->connections,
	    (unsigned long long)line->messages_per_s,
	    (double)line->memory_bytes / (1024 * 1024), beat,
	    line->is_realtime ? " rt" : "");
}

static void
print_text(const struct report *report)
{
	char address[128];

	printf("parleyd %s, ", report->version);
	if (report->pid == 0)
		puts("not running; what its last board says:");
	else
		printf("%s%s%s\n", health_status_name(report->health.status),
		    report->health.reason[0] != '\0' ? ": " : "",
		    report->health.reason);
	for (size_t i = 0; i < report->conf->server_listen.count; i++) {
		listen_address(report, i, address);
		printf("listen  ws://%s/ws\n", address);
	}
	for (size_t i = 0; i < report->conf->server_listen_tls.count; i++) {
		listen_tls_address(report, i, address);
		printf("listen  wss://%s/ws\n", address);
	}
	ops_address(report, address);
	if (address[0] != '\0')
		printf("ops     http://%s/\n", address);
	print_outbox(report->board);
	if (has_database(report))
		print_database(report->board);
	printf("\n%-12s %7s %-9s %8s %8s %11s %8s %8s %9s\n", "process", "pid",
	    "state", "uptime", "restarts", "connections", "msg/s", "MiB",
	    "heartbeat");
	for (size_t i = 0; i < report->line_count; i++)
		print_line(&report->lines[i]);
}

static int
show_once(struct ctl *ctl, struct report *report)
{
	gather(report);
	report->version = board_header(report->board)->version;
	if (ctl->wants_json)
		print_json(report);
	else
		print_text(report);
	if (report->pid != 0)
		return CTL_OK;
	fprintf(stderr, "parleyctl: parleyd is not running in %s\n",
	    ctl->conf->server_run_dir);
	return CTL_NOT_RUNNING;
}

int
ctl_status(struct ctl *ctl)
{
	bool is_watching = ctl_option(ctl, "watch") != NULL;
	struct report *report = xcalloc(1, sizeof(*report));
	int code;
	int rc;

	report->conf = ctl->conf;
	do {
		/* each time anew: a new server has a new board */
		rc = board_open(ctl->conf->server_run_dir, &report->board);
		if (rc == ERR_NOT_FOUND) {
			code = ctl_fail_not_running(ctl);
			break;
		}
		if (rc != 0) {
			code = ctl_fail(ctl, CTL_FAILED, "%s/board: %s",
			    ctl->conf->server_run_dir, err_text(rc));
			break;
		}
		if (is_watching && !ctl->wants_json)
			fputs("\033[H\033[2J", stdout);
		code = show_once(ctl, report);
		board_close(&report->board);
		fflush(stdout);
		if (is_watching)
			ctl_sleep_ms(WATCH_MS);
	} while (is_watching && !ferror(stdout));
	free(report);
	return code;
}
