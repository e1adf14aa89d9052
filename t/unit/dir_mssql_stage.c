/*
 * dir_mssql_stage.c - the back end mssql over fakes of its pool and database.
 */
#include "config.h"

#include "t/unit/dir_mssql_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "directory/dir_mssql.h"

const char *stage_logins[][FAKE_COLUMNS] = {
    {"7", NULL, "1"}, /* UserId, PasswordHash, IsActive */
    {"8", NULL, "1"},
};

const char *stage_people[][FAKE_COLUMNS] = {
    /* UserId, LoginName, DisplayName, Role, Profile, IsActive */
    {"12", "l", "Twelve", "nurse", NULL, "1"},
    {"9", "i", "\xd9\x85\xd8\xb1 \xf0\x9f\x98\x80", NULL, "{\"Room\":\"1\"}",
	"1"},
    {"10", "j", "Gone", "", NULL, "0"},
    {"11", "k", "Broken", "", "{\"Room\":", "1"},
    {"13", "m", "\xff", "", NULL, "1"},
    {"9", "i", "again", NULL, NULL, "1"},
    {"7", "g", "Self", NULL, NULL, "1"},
};

void
stage_set(char **field, const char *text)
{
	free(*field);
	*field = xstrdup(text);
}

void
stage_open_backend(struct stage *stage)
{
	char error[256] = "";

	if (dir_mssql_ops.open(
		&stage->host, &stage->backend, error, sizeof(error)) != 0)
		fail_msg("%s", error);
}

void
stage_let_procedure_decide(struct stage *stage)
{
	assert_true(
	    dir_mssql_ops.close(&stage->backend, clock_mono_ms() + 10000));
	stage_set(&stage->conf->mssql_password_check, "procedure");
	stage_set(&stage->conf->mssql_procedures_authenticate,
	    "COB_Authenticate_Get_User_List(@N = login, @P = password) -> "
	    "UserId = id");
	stage_open_backend(stage);
}

int
stage_open(void **state)
{
	static const char *const user_columns[FAKE_COLUMNS] = {"UserId",
	    "LoginName", "DisplayName", "Role", "Profile", "IsActive"};
	struct stage *stage = xcalloc(1, sizeof(*stage));
	char error[256];

	fake_pool = (struct fake_pool){0};
	stage->conn = xcalloc(1, sizeof(*stage->conn));
	stage->conn->answers = stage->answers;
	stage->conn->answer_count = ANSWERS;
	stage->answers[AUTH] =
	    (struct fake_answer){.procedure = "COB_Authenticate_Get_User_List",
		.columns = {"UserId", "PasswordHash", "IsActive"},
		.rows = stage_logins,
		.count = 1};
	stage->answers[USER].procedure = "COB_GetUserById";
	stage->answers[LIST].procedure = "Parley_Get_User_List";
	stage->answers[UPDATE].procedure = "COB_Update_User";
	for (int i = USER; i <= LIST; i++) {
		memcpy(stage->answers[i].columns, user_columns,
		    sizeof(user_columns));
		stage->answers[i].rows = stage_people;
	}
	stage->answers[LIST].count =
	    sizeof(stage_people) / sizeof(stage_people[0]);
	stage->answers[USER].count = 1; /* 12 */
	assert_int_equal(password_hash("right", 5, stage->hash), 0);
	stage_logins[0][1] = stage->hash;
	stage_logins[1][1] = stage->hash;
	assert_int_equal(
	    conf_load(NULL, &stage->conf, error, sizeof(error)), 0);
	assert_int_equal(pool_results_new(&stage->results), 0);
	box_open(&stage->box);
	stage->host = (struct dir_host){.conf = stage->conf,
	    .results = stage->results,
	    .store = stage->box.main};
	stage_open_backend(stage);
	*state = stage;
	return 0;
}

int
stage_close(void **state)
{
	struct stage *stage = *state;

	assert_true(
	    dir_mssql_ops.close(&stage->backend, clock_mono_ms() + 10000));
	pool_results_collect(stage->results);
	pool_results_free(&stage->results);
	box_close(&stage->box);
	conf_free(&stage->conf);
	free(stage->conn);
	free(stage);
	return 0;
}

/* dir_done_fn */
static void
answered(struct dir_request *request, int rc)
{
	int *out = request->owner;

	assert_int_equal(*out, PENDING);
	*out = rc;
}

void
stage_ask(struct stage *stage, struct dir_request *request, int *rc)
{
	*rc = PENDING;
	request->owner = rc;
	request->deadline_ms = clock_mono_ms() + 60000;
	dir_mssql_ops.run[request->op](stage->backend, request, answered);
}

void
stage_await(struct stage *stage, const int *rc)
{
	struct pollfd fd = {
	    .fd = pool_results_fd(stage->results), .events = POLLIN};

	while (*rc == PENDING) {
		assert_int_equal(poll(&fd, 1, 30000), 1);
		pool_results_collect(stage->results);
	}
}

void
stage_collect(struct stage *stage)
{
	struct pollfd fd = {
	    .fd = pool_results_fd(stage->results), .events = POLLIN};
	size_t count = 0;

	while (count == 0) {
		assert_int_equal(poll(&fd, 1, 30000), 1);
		count = pool_results_collect(stage->results);
	}
}

struct dir_request *
stage_request(enum dir_op op, uint64_t asker)
{
	struct dir_request *request = xcalloc(1, sizeof(*request));

	request->op = op;
	request->asker = asker;
	request->limit = DIR_LIST_MAX;
	return request;
}

struct dir_request *
stage_login_begin(struct stage *stage, const char *name, size_t name_len,
    const char *password, int *rc)
{
	struct dir_request *request = stage_request(DIR_OP_PASSWORD, 0);

	request->name = xcalloc(name_len + 1, 1);
	memcpy(request->name, name, name_len);
	request->name_len = name_len;
	request->password = xstrdup(password);
	request->password_len = strlen(password);
	stage_ask(stage, request, rc);
	return request;
}

int
stage_login(struct stage *stage, const char *name, size_t name_len,
    const char *password, uint64_t *user_out)
{
	struct dir_request *request;
	int rc;

	request = stage_login_begin(stage, name, name_len, password, &rc);
	fake_pool_run(stage->conn);
	stage_await(stage, &rc);
	*user_out = request->answer.user;
	for (size_t i = 0; i < request->password_len; i++)
		assert_int_equal(request->password[i], 0); /* wiped */
	dir_request_free(&request);
	return rc;
}
