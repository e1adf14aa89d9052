/*
 * roster_diff.c - what was said of users against what the store has.
 *
 * Role:    from pages and users to records for the keeper.
 * Process: directory, on the roster's thread.
 * Blocks:  on cold pages of the store, which it reads in slices.
 * Trust:   answers were checked by the back end; names and roles that are
 *          longer than the store's are cut.
 * See:     roster.h, keeper/apply_roster.c, t/unit/roster.c.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "base/mem.h"
#include "base/text.h"
#include "directory/roster_priv.h"
#include "shm/users.h"

#define SLICE_ROWS 4096 /* contacts looked at in one transaction */

/* A user of whom this round has a record: the store will be as that says. */
struct seen {
	uint64_t user;
	UT_hash_handle hh;
};

struct diff {
	struct store *store;
	struct txn txn;
	uint64_t req;
	struct buf *out;
	size_t count;
	struct seen *seen;
};

/* ---- records ---- */

/* @return  where len zeroed bytes of payload go */
static uint8_t *
record_begin(struct diff *diff, uint16_t type, size_t len)
{
	const struct roster_record head = {.type = type, .len = (uint32_t)len};
	size_t padded = (len + 7) & ~(size_t)7;
	uint8_t *at;

	buf_add(diff->out, &head, sizeof(head));
	at = (uint8_t *)buf_reserve(diff->out, padded);
	memset(at, 0, padded);
	diff->out->len += padded;
	diff->count++;
	return at;
}

static void
put_user(struct diff *diff, const struct user *user)
{
	const struct blob *parts[] = {&user->name, &user->role, &user->profile};
	const struct record_roster_user record = {
	    .req = diff->req,
	    .user = user->id,
	    .name_len = (uint16_t)user->name.len,
	    .role_len = (uint16_t)user->role.len,
	    .profile_len = (uint16_t)user->profile.len,
	};
	uint8_t *at = record_begin(diff, RECORD_ROSTER_USER,
	    sizeof(record) + user->name.len + user->role.len +
		user->profile.len);

	memcpy(at, &record, sizeof(record));
	at += sizeof(record);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (parts[i]->len > 0)
			memcpy(at, parts[i]->data, parts[i]->len);
		at += parts[i]->len;
	}
}

static void
put_pairs(
    struct diff *diff, uint64_t asker, const struct buf *others, bool is_added)
{
	size_t count = others->len / sizeof(uint64_t);
	const char *from = others->data;

	while (count > 0) {
		size_t some =
		    count < ROSTER_PAIRS_MAX ? count : ROSTER_PAIRS_MAX;
		const struct record_roster_list record = {
		    .req = diff->req,
		    .user = asker,
		    .add_count = is_added ? (uint32_t)some : 0,
		    .remove_count = is_added ? 0 : (uint32_t)some,
		};
		uint8_t *at = record_begin(diff, RECORD_ROSTER_LIST,
		    sizeof(record) + some * sizeof(uint64_t));

		memcpy(at, &record, sizeof(record));
		memcpy(at + sizeof(record), from, some * sizeof(uint64_t));
		from += some * sizeof(uint64_t);
		count -= some;
	}
}

/* ---- users ---- */

static bool
is_seen(const struct diff *diff, uint64_t user)
{
	struct seen *seen;

	HASH_FIND(hh, diff->seen, &user, sizeof(user), seen);
	return seen != NULL;
}

static void
see(struct diff *diff, uint64_t user)
{
	struct seen *seen;

	if (is_seen(diff, user))
		return;
	seen = xcalloc(1, sizeof(*seen));
	seen->user = user;
	HASH_ADD(hh, diff->seen, user, sizeof(seen->user), seen);
}

/* At the end of a character. */
static struct blob
cut(const void *text, size_t len, size_t max)
{
	return (struct blob){
	    text, len <= max ? len : text_utf8_valid_len(text, max)};
}

static int
diff_user(struct diff *diff, const struct dir_user *said)
{
	const struct user told = {
	    .id = said->id,
	    .name = cut(said->name, said->name_len, NAME_MAX_BYTES),
	    .role = cut(said->role, said->role_len, ROLE_MAX),
	    .profile = {said->profile, said->profile_len},
	};
	struct user user;
	int rc;

	if (said->profile_len > PROFILE_MAX)
		return 0; /* no back end's; the keeper would not have it */
	rc = users_get(&diff->txn, told.id, &user);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return diff->txn.rc; /* damaged: logged, and left alone */
	if (rc == 0 && !is_seen(diff, told.id) && user_looks_like(&user, &told))
		return 0;
	see(diff, told.id);
	put_user(diff, &told);
	return 0;
}

/* ---- lists ---- */

struct list_diff {
	const struct news *news;
	struct buf said; /* ids */
	struct buf add;
	struct buf remove;
	uint64_t visited; /* last contact looked at */
	unsigned rows;
	bool is_past; /* the end of what was said */
};

static int
compare_id(const void *a, const void *b)
{
	uint64_t one;
	uint64_t other;

	memcpy(&one, a, sizeof(one));
	memcpy(&other, b, sizeof(other));
	return (one > other) - (one < other);
}

static bool
is_said(const struct list_diff *list, uint64_t user)
{
	return list->said.len > 0 && bsearch(&user, list->said.data,
					 list->said.len / sizeof(uint64_t),
					 sizeof(uint64_t), compare_id) != NULL;
}

/* Who has blocked him is in no answer, whatever the list has. */
static bool
list_visit(void *ctx, uint64_t other, uint32_t flags)
{
	struct list_diff *list = ctx;

	if (other > list->news->upto) {
		list->is_past = true;
		return false;
	}
	if ((flags & CONTACT_LISTED) != 0 &&
	    (flags & CONTACT_BLOCKED_BY) == 0 && !is_said(list, other))
		buf_add(&list->remove, &other, sizeof(other));
	list->visited = other;
	list->rows++;
	return list->rows < SLICE_ROWS;
}

static int
diff_removed(struct diff *diff, struct list_diff *list)
{
	int rc;

	list->visited = list->news->above;
	if (list->said.len > 0)
		qsort(list->said.data, list->said.len / sizeof(uint64_t),
		    sizeof(uint64_t), compare_id);
	do {
		list->rows = 0;
		rc = store_begin_read(diff->store, &diff->txn);
		if (rc == 0)
			rc = contact_each(&diff->txn, list->news->asker,
			    list->visited, list_visit, list);
		txn_end(&diff->txn);
	} while (rc == 0 && !list->is_past && list->rows == SLICE_ROWS);
	return rc;
}

static int
diff_added(
    struct diff *diff, struct list_diff *list, const struct dir_user *said)
{
	uint32_t flags = 0;
	int rc;

	if (said->is_stranger || said->id == list->news->asker)
		return 0;
	buf_add(&list->said, &said->id, sizeof(said->id));
	rc = contact_get(&diff->txn, list->news->asker, said->id, &flags);
	if (rc == 0 && (flags & CONTACT_LISTED) == 0)
		buf_add(&list->add, &said->id, sizeof(said->id));
	return rc;
}

/* ---- news ---- */

static int
diff_gone(struct diff *diff, uint64_t asker)
{
	struct record_roster_gone record = {diff->req, asker};
	struct user user;
	int rc;

	rc = users_get(&diff->txn, asker, &user);
	if (rc != 0)
		return diff->txn.rc;
	see(diff, asker);
	memcpy(record_begin(diff, RECORD_ROSTER_GONE, sizeof(record)), &record,
	    sizeof(record));
	return 0;
}

static int
diff_users(struct diff *diff, struct list_diff *list)
{
	const struct news *news = list->news;
	const uint8_t *at = news->tail;
	struct dir_user said;
	int rc;

	rc = store_begin_read(diff->store, &diff->txn);
	if (rc == 0 && news->is_gone)
		rc = diff_gone(diff, news->asker);
	while (rc == 0 &&
	       dir_answer_next(&at, news->tail + news->tail_len, &said)) {
		rc = diff_user(diff, &said);
		if (rc == 0 && news->upto != 0)
			rc = diff_added(diff, list, &said);
	}
	txn_end(&diff->txn);
	return rc;
}

static int
diff_news(struct diff *diff, const struct news *news)
{
	struct list_diff list = {.news = news};
	int rc;

	rc = diff_users(diff, &list);
	if (rc == 0 && news->upto != 0 && !news->is_partial)
		rc = diff_removed(diff, &list);
	if (rc == 0) {
		put_pairs(diff, news->asker, &list.add, true);
		put_pairs(diff, news->asker, &list.remove, false);
	}
	buf_fini(&list.said);
	buf_fini(&list.add);
	buf_fini(&list.remove);
	return rc;
}

int
roster_diff(struct store *store, const struct news_list *list, uint64_t req,
    struct buf *out, size_t *count_out)
{
	struct diff diff = {.store = store, .req = req, .out = out};
	const struct news *news;
	struct seen *seen;
	struct seen *next;
	int rc = 0;

	STAILQ_FOREACH(news, list, link)
	{
		if (rc == 0)
			rc = diff_news(&diff, news);
	}
	HASH_ITER(hh, diff.seen, seen, next)
	{
		HASH_DEL(diff.seen, seen);
		free(seen);
	}
	*count_out = diff.count;
	return rc;
}
