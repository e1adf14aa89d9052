/*
 * conf_file.c - the configuration file.
 *
 * Role:    sections and keys through libinih, values past it.
 * Process: supervisor, parleyctl, parleyload.
 * Blocks:  on reading one small file.
 * Trust:   the operator's; mistakes are refused with file and line. A text
 *          is shown only where it looks like a name, for a secret may have
 *          slipped onto a line of its own.
 * See:     conf_parse.c, t/unit/conf.c.
 *
 * libinih as distributions build it cuts lines after 197 bytes and goes on
 * with the rest as another line, and ends a value at " ;". Both would damage
 * a secret without a word. So it is shown only "[section]" or "key =", and
 * the value is taken from the line itself.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/conf_priv.h"
#include "base/mem.h"
#include "base/text.h"

#define FILE_MAX (1024 * 1024)
#define BOM      "\xef\xbb\xbf"

/* One reading of one file. */
struct reading {
	struct conf *conf;
	const char *path;
	const char *data;
	size_t len;
	size_t at;         /* start of the next line */
	int line;          /* number of the line that libinih has, from 1 */
	const char *value; /* of that line */
	size_t value_len;
	int *key_lines; /* conf->source's */
	bool has_failed;
	char *error;
	size_t error_len;
};

__attribute__((format(printf, 2, 3))) static void
reading_fail(struct reading *reading, const char *fmt, ...)
{
	va_list args;
	int len;

	reading->has_failed = true;
	len = snprintf(reading->error, reading->error_len,
	    "%s:%d: ", reading->path, reading->line);
	if (len < 0 || (size_t)len >= reading->error_len)
		return;
	va_start(args, fmt);
	vsnprintf(
	    reading->error + len, reading->error_len - (size_t)len, fmt, args);
	va_end(args);
}

/* Something that a person typed as a name, hardly part of a secret. */
static bool
is_name(const char *text)
{
	size_t len = strlen(text);

	return len > 0 && len <= 32 &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyz_") == len;
}

static void
fail_unknown(struct reading *reading, const char *what, const char *name,
    const char *nearest)
{
	if (nearest != NULL)
		reading_fail(reading, "unknown %s \"%s\"; did you mean \"%s\"?",
		    what, name, nearest);
	else if (is_name(name))
		reading_fail(reading, "unknown %s \"%s\"", what, name);
	else
		reading_fail(reading, "unknown %s", what);
}

static void
fail_unknown_section(struct reading *reading, const char *name)
{
	struct text_nearest nearest = {0};

	for (const struct conf_key *k = conf_keys; k->section != NULL; k++)
		text_nearest_offer(&nearest, name, k->section);
	fail_unknown(reading, "section", name, nearest.best);
}

static void
fail_unknown_key(struct reading *reading, const char *section, const char *name)
{
	struct text_nearest nearest = {0};
	char what[64];

	for (const struct conf_key *k = conf_keys; k->section != NULL; k++) {
		if (strcmp(k->section, section) == 0)
			text_nearest_offer(&nearest, name, k->key);
	}
	snprintf(what, sizeof(what), "key in [%s]:", section);
	fail_unknown(reading, what, name, nearest.best);
}

/* libinih's ini_handler; 1: go on. Its value is empty, ours is kept. */
static int
reading_take(
    void *user, const char *section, const char *name, const char *value)
{
	struct reading *reading = user;
	const struct conf_key *key;
	struct buf expected = {0};
	int *key_line;

	(void)value;
	if (section[0] == '\0') {
		reading_fail(reading, "a key before the first [section]");
		return 0;
	}
	key = conf_key_find(section, name);
	if (key == NULL) {
		fail_unknown_key(reading, section, name);
		return 0;
	}
	key_line = &reading->key_lines[key - conf_keys];
	if (*key_line != 0) {
		reading_fail(reading, "%s is set in line %d already", key->key,
		    *key_line);
		return 0;
	}
	*key_line = reading->line;
	if (conf_value_set(
		reading->conf, key, reading->value, reading->value_len) == 0)
		return 1;
	conf_expect(key, &expected);
	reading_fail(reading, "%s: expected %.*s", key->key, (int)expected.len,
	    expected.data);
	buf_fini(&expected);
	return 0;
}

/* "[name]", then at most a comment. */
static const char *
section_end(struct reading *reading, const char *line, const char *end)
{
	const char *close = memchr(line, ']', (size_t)(end - line));
	const char *rest;
	char *name;

	if (close == NULL) {
		reading_fail(reading, "expected ']' at the end of a section");
		return NULL;
	}
	rest = close + 1;
	while (rest < end && isspace((unsigned char)*rest))
		rest++;
	if (rest < end && *rest != ';' && *rest != '#') {
		reading_fail(reading, "expected nothing after ']'");
		return NULL;
	}
	name = xstrndup(line + 1, (size_t)(close - line - 1));
	if (!conf_has_section(name)) {
		fail_unknown_section(reading, name);
		close = NULL;
	}
	free(name);
	return close != NULL ? close + 1 : NULL;
}

/* "key =" or "key:"; the value is remembered. */
static const char *
key_end(struct reading *reading, const char *line, const char *end)
{
	const char *at = line;

	while (at < end && *at != '=' && *at != ':')
		at++;
	if (at == end) {
		reading_fail(
		    reading, "expected [section], key = value, or a comment");
		return NULL;
	}
	reading->value = at + 1;
	reading->value_len = (size_t)(end - at - 1);
	return at + 1;
}

/* The part of a line that libinih is shown; NULL: refused. */
static const char *
line_structure_end(struct reading *reading, const char *line, const char *end)
{
	if (line == end || *line == ';' || *line == '#')
		return line;
	if (*line == '[')
		return section_end(reading, line, end);
	return key_end(reading, line, end);
}

/* libinih's ini_reader: like fgets on our copy of the file. */
static char *
reading_next(char *out, int room, void *stream)
{
	struct reading *reading = stream;
	const char *line = reading->data + reading->at;
	size_t left = reading->len - reading->at;
	const char *newline = memchr(line, '\n', left);
	const char *end = newline != NULL ? newline : line + left;
	size_t len;

	if (reading->has_failed || left == 0)
		return NULL;
	reading->at += (size_t)(end - line) + (newline != NULL);
	reading->line++;
	/* White space first would continue the value of the line before. */
	while (line < end && isspace((unsigned char)*line))
		line++;
	end = line_structure_end(reading, line, end);
	if (end == NULL)
		return NULL;
	len = (size_t)(end - line);
	if (len + 2 > (size_t)room) {
		reading_fail(reading, "no key is that long");
		return NULL;
	}
	memcpy(out, line, len);
	out[len] = '\n';
	out[len + 1] = '\0';
	return out;
}

/* Number of the first line that is no text, 0: there is none. */
static int
line_without_text(const struct reading *reading)
{
	const char *at = reading->data;
	const char *end = reading->data + reading->len;

	for (int line = 1; at < end; line++) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((stop != NULL ? stop : end) - at);

		if (memchr(at, '\0', len) != NULL || !text_utf8_valid(at, len))
			return line;
		at += len + 1;
	}
	return 0;
}

static int
reading_run(struct reading *reading)
{
	int failed_line = line_without_text(reading);

	if (failed_line != 0) {
		snprintf(reading->error, reading->error_len,
		    "%s:%d: not a text in UTF-8", reading->path, failed_line);
		return ERR_BAD_REQUEST;
	}
	if (strncmp(reading->data, BOM, strlen(BOM)) == 0)
		reading->at = strlen(BOM);
	failed_line =
	    ini_parse_stream(reading_next, reading, reading_take, reading);
	if (failed_line != 0 && !reading->has_failed) {
		reading->line = failed_line;
		reading_fail(
		    reading, "expected [section], key = value, or a comment");
	}
	return reading->has_failed ? ERR_BAD_REQUEST : 0;
}

/* The whole file with a NUL; *len_out is FILE_MAX + 1 when it is too long. */
static int
file_read(const char *path, char *data, size_t *len_out)
{
	size_t len = 0;
	ssize_t got;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return ERR_IO;
	do {
		got = read(fd, data + len, FILE_MAX + 1 - len);
		if (got > 0)
			len += (size_t)got;
	} while (got > 0 || (got < 0 && errno == EINTR));
	close(fd);
	data[len] = '\0';
	*len_out = len;
	return got < 0 ? ERR_IO : 0;
}

int
conf_file_apply(
    struct conf *conf, const char *path, char *error, size_t error_len)
{
	/* Of fixed size: growing would leave copies of secrets behind. */
	char *data = xcalloc(FILE_MAX + 2, 1);
	struct reading reading = {
	    .conf = conf,
	    .path = path,
	    .data = data,
	    .error = error,
	    .error_len = error_len,
	    .key_lines = conf->source->lines,
	};
	int rc;

	rc = file_read(path, data, &reading.len);
	if (rc != 0) {
		snprintf(error, error_len, "%s: %s", path, strerror(errno));
	} else if (reading.len > FILE_MAX) {
		snprintf(error, error_len, "%s: larger than 1 MiB", path);
		rc = ERR_BAD_REQUEST;
	} else {
		rc = reading_run(&reading);
	}
	mem_wipe(data, FILE_MAX + 2);
	free(data);
	return rc;
}
