/*
 * mssql_people.h - users as a procedure of SQL Server answers them.
 */
#ifndef DIRECTORY_MSSQL_PEOPLE_H
#define DIRECTORY_MSSQL_PEOPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "directory/dir.h"
#include "directory/mssql_names.h"
#include "tds/tds.h"

struct mssql_person { /* his strings are in the text, one behind the other */
	uint64_t id;
	size_t at;
	uint16_t name_len;
	uint16_t role_len;
	uint16_t profile_len;
};

struct mssql_people {                 /* zeroed: none */
	struct mssql_person *persons; /* by id, each once */
	size_t count;
	size_t room;
	struct buf text;
	size_t skipped; /* rows that make no sense */
};

void mssql_people_fini(struct mssql_people *people);
/**
 * Whom a procedure answers for an id, but for who is not active. Blocks.
 *
 * @param people    what it held is gone
 * @param until_ms  clock_mono_ms()
 * @return          0 or ERR_*
 */
NODISCARD int mssql_people_fetch(struct mssql_people *people,
    struct tds_conn *conn, const struct mssql_procedure *procedure, uint64_t id,
    int64_t until_ms);
/** Index of the first with an id above one. */
size_t mssql_people_above(const struct mssql_people *people, uint64_t id);
/** @return NULL: he is not among them */
const struct mssql_person *mssql_people_find(
    const struct mssql_people *people, uint64_t id);
/** Nothing if he is not among them. */
void mssql_people_remove(struct mssql_people *people, uint64_t id);
/** As dir_answer_add. */
NODISCARD int mssql_people_answer(struct dir_answer *answer,
    const struct mssql_people *people, const struct mssql_person *person,
    bool is_stranger);
/** Into the log, if there were any. */
void mssql_people_tell_skipped(
    const struct mssql_people *people, const struct mssql_procedure *procedure);

#endif
