/*
 * tds_fake.h - tds.h without a server: takes the rows of batches into a table
 * in memory, all or nothing, and has moods; answers other calls from a table.
 */
#ifndef T_UNIT_TDS_FAKE_H
#define T_UNIT_TDS_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tds/tds.h"

#define FAKE_ROWS 4096 /* numbers below */

/* What happens to a call. */
struct fake_fate {
	int32_t number;      /* error; 0: none */
	bool is_after;       /* ... after the commit: the reply is lost */
	bool breaks;         /* ... and the connection with it */
	int32_t status;      /* RETURN */
	int64_t miscount;    /* added to Written */
	bool has_no_counts;  /* no result set at all */
	bool has_extra_sets; /* others before the one */
};

#define FAKE_COLUMNS 6

/* What a procedure answers. */
struct fake_answer {
	const char *procedure;
	const char *columns[FAKE_COLUMNS];
	const char *(*rows)[FAKE_COLUMNS]; /* text; NULL: NULL */
	size_t count;
	int32_t number; /* error */
	/* what was asked */
	unsigned calls;
	char params[256]; /* "Name=value;..." of the last one */
};

struct tds_conn {
	struct fake_answer *answers; /* of calls that are no batch */
	size_t answer_count;
	/* what the test sets */
	struct fake_fate fates[64]; /* of the next calls, in order */
	size_t fate_count;
	bool is_bad[FAKE_ROWS]; /* 2628 by row number */
	bool is_key[FAKE_ROWS]; /* 2627, however often it comes */
	/* what it sees */
	unsigned calls;
	unsigned sent[FAKE_ROWS];    /* so often it came */
	unsigned written[FAKE_ROWS]; /* so often it changed something */
	uint64_t order[FAKE_ROWS];   /* numbers as they were written */
	size_t order_count;
	size_t bytes_max; /* of one call */
	char procedure[TDS_NAME_MAX];
	char param[TDS_NAME_MAX];
	/* its own */
	struct tds_error error;
	struct fake_answer *open; /* NULL: a batch's */
	size_t row;               /* behind the one that is read */
	bool is_broken;
	struct fake_fate fate;
	int set; /* result set that is open, 0: none */
	bool has_row;
	int64_t new_count;
	int64_t old_count;
};

/** After it broke. */
void fake_reconnect(struct tds_conn *conn);

#endif
