/*
 * figures.c - all figures of two sets of results, by name.
 *
 * Role:    flattens JSON results to "section.figure" and collects the values
 *          that several runs gave for each.
 * Process: parleyload --compare; pure but for reading files.
 * Blocks:  reading the files.
 * Trust:   files of the person at the terminal; format and version are
 *          checked, names and numbers are taken as they stand.
 * See:     compare.c, report.c (who writes), t/unit/load_figures.c.
 */
#include "config.h"

#include "load/figures.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "load/report.h"

#define FILE_BYTES_MAX  (64u << 20)
#define NAME_LEN_MAX    512
#define BENCH_FORMAT    "parley-bench"
#define BENCH_VERSION   1
#define ERROR_BYTES_MAX 256

/* One run that is being taken apart. */
struct reading {
	struct figures *figures;
	enum figures_side side;
	char prefix[NAME_LEN_MAX]; /* of the names now, with its dot */
	int rc;
	char error[ERROR_BYTES_MAX];
};

static struct figure *
figure_of(struct figures *figures, const char *name)
{
	struct figure *figure;

	HASH_FIND_STR(figures->by_name, name, figure);
	if (figure)
		return figure;
	figure = xcalloc(1, sizeof(*figure));
	figure->name = xstrdup(name);
	HASH_ADD_KEYPTR(
	    hh, figures->by_name, figure->name, strlen(figure->name), figure);
	return figure;
}

static void
figure_add(struct figure *figure, enum figures_side side, double value)
{
	size_t count = figure->counts[side];

	/* grown at each power of two */
	if ((count & (count - 1)) == 0)
		figure->values[side] = xrealloc(figure->values[side],
		    (count ? 2 * count : 1) * sizeof(double));
	figure->values[side][count] = value;
	figure->counts[side]++;
}

static void
take_value(
    struct reading *reading, const char *name, const struct json_object *value)
{
	struct figure *figure;
	struct buf text = {0};
	char *end;
	double n;

	if (!value)
		return;
	figure = figure_of(reading->figures, name);
	json_value(&text, value);
	buf_add_char(&text, '\0');
	n = strtod(text.data, &end);
	if (end != text.data && *end == '\0')
		figure_add(figure, reading->side, n);
	else if (!figure->texts[reading->side])
		figure->texts[reading->side] = xstrdup(text.data);
	buf_fini(&text);
}

/* Recursion as deep as our own reports: two or three levels. */
static void
take_member(void *ctx, const char *key, const struct json_object *value)
{
	struct reading *reading = ctx;
	size_t len = strlen(reading->prefix);
	int n = snprintf(reading->prefix + len, NAME_LEN_MAX - len, "%s", key);

	if (n < 0 || (size_t)n + 2 > NAME_LEN_MAX - len) {
		reading->rc = ERR_BAD_REQUEST;
		snprintf(reading->error, ERROR_BYTES_MAX, "a name is too long");
	} else if (json_value_is_object(value)) {
		memcpy(reading->prefix + len + n, ".", 2);
		json_each(value, take_member, reading);
	} else {
		take_value(reading, reading->prefix, value);
	}
	reading->prefix[len] = '\0';
}

static bool
is_format(const struct json_object *object, const char *wanted)
{
	const char *format = "";
	size_t len = 0;

	return json_get_string(object, "format", &format, &len) == 0 &&
	       strcmp(format, wanted) == 0;
}

static void
check_version(
    struct reading *reading, const struct json_object *object, uint64_t ours)
{
	uint64_t version = 0;

	if (json_get_u64(object, "format_version", UINT64_MAX, &version) == 0 &&
	    version == ours)
		return;
	reading->rc = ERR_STALE;
	snprintf(reading->error, ERROR_BYTES_MAX,
	    "format_version is %llu, this parleyload reads %llu",
	    (unsigned long long)version, (unsigned long long)ours);
}

static void
take_run(struct reading *reading, const struct json_object *run)
{
	if (!json_value_is_object(run) || !is_format(run, REPORT_FORMAT)) {
		reading->rc = ERR_BAD_REQUEST;
		snprintf(reading->error, ERROR_BYTES_MAX,
		    "no result of parleyload --json");
		return;
	}
	check_version(reading, run, REPORT_VERSION);
	if (reading->rc == 0)
		json_each(run, take_member, reading);
}

/* An item of make bench: {"runs": [...], ...}. */
static void
take_item(void *ctx, const char *key, const struct json_object *value)
{
	struct reading *reading = ctx;
	const struct json_object *runs;
	size_t count;

	if (!json_value_is_object(value) ||
	    json_get_array(value, "runs", &runs, &count) != 0)
		return;
	snprintf(reading->prefix, NAME_LEN_MAX, "%.*s.", NAME_LEN_MAX / 2, key);
	for (size_t i = 0; i < count && reading->rc == 0; i++)
		take_run(reading, json_array_at(runs, i));
	reading->prefix[0] = '\0';
}

static void
take_object(struct reading *reading, const struct json_object *object)
{
	const struct json_object *items;

	if (!is_format(object, BENCH_FORMAT)) {
		take_run(reading, object);
		return;
	}
	check_version(reading, object, BENCH_VERSION);
	if (reading->rc == 0 && json_get_object(object, "items", &items) == 0)
		json_each(items, take_item, reading);
}

static int
read_text(const char *path, struct buf *text)
{
	FILE *file = fopen(path, "re");
	int rc = 0;
	size_t n;

	if (!file)
		return ERR_IO;
	do {
		n = fread(buf_reserve(text, 65536), 1, 65536, file);
		text->len += n;
	} while (n > 0 && text->len <= FILE_BYTES_MAX);
	if (ferror(file) || text->len > FILE_BYTES_MAX)
		rc = ERR_IO;
	fclose(file);
	return rc;
}

/* The whole text is one object, or each line is. */
static void
take_text(struct reading *reading, const struct buf *text)
{
	struct json_object *object = NULL;
	const char *at = text->data;
	const char *end = text->data + text->len;

	if (json_parse_trusted(text->data, text->len, &object, reading->error,
		ERROR_BYTES_MAX) == 0) {
		take_object(reading, object);
		json_free(&object);
		return;
	}
	while (at < end && reading->rc == 0) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((newline ? newline : end) - at);

		if (len > 0)
			reading->rc = json_parse_trusted(
			    at, len, &object, reading->error, ERROR_BYTES_MAX);
		if (reading->rc == 0 && object)
			take_object(reading, object);
		json_free(&object);
		at += len + 1;
	}
}

int
figures_read(struct figures *figures, enum figures_side side, const char *path,
    char *error, size_t error_len)
{
	struct reading reading = {.figures = figures, .side = side};
	struct buf text = {0};
	int rc = read_text(path, &text);

	if (rc != 0) {
		snprintf(error, error_len, "%s: %s", path, strerror(errno));
	} else if (text.len == 0) {
		rc = ERR_BAD_REQUEST;
		snprintf(error, error_len, "%s: empty", path);
	} else {
		take_text(&reading, &text);
		rc = reading.rc;
		if (rc != 0)
			snprintf(
			    error, error_len, "%s: %s", path, reading.error);
	}
	buf_fini(&text);
	return rc;
}

void
figures_fini(struct figures *figures)
{
	struct figure *figure;
	struct figure *next;

	HASH_ITER(hh, figures->by_name, figure, next)
	{
		HASH_DEL(figures->by_name, figure);
		for (int side = 0; side < FIGURES_SIDES; side++) {
			free(figure->values[side]);
			free(figure->texts[side]);
		}
		free(figure->name);
		free(figure);
	}
}

static int
compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct figures_spread
figures_spread(struct figure *figure, enum figures_side side)
{
	double *values = figure->values[side];
	size_t count = figure->counts[side];

	if (count == 0)
		return (struct figures_spread){0};
	qsort(values, count, sizeof(*values), compare_doubles);
	return (struct figures_spread){
	    .median = (values[(count - 1) / 2] + values[count / 2]) / 2,
	    .min = values[0],
	    .max = values[count - 1],
	    .count = count,
	};
}
