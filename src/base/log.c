/*
 * log.c - one line per event, repeats held back.
 *
 * Role:    levels, repeats, counting; log_line.c makes the line, log_sink.c
 *          writes it.
 * Process: all; any thread.
 * Blocks:  never (a lock that is held for one write).
 * Trust:   see log_line.c.
 * See:     t/unit/log.c.
 *
 * Repeats: a line equal to one written less than 10 s ago (level, event,
 * context and text) is counted, not written. When the 10 s are over, or its
 * place is needed, or on log_flush, one line says how often it came. Several
 * lines are watched at a time, so that two that alternate do not get through.
 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/log_priv.h"

#define TICK_MS         1000
#define REPEAT_COUNT    16
#define REPEAT_MS       10000
#define REPEAT_TEXT_MAX 512 /* beyond, a hash tells texts apart */
#define PEER_MAX        64
#define EVENT_MAX       64

/* One line that was written lately. */
struct repeat {
	int64_t until_ms; /* 0: free */
	uint64_t held;    /* how often it came again */
	uint64_t hash;    /* of the whole text */
	size_t len;       /* of the whole text */
	enum log_level level;
	uint64_t user_id;
	uint64_t session_id;
	char peer[PEER_MAX];
	char event[EVENT_MAX];
	char text[REPEAT_TEXT_MAX];
};

static const struct log_ctx no_ctx = {0};

static struct {
	pthread_mutex_t lock;
	struct log_sink sink;
	atomic_int level;
	bool is_json;
	char process[LOG_PROCESS_MAX];
	uint64_t lost; /* lines that could not be written, not yet told */
	int64_t next_tick_ms; /* of the thread of the loop */
	struct repeat repeats[REPEAT_COUNT];
} state = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .sink = {.kind = LOG_SINK_STDERR, .fd = STDERR_FILENO},
    .level = LOG_LEVEL_INFO,
    .process = "parley",
};

static size_t
record_format(const struct log_record *record, char line[LOG_LINE_MAX])
{
	if (state.sink.kind == LOG_SINK_SYSLOG && !state.is_json)
		return log_line_syslog(record, line);
	if (state.is_json)
		return log_line_json(record, line);
	return log_line_text(record, line);
}

static int
record_write(enum log_level level, const struct log_ctx *ctx, const char *event,
    const char *text, size_t len)
{
	char line[LOG_LINE_MAX];
	struct log_record record = {
	    .level = level,
	    .wall_ms = clock_wall_ms(),
	    .pid = getpid(),
	    .process = state.process,
	    .event = event,
	    .ctx = *ctx,
	    .message = text,
	    .message_len = len,
	};
	size_t line_len = record_format(&record, line);

	return log_sink_write(&state.sink, level, line, line_len);
}

/* Once writing works again: say how many were lost. */
static void
lost_tell(void)
{
	char text[32];
	int len;

	if (state.lost == 0)
		return;
	len = snprintf(
	    text, sizeof(text), "lines=%llu", (unsigned long long)state.lost);
	if (record_write(
		LOG_LEVEL_WARN, &no_ctx, "log-lost", text, (size_t)len) == 0)
		state.lost = 0;
}

static void
line_write(enum log_level level, const struct log_ctx *ctx, const char *event,
    const char *text, size_t len)
{
	lost_tell();
	if (record_write(level, ctx, event, text, len) == 0)
		return;
	state.lost++;
	COUNT(log_lines_lost);
}

/* FNV-1a: only helps to tell long texts apart. */
static uint64_t
text_hash(const char *text, size_t len)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++)
		hash =
		    (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static bool
repeat_is(const struct repeat *repeat, const struct repeat *line)
{
	return repeat->until_ms != 0 && repeat->hash == line->hash &&
	       repeat->len == line->len && repeat->level == line->level &&
	       repeat->user_id == line->user_id &&
	       repeat->session_id == line->session_id &&
	       strcmp(repeat->event, line->event) == 0 &&
	       strcmp(repeat->peer, line->peer) == 0 &&
	       strcmp(repeat->text, line->text) == 0;
}

/* Say what was held back. */
static void
repeat_tell(struct repeat *repeat)
{
	char text[REPEAT_TEXT_MAX + 64];
	struct log_ctx ctx = {
	    .user_id = repeat->user_id,
	    .session_id = repeat->session_id,
	    .peer = repeat->peer[0] != '\0' ? repeat->peer : NULL,
	};
	int len;

	if (repeat->held == 0)
		return;
	len = snprintf(text, sizeof(text), "repeated %llu times: %s",
	    (unsigned long long)repeat->held, repeat->text);
	repeat->held = 0;
	line_write(repeat->level, &ctx, repeat->event, text, (size_t)len);
}

static void
repeat_expire(int64_t now_ms)
{
	for (int i = 0; i < REPEAT_COUNT; i++) {
		struct repeat *repeat = &state.repeats[i];

		if (repeat->until_ms == 0 || now_ms < repeat->until_ms)
			continue;
		repeat_tell(repeat);
		repeat->until_ms = 0;
	}
}

/* A free place, or that of the oldest line. */
static struct repeat *
repeat_place(void)
{
	struct repeat *oldest = &state.repeats[0];

	for (int i = 0; i < REPEAT_COUNT; i++) {
		if (state.repeats[i].until_ms < oldest->until_ms)
			oldest = &state.repeats[i];
	}
	if (oldest->until_ms != 0)
		repeat_tell(oldest);
	return oldest;
}

/* true: held back. Else the line is remembered from now on. */
static bool
repeat_hold(const struct repeat *line)
{
	int64_t now_ms = clock_mono_ms();
	struct repeat *place;

	repeat_expire(now_ms);
	for (int i = 0; i < REPEAT_COUNT; i++) {
		if (repeat_is(&state.repeats[i], line)) {
			state.repeats[i].held++;
			return true;
		}
	}
	place = repeat_place();
	*place = *line;
	place->held = 0;
	place->until_ms = now_ms + REPEAT_MS;
	return false;
}

static void
text_copy(char *out, size_t room, const char *text)
{
	size_t len = strnlen(text, room - 1);

	memcpy(out, text, len);
	out[len] = '\0';
}

static void
log_text(enum log_level level, const struct log_ctx *ctx, const char *event,
    const char *text, size_t len)
{
	struct repeat line = {
	    .hash = text_hash(text, len),
	    .len = len,
	    .level = level,
	    .user_id = ctx->user_id,
	    .session_id = ctx->session_id,
	};

	text_copy(
	    line.peer, sizeof(line.peer), ctx->peer != NULL ? ctx->peer : "");
	text_copy(line.event, sizeof(line.event), event);
	text_copy(line.text, sizeof(line.text), text);
	pthread_mutex_lock(&state.lock);
	if (level == LOG_LEVEL_ERROR)
		COUNT(errors_logged);
	if (!repeat_hold(&line))
		line_write(level, ctx, event, text, len);
	pthread_mutex_unlock(&state.lock);
}

/* Bytes in text; LOG_LINE_MAX - 1 when it was cut. */
__attribute__((format(printf, 2, 0))) static size_t
text_format(char text[LOG_LINE_MAX], const char *fmt, va_list args)
{
	int len = vsnprintf(text, LOG_LINE_MAX, fmt, args);

	if (len < 0)
		len = snprintf(text, LOG_LINE_MAX, "(not printable)");
	return len < LOG_LINE_MAX ? (size_t)len : LOG_LINE_MAX - 1;
}

static int
level_parse(const char *name, enum log_level *level_out)
{
	for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++) {
		if (strcmp(name, log_level_name(i)) == 0) {
			*level_out = i;
			return 0;
		}
	}
	return ERR_BAD_REQUEST;
}

int
log_open(const struct log_conf *conf)
{
	struct log_sink sink;
	enum log_level level;
	bool is_json = strcmp(conf->format, "json") == 0;
	int rc;

	rc = level_parse(conf->level, &level);
	if (rc != 0)
		return rc;
	if (!is_json && strcmp(conf->format, "text") != 0)
		return ERR_BAD_REQUEST;
	rc = log_sink_open(conf->target, &sink);
	if (rc == ERR_IO && conf->may_wait)
		log_sink_await(conf->target, &sink);
	else if (rc != 0)
		return rc;
	/* The end of whoever reads our stderr must not be ours. */
	signal(SIGPIPE, SIG_IGN);
	log_close();
	pthread_mutex_lock(&state.lock);
	state.sink = sink;
	state.is_json = is_json;
	atomic_store(&state.level, level);
	pthread_mutex_unlock(&state.lock);
	return 0;
}

void
log_set(const char *level_text, const char *format)
{
	enum log_level level;

	if (level_parse(level_text, &level) != 0)
		return;
	pthread_mutex_lock(&state.lock);
	state.is_json = strcmp(format, "json") == 0;
	atomic_store(&state.level, level);
	pthread_mutex_unlock(&state.lock);
}

void
log_set_process(const char *name)
{
	pthread_mutex_lock(&state.lock);
	text_copy(state.process, sizeof(state.process), name);
	pthread_mutex_unlock(&state.lock);
}

void
log_reopen(void)
{
	int rc;

	pthread_mutex_lock(&state.lock);
	rc = log_sink_reopen(&state.sink);
	pthread_mutex_unlock(&state.lock);
	if (rc != 0)
		log_error(NULL, "log-reopen-failed", "the old file is kept");
}

bool
log_tick(void)
{
	int64_t now_ms = clock_mono_ms();
	bool is_new;

	if (now_ms < state.next_tick_ms)
		return false;
	state.next_tick_ms = now_ms + TICK_MS;
	pthread_mutex_lock(&state.lock);
	is_new = log_sink_mend(&state.sink);
	lost_tell();
	repeat_expire(now_ms);
	pthread_mutex_unlock(&state.lock);
	return is_new;
}

void
log_flush(void)
{
	pthread_mutex_lock(&state.lock);
	for (int i = 0; i < REPEAT_COUNT; i++)
		repeat_tell(&state.repeats[i]);
	pthread_mutex_unlock(&state.lock);
}

void
log_forget(void)
{
	pthread_mutex_lock(&state.lock);
	memset(state.repeats, 0, sizeof(state.repeats));
	state.lost = 0;
	pthread_mutex_unlock(&state.lock);
}

void
log_close(void)
{
	log_flush();
	pthread_mutex_lock(&state.lock);
	memset(state.repeats, 0, sizeof(state.repeats));
	log_sink_close(&state.sink);
	state.is_json = false;
	pthread_mutex_unlock(&state.lock);
}

bool
log_is_on(enum log_level level)
{
	return (int)level <=
	       atomic_load_explicit(&state.level, memory_order_relaxed);
}

void
log_write(enum log_level level, const struct log_ctx *ctx, const char *event,
    const char *fmt, ...)
{
	char text[LOG_LINE_MAX];
	int errno_before = errno; /* the caller may still want to look */
	va_list args;
	size_t len;

	if (!log_is_on(level))
		return;
	va_start(args, fmt);
	len = text_format(text, fmt, args);
	va_end(args);
	log_text(level, ctx != NULL ? ctx : &no_ctx, event, text, len);
	errno = errno_before;
}

/*
 * The last line of a process: never held back, and the lock is only tried,
 * because this thread may hold it.
 */
static void
log_last(const char *event, const char *text, size_t len)
{
	bool is_locked = pthread_mutex_trylock(&state.lock) == 0;

	COUNT(errors_logged);
	if (is_locked) {
		for (int i = 0; i < REPEAT_COUNT; i++)
			repeat_tell(&state.repeats[i]);
	}
	line_write(LOG_LEVEL_ERROR, &no_ctx, event, text, len);
	if (is_locked)
		pthread_mutex_unlock(&state.lock);
}

void
log_panic(const char *file, int line, const char *fmt, ...)
{
	char text[LOG_LINE_MAX];
	char place[LOG_LINE_MAX + 256];
	va_list args;
	int len;

	va_start(args, fmt);
	text_format(text, fmt, args);
	va_end(args);
	len = snprintf(place, sizeof(place), "at=%s:%d %s", file, line, text);
	log_last("panic", place,
	    (size_t)len < sizeof(place) ? (size_t)len : sizeof(place) - 1);
	abort();
}

void
log_fatal(const char *fmt, ...)
{
	char text[LOG_LINE_MAX];
	va_list args;
	size_t len;

	va_start(args, fmt);
	len = text_format(text, fmt, args);
	va_end(args);
	log_last("fatal", text, len);
	exit(1);
}
