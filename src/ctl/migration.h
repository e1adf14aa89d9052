/*
 * migration.h - the files that make the database of [directory] backend =
 * mssql, and the batches in them.
 *
 * A folder holds 001-name.sql, 002-..., none left out. A file is a text of
 * batches, each ended by a line GO.
 */
#ifndef CTL_MIGRATION_H
#define CTL_MIGRATION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define MIGRATION_NAME_MAX     64 /* with NUL */
#define MIGRATION_CHECKSUM_LEN 32
#define MIGRATION_WORDS_MAX    80 /* with NUL */

struct migration {
	unsigned number;
	char name[MIGRATION_NAME_MAX]; /* digits, "-", a to z, ".sql" */
	char checksum[MIGRATION_CHECKSUM_LEN + 1]; /* SHA-256, its first half */
	struct buf text;
};

struct migrations {
	struct migration *files; /* by number, from 1 */
	size_t count;
};

/* A batch; {0} before the first one. */
struct migration_batch {
	struct buf sql; /* with NUL behind it; migration_batch_fini */
	unsigned line;  /* of the file, where it begins */
	size_t next;    /* private: where the following one is looked for */
	unsigned next_line;
};

/**
 * Read a folder; what is not *.sql is none of ours.
 *
 * @param out    migrations_free, also when it fails
 * @param error  one line
 * @return       0, ERR_IO, ERR_BAD_REQUEST: a name, a number or a text is
 *               not as it must be
 */
NODISCARD int migrations_load(
    const char *folder, struct migrations *out, char *error, size_t error_len);
void migrations_free(struct migrations *migrations);
/** The next batch that is not blank. @return false: there is none */
bool migration_next(
    const struct migration *migration, struct migration_batch *batch);
void migration_batch_fini(struct migration_batch *batch);
/** The beginning of its first line that is no comment. Returns out. */
const char *migration_words(
    const struct migration_batch *batch, char out[MIGRATION_WORDS_MAX]);

#endif
