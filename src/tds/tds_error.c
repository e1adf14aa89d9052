/*
 * tds_error.c - what the numbers of a database mean.
 *
 * Role:    errors.def and classes.def as functions.
 * Process: directory, parleyctl.
 * Blocks:  never.
 * Trust:   the numbers are the server's: any number gets a class; its texts
 *          are not even kept.
 * See:     tds.h, t/unit/tds_error.c.
 */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>

#include "tds/tds.h"

/* sys.messages: 20 and more ends the connection, 17 to 19 are shortages. */
#define SEVERITY_FATAL    20
#define SEVERITY_SHORTAGE 17

static const struct {
	const char *name;
	int rc;
} classes[] = {
#define CLASS(name, rc, text) {#name, rc},
#include "tds/classes.def"
#undef CLASS
};

static const struct {
	int32_t number;
	enum tds_class class;
} numbers[] = {
#define NUMBER(number, class, text) {number, TDS_CLASS_##class},
#include "tds/errors.def"
#undef NUMBER
};

enum tds_class
tds_classify(int32_t number, int32_t severity)
{
	size_t low = 0;
	size_t high = sizeof(numbers) / sizeof(numbers[0]);

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (numbers[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < sizeof(numbers) / sizeof(numbers[0]) &&
	    numbers[low].number == number)
		return numbers[low].class;
	if (severity >= SEVERITY_FATAL)
		return TDS_CLASS_LOST;
	if (severity >= SEVERITY_SHORTAGE)
		return TDS_CLASS_RETRY;
	return TDS_CLASS_BAD_SETUP;
}

const char *tds_class_name(enum tds_class class)
{
	return (unsigned)class < TDS_CLASS_END ? classes[class].name : "?";
}

int tds_class_rc(enum tds_class class)
{
	return (unsigned)class < TDS_CLASS_END ? classes[class].rc
					       : ERR_SERVER_ERROR;
}

const char *
tds_error_text(const struct tds_error *error, char *out, size_t out_len)
{
	if (error->what[0] != '\0')
		snprintf(out, out_len, "class=%s procedure=%s what=\"%s\"",
		    tds_class_name(error->class), error->procedure,
		    error->what);
	else
		snprintf(out, out_len,
		    "class=%s number=%" PRId32 " severity=%" PRId32
		    " state=%" PRId32 " line=%" PRId32 " procedure=%s",
		    tds_class_name(error->class), error->number,
		    error->severity, error->state, error->line,
		    error->procedure);
	return out;
}
