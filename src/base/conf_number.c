/*
 * conf_number.c - settings as plain numbers.
 *
 * Role:    what a reload hands to processes that go on (column reload, 2):
 *          numbers, switches and choices, which have no pointers in them.
 * Process: the supervisor gives, all others take.
 * Blocks:  never.
 * Trust:   a number out of its range is not taken.
 * See:     shm/settings.c (the way), conf.def.
 */
#include "config.h"

#include <pthread.h>
#include <string.h>

#include "base/conf.h"
#include "base/conf_priv.h"
#include "base/mem.h"

#define CHOICES_MAX      8
#define RELOAD_IN_PLACE  2
#define FNV_OFFSET_BASIS 0xcbf29ce484222325ULL
#define FNV_PRIME        0x100000001b3ULL

enum {
	KEY_COUNT = 0
#define CONF(section, key, type, def, min, max, reload, help) +1
#include "base/conf.def"
#undef CONF
};

/* Strings of choices; made once and kept, so that nobody who holds one loses
 * it. */
static struct {
	pthread_once_t once;
	char *texts[KEY_COUNT][CHOICES_MAX];
	char *before[KEY_COUNT]; /* what the first number has displaced */
} choices = {.once = PTHREAD_ONCE_INIT};

static void
choices_split(void)
{
	for (size_t i = 0; i < KEY_COUNT; i++) {
		const char *at = conf_keys[i].choices;

		for (size_t n = 0; n < CHOICES_MAX && *at != '\0'; n++) {
			size_t len = strcspn(at, "|");

			choices.texts[i][n] = xcalloc(1, len + 1);
			memcpy(choices.texts[i][n], at, len);
			at += len;
			at += strspn(at, "|");
		}
	}
}

size_t
conf_number_count(void)
{
	return KEY_COUNT;
}

/* FNV-1a over the names and kinds: two programs with the same table agree. */
uint64_t
conf_fingerprint(void)
{
	uint64_t hash = FNV_OFFSET_BASIS;

	for (const struct conf_key *k = conf_keys; k->section != NULL; k++) {
		const char *const parts[] = {k->section, k->key, k->choices};

		for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
			for (const char *c = parts[i];; c++) {
				hash = (hash ^ (uint8_t)*c) * FNV_PRIME;
				if (*c == '\0')
					break;
			}
		}
		hash = (hash ^ (uint64_t)k->kind) * FNV_PRIME;
	}
	return hash;
}

static int64_t
choice_number(size_t index, const char *text)
{
	for (int64_t n = 0; n < CHOICES_MAX; n++) {
		const char *choice = choices.texts[index][n];

		if (choice != NULL && text != NULL && strcmp(choice, text) == 0)
			return n;
	}
	return -1;
}

int64_t
conf_number(const struct conf *conf, size_t index)
{
	const struct conf_key *key = &conf_keys[index];
	const void *field = conf_field_const(conf, key);

	pthread_once(&choices.once, choices_split);
	switch (key->kind) {
	case CONF_BOOL:
		return *(const bool *)field ? 1 : 0;
	case CONF_INT:
	case CONF_DURATION:
	case CONF_SIZE:
		return *(const int64_t *)field;
	case CONF_CHOICE:
		return choice_number(index, *(char *const *)field);
	case CONF_STRING:
	case CONF_LIST:
	case CONF_SECRETS:
		break;
	}
	return 0;
}

bool
conf_number_take(struct conf *conf, size_t index, int64_t number)
{
	const struct conf_key *key = &conf_keys[index];
	void *field = conf_field(conf, key);

	if (key->reload != RELOAD_IN_PLACE ||
	    conf_number(conf, index) == number)
		return false;
	switch (key->kind) {
	case CONF_BOOL:
		*(bool *)field = number != 0;
		return true;
	case CONF_INT:
	case CONF_DURATION:
	case CONF_SIZE:
		if (number < key->min || number > key->max)
			return false;
		*(int64_t *)field = number;
		return true;
	case CONF_CHOICE:
		if (number < 0 || number >= CHOICES_MAX ||
		    choices.texts[index][number] == NULL)
			return false;
		/* somebody may hold the old one: it is kept */
		if (choices.before[index] == NULL)
			choices.before[index] = *(char **)field;
		*(char **)field = choices.texts[index][number];
		return true;
	case CONF_STRING:
	case CONF_LIST:
	case CONF_SECRETS:
		break;
	}
	return false;
}
