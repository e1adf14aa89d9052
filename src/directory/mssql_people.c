/*
 * mssql_people.c - rows about users out of SQL Server.
 *
 * Role:    reads what a procedure answers and checks it.
 * Process: directory; fetched on a thread of the pool, read on the loop's.
 * Blocks:  fetching, on the database.
 * Trust:   a row is the database's: ids, texts and profiles are checked here.
 *          One that makes no sense is left out and costs nobody else.
 * See:     mssql_people.h, mssql_users.c, t/unit/dir_mssql.c.
 */
#include "config.h"

#include "directory/mssql_people.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "directory/dir_mssql_priv.h"

#define PEOPLE_MAX 1000000

void
mssql_people_fini(struct mssql_people *people)
{
	free(people->persons);
	buf_fini(&people->text);
	*people = (struct mssql_people){0};
}

/*
 * A text of the person, appended.
 *
 * @param column   NULL: the installation has none
 * @param len_out  0 too when it is NULL there
 * @return         0; ERR_BAD_REQUEST: none that a user can have
 */
static int
add_text(struct mssql_people *people, struct tds_conn *conn, const char *column,
    size_t max, uint16_t *len_out)
{
	const char *text;
	size_t len;
	bool has_text;
	int rc;

	*len_out = 0;
	rc = mssql_row_has(conn, column, &has_text);
	if (rc != 0 || !has_text)
		return rc;
	rc = tds_get_text(conn, column, &text, &len);
	if (rc != 0)
		return rc;
	if (len > max || !text_utf8_valid(text, len))
		return ERR_BAD_REQUEST;
	buf_add(&people->text, text, len);
	*len_out = (uint16_t)len;
	return 0;
}

static int
add_texts(struct mssql_people *people, struct tds_conn *conn,
    const struct mssql_procedure *procedure, struct mssql_person *person)
{
	int rc;

	rc = add_text(people, conn, procedure->columns[MSSQL_FIELD_name],
	    UINT16_MAX, &person->name_len);
	if (rc == 0)
		rc =
		    add_text(people, conn, procedure->columns[MSSQL_FIELD_role],
			UINT16_MAX, &person->role_len);
	if (rc == 0)
		rc = add_text(people, conn,
		    procedure->columns[MSSQL_FIELD_profile], PROFILE_MAX,
		    &person->profile_len);
	if (rc != 0 || person->profile_len == 0)
		return rc;
	/* Clients are sent it as it stands. */
	return json_is_object(
		   people->text.data + people->text.len - person->profile_len,
		   person->profile_len)
		   ? 0
		   : ERR_BAD_REQUEST;
}

static int
read_row(struct mssql_people *people, struct tds_conn *conn,
    const struct mssql_procedure *procedure)
{
	struct mssql_person person = {.at = people->text.len};
	bool is_active;
	int rc;

	rc = mssql_row_id(conn, procedure->columns[MSSQL_FIELD_id], &person.id);
	if (rc == 0)
		rc = mssql_row_is_active(
		    conn, procedure->columns[MSSQL_FIELD_active], &is_active);
	if (rc != 0 || !is_active)
		return rc;
	rc = add_texts(people, conn, procedure, &person);
	if (rc == ERR_BAD_REQUEST) {
		people->text.len = person.at;
		people->skipped++;
		return 0;
	}
	if (rc != 0)
		return rc;
	if (people->count == PEOPLE_MAX)
		return ERR_TOO_LARGE;
	if (people->count == people->room) {
		people->room = people->room == 0 ? 16 : people->room * 2;
		people->persons = xrealloc(
		    people->persons, people->room * sizeof(*people->persons));
	}
	people->persons[people->count++] = person;
	return 0;
}

static int
by_id(const void *a, const void *b)
{
	const struct mssql_person *one = a;
	const struct mssql_person *other = b;

	return (one->id > other->id) - (one->id < other->id);
}

/* The users that a procedure answers for an id, in order, each once. */
int
mssql_people_fetch(struct mssql_people *people, struct tds_conn *conn,
    const struct mssql_procedure *procedure, uint64_t id, int64_t until_ms)
{
	const struct tds_param params[] = {
	    tds_i64(procedure->params[MSSQL_FIELD_id], (int64_t)id)};
	size_t kept = 0;
	int rc;

	mssql_people_fini(people);
	rc = tds_call(
	    conn, &(struct tds_call){procedure->name, params, 1, until_ms});
	while (rc == 0) {
		rc = tds_next_row(conn);
		if (rc == 0)
			rc = read_row(people, conn, procedure);
	}
	rc = tds_finish(conn, rc == ERR_NOT_FOUND ? 0 : rc);
	if (rc != 0)
		return rc;
	if (people->count > 0)
		qsort(people->persons, people->count, sizeof(*people->persons),
		    by_id);
	for (size_t i = 0; i < people->count; i++) {
		if (i == 0 ||
		    people->persons[i].id != people->persons[kept - 1].id)
			people->persons[kept++] = people->persons[i];
	}
	people->count = kept;
	return 0;
}

void
mssql_people_tell_skipped(
    const struct mssql_people *people, const struct mssql_procedure *procedure)
{
	if (people->skipped > 0)
		log_warn(NULL, "mssql-users-skipped",
		    "procedure=%s count=%zu; a name, role or profile of theirs "
		    "is too long, or the profile is no JSON object",
		    procedure->name, people->skipped);
}

int
mssql_people_answer(struct dir_answer *answer,
    const struct mssql_people *people, const struct mssql_person *person,
    bool is_stranger)
{
	const char *text = people->text.data + person->at;
	const struct dir_user user = {
	    .id = person->id,
	    .name = text,
	    .name_len = person->name_len,
	    .role = text + person->name_len,
	    .role_len = person->role_len,
	    .profile = text + person->name_len + person->role_len,
	    .profile_len = person->profile_len,
	    .is_stranger = is_stranger,
	};

	return dir_answer_add(answer, &user);
}

/* The first of them with an id above one. */
size_t
mssql_people_above(const struct mssql_people *people, uint64_t id)
{
	size_t low = 0;
	size_t high = people->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (people->persons[middle].id <= id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct mssql_person *
mssql_people_find(const struct mssql_people *people, uint64_t id)
{
	size_t at = mssql_people_above(people, id - 1);

	return at < people->count && people->persons[at].id == id
		   ? &people->persons[at]
		   : NULL;
}

void
mssql_people_remove(struct mssql_people *people, uint64_t id)
{
	const struct mssql_person *person = mssql_people_find(people, id);
	size_t at;

	if (person == NULL)
		return;
	at = (size_t)(person - people->persons);
	people->count--;
	memmove(people->persons + at, people->persons + at + 1,
	    (people->count - at) * sizeof(*people->persons));
}
