/*
 * fanout.c - a durable event to its users.
 *
 * Role:    a seq and an inbox row for each of them; one record with the event
 *          and all its targets for each worker that has one of them.
 * Process: keeper, within a batch.
 * See:     doc/protocol.md, Inbox; worker/delivery.c takes the record.
 */
#include "keeper/fanout.h"

#include <string.h>

#include "keeper/retention.h"
#include "shm/inbox.h"
#include "shm/roll.h"

/* Of the event under way; kept here because of its size. */
static struct {
	struct deliver_target targets[WORKER_MAX][FANOUT_MAX];
	size_t counts[WORKER_MAX];
	uint64_t used; /* bit n: counts[n] > 0 */
	uint64_t members[GROUP_MEMBERS_MAX];
} fanout;

void
fanout_begin(void)
{
	memset(fanout.counts, 0, sizeof(fanout.counts));
	fanout.used = 0;
}

/* Workers with a live session of his other than one. */
static uint64_t
workers_but(const struct keeper *keeper, const struct userhead *head,
    uint64_t except_session)
{
	uint64_t workers = 0;

	for (int i = 0; i < head->row.device_count; i++) {
		const struct userhead_device *device = &head->devices[i];

		if (device->session != except_session &&
		    keeper_is_live(keeper, device))
			workers |= 1ULL << (device->worker - SLOT_WORKER_0);
	}
	return workers;
}

static void
add_target(uint64_t workers, uint64_t user, uint64_t seq)
{
	while (workers != 0) {
		int worker = __builtin_ctzll(workers);

		workers &= workers - 1;
		fanout.targets[worker][fanout.counts[worker]++] =
		    (struct deliver_target){user, seq};
		fanout.used |= 1ULL << worker;
	}
}

int
fanout_put(struct keeper *keeper, struct userhead *head,
    const struct fanout_event *event)
{
	struct inbox_event row = {
	    .seq = ++head->row.head,
	    .ref = event->row->id,
	    .conv = event->row->conv,
	    .kind = event->kind,
	};
	int rc = inbox_put(&keeper->txn, head->user, &row);

	retention_need(keeper, row.ref);
	if (rc == 0)
		add_target(
		    workers_but(keeper, head,
			head->user == event->row->sender ? event->except_session
							 : 0),
		    head->user, row.seq);
	return rc;
}

int
fanout_put_user(
    struct keeper *keeper, uint64_t user, const struct fanout_event *event)
{
	struct userhead head;
	int rc;

	rc = userhead_get_or_new(&keeper->txn, user, keeper->meta.base, &head);
	if (rc == 0)
		rc = fanout_put(keeper, &head, event);
	return rc == 0 ? userhead_put(&keeper->txn, &head) : rc;
}

int
fanout_put_roll(struct keeper *keeper, uint64_t but, uint64_t seen,
    const struct fanout_event *event, size_t *count_out)
{
	size_t count;
	int rc;

	rc = roll_users(
	    &keeper->txn, &event->row->conv, seen, fanout.members, &count);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (fanout.members[i] != but)
			rc = fanout_put_user(keeper, fanout.members[i], event);
	}
	if (count_out != NULL)
		*count_out = count;
	return rc;
}

static uint8_t *
append(uint8_t *at, const void *data, size_t len)
{
	if (len > 0)
		memcpy(at, data, len);
	return at + len;
}

static void
send_to_worker(
    struct keeper *keeper, const struct fanout_event *event, int worker)
{
	const struct log_message *m = event->row;
	size_t count = fanout.counts[worker];
	size_t targets_len = count * sizeof(struct deliver_target);
	size_t members_len = event->member_count * sizeof(uint64_t);
	struct record_deliver *record;
	size_t len = sizeof(*record) + targets_len + members_len + m->body.len +
		     m->type.len + m->client_id.len + m->attachment.len +
		     event->name.len;
	uint8_t *at;

	fanout.counts[worker] = 0;
	record = route_event_begin(keeper, worker, len);
	if (record == NULL)
		return;
	*record = (struct record_deliver){
	    .message_id = m->id,
	    .sender = m->sender,
	    .sender_session = event->except_session,
	    .conv = m->conv,
	    .client_time_ms = m->client_time_ms,
	    .reply_to = m->reply_to,
	    .changed_ms = m->changed_ms,
	    .body_len = (uint32_t)m->body.len,
	    .target_count = (uint32_t)count,
	    .member_count = (uint16_t)event->member_count,
	    .attachment_len = (uint16_t)m->attachment.len,
	    .name_len = (uint16_t)event->name.len,
	    .type_len = (uint8_t)m->type.len,
	    .client_id_len = (uint8_t)m->client_id.len,
	    .kind = event->kind,
	    .flags = m->flags,
	};
	at = (uint8_t *)(record + 1);
	at = append(at, fanout.targets[worker], targets_len);
	at = append(at, event->members, members_len);
	at = append(at, m->body.data, m->body.len);
	at = append(at, m->type.data, m->type.len);
	at = append(at, m->client_id.data, m->client_id.len);
	at = append(at, m->attachment.data, m->attachment.len);
	append(at, event->name.data, event->name.len);
	route_event_end(keeper, worker, RECORD_DELIVER, len);
}

void
fanout_send(struct keeper *keeper, const struct fanout_event *event)
{
	uint64_t used = fanout.used;

	fanout.used = 0;
	while (used != 0) {
		send_to_worker(keeper, event, __builtin_ctzll(used));
		used &= used - 1;
	}
}
