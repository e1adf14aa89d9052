/*
 * call_tell.c - who is told what has happened to a call.
 *
 * Role:    P_COLLABORATION, live, to those who ring or are in it; the durable
 *          P_COLLABORATION_OUTCOME, once per user and call.
 * Process: keeper, within a batch.
 * See:     doc/protocol.md, Collaborations; worker/cmd_call.c sends them on.
 *
 * While it rings at a user all of his devices are told; of one who has joined
 * the one that did. What a ring has no room for is learned otherwise: the
 * worker looks for the open calls of its users (worker/job_calls.c), and how
 * a call ended is durable.
 */
#include <string.h>

#include "base/json.h"
#include "keeper/fanout.h"
#include "keeper/keeper_priv.h"
#include "shm/call_json.h"
#include "shm/users.h"

/* After the store was full. */
#define TELL_AGAIN_MS 5000

struct listener {
	struct call_target target;
	uint64_t workers;
};

struct telling {
	struct keeper *keeper;
	const struct call *call;
	const struct call_effects *effects;
	uint64_t except;
	struct blob name; /* of who has made it */
	struct listener listeners[CALL_PARTS_MAX];
	size_t count;
	struct buf text;
};

void
call_creator_name(
    struct keeper *keeper, const struct call *call, struct user_name *out)
{
	/* Damaged: not worth losing the call. */
	if (keeper_user_name(keeper, call->parts[0].user, out) != 0)
		out->len = 0;
}

/* ---- who ---- */

static uint64_t
workers_of(const struct keeper *keeper, struct userhead *head, uint64_t only)
{
	const struct userhead_device *device;

	if (only == 0)
		return route_workers(keeper, head);
	device = userhead_find_session(head, only);
	return device != NULL && keeper_is_live(keeper, device)
		   ? 1ULL << (device->worker - SLOT_WORKER_0)
		   : 0;
}

static int
make_listener(
    struct telling *telling, struct call_target target, struct listener *out)
{
	struct userhead head;
	int rc = userhead_get(&telling->keeper->txn, target.user, &head);

	*out = (struct listener){.target = target};
	if (rc == 0)
		out->workers = workers_of(telling->keeper, &head, target.only);
	return keeper_is_lost(telling->keeper, rc) ? 0 : rc;
}

static int
add_listeners(struct telling *telling)
{
	const struct call *call = telling->call;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < call->row.part_count; i++) {
		const struct call_part *part = &call->parts[i];
		bool was_in = call_was_in(call, i);
		struct call_target target = {
		    .user = part->user,
		    .except = telling->except,
		};

		if (was_in || call_part_is_in(part))
			target.only = part->session;
		else if (!call_was_ringing(call, i) &&
			 part->state != PART_RINGING)
			continue;
		if (target.only != 0 && target.only == telling->except)
			continue;
		rc = make_listener(
		    telling, target, &telling->listeners[telling->count]);
		if (telling->listeners[telling->count].workers != 0)
			telling->count++;
	}
	return rc;
}

/* ---- what ---- */

static void
make_text(struct telling *telling, enum call_event event, uint64_t by,
    const uint64_t *users, size_t count)
{
	struct buf *text = &telling->text;

	buf_clear(text);
	json_object_begin(text);
	json_put_text(text, "Command", "P_COLLABORATION");
	json_put_text(text, "Event", call_event_name(event));
	json_put_u64(text, "UserId", by);
	if (count > 1 || event == CALL_EVENT_INVITED) {
		json_key(text, "UserIds");
		json_array_begin(text);
		for (size_t i = 0; i < count; i++)
			json_u64(text, users[i]);
		json_array_end(text);
	}
	call_json_now(text, telling->call, &telling->name);
	if (event == CALL_EVENT_INVITED)
		call_json_payload(text, telling->call);
	json_object_end(text);
}

static void
send_to_worker(struct telling *telling, const struct listener *listeners,
    size_t count, int worker)
{
	struct call_target targets[CALL_PARTS_MAX];
	struct record_call_event *record;
	uint32_t used = 0;
	size_t targets_len;
	size_t len;

	for (size_t i = 0; i < count; i++) {
		if ((listeners[i].workers & 1ULL << worker) != 0)
			targets[used++] = listeners[i].target;
	}
	if (used == 0)
		return;
	targets_len = used * sizeof(targets[0]);
	len = sizeof(*record) + targets_len + telling->text.len;
	record = route_event_begin(telling->keeper, worker, len);
	if (record == NULL)
		return;
	*record = (struct record_call_event){
	    .target_count = used,
	    .text_len = (uint32_t)telling->text.len,
	};
	memcpy(record + 1, targets, targets_len);
	memcpy((uint8_t *)(record + 1) + targets_len, telling->text.data,
	    telling->text.len);
	route_event_end(telling->keeper, worker, RECORD_CALL_EVENT, len);
}

static void
send_text(
    struct telling *telling, const struct listener *listeners, size_t count)
{
	int workers = bus_worker_count(telling->keeper->bus);

	for (int worker = 0; worker < workers; worker++)
		send_to_worker(telling, listeners, count, worker);
}

static void
tell_event(struct telling *telling, enum call_event event)
{
	const struct call *call = telling->call;
	uint64_t users[CALL_PARTS_MAX];
	uint64_t by = telling->effects->cause;
	size_t count = 0;

	for (uint32_t i = 0; i < call->row.part_count; i++) {
		if (telling->effects->events[i] != event)
			continue;
		by = event == CALL_EVENT_INVITED ? call->parts[i].invited_by
						 : call->parts[i].user;
		users[count++] = call->parts[i].user;
	}
	if (count > 1 && event != CALL_EVENT_INVITED)
		by = users[0];
	if (count == 0 &&
	    (event != CALL_EVENT_ENDED || !telling->effects->is_ended))
		return;
	make_text(telling, event, by, users, count);
	send_text(telling, telling->listeners, telling->count);
}

/* His other devices stop ringing, and hear no more of it. */
static int
tell_elsewhere(struct telling *telling)
{
	const struct call *call = telling->call;
	struct listener listener;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < call->row.part_count; i++) {
		const struct call_part *part = &call->parts[i];
		const struct call_target target = {
		    .user = part->user,
		    .except = part->session,
		};

		if (telling->effects->events[i] != CALL_EVENT_ACCEPTED)
			continue;
		rc = make_listener(telling, target, &listener);
		make_text(telling, CALL_EVENT_ANSWERED_ELSEWHERE, part->user,
		    NULL, 0);
		if (listener.workers != 0)
			send_text(telling, &listener, 1);
	}
	return rc;
}

int
call_tell(struct keeper *keeper, const struct call *call,
    const struct call_effects *effects, uint64_t except)
{
	struct telling telling = {
	    .keeper = keeper,
	    .call = call,
	    .effects = effects,
	    .except = except,
	};
	struct user_name name;
	int rc;

	call_creator_name(keeper, call, &name);
	telling.name = (struct blob){name.text, name.len};
	rc = add_listeners(&telling);
	for (int event = CALL_EVENT_INVITED;
	     rc == 0 && event <= CALL_EVENT_ENDED; event++)
		tell_event(&telling, (enum call_event)event);
	if (rc == 0)
		rc = tell_elsewhere(&telling);
	buf_fini(&telling.text);
	return rc;
}

/* ---- how it ended ---- */

static bool
is_untold(const struct call_part *part)
{
	return part->outcome != CALL_OUTCOME_NONE &&
	       (part->flags & CALL_PART_TOLD) == 0;
}

static int
put_outcome(struct keeper *keeper, struct call *call, enum call_outcome outcome,
    const struct fanout_event *event)
{
	struct user user;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < call->row.part_count; i++) {
		struct call_part *part = &call->parts[i];

		if (!is_untold(part) || part->outcome != outcome)
			continue;
		part->flags |= CALL_PART_TOLD;
		rc = users_get(&keeper->txn, part->user, &user);
		if (rc == 0)
			rc = fanout_put_user(keeper, part->user, event);
		if (keeper_is_lost(keeper, rc))
			rc = 0; /* removed, or damaged: nobody reads it */
	}
	return rc;
}

/* One row for all who have the same outcome. */
static int
tell_outcome(
    struct keeper *keeper, struct call *call, enum call_outcome outcome)
{
	struct log_message row = {
	    .kind = LOG_EVENT,
	    .sender = call->parts[0].user,
	    .client_time_ms = INT64_MIN,
	};
	const struct fanout_event event = {
	    .kind = EVENT_OUTCOME,
	    .row = &row,
	};
	struct user_name name;
	struct buf body = {0};
	int rc;

	call_creator_name(keeper, call, &name);
	json_object_begin(&body);
	call_json_past(
	    &body, call, &(struct blob){name.text, name.len}, outcome);
	json_object_end(&body);
	row.body = (struct blob){body.data, body.len};
	row.id = keeper_next_id(keeper);
	conv_key_of(CONV_COLLABORATION, call->id, &row.conv);
	fanout_begin();
	rc = log_append(&keeper->txn, &row);
	if (rc == 0)
		rc = put_outcome(keeper, call, outcome, &event);
	if (rc == 0)
		fanout_send(keeper, &event);
	buf_fini(&body);
	return rc;
}

int
call_tell_outcomes(struct keeper *keeper, struct call *call)
{
	int rc = 0;

	call->row.tell_at_ms = 0;
	for (uint32_t i = 0; rc == 0 && i < call->row.part_count; i++) {
		const struct call_part *part = &call->parts[i];

		if (!is_untold(part))
			continue;
		if (keeper->storage != STORAGE_GOOD) {
			call->row.tell_at_ms = keeper->age_ms + TELL_AGAIN_MS;
			return 0;
		}
		rc = tell_outcome(
		    keeper, call, (enum call_outcome)part->outcome);
	}
	return rc;
}
