/*
 * verifiers.c - what is needed to check passwords without the database.
 *
 * Role:    keeps hashes by name, bounded in number, oldest out first.
 * Process: directory, on the loop's thread.
 * Blocks:  never.
 * Trust:   names are strangers': they are hashed with a secret, so nobody can
 *          aim at another one's place, and no name stays in memory.
 * See:     mssql_password.c, doc/decisions/034, t/unit/verifiers.c.
 */
#include "config.h"

#include "directory/verifiers.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <uthash.h>

#include "base/crypto.h"
#include "base/mem.h"

#define KEY_LEN CRYPTO_HASH128_LEN

struct entry {
	uint8_t key[KEY_LEN];
	int64_t learned_ms;
	struct verifier verifier;
	TAILQ_ENTRY(entry) link;
	UT_hash_handle hh;
};

TAILQ_HEAD(entry_list, entry);

struct verifiers {
	uint8_t secret[16];
	size_t max;
	size_t used;            /* of the places, ever */
	struct entry *places;   /* secret memory */
	struct entry *by_key;   /* those with a verifier */
	struct entry_list kept; /* the same, learned first first */
	struct entry_list free; /* wiped */
};

static size_t
places_bytes(const struct verifiers *verifiers)
{
	return verifiers->max * sizeof(verifiers->places[0]);
}

struct verifiers *
verifiers_new(size_t max)
{
	struct verifiers *verifiers = xcalloc(1, sizeof(*verifiers));

	verifiers->max = max;
	verifiers->places = mem_secret_map(places_bytes(verifiers));
	crypto_random(verifiers->secret, sizeof(verifiers->secret));
	TAILQ_INIT(&verifiers->kept);
	TAILQ_INIT(&verifiers->free);
	return verifiers;
}

static void
entry_drop(struct verifiers *verifiers, struct entry *entry)
{
	HASH_DEL(verifiers->by_key, entry);
	TAILQ_REMOVE(&verifiers->kept, entry, link);
	mem_wipe(entry, sizeof(*entry));
	TAILQ_INSERT_HEAD(&verifiers->free, entry, link);
}

void
verifiers_free(struct verifiers **verifiers)
{
	struct verifiers *old = *verifiers;

	if (old == NULL)
		return;
	verifiers_expire(old, INT64_MAX);
	mem_secret_unmap(old->places, places_bytes(old));
	mem_wipe(old->secret, sizeof(old->secret));
	free(old);
	*verifiers = NULL;
}

static void
key_of(const struct verifiers *verifiers, const char *name, size_t name_len,
    uint8_t key[KEY_LEN])
{
	crypto_siphash128(verifiers->secret, name, name_len, key);
}

static struct entry *
find(const struct verifiers *verifiers, const uint8_t key[KEY_LEN])
{
	struct entry *entry;

	HASH_FIND(hh, verifiers->by_key, key, KEY_LEN, entry);
	return entry;
}

static struct entry *
place_take(struct verifiers *verifiers)
{
	struct entry *entry;

	if (TAILQ_EMPTY(&verifiers->free) && verifiers->used < verifiers->max)
		return &verifiers->places[verifiers->used++];
	if (TAILQ_EMPTY(&verifiers->free))
		entry_drop(verifiers, TAILQ_FIRST(&verifiers->kept));
	entry = TAILQ_FIRST(&verifiers->free);
	TAILQ_REMOVE(&verifiers->free, entry, link);
	return entry;
}

void
verifiers_learn(struct verifiers *verifiers, const char *name, size_t name_len,
    const struct verifier *verifier, int64_t now_ms)
{
	uint8_t key[KEY_LEN];
	struct entry *entry;

	key_of(verifiers, name, name_len, key);
	entry = find(verifiers, key);
	if (entry != NULL)
		entry_drop(verifiers, entry);
	entry = place_take(verifiers);
	memcpy(entry->key, key, KEY_LEN);
	entry->learned_ms = now_ms;
	entry->verifier = *verifier;
	HASH_ADD(hh, verifiers->by_key, key, KEY_LEN, entry);
	TAILQ_INSERT_TAIL(&verifiers->kept, entry, link);
}

void
verifiers_forget(struct verifiers *verifiers, const char *name, size_t name_len)
{
	uint8_t key[KEY_LEN];
	struct entry *entry;

	key_of(verifiers, name, name_len, key);
	entry = find(verifiers, key);
	if (entry != NULL)
		entry_drop(verifiers, entry);
}

void
verifiers_find(const struct verifiers *verifiers, const char *name,
    size_t name_len, struct verifier *out)
{
	uint8_t key[KEY_LEN];
	const struct entry *entry;

	key_of(verifiers, name, name_len, key);
	entry = find(verifiers, key);
	*out = entry != NULL ? entry->verifier : (struct verifier){0};
}

void
verifiers_expire(struct verifiers *verifiers, int64_t before_ms)
{
	struct entry *entry;

	while ((entry = TAILQ_FIRST(&verifiers->kept)) != NULL &&
	       entry->learned_ms < before_ms)
		entry_drop(verifiers, entry);
}

size_t
verifiers_count(const struct verifiers *verifiers)
{
	return HASH_COUNT(verifiers->by_key);
}
