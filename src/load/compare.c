/*
 * compare.c - parleyload --compare OLD NEW.
 *
 * Role:    lays out what two sets of results have in common: medians, spread
 *          and ratio of each figure, and under what they were measured.
 * Process: parleyload, nothing else in that run.
 * Blocks:  reading the files.
 * Trust:   files of the person at the terminal.
 * See:     figures.c, man/parleyload.1.
 */
#include "config.h"

#include "load/compare.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "load/figures.h"

#define COMPARE_FORMAT  "parleyload-compare"
#define COMPARE_VERSION 1

#define NUMBER_TEXT_MAX 32
#define SPREAD_TEXT_MAX (4 * NUMBER_TEXT_MAX)

#define EXIT_DONE   0
#define EXIT_BROKEN 1
#define EXIT_USAGE  2

struct row {
	const char *name;
	struct figures_spread spread[FIGURES_SIDES];
	bool has_ratio;
	double ratio;  /* of the medians, new by old */
	bool is_apart; /* the two ranges do not overlap */
};

/* What stayed the same in every run says nothing, nor what one side lacks. */
static bool
row_make(struct figure *figure, struct row *row)
{
	const struct figures_spread *old = &row->spread[FIGURES_OLD];
	const struct figures_spread *new = &row->spread[FIGURES_NEW];

	*row = (struct row){.name = figure->name};
	for (int side = 0; side < FIGURES_SIDES; side++)
		row->spread[side] =
		    figures_spread(figure, (enum figures_side)side);
	if (old->count == 0 || new->count == 0)
		return false;
	if (old->min == new->max && old->max == new->min)
		return false;
	row->has_ratio = old->median != 0;
	if (row->has_ratio)
		row->ratio = new->median / old->median;
	/* one run each: any two numbers are apart, which proves nothing */
	row->is_apart = old->count > 1 && new->count > 1 &&
			(new->min > old->max || new->max < old->min);
	return true;
}

/* Three digits at least, none that mean nothing. */
static const char *
format_number(double n, char text[NUMBER_TEXT_MAX])
{
	double size = n < 0 ? -n : n;
	int digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;

	snprintf(text, NUMBER_TEXT_MAX, "%.*f", digits, n);
	return text;
}

static const char *
format_spread(const struct figures_spread *spread, char text[SPREAD_TEXT_MAX])
{
	char median[NUMBER_TEXT_MAX];
	char min[NUMBER_TEXT_MAX];
	char max[NUMBER_TEXT_MAX];

	format_number(spread->median, median);
	if (spread->count == 1)
		snprintf(text, SPREAD_TEXT_MAX, "%s", median);
	else
		snprintf(text, SPREAD_TEXT_MAX, "%s (%s..%s)", median,
		    format_number(spread->min, min),
		    format_number(spread->max, max));
	return text;
}

static void
print_row(const struct row *row)
{
	char old[SPREAD_TEXT_MAX];
	char new[SPREAD_TEXT_MAX];
	char ratio[32] = "-";

	if (row->has_ratio)
		snprintf(ratio, sizeof(ratio), "%.3f", row->ratio);
	printf("%-52s %26s %26s %9s%s\n", row->name,
	    format_spread(&row->spread[FIGURES_OLD], old),
	    format_spread(&row->spread[FIGURES_NEW], new), ratio,
	    row->is_apart ? " *" : "");
}

static bool
texts_differ(const struct figure *figure)
{
	const char *old = figure->texts[FIGURES_OLD];
	const char *new = figure->texts[FIGURES_NEW];

	return old && new &&strcmp(old, new) != 0;
}

static void
print_table(const struct figures *figures)
{
	struct figure *figure;
	struct row row;

	printf("%-52s %26s %26s %9s\n", "median (min..max)", "old", "new",
	    "new/old");
	for (figure = figures->by_name; figure; figure = figure->hh.next) {
		if (row_make(figure, &row))
			print_row(&row);
	}
	for (figure = figures->by_name; figure; figure = figure->hh.next) {
		if (texts_differ(figure))
			printf("differs: %s: %s, %s\n", figure->name,
			    figure->texts[FIGURES_OLD],
			    figure->texts[FIGURES_NEW]);
	}
	puts("* the two ranges do not overlap");
}

static void
put_number(struct buf *out, const char *key, double n)
{
	char text[64];
	int len = snprintf(text, sizeof(text), "%.6g", n);

	json_put_raw(out, key, text, (size_t)len);
}

static void
put_spread(
    struct buf *out, const char *key, const struct figures_spread *spread)
{
	json_key(out, key);
	json_object_begin(out);
	put_number(out, "median", spread->median);
	put_number(out, "min", spread->min);
	put_number(out, "max", spread->max);
	json_put_u64(out, "runs", spread->count);
	json_object_end(out);
}

static void
put_row(struct buf *out, const struct row *row)
{
	json_key(out, row->name);
	json_object_begin(out);
	put_spread(out, "old", &row->spread[FIGURES_OLD]);
	put_spread(out, "new", &row->spread[FIGURES_NEW]);
	if (row->has_ratio)
		put_number(out, "ratio", row->ratio);
	json_put_bool(out, "apart", row->is_apart);
	json_object_end(out);
}

static void
print_json(const struct figures *figures)
{
	struct figure *figure;
	struct buf out = {0};
	struct row row;

	json_object_begin(&out);
	json_put_text(&out, "format", COMPARE_FORMAT);
	json_put_u64(&out, "format_version", COMPARE_VERSION);
	json_key(&out, "figures");
	json_object_begin(&out);
	for (figure = figures->by_name; figure; figure = figure->hh.next) {
		if (row_make(figure, &row))
			put_row(&out, &row);
	}
	json_object_end(&out);
	json_object_end(&out);
	printf("%.*s\n", (int)out.len, out.data);
	buf_fini(&out);
}

int
compare_main(int argc, char **argv)
{
	bool is_json = argc == 3 && strcmp(argv[2], "--json") == 0;
	struct figures figures = {0};
	int status = EXIT_DONE;
	char error[512];

	if (argc != 2 && !is_json) {
		fprintf(stderr,
		    "Usage: parleyload --compare OLD.json NEW.json [--json]\n");
		return EXIT_USAGE;
	}
	for (int side = 0; side < FIGURES_SIDES && status == EXIT_DONE;
	     side++) {
		if (figures_read(&figures, (enum figures_side)side, argv[side],
			error, sizeof(error)) == 0)
			continue;
		fprintf(stderr, "parleyload: %s\n", error);
		status = EXIT_BROKEN;
	}
	if (status == EXIT_DONE && is_json)
		print_json(&figures);
	else if (status == EXIT_DONE)
		print_table(&figures);
	figures_fini(&figures);
	return status;
}
