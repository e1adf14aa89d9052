/*
 * options.c - the command line of parleyload.
 *
 * Role:    turns argv into struct options by the table options.def; checks
 *          ranges and what belongs to which scenario.
 * Process: parleyload, before anything else.
 * Blocks:  reads the secret file.
 * Trust:   the person at the terminal; every value is checked all the same.
 * See:     options.def, man/parleyload.1.
 */
#include "load/options.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* As jwt_verifier_new demands of the server. */
#define SECRET_LEN_MIN     32
#define SECRET_LEN_MAX     4096
#define CONNECT_RATE       1000
#define OFFLINE_WINDOW     16
#define SOURCE_CONNECTIONS 10000
#define USER_ID_MAX        9007199254740991ULL /* 2^53 - 1, protocol.md */

enum option_type {
	OPTION_COUNT,
	OPTION_FLAG,
	OPTION_RATE,
	OPTION_TEXT,
	OPTION_TIME,
};

struct option_row {
	const char *name;
	enum option_type type;
	const char *scenarios;
	const char *def;
	double min;
	double max;
	const char *arg;
	const char *help;
	size_t offset; /* in struct options */
};

static const struct option_row rows[] = {
#define OPTION(field, name, type, scenarios, def, min, max, arg, help)         \
	{name, OPTION_##type, scenarios, def, min, max, arg, help,             \
	    offsetof(struct options, field)},
#include "load/options.def"
#undef OPTION
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static const char *const scenario_names[] = {
    [SCENARIO_CONNECT] = "connect",
    [SCENARIO_GROUPS] = "groups",
    [SCENARIO_HANDSHAKES] = "handshakes",
    [SCENARIO_OFFLINE] = "offline",
    [SCENARIO_PAIRS] = "pairs",
    [SCENARIO_PRESENCE] = "presence",
};

static const char scenario_letters[] = {
    [SCENARIO_CONNECT] = 'c',
    [SCENARIO_GROUPS] = 'g',
    [SCENARIO_HANDSHAKES] = 'h',
    [SCENARIO_OFFLINE] = 'o',
    [SCENARIO_PAIRS] = 'p',
    [SCENARIO_PRESENCE] = 'w',
};

#define SCENARIO_COUNT (sizeof(scenario_names) / sizeof(scenario_names[0]))

struct problem {
	char *text;
	size_t len;
};

#define REFUSE(problem, ...)                                                   \
	(snprintf((problem)->text, (problem)->len, __VA_ARGS__),               \
	    ERR_BAD_REQUEST)

bool
options_is_paired(const struct options *options)
{
	return options->scenario == SCENARIO_OFFLINE ||
	       options->scenario == SCENARIO_PAIRS;
}

uint64_t
options_users_per(const struct options *options)
{
	if (options->scenario == SCENARIO_GROUPS)
		return options->members;
	return options_is_paired(options) ? 2 : 1;
}

const char *
options_scenario_name(enum options_scenario scenario)
{
	return scenario_names[scenario];
}

static const struct option_row *
row_find(const char *name, size_t len)
{
	for (size_t i = 0; i < ROW_COUNT; i++) {
		if (strlen(rows[i].name) == len &&
		    strncmp(rows[i].name, name, len) == 0)
			return &rows[i];
	}
	return NULL;
}

static int
row_set_number(const struct option_row *row, void *field, const char *value,
    struct problem *problem)
{
	char *end;
	double n;

	errno = 0;
	n = strtod(value, &end);
	if (end == value || *end != '\0' || !isfinite(n) || errno == ERANGE)
		return REFUSE(
		    problem, "--%s: '%s' is not a number", row->name, value);
	if (n < row->min || n > row->max)
		return REFUSE(problem, "--%s: %s is not within %.16g and %.16g",
		    row->name, value, row->min, row->max);
	if (row->type == OPTION_RATE) {
		*(double *)field = n;
	} else if (row->type == OPTION_TIME) {
		*(int64_t *)field = (int64_t)llround(n * 1000);
	} else {
		if (n != floor(n))
			return REFUSE(problem, "--%s: '%s' is not an integer",
			    row->name, value);
		*(uint64_t *)field = (uint64_t)n;
	}
	return 0;
}

static int
row_set(const struct option_row *row, struct options *options,
    const char *value, struct problem *problem)
{
	void *field = (char *)options + row->offset;

	switch (row->type) {
	case OPTION_FLAG:
		*(bool *)field = true;
		return 0;
	case OPTION_TEXT:
		*(const char **)field = value;
		return 0;
	case OPTION_COUNT:
	case OPTION_RATE:
	case OPTION_TIME:
		return row_set_number(row, field, value, problem);
	}
	return 0;
}

/* One option, with its value from "=value" or the next argument. */
static int
take_option(
    struct options *options, char **argv, int *i, struct problem *problem)
{
	const char *arg = argv[*i];
	const char *name = strcmp(arg, "-n") == 0 ? "--count" : arg;
	const struct option_row *row;
	const char *value = NULL;
	size_t len;

	if (strncmp(name, "--", 2) != 0)
		return REFUSE(problem, "'%s' is not an option", arg);
	name += 2;
	len = strcspn(name, "=");
	if (name[len] == '=')
		value = name + len + 1;
	row = row_find(name, len);
	if (!row)
		return REFUSE(problem, "unknown option --%.*s", (int)len, name);
	if (!strchr(row->scenarios, scenario_letters[options->scenario]))
		return REFUSE(problem, "--%s has no meaning for %s", row->name,
		    scenario_names[options->scenario]);
	if (row->type == OPTION_FLAG) {
		if (value)
			return REFUSE(
			    problem, "--%s takes no value", row->name);
	} else if (!value) {
		value = argv[*i + 1];
		if (!value)
			return REFUSE(problem, "--%s needs a value", row->name);
		++*i;
	}
	return row_set(row, options, value, problem);
}

/* ws://host[:port][/path]; an IPv6 address stands in brackets. */
static int
split_url(struct options *options, struct problem *problem)
{
	const char *at = options->url;
	const char *end;
	size_t len;

	bool is_wss = strncmp(at, "wss://", 6) == 0;

	if (!is_wss && strncmp(at, "ws://", 5) != 0)
		return REFUSE(
		    problem, "--url: must begin with ws:// or wss://");
	at += is_wss ? 6 : 5;
	options->tls =
	    options->tls || is_wss || options->scenario == SCENARIO_HANDSHAKES;
	if (*at == '[') {
		at++;
		end = strchr(at, ']');
		if (!end)
			return REFUSE(problem, "--url: ']' is missing");
		len = (size_t)(end - at);
		end++;
	} else {
		len = strcspn(at, ":/");
		end = at + len;
	}
	if (len == 0 || len >= sizeof(options->host))
		return REFUSE(problem, "--url: no usable host");
	memcpy(options->host, at, len);
	snprintf(options->port, sizeof(options->port), "%s",
	    options->tls ? "443" : "80");
	if (*end == ':') {
		at = end + 1;
		len = strspn(at, "0123456789");
		end = at + len;
		if (len == 0 || len > 5 || atoi(at) < 1 || atoi(at) > 65535)
			return REFUSE(problem, "--url: no usable port");
		memcpy(options->port, at, len);
		options->port[len] = '\0';
	}
	if (*end != '\0' && *end != '/')
		return REFUSE(problem, "--url: cannot read '%s'", end);
	if (strlen(end) >= sizeof(options->path) || strpbrk(end, " \r\n#"))
		return REFUSE(problem, "--url: no usable path");
	snprintf(options->path, sizeof(options->path), "%s", *end ? end : "/");
	return 0;
}

static int
read_secret_file(struct options *options, struct problem *problem)
{
	char line[SECRET_LEN_MAX + 2];
	FILE *file = fopen(options->secret_file, "re");
	bool is_read;

	if (!file) {
		snprintf(problem->text, problem->len, "cannot open %s: %s",
		    options->secret_file, strerror(errno));
		return ERR_IO;
	}
	is_read = fgets(line, sizeof(line), file) != NULL;
	fclose(file);
	if (!is_read)
		return REFUSE(problem, "%s is empty", options->secret_file);
	line[strcspn(line, "\r\n")] = '\0';
	options->secret_text = xstrdup(line);
	mem_wipe(line, sizeof(line));
	return 0;
}

static int
find_secret(struct options *options, struct problem *problem)
{
	int rc = 0;

	if (options->secret && options->secret_file)
		return REFUSE(problem, "--secret and --secret-file: only one");
	if (options->secret)
		options->secret_text = xstrdup(options->secret);
	else if (options->secret_file)
		rc = read_secret_file(options, problem);
	else if ((!options->prepare || options->parleyctl) &&
		 options->scenario != SCENARIO_HANDSHAKES)
		return REFUSE(problem, "--secret-file or --secret is needed");
	if (rc == 0 && options->secret_text &&
	    strlen(options->secret_text) < SECRET_LEN_MIN)
		return REFUSE(problem, "the secret is shorter than %d bytes",
		    SECRET_LEN_MIN);
	return rc;
}

/* What one table row cannot say. */
static int
check_together(struct options *options, struct problem *problem)
{
	bool is_connect = options->scenario == SCENARIO_CONNECT;
	bool is_live = options->scenario == SCENARIO_PAIRS ||
		       options->scenario == SCENARIO_GROUPS;
	uint64_t users = options->count * options_users_per(options);

	if (is_connect)
		options->login_rate =
		    options->rate > 0 ? options->rate : CONNECT_RATE;
	if (is_live && options->rate > 0 && options->window)
		return REFUSE(problem, "--rate (open loop) and --window "
				       "(closed loop): only one");
	if (is_live && options->rate == 0 && !options->window)
		return REFUSE(problem, "%s needs --rate or --window",
		    scenario_names[options->scenario]);
	if (options->scenario == SCENARIO_GROUPS &&
	    options->senders > options->members)
		return REFUSE(problem, "more --senders than --members");
	if (options->scenario == SCENARIO_OFFLINE && !options->window)
		options->window = OFFLINE_WINDOW;
	if (!options->window)
		options->window = OPTIONS_WINDOW_MAX;
	if (options->first_user + users - 1 > USER_ID_MAX)
		return REFUSE(problem, "user ids end at %llu", USER_ID_MAX);
	if (options->parleyctl && !options->prepare)
		return REFUSE(problem, "--parleyctl needs --prepare");
	if (options->scenario == SCENARIO_PRESENCE &&
	    (options->contacts % 2 != 0 || options->contacts >= options->count))
		return REFUSE(
		    problem, "--contacts: an even number, less than -n");
	if (options->processes > options->count)
		return REFUSE(problem, "more --processes than -n");
	if (!options->sources)
		options->sources = 1 + (users - 1) / SOURCE_CONNECTIONS;
	if (options->sources > 250)
		options->sources = 250;
	return 0;
}

static int
take_scenario(
    struct options *options, const char *name, struct problem *problem)
{
	for (size_t i = 0; name && i < SCENARIO_COUNT; i++) {
		if (strcmp(name, scenario_names[i]) == 0) {
			options->scenario = (enum options_scenario)i;
			return 0;
		}
	}
	return REFUSE(problem,
	    "the first argument is connect, pairs, groups, offline, "
	    "handshakes or presence");
}

int
options_parse(struct options *options, int argc, char **argv, char *error,
    size_t error_len)
{
	struct problem problem = {error, error_len};
	int rc;

	*options = (struct options){0};
	rc = take_scenario(options, argc > 1 ? argv[1] : NULL, &problem);
	for (size_t i = 0; rc == 0 && i < ROW_COUNT; i++) {
		if (rows[i].def)
			rc = row_set(&rows[i], options, rows[i].def, &problem);
	}
	for (int i = 2; rc == 0 && i < argc; i++)
		rc = take_option(options, argv, &i, &problem);
	if (rc == 0)
		rc = check_together(options, &problem);
	if (rc == 0)
		rc = split_url(options, &problem);
	if (rc == 0)
		rc = find_secret(options, &problem);
	return rc;
}

void
options_fini(struct options *options)
{
	if (options->secret_text)
		mem_wipe(options->secret_text, strlen(options->secret_text));
	free(options->secret_text);
	options->secret_text = NULL;
}

void
options_print_help(FILE *out)
{
	fprintf(out, "Usage: parleyload "
		     "connect|pairs|offline|handshakes|presence OPTIONS\n"
		     "Load on a parley server, and proof that it loses "
		     "nothing.\n       parleyload --compare OLD.json NEW.json "
		     "[--json]\n"
		     "Ratios of two files of results.\n\n");
	for (size_t i = 0; i < ROW_COUNT; i++) {
		char left[40];

		snprintf(left, sizeof(left), "--%s%s%s", rows[i].name,
		    rows[i].arg ? " " : "", rows[i].arg ? rows[i].arg : "");
		fprintf(out, "  %-20s %-4s %s", left, rows[i].scenarios,
		    rows[i].help);
		if (rows[i].def)
			fprintf(out, " (%s)", rows[i].def);
		fputc('\n', out);
	}
	fprintf(out, "\nLetters: c connect, p pairs, o offline, "
		     "h handshakes, w presence; in parentheses the default.\n"
		     "Exit status: 0 sound, 1 violations or failures, "
		     "2 usage. See parleyload(1).\n");
}
