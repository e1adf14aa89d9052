/*
 * watch.c - who is told that somebody has come, and the ledger of it.
 *
 * Role:    counts for each user and each contact how often the user heard that
 *          the contact is there: from the list at its login, or by an event.
 *          Once it has to be all have logged in: whoever came first.
 * Process: the only generator of the scenario presence.
 * Blocks:  never.
 * Trust:   lists and events may be anything; ids are looked up, not believed.
 * See:     generator.c, violations.def, man/parleyload.1.
 */
#include "load/watch.h"

#include <stdlib.h>

#include "base/mem.h"

#define WATCH_MAGIC 0x77617463
/* Of something told twice: the server may tell changes as late as this. */
#define QUIET_NS 500000000

static struct watch *
watch_of(void *arg)
{
	struct watch *watch = arg;

	if (watch->magic != WATCH_MAGIC)
		abort();
	return watch;
}

static uint64_t
common_divisor(uint64_t a, uint64_t b)
{
	while (b != 0) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

void
watch_init(struct watch *watch, struct fleet *fleet)
{
	const struct options *options = fleet->options;
	uint64_t count = options->count;
	uint64_t stride = count * 618 / 1000 + 1; /* far from one's contacts */

	while (common_divisor(stride, count) != 1)
		stride++;
	*watch = (struct watch){
	    .magic = WATCH_MAGIC,
	    .fleet = fleet,
	    .first_user = options->first_user,
	    .count = count,
	    .stride = stride,
	    .half = options->contacts / 2,
	    .index_of = xcalloc(count, sizeof(*watch->index_of)),
	    .told = xcalloc(count, options->contacts),
	    .open = count * options->contacts,
	};
	for (uint64_t i = 0; i < count; i++)
		watch->index_of[i * stride % count] = (uint32_t)i;
}

void
watch_fini(struct watch *watch)
{
	free(watch->index_of);
	free(watch->told);
	watch->index_of = NULL;
	watch->told = NULL;
}

uint64_t
watch_user(const struct watch *watch, uint64_t index)
{
	return watch->first_user + index * watch->stride % watch->count;
}

/* @return  which of place's contacts that is, or 2 * half: none */
static uint64_t
contact_of(const struct watch *watch, uint64_t place, uint64_t user)
{
	uint64_t none = 2 * watch->half;
	uint64_t ahead;

	if (user < watch->first_user ||
	    user - watch->first_user >= watch->count)
		return none;
	ahead =
	    (user - watch->first_user + watch->count - place) % watch->count;
	if (ahead >= 1 && ahead <= watch->half)
		return ahead - 1;
	if (ahead >= 1 && watch->count - ahead <= watch->half)
		return watch->half + watch->count - ahead - 1;
	return none;
}

static void
object_to(struct watch *watch, enum violation_kind kind, uint64_t watcher,
    uint64_t user)
{
	verdict_add(&watch->fleet->slot->verdict, &(struct violation){
						      .kind = kind,
						      .sender = user,
						      .receiver = watcher,
						  });
}

/* @return  it is a contact, and this is the first time */
static bool
is_first_told(struct watch *watch, const struct client *client, uint64_t user)
{
	uint64_t place = client->user - watch->first_user;
	uint64_t contact = contact_of(watch, place, user);
	uint8_t *told;

	if (contact == 2 * watch->half) {
		object_to(watch, VIOLATION_STRANGER, client->user, user);
		return false;
	}
	told = &watch->told[place * 2 * watch->half + contact];
	if (*told > 0) {
		object_to(watch, VIOLATION_TOLD_AGAIN, client->user, user);
		return false;
	}
	*told = 1;
	watch->open--;
	return true;
}

static void
watch_login(void *ctx, struct client *client, const struct scan *scan)
{
	struct watch *watch = watch_of(ctx);
	struct scan_text rest = scan->users;
	struct scan_text item;
	struct scan user;

	latency_add(&watch->fleet->slot->answer_us,
	    (uint64_t)(watch->fleet->now_ns - client->login_ns) / 1000);
	while (scan_next(&rest, &item)) {
		if (scan_parse(item.data, item.len, &user) != 0)
			break;
		if (scan_text_is(user.status, "ONLINE"))
			(void)is_first_told(watch, client, user.user);
		else if (contact_of(watch, client->user - watch->first_user,
			     user.user) == 2 * watch->half)
			object_to(
			    watch, VIOLATION_STRANGER, client->user, user.user);
	}
}

static void
watch_presence(void *ctx, struct client *client, const struct scan *scan)
{
	struct watch *watch = watch_of(ctx);
	struct fleet *fleet = watch->fleet;
	const struct client *subject;
	bool is_online = scan_text_is(scan->status, "ONLINE");

	watch->moved_ns = fleet->now_ns;
	slot_add(fleet->slot, TALLY_presence, 1);
	if (!is_online) { /* nobody has left, nor changed anything */
		object_to(
		    watch, VIOLATION_TOLD_AGAIN, client->user, scan->user);
		return;
	}
	if (!is_first_told(watch, client, scan->user))
		return;
	subject =
	    &fleet->clients[watch->index_of[scan->user - watch->first_user]];
	latency_add(&fleet->slot->deliver_us,
	    (uint64_t)(fleet->now_ns - subject->login_ns) / 1000);
}

const struct client_handler watch_handler = {
    .login_fn = watch_login,
    .presence_fn = watch_presence,
};

bool
watch_is_quiet(const struct watch *watch)
{
	return watch->open == 0 &&
	       watch->fleet->now_ns - watch->moved_ns > QUIET_NS;
}

void
watch_finish(struct watch *watch)
{
	for (uint64_t i = 0; watch->open > 0 && i < watch->count; i++) {
		for (uint64_t k = 0; k < 2 * watch->half; k++) {
			uint64_t other =
			    k < watch->half
				? i + 1 + k
				: i + watch->count - (k - watch->half) - 1;

			if (watch->told[i * 2 * watch->half + k] == 0)
				object_to(watch, VIOLATION_UNTOLD,
				    watch->first_user + i,
				    watch->first_user + other % watch->count);
		}
	}
}
