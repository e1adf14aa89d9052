/*
 * conv_box.h - a store with two conversations, and naive lists of what is in
 * them.
 */
#ifndef T_UNIT_CONV_BOX_H
#define T_UNIT_CONV_BOX_H

#include "shm/conv.h"
#include "shm/log.h"
#include "t/unit/store_box.h"

#define MODEL_MAX 2000
#define PAGE_MAX  200
#define NOW_MS    1795450000000LL

struct model {
	struct conv conv;
	uint64_t ids[MODEL_MAX];
	uint64_t senders[MODEL_MAX];
	size_t count;
	size_t gone; /* by retention, from the front */
};

struct stage {
	struct store_box box;
	struct model a;
	struct model b;
	uint64_t last_id;
	uint64_t random;
};

static inline void
model_create(struct stage *stage, struct model *model, uint64_t first,
    size_t member_count)
{
	uint64_t members[MEMBERS_MAX];
	struct conv_key key;

	for (size_t i = 0; i < member_count; i++)
		members[i] = first + i;
	conv_key_make(members, member_count, &key);
	assert_int_equal(conv_create(&stage->box.txn, &key, members,
			     member_count, &model->conv),
	    0);
	assert_int_equal(conv_put(&stage->box.txn, &model->conv), 0);
}

static inline void
model_add(struct stage *stage, struct model *model, uint64_t sender)
{
	struct log_message m = {.sender = sender};
	char body[32];

	snprintf(body, sizeof(body), "message %zu", model->count);
	m.body = (struct blob){body, strlen(body)};
	m.type = (struct blob){"text", 4};
	m.client_time_ms = INT64_MIN;
	/* now and then time stands still: ids with no room between */
	m.id = message_id_next(stage->last_id,
	    NOW_MS + (int64_t)(stage->last_id % 3 == 0 ? model->count : 0),
	    (unsigned)(box_random(&stage->random) % 256));
	stage->last_id = m.id;
	m.conv = model->conv.key;
	assert_int_equal(
	    conv_add_message(&stage->box.txn, &model->conv, &m), 0);
	assert_int_equal(m.position, model->count + 1);
	assert_int_equal(
	    m.prev, model->count == 0 ? 0 : model->ids[model->count - 1]);
	assert_int_equal(log_append(&stage->box.txn, &m), 0);
	assert_int_equal(conv_put(&stage->box.txn, &model->conv), 0);
	model->ids[model->count] = m.id;
	model->senders[model->count++] = sender;
}

static inline struct stage *
stage_open(size_t members_a, size_t members_b)
{
	struct stage *stage = calloc(1, sizeof(*stage));

	assert_non_null(stage);
	box_open(&stage->box);
	stage->random = 0x9e3779b97f4a7c15;
	box_begin(&stage->box);
	model_create(stage, &stage->a, 10, members_a);
	model_create(stage, &stage->b, 11, members_b);
	return stage;
}

static inline void
stage_close(struct stage *stage)
{
	box_close(&stage->box);
	free(stage);
}

/* Interleaved with about as many messages of the other conversation. */
static inline void
stage_fill(struct stage *stage, size_t count)
{
	while (stage->a.count < count) {
		if (box_random(&stage->random) % 2 == 0)
			model_add(stage, &stage->a,
			    10 + box_random(&stage->random) % 2);
		else if (stage->b.count < MODEL_MAX)
			model_add(stage, &stage->b,
			    11 + box_random(&stage->random) % 2);
	}
}

#endif
