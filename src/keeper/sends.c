/*
 * sends.c - what the keeper has at hand of the last sends of busy devices.
 *
 * Role:    a bounded cache of struct sent_recall, so that a new message is
 *          told from a retry without reading the rows of its device.
 * Process: keeper.
 * Blocks:  as a look-up in the store does, once per device that begins.
 * Trust:   the store is the truth; a copy that is not of its last send is
 *          read again.
 * See:     shm/sent.h, doc/decisions/006, t/unit/keeper_kill.c.
 */
#include "config.h"

#include "keeper/sends.h"

#include <stdlib.h>
#include <sys/queue.h>

#include <uthash.h>

#include "base/mem.h"
#include "keeper/keeper_priv.h"

struct sends_key {
	uint64_t user;
	uint64_t device;
};

struct sends_entry {
	struct sends_key key;
	UT_hash_handle hh;
	TAILQ_ENTRY(sends_entry) link;
	struct sent_recall recall;
};

struct sends {
	size_t max;
	struct sends_entry *by_device;               /* uthash */
	TAILQ_HEAD(sends_list, sends_entry) entries; /* used last first */
};

struct sends *
sends_new(size_t max)
{
	struct sends *sends = xcalloc(1, sizeof(*sends));

	sends->max = max;
	TAILQ_INIT(&sends->entries);
	return sends;
}

static void
remove_entry(struct sends *sends, struct sends_entry *entry)
{
	HASH_DEL(sends->by_device, entry);
	TAILQ_REMOVE(&sends->entries, entry, link);
	free(entry);
}

void
sends_free(struct sends **sends)
{
	struct sends_entry *entry;

	if (*sends == NULL)
		return;
	while ((entry = TAILQ_FIRST(&(*sends)->entries)) != NULL)
		remove_entry(*sends, entry);
	free(*sends);
	*sends = NULL;
}

/* At the front of the list, with nothing in it when it is new. */
static struct sends_entry *
entry_of(struct sends *sends, const struct sends_key *key, bool *is_new_out)
{
	struct sends_entry *entry;

	HASH_FIND(hh, sends->by_device, key, sizeof(*key), entry);
	*is_new_out = entry == NULL;
	if (entry != NULL) {
		TAILQ_REMOVE(&sends->entries, entry, link);
		TAILQ_INSERT_HEAD(&sends->entries, entry, link);
		return entry;
	}
	if (HASH_COUNT(sends->by_device) >= sends->max)
		remove_entry(sends, TAILQ_LAST(&sends->entries, sends_list));
	entry = xcalloc(1, sizeof(*entry));
	entry->key = *key;
	HASH_ADD(hh, sends->by_device, key, sizeof(*key), entry);
	TAILQ_INSERT_HEAD(&sends->entries, entry, link);
	return entry;
}

int
sends_recall(struct keeper *keeper, uint64_t user,
    const struct userhead_device *device, struct sent_recall **recall_out)
{
	const struct sends_key key = {user, device->number};
	struct sends_entry *entry;
	bool is_new;
	int rc;

	entry = entry_of(keeper->sends, &key, &is_new);
	*recall_out = &entry->recall;
	if (!is_new && entry->recall.last_sent == device->last_sent)
		return 0;
	rc = sent_recall_load(
	    &keeper->txn, keeper->meta.secret, user, device, &entry->recall);
	if (rc != 0)
		remove_entry(keeper->sends, entry);
	return rc;
}

void
sends_forget(struct keeper *keeper, uint64_t user, uint32_t device)
{
	const struct sends_key key = {user, device};
	struct sends_entry *entry;

	HASH_FIND(hh, keeper->sends->by_device, &key, sizeof(key), entry);
	if (entry != NULL)
		remove_entry(keeper->sends, entry);
}
