/*
 * dir_mssql_stage.h - the back end mssql over fakes of its pool and database.
 */
#ifndef T_UNIT_DIR_MSSQL_STAGE_H
#define T_UNIT_DIR_MSSQL_STAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/password.h"
#include "directory/dir_mssql.h"
#include "t/unit/mssql_pool_fake.h"
#include "t/unit/store_box.h"
#include "t/unit/tds_fake.h"

#define PENDING 1 /* of rc: not answered */

enum { AUTH, USER, LIST, UPDATE, ANSWERS };

/** Rows: user 7, then 8, with the hash of "right". */
extern const char *stage_logins[2][FAKE_COLUMNS];
/** Rows of a list, good and bad ones. */
extern const char *stage_people[7][FAKE_COLUMNS];

struct stage {
	struct store_box box;
	struct conf *conf;
	struct pool_results *results;
	struct dir_host host;
	struct dir_backend *backend;
	struct tds_conn *conn;
	struct fake_answer answers[ANSWERS];
	char hash[PASSWORD_HASH_MAX];
};

/** cmocka's setup and teardown. */
int stage_open(void **state);
int stage_close(void **state);
/** With the configuration as it is now. */
void stage_open_backend(struct stage *stage);
/** Anew, with [mssql] password_check = procedure. */
void stage_let_procedure_decide(struct stage *stage);
/** A setting that is a text. */
void stage_set(char **field, const char *text);
struct dir_request *stage_request(enum dir_op op, uint64_t asker);
/** @param rc  PENDING until it is answered */
void stage_ask(struct stage *stage, struct dir_request *request, int *rc);
/** Until it is answered by a thread. */
void stage_await(struct stage *stage, const int *rc);
/** Until a thread has done something. */
void stage_collect(struct stage *stage);
struct dir_request *stage_login_begin(struct stage *stage, const char *name,
    size_t name_len, const char *password, int *rc);
/** ... to its end, with the database. @return its rc */
int stage_login(struct stage *stage, const char *name, size_t name_len,
    const char *password, uint64_t *user_out);

#endif
