/*
 * store_users.c - unit test of shm/users.c, shm/presence.c and shm/meta.c:
 * users of every size, contacts seen from both sides, sessions of workers that
 * died, what a store knows of itself.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/log.h"
#include "shm/meta.h"
#include "shm/presence.h"
#include "shm/users.h"
#include "t/unit/store_box.h"

#define NOW_MS 1795450000000LL

/* ---- users ---- */

static void
assert_blob(struct blob blob, struct blob expected)
{
	assert_int_equal(blob.len, expected.len);
	assert_memory_equal(blob.data, expected.data, expected.len);
}

static void
check_user(struct txn *txn, const struct user *user)
{
	struct user out;

	assert_int_equal(users_get(txn, user->id, &out), 0);
	assert_int_equal(out.id, user->id);
	assert_int_equal(out.created_ms, user->created_ms);
	assert_blob(out.name, user->name);
	assert_blob(out.password, user->password);
	assert_blob(out.role, user->role);
	assert_blob(out.profile, user->profile);
}

static void
users_of_every_size_come_back(void **state)
{
	static char text[16384];
	struct store_box box;
	struct user user = {.created_ms = NOW_MS};
	struct user out;

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	box_open(&box);
	box_begin(&box);
	for (int set = 0; set < 16; set++) {
		user.id = set == 0 ? USER_ID_MAX : (uint64_t)set;
		user.name = (struct blob){text, set & 1 ? 128 : 0};
		user.password = (struct blob){text + 1, set & 2 ? 300 : 0};
		user.role = (struct blob){text + 2, set & 4 ? 64 : 0};
		user.profile = (struct blob){text + 3, set & 8 ? 4096 : 0};
		assert_int_equal(users_put(&box.txn, &user), 0);
		check_user(&box.txn, &user);
	}
	/* replaced by parts of itself */
	assert_int_equal(users_get(&box.txn, 15, &out), 0);
	out.name = out.profile;
	out.profile.len = 0;
	assert_int_equal(users_put(&box.txn, &out), 0);
	assert_int_equal(users_get(&box.txn, 15, &out), 0);
	assert_blob(out.name, (struct blob){text + 3, 4096});
	assert_blob(out.role, (struct blob){text + 2, 64});
	/* too large, also where 16 bits would not show it */
	user.profile = (struct blob){text, 8192};
	assert_int_equal(users_put(&box.txn, &user), ERR_TOO_LARGE);
	user.profile = (struct blob){text, 65536};
	assert_int_equal(users_put(&box.txn, &user), ERR_TOO_LARGE);
	assert_int_equal(box.txn.rc, 0);
	assert_int_equal(users_delete(&box.txn, 15), 0);
	assert_int_equal(users_delete(&box.txn, 15), ERR_NOT_FOUND);
	assert_int_equal(users_get(&box.txn, 15, &out), ERR_NOT_FOUND);
	box_close(&box);
}

static void
a_user_of_wrong_length_is_corrupt(void **state)
{
	uint8_t row[64] = {0};
	struct store_box box;
	struct blob value;
	struct user user = {.id = 1, .name = {"Ann", 3}, .role = {"x", 1}};
	uint64_t id = 1;
	size_t right;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(users_put(&box.txn, &user), 0);
	assert_int_equal(
	    txn_get(&box.txn, DBI_users, &id, sizeof(id), &value), 0);
	right = value.len;
	memcpy(row, value.data, right);
	for (size_t len = 0; len <= sizeof(row); len++) {
		assert_int_equal(
		    txn_put(&box.txn, DBI_users, &id, sizeof(id), row, len), 0);
		assert_int_equal(users_get(&box.txn, 1, &user),
		    len == right ? 0 : ERR_CORRUPT);
	}
	box_close(&box);
}

struct seen {
	uint64_t ids[64];
	uint32_t flags[64];
	size_t count;
	size_t stop_at;
};

static bool
see_user(void *ctx, const struct user *user)
{
	struct seen *seen = ctx;

	seen->ids[seen->count++] = user->id;
	return seen->count != seen->stop_at;
}

static void
users_are_walked_in_order_of_ids(void **state)
{
	static const uint64_t ids[] = {
	    256, 1, 65536, 255, USER_ID_MAX, 2, 1ULL << 40};
	static const uint64_t sorted[] = {
	    1, 2, 255, 256, 65536, 1ULL << 40, USER_ID_MAX};
	struct store_box box;
	struct seen seen;

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (size_t i = 0; i < 7; i++) {
		struct user user = {.id = ids[i]};

		assert_int_equal(users_put(&box.txn, &user), 0);
	}
	for (size_t i = 0; i <= 7; i++) {
		seen = (struct seen){.count = 0};
		assert_int_equal(
		    users_each(
			&box.txn, i == 0 ? 0 : sorted[i - 1], see_user, &seen),
		    0);
		assert_int_equal(seen.count, 7 - i);
		assert_memory_equal(
		    seen.ids, sorted + i, seen.count * sizeof(uint64_t));
	}
	seen = (struct seen){.stop_at = 2};
	assert_int_equal(users_each(&box.txn, 0, see_user, &seen), 0);
	assert_int_equal(seen.count, 2);
	seen = (struct seen){.count = 0};
	assert_int_equal(users_each(&box.txn, UINT64_MAX, see_user, &seen), 0);
	assert_int_equal(seen.count, 0);
	box_close(&box);
}

/* ---- contacts ---- */

static uint32_t
flags_of(struct txn *txn, uint64_t user, uint64_t other)
{
	uint32_t flags = 99;

	assert_int_equal(contact_get(txn, user, other, &flags), 0);
	return flags;
}

static uint32_t
mirrored(uint32_t flags)
{
	return (flags & 4) | (flags & 1) << 1 | (flags & 2) >> 1 |
	       (flags & 8) << 1 | (flags & 16) >> 1;
}

static void
contacts_are_kept_on_both_sides(void **state)
{
	struct store_box box;

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (uint32_t set = 0; set < 32; set++) {
		for (uint32_t clear = 0; clear < 32; clear++) {
			uint32_t was = flags_of(&box.txn, 1, 2);
			uint32_t now = (was & ~clear) | set;

			assert_int_equal(
			    contact_change(&box.txn, 1, 2, set, clear), 0);
			assert_int_equal(flags_of(&box.txn, 1, 2), now);
			assert_int_equal(
			    flags_of(&box.txn, 2, 1), mirrored(now));
			assert_int_equal(store_count(&box.txn, DBI_contact),
			    now == 0 ? 0 : 2);
		}
	}
	assert_int_equal(contact_change(&box.txn, 2, 1, 0, UINT32_MAX), 0);
	assert_int_equal(store_count(&box.txn, DBI_contact), 0);
	assert_int_equal(flags_of(&box.txn, 1, 3), 0);
	box_close(&box);
}

static void
who_blocks_looks_like_one_who_does_not_exist(void **state)
{
	(void)state;
	for (uint32_t flags = 0; flags < 32; flags++) {
		bool is_near = (flags & (CONTACT_LISTED | CONTACT_TALKED)) != 0;
		bool is_blocked = (flags & CONTACT_BLOCKED_BY) != 0;

		assert_int_equal(
		    contact_is_listed(flags), is_near && !is_blocked);
		assert_int_equal(
		    contact_may_write(flags), is_near && !is_blocked);
		/* the same question from the other side */
		assert_int_equal(contact_is_watched_by(mirrored(flags)),
		    contact_is_listed(flags));
	}
}

static bool
see_contact(void *ctx, uint64_t other, uint32_t flags)
{
	struct seen *seen = ctx;

	seen->ids[seen->count] = other;
	seen->flags[seen->count++] = flags;
	return seen->count != seen->stop_at;
}

static void
contacts_are_walked_in_order(void **state)
{
	static const uint64_t others[] = {1, 3, 255, 256, USER_ID_MAX};
	struct store_box box;
	struct seen seen = {.count = 0};
	uint8_t key[16] = {0};

	(void)state;
	box_open(&box);
	box_begin(&box);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(contact_change(&box.txn, 2, others[4 - i],
				     CONTACT_LISTED, 0),
		    0);
	for (size_t i = 0; i <= 5; i++) {
		seen = (struct seen){.count = 0};
		assert_int_equal(
		    contact_each(&box.txn, 2, i == 0 ? 0 : others[i - 1],
			see_contact, &seen),
		    0);
		assert_int_equal(seen.count, 5 - i);
		assert_memory_equal(
		    seen.ids, others + i, seen.count * sizeof(uint64_t));
	}
	seen = (struct seen){.stop_at = 1};
	assert_int_equal(contact_each(&box.txn, 256, 0, see_contact, &seen), 0);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.ids[0], 2);
	assert_int_equal(seen.flags[0], CONTACT_LISTED_BY);
	key[7] = 2;
	key[15] = 3;
	assert_int_equal(
	    txn_put(&box.txn, DBI_contact, key, sizeof(key), "abc", 3), 0);
	assert_int_equal(
	    contact_get(&box.txn, 2, 3, &seen.flags[0]), ERR_CORRUPT);
	seen.count = 0;
	assert_int_equal(
	    contact_each(&box.txn, 2, 1, see_contact, &seen), ERR_CORRUPT);
	box_close(&box);
}

/* ---- presence ---- */

static void
presence_comes_back_as_it_was(void **state)
{
	struct presence in = {.workers = 1ULL << 63 | 1, .last_seen_ms = -1};
	struct presence out;
	struct store_box box;
	uint64_t user = 5;
	uint8_t row[sizeof(struct presence_row) + 300] = {0};
	struct presence_row head;

	(void)state;
	memset(in.text, 't', sizeof(in.text));
	box_open(&box);
	assert_int_equal(store_begin_write(box.presence, &box.txn), 0);
	assert_int_equal(presence_get(&box.txn, 5, &out), ERR_NOT_FOUND);
	for (size_t len = 0; len <= STATUS_TEXT_MAX; len += 64) {
		in.text_len = len;
		in.status = (enum user_status)(len / 64);
		assert_int_equal(presence_put(&box.txn, 5, &in), 0);
		assert_int_equal(presence_get(&box.txn, 5, &out), 0);
		assert_true(out.workers == in.workers);
		assert_int_equal(out.last_seen_ms, -1);
		assert_int_equal(out.status, in.status);
		assert_int_equal(out.text_len, len);
		assert_memory_equal(out.text, in.text, len);
	}
	for (uint32_t text_len = 0; text_len < 300; text_len++) {
		head = (struct presence_row){
		    .text_len = text_len, .status = text_len % 7};
		memcpy(row, &head, sizeof(head));
		assert_int_equal(
		    txn_put(&box.txn, DBI_presence, &user, sizeof(user), row,
			sizeof(head) + text_len),
		    0);
		assert_int_equal(presence_get(&box.txn, 5, &out),
		    text_len <= STATUS_TEXT_MAX && text_len % 7 < STATUS_END
			? 0
			: ERR_CORRUPT);
		assert_int_equal(txn_put(&box.txn, DBI_presence, &user,
				     sizeof(user), row, text_len),
		    0);
		assert_int_equal(presence_get(&box.txn, 5, &out), ERR_CORRUPT);
	}
	box_close(&box);
}

struct stale {
	uint32_t generations[64];
	uint64_t users[64];
	uint64_t sessions[64];
	size_t count;
	size_t stop_at;
};

static bool
see_stale(void *ctx, uint32_t generation, uint64_t user, uint64_t session)
{
	struct stale *stale = ctx;

	stale->generations[stale->count] = generation;
	stale->users[stale->count] = user;
	stale->sessions[stale->count++] = session;
	return stale->count != stale->stop_at;
}

/* Three workers, generations around the one kept, two sessions each. */
static void
sessions_of_other_generations_are_stale(void **state)
{
	static const uint32_t generations[] = {1, 2, 255, 256, UINT32_MAX};
	static const uint32_t keeps[] = {
	    0, 1, 2, 3, 255, 256, 257, UINT32_MAX - 1, UINT32_MAX};
	struct store_box box;

	(void)state;
	box_open(&box);
	assert_int_equal(store_begin_write(box.presence, &box.txn), 0);
	for (int slot = 6; slot < 9; slot++) {
		for (size_t g = 0; g < 5; g++) {
			for (uint64_t n = 0; n < 2; n++)
				assert_int_equal(
				    presence_session_put(&box.txn, slot,
					generations[g], 10 + n, 100 + n),
				    0);
		}
	}
	for (size_t k = 0; k < sizeof(keeps) / sizeof(keeps[0]); k++) {
		struct stale stale = {.count = 0};
		size_t i = 0;

		assert_int_equal(presence_each_stale(
				     &box.txn, 7, keeps[k], see_stale, &stale),
		    0);
		for (size_t g = 0; g < 5; g++) {
			for (uint64_t n = 0; n < 2; n++) {
				if (generations[g] == keeps[k])
					continue;
				assert_int_equal(
				    stale.generations[i], generations[g]);
				assert_int_equal(stale.users[i], 10 + n);
				assert_int_equal(stale.sessions[i], 100 + n);
				i++;
			}
		}
		assert_int_equal(stale.count, i);
	}
	for (size_t g = 0; g < 5; g++) {
		struct stale stale = {.stop_at = 3};

		assert_int_equal(
		    presence_each_stale(&box.txn, 7, 2, see_stale, &stale), 0);
		assert_int_equal(stale.count, g < 3 ? 3 : 2);
		for (uint64_t n = 0; n < 2; n++)
			assert_int_equal(
			    presence_session_delete(&box.txn, 7,
				generations[4 - g], 10 + n, 100 + n),
			    0);
		/* done before a crash */
		assert_int_equal(presence_session_delete(
				     &box.txn, 7, generations[4 - g], 10, 100),
		    0);
	}
	assert_int_equal(store_count(&box.txn, DBI_session), 20);
	box_close(&box);
}

static void
statuses_have_names(void **state)
{
	enum user_status status;

	(void)state;
	for (int i = 0; i < STATUS_END; i++) {
		const char *name = status_name((enum user_status)i);

		status = STATUS_END;
		assert_int_equal(status_parse(name, strlen(name), &status),
		    i == STATUS_OFFLINE ? ERR_BAD_REQUEST : 0);
		if (i != STATUS_OFFLINE)
			assert_int_equal(status, i);
		assert_int_equal(status_parse(name, strlen(name) - 1, &status),
		    ERR_BAD_REQUEST);
	}
	assert_int_equal(status_parse("", 0, &status), ERR_BAD_REQUEST);
	assert_int_equal(status_parse("online", 6, &status), ERR_BAD_REQUEST);
	assert_string_equal(status_name(STATUS_END), "OFFLINE");
}

/* ---- meta ---- */

static void
a_store_knows_itself(void **state)
{
	struct meta_rings rings = {.boot_id = 1};
	struct meta_rings rings_out;
	struct store_box box;
	struct meta made;
	struct meta meta;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(meta_get(&box.txn, &meta), ERR_NOT_FOUND);
	assert_int_equal(meta_init(&box.txn, NOW_MS, &made), 0);
	assert_int_equal(
	    made.base, (uint64_t)(NOW_MS - 1577836800000) / 1000 * 1024);
	assert_int_equal(meta_init(&box.txn, NOW_MS * 2, &meta), 0);
	assert_memory_equal(&made, &meta, sizeof(meta));
	assert_int_equal(meta_get(&box.txn, &meta), 0);
	assert_memory_equal(&made, &meta, sizeof(meta));
	assert_int_equal(meta_rings_get(&box.txn, &rings_out), ERR_NOT_FOUND);
	rings.last_id = 77;
	rings.rings[SLOT_END - 1].head = 5;
	assert_int_equal(meta_rings_put(&box.txn, &rings), 0);
	assert_int_equal(meta_rings_get(&box.txn, &rings_out), 0);
	assert_memory_equal(&rings, &rings_out, sizeof(rings));
	txn_end(&box.txn);
	/* another store has another epoch, a later one a higher base */
	box_begin(&box);
	assert_int_equal(meta_init(&box.txn, NOW_MS + 1000, &meta), 0);
	assert_true(meta.epoch != made.epoch);
	assert_true(meta.base == made.base + 1024);
	assert_memory_not_equal(meta.secret, made.secret, sizeof(meta.secret));
	txn_end(&box.txn);
	/* a clock that was never set */
	box_begin(&box);
	assert_int_equal(meta_init(&box.txn, 5, &meta), 0);
	assert_true(meta.base > 0 && meta.base <= SEQ_MAX);
	box_close(&box);
}

static void
another_schema_or_a_lost_one_is_not_opened(void **state)
{
	struct log_message message = {.id = 1, .body = {"x", 1}};
	uint32_t newer = SCHEMA_VERSION + 1;
	struct user user = {.id = 1};
	struct store_box box;
	struct meta meta;

	(void)state;
	box_open(&box);
	box_begin(&box);
	assert_int_equal(meta_init(&box.txn, NOW_MS, &meta), 0);
	assert_int_equal(
	    txn_put(&box.txn, DBI_meta, "schema", 6, &newer, sizeof(newer)), 0);
	assert_int_equal(meta_init(&box.txn, NOW_MS, &meta), ERR_STALE);
	assert_int_equal(meta_get(&box.txn, &meta), ERR_STALE);
	assert_int_equal(
	    txn_put(&box.txn, DBI_meta, "schema", 6, &newer, 3), 0);
	assert_int_equal(meta_init(&box.txn, NOW_MS, &meta), ERR_CORRUPT);
	txn_end(&box.txn);
	box_begin(&box);
	assert_int_equal(meta_init(&box.txn, NOW_MS, &meta), 0);
	assert_int_equal(txn_del(&box.txn, DBI_meta, "secret", 6), 0);
	assert_int_equal(meta_init(&box.txn, NOW_MS, &meta), ERR_CORRUPT);
	txn_end(&box.txn);
	box_begin(&box);
	assert_int_equal(log_append(&box.txn, &message), 0);
	assert_int_equal(meta_init(&box.txn, NOW_MS, &meta), ERR_CORRUPT);
	txn_end(&box.txn);
	box_begin(&box);
	assert_int_equal(users_put(&box.txn, &user), 0);
	assert_int_equal(meta_init(&box.txn, NOW_MS, &meta), ERR_CORRUPT);
	box_close(&box);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(users_of_every_size_come_back),
	    cmocka_unit_test(a_user_of_wrong_length_is_corrupt),
	    cmocka_unit_test(users_are_walked_in_order_of_ids),
	    cmocka_unit_test(contacts_are_kept_on_both_sides),
	    cmocka_unit_test(who_blocks_looks_like_one_who_does_not_exist),
	    cmocka_unit_test(contacts_are_walked_in_order),
	    cmocka_unit_test(presence_comes_back_as_it_was),
	    cmocka_unit_test(sessions_of_other_generations_are_stale),
	    cmocka_unit_test(statuses_have_names),
	    cmocka_unit_test(a_store_knows_itself),
	    cmocka_unit_test(another_schema_or_a_lost_one_is_not_opened),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
