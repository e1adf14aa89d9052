/*
 * conf.c - the settings: table, defaults, environment.
 *
 * Role:    puts defaults, file and environment on top of each other.
 * Process: all; the supervisor reads, the others inherit.
 * Blocks:  on reading one small file, at start and reload.
 * Trust:   file and environment are the operator's; mistakes are refused with
 *          their place, and no value is ever quoted: it may be a secret.
 * See:     conf_file.c, conf_parse.c, conf_print.c, t/unit/conf.c.
 */
#include "base/conf.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/conf_priv.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#define ENV_PREFIX "PARLEY_"

/* The columns min and max mean numbers, or choices in min. */
#define MIN_BOOL(min)         0
#define MIN_INT(min)          (min)
#define MIN_DURATION(min)     (min)
#define MIN_SIZE(min)         (min)
#define MIN_STRING(min)       0
#define MIN_LIST(min)         0
#define MIN_SECRETS(min)      (min)
#define MIN_CHOICE(min)       0
#define CHOICES_BOOL(min)     ""
#define CHOICES_INT(min)      ""
#define CHOICES_DURATION(min) ""
#define CHOICES_SIZE(min)     ""
#define CHOICES_STRING(min)   ""
#define CHOICES_LIST(min)     ""
#define CHOICES_SECRETS(min)  ""
#define CHOICES_CHOICE(min)   min

/* POSIX: declared by who uses it. */
extern char **environ;

const struct conf_key conf_keys[] = {
#define CONF(section, key, type, def, min, max, reload, help)                  \
	{#section, #key, CONF_##type, offsetof(struct conf, section##_##key),  \
	    def, MIN_##type(min), max, CHOICES_##type(min), reload, help},
#include "base/conf.def"
#undef CONF
    {0},
};

const struct conf_key *
conf_key_find(const char *section, const char *key)
{
	for (const struct conf_key *k = conf_keys; k->section != NULL; k++) {
		if (strcmp(k->section, section) == 0 &&
		    strcmp(k->key, key) == 0)
			return k;
	}
	return NULL;
}

bool
conf_has_section(const char *section)
{
	for (const struct conf_key *k = conf_keys; k->section != NULL; k++) {
		if (strcmp(k->section, section) == 0)
			return true;
	}
	return false;
}

void *
conf_field(struct conf *conf, const struct conf_key *key)
{
	return (char *)conf + key->offset;
}

const void *
conf_field_const(const struct conf *conf, const struct conf_key *key)
{
	return (const char *)conf + key->offset;
}

void
conf_env_name(const struct conf_key *key, struct buf *out)
{
	size_t start = out->len;

	buf_printf(out, ENV_PREFIX "%s_%s", key->section, key->key);
	for (size_t i = start; i < out->len; i++)
		out->data[i] = (char)toupper((unsigned char)out->data[i]);
}

static bool
env_name_is(const char *name, size_t len, const struct conf_key *key)
{
	struct buf known = {0};
	bool is_same;

	conf_env_name(key, &known);
	is_same = known.len == len && memcmp(known.data, name, len) == 0;
	buf_fini(&known);
	return is_same;
}

/* Does the name start with PARLEY_ and a section? Others are not ours. */
static bool
env_name_has_section(const char *name, size_t len)
{
	size_t skip = strlen(ENV_PREFIX);

	for (const struct conf_key *k = conf_keys; k->section != NULL; k++) {
		size_t section_len = strlen(k->section);

		if (len > skip + section_len &&
		    strncasecmp(name + skip, k->section, section_len) == 0 &&
		    name[skip + section_len] == '_')
			return true;
	}
	return false;
}

/* The name is shown: the operator chose it, secrets are in values. */
static int
env_refuse_unknown(const char *name, char *error, size_t error_len)
{
	struct text_nearest nearest = {0};
	struct buf known[2] = {{0}, {0}};
	struct buf *best = &known[0];
	struct buf *candidate = &known[1];
	size_t distance = SIZE_MAX;

	for (const struct conf_key *k = conf_keys; k->section != NULL; k++) {
		struct buf *other = best;

		buf_clear(candidate);
		conf_env_name(k, candidate);
		buf_add_char(candidate, '\0');
		nearest = (struct text_nearest){0};
		text_nearest_offer(&nearest, name, candidate->data);
		if (nearest.best == NULL || nearest.distance >= distance)
			continue;
		distance = nearest.distance;
		best = candidate;
		candidate = other;
	}
	if (distance == SIZE_MAX)
		snprintf(error, error_len,
		    "environment: unknown setting \"%.64s\"", name);
	else
		snprintf(error, error_len,
		    "environment: unknown setting \"%.64s\"; did you mean "
		    "\"%s\"?",
		    name, best->data);
	buf_fini(&known[0]);
	buf_fini(&known[1]);
	return ERR_BAD_REQUEST;
}

static int
env_set(struct conf *conf, const struct conf_key *key, const char *value,
    char *error, size_t error_len)
{
	struct buf name = {0};
	struct buf expected = {0};
	int rc;

	rc = conf_value_set(conf, key, value, strlen(value));
	if (rc != 0) {
		conf_env_name(key, &name);
		conf_expect(key, &expected);
		snprintf(error, error_len, "environment: %.*s: expected %.*s",
		    (int)name.len, name.data, (int)expected.len, expected.data);
	}
	buf_fini(&expected);
	buf_fini(&name);
	return rc;
}

static int
env_apply_one(
    struct conf *conf, const char *entry, char *error, size_t error_len)
{
	const char *equals = strchr(entry, '=');
	size_t len = equals != NULL ? (size_t)(equals - entry) : 0;
	char *name;
	int rc;

	if (len == 0 || strncmp(entry, ENV_PREFIX, strlen(ENV_PREFIX)) != 0)
		return 0;
	for (const struct conf_key *k = conf_keys; k->section != NULL; k++) {
		if (!env_name_is(entry, len, k))
			continue;
		conf->source->lines[k - conf_keys] = CONF_LINE_ENVIRONMENT;
		return env_set(conf, k, equals + 1, error, error_len);
	}
	if (!env_name_has_section(entry, len))
		return 0;
	name = xstrndup(entry, len);
	rc = env_refuse_unknown(name, error, error_len);
	free(name);
	return rc;
}

static int
env_apply(struct conf *conf, char *error, size_t error_len)
{
	for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
		int rc = env_apply_one(conf, *entry, error, error_len);

		if (rc != 0)
			return rc;
	}
	return 0;
}

const char *
conf_default(const char *section, const char *key)
{
	const struct conf_key *row = conf_key_find(section, key);

	return row != NULL ? row->initial : NULL;
}

/* ---- where settings stand ---- */

static struct conf_source *
source_new(const char *path)
{
	struct conf_source *source = xcalloc(1, sizeof(*source));

	source->path = path != NULL ? xstrdup(path) : NULL;
	source->lines = xcalloc(conf_number_count(), sizeof(source->lines[0]));
	return source;
}

static void
source_free(struct conf_source **source)
{
	if (*source == NULL)
		return;
	free((*source)->path);
	free((*source)->lines);
	free(*source);
	*source = NULL;
}

static void
put_place(
    const struct conf *conf, const struct conf_key *key, struct buf *place)
{
	int line =
	    conf->source != NULL ? conf->source->lines[key - conf_keys] : 0;

	if (line > 0) {
		buf_printf(
		    place, "%s:%d: %s", conf->source->path, line, key->key);
	} else if (line == CONF_LINE_ENVIRONMENT) {
		buf_add_str(place, "environment: ");
		conf_env_name(key, place);
	} else {
		buf_printf(place, "[%s] %s", key->section, key->key);
	}
}

int
conf_refuse(const struct conf_check *check, const char *section,
    const char *key, const char *fmt, ...)
{
	const struct conf_key *row = conf_key_find(section, key);
	struct buf place = {0};
	va_list args;
	int len;

	if (row == NULL)
		panic("there is no setting %s.%s to refuse", section, key);
	put_place(check->conf, row, &place);
	len = snprintf(check->error, check->error_len, "%.*s: ", (int)place.len,
	    place.data);
	buf_fini(&place);
	if (len > 0 && (size_t)len < check->error_len) {
		va_start(args, fmt);
		vsnprintf(check->error + len, check->error_len - (size_t)len,
		    fmt, args);
		va_end(args);
	}
	return ERR_BAD_REQUEST;
}

/* ---- in and out ---- */

static void
conf_set_defaults(struct conf *conf)
{
	for (const struct conf_key *k = conf_keys; k->section != NULL; k++) {
		if (conf_value_set(conf, k, k->initial, strlen(k->initial)) !=
		    0)
			panic(
			    "default of %s.%s is refused", k->section, k->key);
	}
}

static int
load(const char *path, bool with_environment, struct conf **conf_out,
    char *error, size_t error_len)
{
	struct conf *conf = xcalloc(1, sizeof(*conf));
	int rc = 0;

	conf->source = source_new(path);
	conf_set_defaults(conf);
	if (path != NULL)
		rc = conf_file_apply(conf, path, error, error_len);
	if (rc == 0 && with_environment)
		rc = env_apply(conf, error, error_len);
	if (!with_environment) /* its lines are nobody's */
		source_free(&conf->source);
	if (rc == 0) {
		*conf_out = conf;
		conf = NULL;
	}
	conf_free(&conf);
	return rc;
}

int
conf_load(
    const char *path, struct conf **conf_out, char *error, size_t error_len)
{
	return load(path, true, conf_out, error, error_len);
}

int
conf_load_dump(
    const char *path, struct conf **conf_out, char *error, size_t error_len)
{
	return load(path, false, conf_out, error, error_len);
}

void
conf_free(struct conf **conf)
{
	if (*conf == NULL)
		return;
	for (const struct conf_key *k = conf_keys; k->section != NULL; k++)
		conf_value_fini(*conf, k);
	source_free(&(*conf)->source);
	free(*conf);
	*conf = NULL;
}

bool
conf_users_are_remote(const struct conf *conf)
{
	return strcmp(conf->directory_backend, "embedded") != 0;
}
