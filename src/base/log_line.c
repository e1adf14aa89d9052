/*
 * log_line.c - how a line of the log looks.
 *
 * Role:    text, JSON and syslog forms of one record.
 * Process: all.
 * Blocks:  never, and allocates nothing: it also reports that memory is out.
 * Trust:   messages may quote peers: control characters (C0, DEL, C1) and
 *          backslashes are escaped, bad UTF-8 becomes U+FFFD, so nobody
 *          forges a line or drives a terminal.
 * See:     log.c, t/unit/log.c.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log_priv.h"
#include "base/text.h"

/* What a JSON line needs after a cut: ...", closing quote, brace, newline */
#define TAIL_MAX 8

struct line {
	char *out;
	size_t len;
	size_t max;  /* nothing is added beyond, room for the tail is left */
	bool is_cut; /* something did not fit: add no more */
};

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARN] = "warn",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

const char *
log_level_name(enum log_level level)
{
	return level_names[level];
}

/* All or nothing, so that a cut never falls into a character or escape. */
static void
line_add(struct line *line, const char *text, size_t len)
{
	if (line->is_cut || len > line->max - line->len) {
		line->is_cut = true;
		return;
	}
	memcpy(line->out + line->len, text, len);
	line->len += len;
}

static void
line_add_text(struct line *line, const char *text)
{
	line_add(line, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static void
line_printf(struct line *line, const char *fmt, ...)
{
	char text[128];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	line_add_text(line, text);
}

/* A control character or one with a meaning; JSON knows no \x. */
static void
line_add_special(struct line *line, unsigned code)
{
	switch (code) {
	case '\n':
		line_add_text(line, "\\n");
		break;
	case '\r':
		line_add_text(line, "\\r");
		break;
	case '\t':
		line_add_text(line, "\\t");
		break;
	case '\\':
		line_add_text(line, "\\\\");
		break;
	case '"':
		line_add_text(line, "\\\"");
		break;
	default:
		line_printf(line, "\\u%04x", code);
	}
}

/*
 * Text of any origin. Both forms escape alike, except that only JSON must
 * escape the double quote.
 */
static void
line_add_safe(struct line *line, const char *text, size_t len, bool is_json)
{
	const unsigned char *bytes = (const unsigned char *)text;
	size_t at = 0;

	while (at < len && !line->is_cut) {
		unsigned char c = bytes[at];
		size_t size = 1;

		if (c < 0x20 || c == 0x7f || c == '\\' ||
		    (c == '"' && is_json)) {
			line_add_special(line, c);
			at++;
			continue;
		}
		if (c >= 0x80)
			size = text_utf8_valid_len(
			    text + at, text_utf8_lead_len(c) < len - at
					   ? text_utf8_lead_len(c)
					   : len - at);
		if (size == 0) {
			line_add_text(line, "\xef\xbf\xbd"); /* U+FFFD */
			at++;
			continue;
		}
		if (c == 0xc2 && bytes[at + 1] < 0xa0)
			line_add_special(line, bytes[at + 1]); /* C1 */
		else
			line_add(line, text + at, size);
		at += size;
	}
}

static void
line_add_time(struct line *line, int64_t wall_ms)
{
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm utc;

	gmtime_r(&seconds, &utc);
	line_printf(line, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
	    utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour,
	    utc.tm_min, utc.tm_sec, (int)(wall_ms % 1000));
}

static void
line_add_body(struct line *line, const struct log_record *record)
{
	line_add_safe(line, record->event, strlen(record->event), false);
	if (record->ctx.user_id != 0)
		line_printf(line, " user=%" PRIu64, record->ctx.user_id);
	if (record->ctx.session_id != 0)
		line_printf(line, " session=%" PRIu64, record->ctx.session_id);
	if (record->ctx.peer != NULL) {
		line_add_text(line, " peer=");
		line_add_safe(
		    line, record->ctx.peer, strlen(record->ctx.peer), false);
	}
	if (record->message_len > 0) {
		line_add_text(line, " ");
		line_add_safe(
		    line, record->message, record->message_len, false);
	}
}

/* Show a cut and end the line; max kept the room. */
static size_t
line_finish(struct line *line, const char *tail)
{
	line->max += TAIL_MAX;
	if (line->is_cut) {
		line->is_cut = false;
		line_add_text(line, "...");
	}
	line_add_text(line, tail);
	return line->len;
}

size_t
log_line_text(const struct log_record *record, char out[LOG_LINE_MAX])
{
	struct line line = {.out = out, .max = LOG_LINE_MAX - TAIL_MAX};

	line_add_time(&line, record->wall_ms);
	line_printf(&line, " %s ", log_level_name(record->level));
	line_add_safe(&line, record->process, strlen(record->process), false);
	line_printf(&line, "[%ld] ", (long)record->pid);
	line_add_body(&line, record);
	return line_finish(&line, "\n");
}

size_t
log_line_syslog(const struct log_record *record, char out[LOG_LINE_MAX])
{
	struct line line = {.out = out, .max = LOG_LINE_MAX - TAIL_MAX};

	line_printf(&line, "%s ", log_level_name(record->level));
	line_add_safe(&line, record->process, strlen(record->process), false);
	line_add_text(&line, " ");
	line_add_body(&line, record);
	return line_finish(&line, "\n");
}

static void
line_add_member(struct line *line, const char *name, const char *text)
{
	line_printf(line, ",\"%s\":\"", name);
	line_add_safe(line, text, strlen(text), true);
	line_add_text(line, "\"");
}

size_t
log_line_json(const struct log_record *record, char out[LOG_LINE_MAX])
{
	struct line line = {.out = out, .max = LOG_LINE_MAX - TAIL_MAX};

	line_add_text(&line, "{\"time\":\"");
	line_add_time(&line, record->wall_ms);
	line_add_text(&line, "\"");
	line_add_member(&line, "level", log_level_name(record->level));
	line_add_member(&line, "process", record->process);
	line_printf(&line, ",\"pid\":%ld", (long)record->pid);
	line_add_member(&line, "event", record->event);
	if (record->ctx.user_id != 0)
		line_printf(&line, ",\"user\":%" PRIu64, record->ctx.user_id);
	if (record->ctx.session_id != 0)
		line_printf(&line, ",\"session\":\"%" PRIu64 "\"",
		    record->ctx.session_id);
	if (record->ctx.peer != NULL)
		line_add_member(&line, "peer", record->ctx.peer);
	/* Last, so that a cut can only fall here. */
	line_add_text(&line, ",\"message\":\"");
	line_add_safe(&line, record->message, record->message_len, true);
	return line_finish(&line, "\"}\n");
}
