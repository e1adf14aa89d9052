/*
 * conf.h - the settings of conf.def as one struct.
 *
 * Each field is named section_key. Read it anywhere, and again whenever it is
 * needed: numbers, switches and choices that conf.def marks with reload 2
 * change under a process when it beats (shm/settings.c). Strings and lists
 * never do: a reload makes a new struct for new processes.
 */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct conf_list {
	char **items; /* NUL-terminated, no empty ones */
	size_t count;
};

#define CONF_TYPE_BOOL     bool
#define CONF_TYPE_INT      int64_t
#define CONF_TYPE_DURATION int64_t /* ms */
#define CONF_TYPE_SIZE     int64_t /* bytes */
#define CONF_TYPE_STRING   char *
#define CONF_TYPE_LIST     struct conf_list
#define CONF_TYPE_SECRETS  struct conf_list
#define CONF_TYPE_CHOICE   char *

struct conf_source;

struct conf {
#define CONF(section, key, type, def, min, max, reload, help)                  \
	CONF_TYPE_##type section##_##key;
#include "base/conf.def"
#undef CONF
	struct conf_source *source; /* conf_refuse's; NULL: a dump */
};

/**
 * Read a file, then the environment (PARLEY_SECTION_KEY), over the defaults.
 *
 * @param path       file, or NULL for defaults and environment only
 * @param conf_out   owner of all strings; release with conf_free
 * @param error      receives one line that names file and line (or the
 *                   environment variable), what is wrong and the nearest
 *                   known name; not a secret's value
 * @param error_len  bytes of error
 * @return           0, ERR_IO (cannot read), ERR_BAD_REQUEST (content)
 */
NODISCARD int conf_load(
    const char *path, struct conf **conf_out, char *error, size_t error_len);
/** Only what conf_dump has written: no environment. As conf_load. */
NODISCARD int conf_load_dump(
    const char *path, struct conf **conf_out, char *error, size_t error_len);
void conf_free(struct conf **conf);
/** Are users kept outside, so that the store has only what was heard of? */
bool conf_users_are_remote(const struct conf *conf);
/** What a setting is when nobody sets it. @return NULL: there is none such */
const char *conf_default(const char *section, const char *key);
/** Of a check that knows more than conf.def's ranges. */
struct conf_check {
	const struct conf *conf;
	char *error; /* receives one line */
	size_t error_len;
};

/**
 * Say what is wrong with a setting: where it stands, its name, the sentence.
 *
 * @param fmt  printf's; never a secret's value
 * @return     ERR_BAD_REQUEST
 */
__attribute__((format(printf, 4, 5))) int conf_refuse(
    const struct conf_check *check, const char *section, const char *key,
    const char *fmt, ...);

/* ---- settings as numbers, for shm/settings.c ---- */

size_t conf_number_count(void);
/** Number of a key: bool as 0 or 1, a choice as its place; texts as 0. */
int64_t conf_number(const struct conf *conf, size_t index);
/** Take a number over, if the key may change in place and it is in range.
 *  @return has it changed anything? */
bool conf_number_take(struct conf *conf, size_t index, int64_t number);
/** The same for all programs with the same table. */
uint64_t conf_fingerprint(void);

/** -T: the effective configuration as a file; secrets as "(hidden)". */
void conf_print(const struct conf *conf, FILE *out);
/** The same with its secrets: for memory that nobody else can read. */
void conf_dump(const struct conf *conf, FILE *out);
/** The sample file, every key commented out with its default and help. */
void conf_print_sample(FILE *out);
/** parleyd.conf(5) in mdoc/man markup. */
void conf_print_manual(FILE *out);

#endif
