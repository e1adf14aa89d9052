/*
 * records.c - taking ring records apart without trusting them.
 *
 * Role:    table of the fixed parts, and the cursor over the tail.
 * Process: every reader of a ring.
 * Blocks:  never.
 * Trust:   all lengths come from another process: the cursor never leaves the
 *          record and sticks at the first thing that does not fit.
 * See:     records.h, records.def.
 */
#include "shm/records.h"

struct record_row {
	const char *name;
	size_t min_len;
};

static const struct record_row record_table[RECORD_END] = {
#define RECORD(name, from, to, payload)                                        \
	[RECORD_##name] = {#name, sizeof(struct record_##payload)},
#include "shm/records.def"
#undef RECORD
};

#define RECORD(name, from, to, payload)                                        \
	_Static_assert(                                                        \
	    sizeof(struct record_##payload) % 8 == 0, "tail alignment");
#include "shm/records.def"
#undef RECORD

size_t
record_min_len(uint16_t type)
{
	if (type >= RECORD_END || record_table[type].name == NULL)
		return SIZE_MAX;
	return record_table[type].min_len;
}

const char *
record_name(uint16_t type)
{
	if (type >= RECORD_END || record_table[type].name == NULL)
		return "unknown";
	return record_table[type].name;
}

void
record_cursor_init(struct record_cursor *cursor, const void *data, size_t len)
{
	*cursor = (struct record_cursor){.data = data, .left = len};
}

const void *
record_take(struct record_cursor *cursor, size_t len)
{
	const void *at = cursor->data;

	if (cursor->is_bad || len > cursor->left) {
		cursor->is_bad = true;
		return NULL;
	}
	cursor->data += len;
	cursor->left -= len;
	return at;
}

bool
record_is_whole(const struct record_cursor *cursor)
{
	return !cursor->is_bad;
}
