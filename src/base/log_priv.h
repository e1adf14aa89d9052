/*
 * log_priv.h - what the three files of the log share.
 */
#ifndef BASE_LOG_PRIV_H
#define BASE_LOG_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"

/*
 * One line with its newline. A write of up to PIPE_BUF (4096) bytes to a pipe
 * is never mixed with another one: pipe(7).
 */
#define LOG_LINE_MAX    4096
#define LOG_PROCESS_MAX 32

/** Everything a line is made of. */
struct log_record {
	enum log_level level;
	int64_t wall_ms;
	pid_t pid;
	const char *process;
	const char *event;
	struct log_ctx ctx;
	const char *message;
	size_t message_len;
};

/* log_line.c: pure; lines end with '\n', are valid UTF-8, have no other
 * control character, and are cut to LOG_LINE_MAX bytes. */
const char *log_level_name(enum log_level level);
size_t log_line_text(const struct log_record *record, char out[LOG_LINE_MAX]);
size_t log_line_json(const struct log_record *record, char out[LOG_LINE_MAX]);
/** Without the time and the pid, which the datagram's own head carries. */
size_t log_line_syslog(const struct log_record *record, char out[LOG_LINE_MAX]);

/* log_sink.c: where lines go; never blocks. */
struct log_sink {
	enum { LOG_SINK_STDERR, LOG_SINK_SYSLOG, LOG_SINK_FILE } kind;
	int fd;       /* -1: nowhere for now */
	char *path;   /* of LOG_SINK_FILE, else NULL */
	bool is_torn; /* the last write ended inside a line */
};

/** @return 0, ERR_BAD_REQUEST (target), ERR_IO (cannot open) */
NODISCARD int log_sink_open(const char *target, struct log_sink *sink_out);
/** A file that cannot be opened yet: log_sink_mend tries again. */
void log_sink_await(const char *path, struct log_sink *sink_out);
/** Make the file again if it has been removed, or was never there.
 *  @return true: it is a new one */
bool log_sink_mend(struct log_sink *sink);
/** Open the file again by its name; ERR_IO: the old one is kept. */
NODISCARD int log_sink_reopen(struct log_sink *sink);
void log_sink_close(struct log_sink *sink);
/** @return 0 or ERR_IO: the line is lost */
NODISCARD int log_sink_write(
    struct log_sink *sink, enum log_level level, const char *line, size_t len);

#endif
