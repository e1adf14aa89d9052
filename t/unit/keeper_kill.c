/*
 * keeper_kill.c - unit test of src/keeper/: the keeper is killed at any
 * moment while a worker sends, retries and acknowledges. Every request is
 * answered exactly once, nothing is stored twice, no event is missing or out
 * of order.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "shm/inbox.h"
#include "shm/log.h"
#include "shm/userhead.h"
#include "t/unit/keeper_stage.h"

#define KILLS       220
#define USERS       4
#define FIGHT_MAX   250 /* letters between two kills, on any machine */
#define LETTERS_MAX (KILLS * (FIGHT_MAX + 16))
#define REQS_MAX    (4 * LETTERS_MAX)
#define DEADLINE_MS 60000

struct sent_letter {
	uint64_t id;  /* 0: not answered yet */
	uint64_t seq; /* told in the reply, 0: none */
	uint8_t from;
	uint8_t to;
	bool is_delivered;
};

struct war {
	struct stage stage;
	uint64_t random;
	struct sent_letter letters[LETTERS_MAX];
	size_t count;
	/* by request: number of the letter asked for, and was it answered */
	uint32_t asked[REQS_MAX];
	bool answered[REQS_MAX];
	size_t open;                 /* requests without an answer */
	size_t last_done[USERS + 1]; /* newest letter answered, per sender */
	uint64_t last_id;
	uint64_t base;
	uint64_t head[USERS + 1]; /* last seq delivered, per user */
	uint64_t acked[USERS + 1];
};

static uint64_t
next_random(struct war *war)
{
	war->random ^= war->random << 13;
	war->random ^= war->random >> 7;
	war->random ^= war->random << 17;
	return war->random;
}

static void
put_letter(struct war *war, size_t number)
{
	struct sent_letter *sent = &war->letters[number];
	struct letter letter = {
	    .from = sent->from,
	    .session = 100u + sent->from,
	    .to = {sent->to},
	    .to_count = 1,
	    .number = number,
	};
	uint64_t req = stage_send(&war->stage, &letter);

	assert_true(req < REQS_MAX);
	war->asked[req] = (uint32_t)number;
	war->open++;
}

/* A new message, or a retry of one of the last. */
static void
send_one(struct war *war)
{
	struct sent_letter *sent;
	uint64_t draw = next_random(war);

	if (draw % 8 == 0 && war->count > 1) {
		size_t back = (draw >> 8) % 20 + 1;

		put_letter(war, back < war->count ? war->count - back : 1);
		return;
	}
	assert_true(war->count < LETTERS_MAX);
	sent = &war->letters[war->count];
	sent->from = (uint8_t)((draw >> 16) % USERS + 1);
	sent->to = (uint8_t)((draw >> 32) % (USERS - 1) + 1);
	if (sent->to >= sent->from)
		sent->to++;
	put_letter(war, war->count++);
}

static void
ack_one(struct war *war)
{
	uint64_t user = next_random(war) % USERS + 1;
	uint64_t seq = war->head[user];

	if (seq <= war->acked[user])
		return;
	seq -= next_random(war) % (seq - war->acked[user]);
	war->acked[user] = seq;
	stage_ack(&war->stage, user, 100 + user, seq);
}

static void
take_reply(struct war *war, const struct record_send_reply *reply)
{
	struct sent_letter *sent;
	size_t number;

	assert_true(reply->req < REQS_MAX);
	assert_false(war->answered[reply->req]);
	war->answered[reply->req] = true;
	war->open--;
	number = war->asked[reply->req];
	sent = &war->letters[number];
	if (sent->id != 0) {
		assert_int_equal(reply->rc, ERR_DUPLICATE);
		assert_int_equal(reply->message_id, sent->id);
		assert_int_equal(reply->seq, sent->seq);
		return;
	}
	assert_int_equal(reply->rc, 0);
	/* in the order of sending, ids grow */
	assert_true(number >= war->last_done[sent->from]);
	war->last_done[sent->from] = number;
	assert_true(reply->message_id > war->last_id);
	war->last_id = reply->message_id;
	sent->id = reply->message_id;
	sent->seq = reply->seq;
	/* user 1 has a second device */
	assert_int_equal(reply->seq != 0, sent->from == 1);
}

static void
take_delivery(struct war *war, const struct record_deliver *deliver)
{
	const struct deliver_target *targets = deliver_targets(deliver);
	size_t number = stage_number(deliver_body(deliver), deliver->body_len);

	assert_true(number < war->count);
	assert_int_equal(deliver->sender, war->letters[number].from);
	assert_false(war->letters[number].is_delivered);
	war->letters[number].is_delivered = true;
	assert_int_equal(targets[0].user, war->letters[number].to);
	assert_int_equal(deliver->target_count, deliver->sender == 1 ? 2 : 1);
	for (uint32_t i = 0; i < deliver->target_count; i++) {
		uint64_t user = targets[i].user;

		assert_int_equal(targets[i].seq, war->head[user] + 1);
		war->head[user]++;
	}
}

static void
take_all(struct war *war, int timeout_ms)
{
	struct stage *stage = &war->stage;

	stage_pump(stage, timeout_ms);
	while (stage_count(stage, RECORD_DELIVER) > 0)
		take_delivery(
		    war, (const void *)stage_take(stage, RECORD_DELIVER)->data);
	while (stage_count(stage, RECORD_SEND_REPLY) > 0)
		take_reply(war, stage_sent(stage));
	while (stage_count(stage, RECORD_RECEIPT) > 0)
		stage_take(stage, RECORD_RECEIPT);
}

static void
fight(struct war *war)
{
	int64_t until_us =
	    clock_mono_us() + (int64_t)(next_random(war) % 25000);
	int sent = 0;

	/* a fast machine is through before the time: killed in full flight */
	while (clock_mono_us() < until_us && sent < FIGHT_MAX) {
		/* no more than devices may have unanswered */
		for (int i = 0; i < 8 && war->open < 64; i++) {
			send_one(war);
			sent++;
			if (next_random(war) % 3 == 0)
				ack_one(war);
		}
		take_all(war, 1);
	}
}

static void
war_open(struct war *war)
{
	struct login login;

	stage_open(&war->stage);
	war->random = 0xc0ffee;
	war->count = 1; /* numbers from 1 */
	for (uint64_t user = 1; user <= USERS; user++) {
		login = (struct login){
		    .user = user, .session = 100 + user, .device = 1};
		war->head[user] = stage_login(&war->stage, &login).head;
		war->acked[user] = war->head[user];
	}
	login = (struct login){.user = 1, .session = 501, .device = 2};
	assert_int_equal(stage_login(&war->stage, &login).rc, 0);
	war->base = war->head[1];
}

static void
finish(struct war *war)
{
	int64_t deadline = clock_mono_ms() + DEADLINE_MS;

	while (war->open > 0) {
		assert_true(clock_mono_ms() < deadline);
		take_all(war, 100);
	}
	stage_barrier(&war->stage);
	take_all(war, 0);
	for (size_t i = 1; i < war->count; i++) {
		assert_true(war->letters[i].id != 0);
		assert_true(war->letters[i].is_delivered);
	}
}

struct next_event {
	struct war *war;
	uint64_t user;
	uint64_t seq;
};

static bool
check_event(void *ctx, const struct inbox_event *event)
{
	struct next_event *next = ctx;
	struct log_message message;
	uint64_t number;

	assert_int_equal(event->seq, next->seq + 1);
	next->seq++;
	assert_int_equal(
	    log_get(&next->war->stage.txn, event->ref, &message), 0);
	number = stage_number(message.body.data, message.body.len);
	assert_int_equal(next->war->letters[number].id, event->ref);
	return true;
}

/* What is stored: each letter once, in the order of ids; the inboxes hold
 * exactly what is above the cursors. */
static void
check_store(struct war *war)
{
	struct stage *stage = &war->stage;
	struct userhead head;
	struct walk walk;
	uint64_t start = 0;
	size_t count = 1;
	int rc;

	stage_store_open(stage, false);
	rc = walk_begin(&walk, &stage->txn, DBI_log, &start, sizeof(start));
	while (rc == 0) {
		struct log_message message;
		uint64_t id;
		size_t number;

		memcpy(&id, walk.key.data, sizeof(id));
		assert_int_equal(log_get(&stage->txn, id, &message), 0);
		number = stage_number(message.body.data, message.body.len);
		assert_int_equal(war->letters[number].id, id);
		count++;
		rc = walk_next(&walk);
	}
	walk_end(&walk);
	assert_int_equal(rc, ERR_NOT_FOUND);
	assert_int_equal(count, war->count);
	for (uint64_t user = 1; user <= USERS; user++) {
		struct next_event next = {.war = war, .user = user};

		assert_int_equal(userhead_get(&stage->txn, user, &head), 0);
		assert_int_equal(head.row.head, war->head[user]);
		assert_int_equal(head.devices[0].cursor, war->acked[user]);
		/* the second device of user 1 acknowledges nothing */
		next.seq = user == 1 ? war->base : war->acked[user];
		assert_int_equal(head.row.floor, next.seq);
		assert_int_equal(inbox_each(&stage->txn, user, 0, UINT64_MAX,
				     check_event, &next),
		    0);
		assert_int_equal(next.seq, war->head[user]);
	}
	stage_store_close(stage);
	stage_keeper_start(stage);
}

static void
a_killed_keeper_loses_and_repeats_nothing(void **state)
{
	struct war *war = calloc(1, sizeof(*war));
	int64_t start_ms = clock_mono_ms();

	(void)state;
	assert_non_null(war);
	war_open(war);
	for (int kills = 0; kills < KILLS; kills++) {
		fight(war);
		stage_keeper_kill(&war->stage);
		/* some are put while nobody is there */
		if (next_random(war) % 2 == 0)
			take_all(war, 0);
		for (int i = 0; i < 5 && war->open < 64; i++)
			send_one(war);
		stage_keeper_start(&war->stage);
		if (kills % 50 == 49) {
			finish(war);
			check_store(war);
		}
	}
	finish(war);
	check_store(war);
	printf("# %zu messages over %d kills in %lld ms\n", war->count - 1,
	    KILLS, (long long)(clock_mono_ms() - start_ms));
	/* valgrind lets a keeper do less in the time that it lives */
	if (getenv("PARLEY_VALGRIND") == NULL)
		assert_true(war->count > KILLS * 5);
	stage_close(&war->stage);
	free(war);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_killed_keeper_loses_and_repeats_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
