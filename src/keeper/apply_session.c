/*
 * apply_session.c - logins, logouts and status.
 *
 * Role:    decides which session of a device is the one that counts, where
 *          its cursor stands, and what is gone.
 * Process: keeper.
 * See:     doc/protocol.md: Session, Devices, Inbox
 */
#include "keeper/apply.h"

#include <string.h>

#include "base/log.h"
#include "shm/inbox.h"
#include "shm/presence.h"
#include "shm/users.h"

struct login {
	struct keeper *keeper;
	const struct origin *from;
	const struct record_login *record;
	const char *device_id;
	const char *name;
	struct userhead head;
	struct userhead_device *device;
	char user_name[NAME_MAX_BYTES];
	size_t user_name_len;
	bool is_recovered;
};

/* The device's session ends or hides: until now it was to be seen, unless it
 * was hidden before. What nobody saw must not show in LastSeen. */
static void
was_seen(const struct keeper *keeper, struct userhead *head,
    const struct userhead_device *device)
{
	if (device->session != 0 && device->status != STATUS_INVISIBLE)
		head->row.last_seen_ms = keeper->now_ms;
}

int
keeper_session_close(struct keeper *keeper, struct userhead *head,
    struct userhead_device *device)
{
	int rc;

	rc = presence_session_delete(&keeper->presence_txn, device->worker,
	    device->worker_gen, head->user, device->session);
	if (rc != 0)
		return rc;
	was_seen(keeper, head, device);
	call_note(keeper, CALL_LOST, head->user, device);
	device->session = 0;
	device->last_used_ms = keeper->age_ms;
	announce_later(keeper, head->user, false);
	if (route_workers(keeper, head) != 0 || head->row.grace_at_ms != 0)
		return 0;
	return grace_start(keeper, head);
}

/* ---- login ---- */

/* The user must exist; a valid token may bring it into being. */
static int
login_user(struct login *login)
{
	const struct record_login *record = login->record;
	struct txn *txn = &login->keeper->txn;
	struct user user;
	int rc;

	rc = users_get(txn, record->user, &user);
	if (rc == ERR_NOT_FOUND && (record->flags & LOGIN_PROVISION) != 0 &&
	    !keeper_user_was_removed(login->keeper, record->user)) {
		user = (struct user){
		    .id = record->user,
		    .created_ms = login->keeper->now_ms,
		    .name = {login->name, record->name_len},
		};
		rc = users_put(txn, &user);
	}
	if (rc != 0)
		return rc;
	if (user.name.len > sizeof(login->user_name))
		return ERR_CORRUPT;
	memcpy(login->user_name, user.name.data, user.name.len);
	login->user_name_len = user.name.len;
	return 0;
}

/* The unconnected device unused longest makes room. */
static int
make_room(struct login *login)
{
	struct userhead *head = &login->head;
	struct userhead_device *oldest = NULL;
	int rc;

	if (head->row.device_count < DEVICES_MAX)
		return 0;
	for (int i = 0; i < head->row.device_count; i++) {
		struct userhead_device *device = &head->devices[i];

		if (keeper_is_live(login->keeper, device))
			continue;
		if (oldest == NULL ||
		    device->last_used_ms < oldest->last_used_ms)
			oldest = device;
	}
	if (oldest == NULL)
		return ERR_CONFLICT;
	rc = device_forget(&login->keeper->txn, head->user, oldest->number);
	userhead_remove_device(head, oldest);
	return rc;
}

static int
login_device(struct login *login)
{
	struct userhead *head = &login->head;
	struct userhead_device *device;
	bool is_first = head->row.device_count == 0;
	int rc;

	login->device = userhead_find_device(head, login->record->device_hash);
	if (login->device != NULL)
		return 0;
	rc = make_room(login);
	if (rc != 0)
		return rc;
	device = &head->devices[head->row.device_count++];
	*device = (struct userhead_device){
	    .number = head->row.next_device++,
	    /* A first device begins at the oldest event, a further one at the
	     * head: it reads history instead (protocol.md, Inbox). */
	    .cursor = is_first ? head->row.floor : head->row.head,
	};
	memcpy(device->hash, login->record->device_hash, sizeof(device->hash));
	login->device = device;
	return device_put(&login->keeper->txn, head->user, device->number,
	    login->device_id, login->record->device_len, login->keeper->now_ms);
}

/*
 * Where the cursor stands, in either direction, and whether anything above
 * it is gone.
 */
static int
login_cursor(struct login *login)
{
	const struct record_login *record = login->record;
	struct userhead *head = &login->head;
	uint64_t base = login->keeper->meta.base;
	bool has_seq = (record->flags & LOGIN_HAS_SEQ) != 0 &&
		       (record->flags & LOGIN_EPOCH_DIFFERS) == 0;
	uint64_t wanted = has_seq ? record->last_seq : login->device->cursor;

	/* In use from now on: it holds its events when the inbox is trimmed. */
	login->device->last_used_ms = login->keeper->age_ms;
	login->is_recovered = (record->flags & LOGIN_EPOCH_DIFFERS) == 0;
	if (wanted > head->row.head) {
		login->is_recovered = false;
		wanted = head->row.head;
	} else if (wanted < head->row.floor) {
		/* Below the first seq ever given out nothing is gone. */
		if (head->row.floor != base)
			login->is_recovered = false;
		wanted = head->row.floor;
	}
	if (wanted > login->device->cursor)
		return cursor_advance(
		    login->keeper, head, login->device, wanted);
	login->device->cursor = wanted;
	/* What a keeper before this one has left to be done. */
	return inbox_trim(login->keeper, head);
}

void
keeper_session_revoke(struct keeper *keeper, uint64_t user,
    const struct userhead_device *device, uint64_t reason)
{
	struct origin to = {device->worker, device->worker_gen, 0};
	struct record_replaced *record;

	if (!keeper_is_live(keeper, device))
		return;
	/* Not an event that the inbox repeats: it may use the whole ring. */
	record = route_begin(keeper, &to, sizeof(*record));
	if (record == NULL)
		return;
	*record = (struct record_replaced){
	    .user = user,
	    .session = device->session,
	    .reason = reason,
	};
	route_end(keeper, &to, RECORD_REPLACED, sizeof(*record));
}

static int
login_replace(struct login *login)
{
	struct userhead_device *device = login->device;

	if (device->session == 0)
		return 0;
	keeper_session_revoke(
	    login->keeper, login->head.user, device, REPLACED_BY_LOGIN);
	return presence_session_delete(&login->keeper->presence_txn,
	    device->worker, device->worker_gen, login->head.user,
	    device->session);
}

static int
login_take_session(struct login *login)
{
	struct userhead_device *device = login->device;
	struct keeper *keeper = login->keeper;
	int rc;

	if (login->record->status == STATUS_INVISIBLE)
		was_seen(keeper, &login->head, device);
	device->session = login->record->session;
	device->worker = (uint8_t)login->from->slot;
	device->worker_gen = login->from->generation;
	device->boot = keeper->boot;
	device->status = (uint8_t)login->record->status;
	device->last_used_ms = keeper->age_ms;
	rc = grace_stop(keeper, &login->head);
	if (rc == 0)
		rc = presence_session_put(&keeper->presence_txn,
		    login->from->slot, login->from->generation,
		    login->head.user, device->session);
	if (rc == 0)
		rc = userhead_put(&keeper->txn, &login->head);
	announce_later(keeper, login->head.user, false);
	call_note(keeper, CALL_BACK, login->head.user, device);
	return rc;
}

static void
login_reply(struct login *login)
{
	struct record_login_reply *reply;
	size_t len = sizeof(*reply) + login->user_name_len;

	reply = route_begin(login->keeper, login->from, len);
	if (reply == NULL)
		return;
	*reply = (struct record_login_reply){
	    .req = login->record->req,
	    .user = login->head.user,
	    .session = login->record->session,
	    .cursor = login->device->cursor,
	    .floor = login->head.row.floor,
	    .head = login->head.row.head,
	    .recovered = login->is_recovered,
	    .name_len = (uint16_t)login->user_name_len,
	    .device_count = login->head.row.device_count,
	};
	memcpy(reply + 1, login->user_name, login->user_name_len);
	route_end(login->keeper, login->from, RECORD_LOGIN_REPLY, len);
}

/* What the older session had submitted is applied before this login. */
static int
drain_older(struct login *login)
{
	struct userhead_device *device;
	int rc;

	rc = userhead_get_or_new(&login->keeper->txn, login->record->user,
	    login->keeper->meta.base, &login->head);
	if (rc != 0)
		return rc;
	device = userhead_find_device(&login->head, login->record->device_hash);
	if (device == NULL || device->session == 0 ||
	    device->worker == login->from->slot ||
	    device->worker < SLOT_WORKER_0)
		return 0;
	keeper_drain_slot(login->keeper, device->worker);
	return userhead_get_or_new(&login->keeper->txn, login->record->user,
	    login->keeper->meta.base, &login->head);
}

/* His row may be of somebody else's list only: his own is not here yet. */
static bool
is_to_be_learned(const struct login *login)
{
	return conf_users_are_remote(login->keeper->conf) &&
	       login->head.row.next_device == 0 &&
	       (login->record->flags & (LOGIN_LEARNED | LOGIN_UNSURE)) == 0;
}

/* The user, and where his devices stand. */
static int
login_find(struct login *login)
{
	int rc = login_user(login);

	if (rc == ERR_NOT_FOUND && (login->record->flags & LOGIN_UNSURE) != 0)
		return ERR_UNAVAILABLE;
	if (rc == 0)
		rc = drain_older(login);
	if (rc == 0 && is_to_be_learned(login))
		return ERR_NOT_FOUND;
	return rc;
}

/*
 * The connection that asks has died with its worker. Its client has asked
 * again, perhaps by a ring that was read before this one: that login, not this
 * one, is the latest.
 */
static bool
is_asker_gone(const struct keeper *keeper, const struct origin *from)
{
	return atomic_load(
		   &board_slot(keeper->board, from->slot)->generation) !=
		   from->generation ||
	       !keeper_slot_is_alive(keeper, from->slot);
}

int
apply_login(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	struct login login = {
	    .keeper = keeper, .from = from, .record = payload};
	struct record_cursor cursor;
	int rc;

	record_cursor_init(
	    &cursor, login.record + 1, len - sizeof(*login.record));
	login.device_id = record_take(&cursor, login.record->device_len);
	login.name = record_take(&cursor, login.record->name_len);
	if (!record_is_whole(&cursor) || from->slot < SLOT_WORKER_0 ||
	    login.record->user == 0 || login.record->user > USER_ID_MAX ||
	    login.record->status >= STATUS_END ||
	    login.record->name_len > NAME_MAX_BYTES)
		return ERR_BAD_REQUEST;
	if (is_asker_gone(keeper, from))
		return 0;
	rc = login_find(&login);
	if (rc == 0)
		rc = login_device(&login);
	if (rc == ERR_NOT_FOUND || rc == ERR_CONFLICT ||
	    rc == ERR_UNAVAILABLE) {
		apply_refuse(keeper, from, RECORD_LOGIN, payload, len, rc);
		return keeper->txn.rc;
	}
	if (rc == 0)
		rc = login_replace(&login);
	if (rc == 0)
		rc = login_cursor(&login);
	if (rc == 0)
		rc = login_take_session(&login);
	if (rc != 0)
		return rc;
	login_reply(&login);
	keeper->batch.logins++;
	return 0;
}

/* ---- the rest of a session's life ---- */

int
keeper_session_get(struct keeper *keeper, uint64_t user, uint64_t session,
    struct userhead *head, struct userhead_device **device_out)
{
	int rc;

	rc = userhead_get(&keeper->txn, user, head);
	if (rc != 0)
		return rc;
	*device_out = userhead_find_session(head, session);
	return *device_out == NULL ? ERR_NOT_FOUND : 0;
}

void
keeper_session_refuse(struct keeper *keeper, const struct origin *from,
    uint64_t user, uint64_t session, enum replaced_reason reason)
{
	struct record_replaced *record;

	record = route_begin(keeper, from, sizeof(*record));
	if (record == NULL)
		return;
	*record = (struct record_replaced){
	    .user = user,
	    .session = session,
	    .reason = reason,
	};
	route_end(keeper, from, RECORD_REPLACED, sizeof(*record));
}

/* Its worker was told before, or its ring had no room for that. */
static void
session_discard(struct keeper *keeper, const struct origin *from, uint64_t user,
    uint64_t session)
{
	struct user row;

	keeper_session_refuse(keeper, from, user, session,
	    users_get(&keeper->txn, user, &row) == 0 ? REPLACED_BY_LOGIN
						     : REPLACED_KICKED);
}

int
keeper_session_ask(struct keeper *keeper, const struct origin *from,
    uint64_t user, uint64_t session, struct userhead *head,
    struct userhead_device **device_out)
{
	int rc;

	rc = keeper_session_get(keeper, user, session, head, device_out);
	if (rc != ERR_NOT_FOUND)
		return rc;
	session_discard(keeper, from, user, session);
	return ERR_STALE;
}

int
keeper_session_run(struct keeper *keeper, const struct origin *from,
    const struct session_request *request)
{
	struct userhead_device *device;
	struct userhead head;
	int rc;

	rc = keeper_session_ask(
	    keeper, from, request->user, request->session, &head, &device);
	if (rc == ERR_STALE)
		return 0;
	if (rc == 0)
		rc = request->fn(keeper, request->record);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	if (keeper->txn.rc == 0)
		route_reply(keeper, from, request->req, rc, 0, NULL);
	return keeper->txn.rc;
}

static int
session_forget(struct keeper *keeper, struct userhead *head,
    struct userhead_device *device)
{
	int rc;

	rc = device_forget(&keeper->txn, head->user, device->number);
	if (rc != 0)
		return rc;
	userhead_remove_device(head, device);
	return inbox_trim(keeper, head);
}

int
apply_session_end(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_session_end *record = payload;
	struct userhead_device *device;
	struct userhead head;
	int rc;

	(void)len;
	rc = keeper_session_get(
	    keeper, record->user, record->session, &head, &device);
	if (rc == ERR_NOT_FOUND) {
		/* Replaced or forgotten before: that is an end, too. */
		route_reply(keeper, from, record->req, 0, 0, NULL);
		return 0;
	}
	if (rc == 0 && record->req != 0)
		call_note(keeper, CALL_QUIT, record->user, device);
	if (rc == 0)
		rc = keeper_session_close(keeper, &head, device);
	if (rc == 0 && (record->flags & SESSION_END_FORGET) != 0)
		rc = session_forget(keeper, &head, device);
	if (rc == 0)
		rc = userhead_put(&keeper->txn, &head);
	if (rc == 0)
		route_reply(keeper, from, record->req, 0, 0, NULL);
	return rc;
}

static int
status_text_put(
    struct keeper *keeper, uint64_t user, const char *text, size_t text_len)
{
	struct presence presence;
	int rc;

	rc = presence_get(&keeper->presence_txn, user, &presence);
	if (rc == ERR_NOT_FOUND)
		presence = (struct presence){0};
	else if (rc != 0)
		return rc;
	memcpy(presence.text, text, text_len);
	presence.text_len = text_len;
	return presence_put(&keeper->presence_txn, user, &presence);
}

int
apply_status(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len)
{
	const struct record_status *record = payload;
	struct userhead_device *device;
	struct record_cursor cursor;
	struct userhead head;
	const char *text;
	int rc;

	record_cursor_init(&cursor, record + 1, len - sizeof(*record));
	text = record_take(&cursor, record->text_len);
	if (!record_is_whole(&cursor) || record->text_len > STATUS_TEXT_MAX ||
	    record->status >= STATUS_END)
		return ERR_BAD_REQUEST;
	rc = keeper_session_ask(
	    keeper, from, record->user, record->session, &head, &device);
	if (rc == ERR_STALE)
		return 0;
	if (rc != 0)
		return rc;
	if (record->status == STATUS_INVISIBLE)
		was_seen(keeper, &head, device);
	device->status = (uint8_t)record->status;
	rc = userhead_put(&keeper->txn, &head);
	if (rc == 0 && record->has_text)
		rc = status_text_put(
		    keeper, record->user, text, record->text_len);
	if (rc != 0)
		return rc;
	announce_later(keeper, record->user, record->has_text != 0);
	route_reply(keeper, from, record->req, 0, 0, NULL);
	return 0;
}
