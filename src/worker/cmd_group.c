/*
 * cmd_group.c - groups: made, changed, left, listed.
 *
 * Role:    checks the fields and hands a record to the keeper, who knows who
 *          may; lists come from the reader thread.
 * Process: worker.
 * See:     doc/protocol.md, Groups; keeper/group_rights.def
 */
#include <stdlib.h>
#include <string.h>

#include "base/crypto.h"
#include "net/net.h"
#include "shm/group.h"
#include "worker/event.h"
#include "worker/reader.h"
#include "worker/seat.h"
#include "worker/worker_priv.h"

#define GROUPS_LIMIT_MAX     200
#define GROUPS_LIMIT_DEFAULT 50
#define MEMBERS_LIMIT_MAX    1024

static uint8_t *
append(uint8_t *at, const void *data, size_t len)
{
	if (len > 0)
		memcpy(at, data, len);
	return at + len;
}

/* Room for a record to the keeper, or NULL: the request is answered. */
static void *
put_begin(struct request *request, size_t len)
{
	void *record =
	    ring_put_begin(bus_writer(request->worker->bus, SLOT_KEEPER), len);

	if (record == NULL)
		(void)request_fail(
		    request, ERR_UNAVAILABLE, "the server is busy, try again");
	return record;
}

/* @param named  users that may be unknown: the reply has room for them
 * @return       req */
static uint64_t
expect(struct request *request, size_t named)
{
	return pending_add(request,
	    (uint32_t)(sizeof(struct record_send_reply) +
		       named * sizeof(uint64_t)),
	    0);
}

static void
put_end(struct request *request, uint16_t type, size_t len)
{
	ring_put_end(bus_writer(request->worker->bus, SLOT_KEEPER), type, len);
}

/* ---- P_CREATE_GROUP ---- */

struct create_fields {
	uint64_t members[GROUP_MEMBERS_MAX];
	size_t member_count;
	const char *name;
	size_t name_len;
	const char *client_id;
	size_t client_id_len;
};

static int
read_create(struct request *request, struct create_fields *fields)
{
	uint64_t self = request->session->user;
	size_t kept = 0;
	int rc;

	rc = request_string(request, "Name", FIELD_REQUIRED, 1, GROUP_NAME_MAX,
	    &fields->name, &fields->name_len);
	if (rc == 0)
		rc = request_string(request, "ClientGroupId", FIELD_REQUIRED, 1,
		    CLIENT_ID_MAX, &fields->client_id, &fields->client_id_len);
	if (rc == 0)
		rc = request_user_set(request, "Members", FIELD_REQUIRED,
		    GROUP_MEMBERS_MAX, fields->members, &fields->member_count);
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < fields->member_count; i++) {
		if (fields->members[i] != self)
			fields->members[kept++] = fields->members[i];
	}
	fields->member_count = kept;
	if (kept >= GROUP_MEMBERS_MAX)
		return request_fail(request, ERR_TOO_LARGE,
		    "Members: expected at most %d with oneself",
		    GROUP_MEMBERS_MAX);
	return 0;
}

/* What makes a retry the same request. */
static uint64_t
hash_create(const struct worker *worker, const struct create_fields *fields,
    const uint8_t *tail, size_t len)
{
	uint8_t hash[CRYPTO_HASH128_LEN];
	uint64_t out;

	crypto_siphash128(worker->meta.secret, tail, len, hash);
	memcpy(&out, hash, sizeof(out));
	return out ^ fields->member_count;
}

int
cmd_create_group(struct request *request)
{
	struct worker *worker = request->worker;
	struct record_group_create *record;
	struct create_fields fields;
	uint8_t *tail;
	size_t tail_len;
	int rc;

	rc = read_create(request, &fields);
	if (rc != 0)
		return rc;
	tail_len = fields.member_count * sizeof(uint64_t) + fields.name_len;
	record = put_begin(request, sizeof(*record) + tail_len);
	if (record == NULL)
		return ERR_UNAVAILABLE;
	*record = (struct record_group_create){
	    .user = request->session->user,
	    .session = request->session->id,
	    .member_count = (uint32_t)fields.member_count,
	    .name_len = (uint32_t)fields.name_len,
	};
	tail = (uint8_t *)(record + 1);
	append(append(tail, fields.members,
		   fields.member_count * sizeof(uint64_t)),
	    fields.name, fields.name_len);
	record->request_hash = hash_create(worker, &fields, tail, tail_len);
	crypto_siphash128(worker->meta.secret, fields.client_id,
	    fields.client_id_len, record->client_id_hash);
	record->req = expect(request, fields.member_count);
	learn_keep(worker, record->req, RECORD_GROUP_CREATE, record,
	    sizeof(*record) + tail_len);
	put_end(request, RECORD_GROUP_CREATE, sizeof(*record) + tail_len);
	return 0;
}

/* ---- P_UPDATE_GROUP ---- */

struct update_fields {
	uint64_t group;
	uint64_t add[RECIPIENTS_MAX];
	size_t add_count;
	uint64_t remove[RECIPIENTS_MAX];
	size_t remove_count;
	struct group_role_change roles[RECIPIENTS_MAX];
	size_t role_count;
	const char *name;
	size_t name_len;
};

/* @return ROLE_NONE: it is none */
static enum group_role
role_named(const char *text, size_t len)
{
	for (int role = ROLE_MEMBER; role < ROLE_END; role++) {
		const char *name = group_role_name((unsigned)role);

		if (len == strlen(name) && memcmp(text, name, len) == 0)
			return (enum group_role)role;
	}
	return ROLE_NONE;
}

static int
compare_role(const void *a, const void *b)
{
	uint64_t x = ((const struct group_role_change *)a)->user;
	uint64_t y = ((const struct group_role_change *)b)->user;

	return x < y ? -1 : x > y;
}

static bool
read_role(const struct json_object *value, struct group_role_change *out)
{
	const char *text;
	size_t len;

	if (!json_value_is_object(value) ||
	    json_get_u64(value, "UserId", USER_ID_MAX, &out->user) != 0 ||
	    out->user == 0 || json_get_string(value, "Role", &text, &len) != 0)
		return false;
	out->role = role_named(text, len);
	return out->role != ROLE_NONE;
}

static int
read_roles(struct request *request, struct update_fields *fields)
{
	const struct json_object *array;
	size_t count = 0;
	int rc;

	rc = json_get_array(request->json, "Role", &array, &count);
	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc != 0 || count == 0 || count > RECIPIENTS_MAX)
		goto bad;
	for (size_t i = 0; i < count; i++) {
		if (!read_role(json_array_at(array, i), &fields->roles[i]))
			goto bad;
	}
	qsort(fields->roles, count, sizeof(fields->roles[0]), compare_role);
	fields->role_count = count;
	return 0;
bad:
	return request_bad_field(request, "Role",
	    "an array of 1 to %d objects with UserId and Role (OWNER, ADMIN, "
	    "MEMBER)",
	    RECIPIENTS_MAX);
}

static int
compare_user(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool
has_user(const uint64_t *users, size_t count, uint64_t user)
{
	return count > 0 && bsearch(&user, users, count, sizeof(*users),
				compare_user) != NULL;
}

/* What would be done first? Nobody could tell. */
static int
check_named_once(struct request *request, const struct update_fields *fields)
{
	bool is_twice = false;

	for (size_t i = 0; i < fields->remove_count; i++)
		is_twice |=
		    has_user(fields->add, fields->add_count, fields->remove[i]);
	for (size_t i = 0; i < fields->role_count; i++) {
		uint64_t user = fields->roles[i].user;

		is_twice |=
		    has_user(fields->add, fields->add_count, user) ||
		    has_user(fields->remove, fields->remove_count, user) ||
		    (i > 0 && fields->roles[i - 1].user == user);
	}
	return is_twice ? request_fail(request, ERR_BAD_REQUEST,
			      "Add, Remove, Role: expected nobody twice")
			: 0;
}

static int
read_update(struct request *request, struct update_fields *fields)
{
	int rc;

	fields->name_len = 0;
	fields->role_count = 0;
	rc = request_id(request, "GroupId", FIELD_REQUIRED, &fields->group);
	if (rc == 0)
		rc = request_string(request, "Name", FIELD_OPTIONAL, 1,
		    GROUP_NAME_MAX, &fields->name, &fields->name_len);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = request_user_set(request, "Add", FIELD_OPTIONAL,
		    RECIPIENTS_MAX, fields->add, &fields->add_count);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = request_user_set(request, "Remove", FIELD_OPTIONAL,
		    RECIPIENTS_MAX, fields->remove, &fields->remove_count);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = read_roles(request, fields);
	if (rc != 0)
		return rc;
	if (fields->name_len == 0 && fields->add_count == 0 &&
	    fields->remove_count == 0 && fields->role_count == 0)
		return request_fail(request, ERR_BAD_REQUEST,
		    "Name, Add, Remove, Role: expected at least one of them");
	return check_named_once(request, fields);
}

int
cmd_update_group(struct request *request)
{
	struct record_group_update *record;
	struct update_fields fields;
	uint8_t *at;
	size_t len;
	int rc;

	rc = read_update(request, &fields);
	if (rc != 0)
		return rc;
	len = sizeof(*record) + fields.name_len +
	      (fields.add_count + fields.remove_count) * sizeof(uint64_t) +
	      fields.role_count * sizeof(fields.roles[0]);
	record = put_begin(request, len);
	if (record == NULL)
		return ERR_UNAVAILABLE;
	*record = (struct record_group_update){
	    .user = request->session->user,
	    .session = request->session->id,
	    .group = fields.group,
	    .add_count = (uint32_t)fields.add_count,
	    .remove_count = (uint32_t)fields.remove_count,
	    .role_count = (uint32_t)fields.role_count,
	    .name_len = (uint32_t)fields.name_len,
	};
	at = (uint8_t *)(record + 1);
	at = append(at, fields.add, fields.add_count * sizeof(uint64_t));
	at = append(at, fields.remove, fields.remove_count * sizeof(uint64_t));
	at = append(
	    at, fields.roles, fields.role_count * sizeof(fields.roles[0]));
	append(at, fields.name, fields.name_len);
	record->req = expect(request, fields.add_count + fields.role_count);
	learn_keep(
	    request->worker, record->req, RECORD_GROUP_UPDATE, record, len);
	put_end(request, RECORD_GROUP_UPDATE, len);
	return 0;
}

/* ---- P_LEAVE_GROUP ---- */

int
cmd_leave_group(struct request *request)
{
	struct record_group_leave *record;
	uint64_t group;
	int rc;

	rc = request_id(request, "GroupId", FIELD_REQUIRED, &group);
	if (rc != 0)
		return rc;
	record = put_begin(request, sizeof(*record));
	if (record == NULL)
		return ERR_UNAVAILABLE;
	*record = (struct record_group_leave){
	    .user = request->session->user,
	    .session = request->session->id,
	    .group = group,
	};
	record->req = expect(request, 0);
	put_end(request, RECORD_GROUP_LEAVE, sizeof(*record));
	return 0;
}

/* ---- what the keeper said ---- */

void
group_put_result(struct buf *out, const struct record_send_reply *reply)
{
	json_put_id(out, "GroupId", conv_key_id(&reply->conv));
	event_put_conv(out, &reply->conv);
	/* 0: there was nothing to change */
	if (reply->message_id != 0)
		json_put_i64(
		    out, "ServerTime", message_id_time_ms(reply->message_id));
	if (reply->seq != 0)
		json_put_u64(out, "Seq", reply->seq);
}

const char *
group_refusal(const struct record_send_reply *reply)
{
	switch (reply->rc) {
	case ERR_NOT_FOUND:
		return reply->unknown_count > 0
			   ? "UserIds are not known to you, or not in the "
			     "group; nothing was changed"
			   : "GroupId: you are in no such group";
	case ERR_FORBIDDEN:
		return "your role in the group does not permit that; nothing "
		       "was changed";
	case ERR_TOO_LARGE:
		return reply->unknown_count > 0
			   ? "UserIds are in too many groups; nothing was "
			     "changed"
			   : "a group cannot have so many members; nothing was "
			     "changed";
	case ERR_CONFLICT:
		return "ClientGroupId was used for another group, or two "
		       "owners were named";
	default:
		return err_text(reply->rc);
	}
}

/* ---- P_GET_GROUPS ---- */

static void
groups_done(struct worker *worker, struct job *job)
{
	bool is_list = job->run_fn == job_groups;
	struct session *session;
	struct buf *out = page_reply(
	    worker, job, "GroupId: you are in no such group", &session);

	if (out == NULL)
		return;
	json_put_raw(
	    out, is_list ? "Groups" : "Members", job->out.data, job->out.len);
	reply_put_cursor(out, job->next, is_list);
	reply_finish(session, out);
}

static int
read_groups(struct request *request, struct job *job)
{
	uint64_t limit = GROUPS_LIMIT_DEFAULT;
	uint64_t group = 0;
	int rc;

	rc = request_id(request, "GroupId", FIELD_OPTIONAL, &group);
	if (rc == 0) {
		conv_key_of(CONV_GROUP, group, &job->conv);
		job->run_fn = job_group_members;
		limit = MEMBERS_LIMIT_MAX;
		rc = request_u64(request, "Cursor", FIELD_OPTIONAL, 1,
		    USER_ID_MAX, &job->above);
	} else if (rc == ERR_NOT_FOUND) {
		rc = request_id(request, "Cursor", FIELD_OPTIONAL, &job->above);
	}
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = request_u64(request, "Limit", FIELD_OPTIONAL, 1,
		    group != 0 ? MEMBERS_LIMIT_MAX : GROUPS_LIMIT_MAX, &limit);
	job->limit = (size_t)limit;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int
cmd_get_groups(struct request *request)
{
	struct job *job =
	    reader_job_new(request->session, job_groups, groups_done);

	return page_ask(request, job, read_groups(request, job));
}
