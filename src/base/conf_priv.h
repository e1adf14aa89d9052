/*
 * conf_priv.h - what the files of the configuration share.
 */
#ifndef BASE_CONF_PRIV_H
#define BASE_CONF_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/conf.h"

enum conf_kind {
	CONF_BOOL,
	CONF_INT,
	CONF_DURATION,
	CONF_SIZE,
	CONF_STRING,
	CONF_LIST,
	CONF_SECRETS,
	CONF_CHOICE,
};

/** One row of conf.def. */
struct conf_key {
	const char *section;
	const char *key;
	enum conf_kind kind;
	size_t offset; /* of its field in struct conf */
	const char *initial;
	int64_t min;
	int64_t max;
	const char *choices; /* "a|b|c", or "" */
	int reload;          /* as the column: 0, 1, 2 */
	const char *help;
};

/** Where the settings of a file and the environment stand. */
struct conf_source {
	char *path; /* NULL: no file */
	int *lines; /* by row of conf_keys; 0: the default */
};

#define CONF_LINE_ENVIRONMENT (-1)

/** The table, ended by a row without section. */
extern const struct conf_key conf_keys[];

/** @return NULL when there is none */
const struct conf_key *conf_key_find(const char *section, const char *key);
bool conf_has_section(const char *section);
/** Where the key's value is; cast to its CONF_TYPE_. */
void *conf_field(struct conf *conf, const struct conf_key *key);
const void *conf_field_const(
    const struct conf *conf, const struct conf_key *key);

/**
 * Read a value (trimmed here) into its field; the old one is released.
 *
 * @return 0, or ERR_BAD_REQUEST: conf_expect says what would do
 */
NODISCARD int conf_value_set(struct conf *conf, const struct conf_key *key,
    const char *text, size_t len);
/** Release what a field holds. */
void conf_value_fini(struct conf *conf, const struct conf_key *key);
/** "a duration from 100ms to 10m" */
void conf_expect(const struct conf_key *key, struct buf *out);
/** "PARLEY_SERVER_LISTEN" */
void conf_env_name(const struct conf_key *key, struct buf *out);

/** conf_load's part for the file; notes its lines in conf->source. */
NODISCARD int conf_file_apply(
    struct conf *conf, const char *path, char *error, size_t error_len);

#endif
