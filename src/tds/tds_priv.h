/*
 * tds_priv.h - what the files of this folder share. Only they know FreeTDS.
 */
#ifndef TDS_TDS_PRIV_H
#define TDS_TDS_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <sybfront.h>
/* In this order: sybdb.h uses what sybfront.h defines. */
#include <sybdb.h>
#include <sys/queue.h>

#include "tds/tds.h"

struct tds_conn {
	DBPROCESS *db;
	struct tds_error error; /* the first one of the call */
	char procedure[TDS_NAME_MAX];
	bool is_answering; /* between the call and its end */
	bool has_result;   /* dbnextrow may be asked */
	bool has_row;
	bool is_broken; /* only tds_close is left for it */
	int32_t status;
	/*
	 * A duplicate of the connection's socket: the library closes its own
	 * at any time, and the number may be another file's by the time that
	 * somebody else shuts it down.
	 */
	int guard_fd;
	TAILQ_ENTRY(tds_conn) watched; /* these three: tds_watch.c's */
	int64_t deadline_ms;
	bool was_cut;
};

/* ---- tds_library.c ---- */

/** Where this thread's handlers put the first error; NULL: nowhere. */
void tds_catch(struct tds_error *error);
/** Ours: a parameter, a column. @return the rc of the class */
int tds_fail(struct tds_error *error, enum tds_class class, const char *name,
    const char *what);
/** The settings file of the library: add a section. @return 0 or ERR_IO */
NODISCARD int tds_library_add(const char *section);
/** Is it still readable? Without it the library would look elsewhere. */
bool tds_library_is_readable(void);

/* ---- tds_watch.c ---- */

NODISCARD int tds_watch_start(void);
void tds_watch_stop(void);
/** From here on the connection is cut at the deadline. */
void tds_watch_add(struct tds_conn *conn, int64_t deadline_ms);
/** @return was it cut? */
bool tds_watch_remove(struct tds_conn *conn);

#endif
