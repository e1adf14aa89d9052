/*
 * log.h - one line per event: a stable name, then key=value.
 *
 * error: someone must act; warn: degraded; info: life of a process;
 * debug: free. Nothing per message above debug; never a message body, a
 * token, a password or a phone number.
 *
 *     log_info(&session->log, "session-open", "device=%s", hex);
 *
 * Text:  2026-11-23T15:32:06.123Z info keeper[812] session-open user=7
 * device=ab JSON:  {"time":"...","level":"info","process":"keeper","pid":812,
 *         "event":"session-open","user":7,"message":"device=ab"}
 *
 * A session's number may be beyond 2^53: JSON has it as a string.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/** What a line is about; NULL or zero fields are left out. */
struct log_ctx {
	uint64_t user_id;
	uint64_t session_id;
	const char *peer; /* "203.0.113.9:51312" */
};

struct log_conf {
	const char *target; /* "stderr", "syslog" or an absolute path */
	const char *level;  /* "error", "warn", "info", "debug" */
	const char *format; /* "text" or "json" */
	bool may_wait;      /* a file that cannot be opened is no error */
};

/**
 * Start logging, or go on in another way (reload: on error nothing changes).
 * Before this call lines go to stderr as text. SIGPIPE is ignored from now on.
 *
 * @return  0, ERR_BAD_REQUEST (unknown target, level or format), ERR_IO (file)
 */
NODISCARD int log_open(const struct log_conf *conf);
/** Another level and format ("text", "json"), as checked by the configuration;
 *  unknown ones change nothing. */
void log_set(const char *level, const char *format);
/** Name of this process in each line ("supervisor", "worker-0"); copied. */
void log_set_process(const char *name);
/** Reopen the file (logrotate moved it away); SIGUSR1 asks for it. */
void log_reopen(void);
/**
 * What is due once a second; call it as often as you like, from the thread of
 * the loop. A line that comes again within 10 s is held back: this writes the
 * "repeated N times" of those whose 10 s are over (any new line does so too).
 * It says how many lines were lost once there is room again, and makes the
 * file anew when somebody has removed it.
 *
 * @return  true: the file is a new one; its owner may have to be set
 */
bool log_tick(void);
/** Write out every "repeated N times" that is still held back. */
void log_flush(void);
/** In a child after fork: what is held back is the parent's to tell. */
void log_forget(void);
void log_close(void);

bool log_is_on(enum log_level level);
/** Leaves errno as it was. */
void log_write(enum log_level level, const struct log_ctx *ctx,
    const char *event, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define log_error(ctx, event, ...)                                             \
	log_write(LOG_LEVEL_ERROR, (ctx), (event), __VA_ARGS__)
#define log_warn(ctx, event, ...)                                              \
	log_write(LOG_LEVEL_WARN, (ctx), (event), __VA_ARGS__)
#define log_info(ctx, event, ...)                                              \
	log_write(LOG_LEVEL_INFO, (ctx), (event), __VA_ARGS__)
#define log_debug(ctx, event, ...)                                             \
	do {                                                                   \
		if (log_is_on(LOG_LEVEL_DEBUG))                                \
			log_write(                                             \
			    LOG_LEVEL_DEBUG, (ctx), (event), __VA_ARGS__);     \
	} while (0)

/** Our mistake: say where, leave a core, let the supervisor restart. */
#define panic(...) log_panic(__FILE__, __LINE__, __VA_ARGS__)
/** The machine's mistake at start-up: say what and exit 1. */
#define fatal(...) log_fatal(__VA_ARGS__)
_Noreturn void log_panic(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
_Noreturn void log_fatal(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));

#endif
