/*
 * ctl.c - parleyctl: the command line, by the table of verbs.
 *
 * Role:    finds the verb, checks arguments and options by its row, calls it.
 * Process: its own.
 * Blocks:  yes.
 * Trust:   its user may already do what it does: the sockets' modes and the
 *          rights to the configuration decide.
 * See:     console/verbs.def, man/parleyctl.8.
 */
#include "config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "ctl/ctl_priv.h"

#define DEFAULT_CONF PARLEY_SYSCONFDIR "/parley/parleyd.conf"

#define HANDLER_CONSOLE(id) ctl_ask_console
#define HANDLER_LOCAL(id)   ctl_##id

static const struct ctl_row rows[] = {
#define VERB(id, name, where, min, max, options, usage, help)                  \
	{name, HANDLER_##where(id), min, max, options, usage, help},
#include "console/verbs.def"
#undef VERB
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static void
print_help(FILE *out)
{
	fputs("usage: parleyctl [-c FILE] [--json] VERB [ARGUMENTS]\n"
	      "       parleyctl -V | -h\n\n"
	      "  -c FILE  the server's configuration (" DEFAULT_CONF ")\n"
	      "  --json   print one JSON document instead of text\n\n",
	    out);
	for (size_t i = 0; i < ROW_COUNT; i++)
		fprintf(out, "  %s %s\n      %s\n", rows[i].name, rows[i].usage,
		    rows[i].help);
	fputs("\nexit status: 0 done, 1 refused or failed, 2 usage, 3 parleyd "
	      "is not running\n",
	    out);
}

int
ctl_fail(const struct ctl *ctl, enum ctl_exit code, const char *fmt, ...)
{
	struct buf json = {0};
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	fprintf(stderr, "parleyctl: %s\n", text);
	if (code == CTL_USAGE && ctl->row != NULL)
		fprintf(stderr, "usage: parleyctl %s %s\n", ctl->row->name,
		    ctl->row->usage);
	if (ctl->wants_json) {
		json_object_begin(&json);
		json_put_bool(&json, "ok", false);
		json_put_text(&json, "error", text);
		json_put_u64(&json, "code", (uint64_t)code);
		json_object_end(&json);
		printf("%.*s\n", (int)json.len, json.data);
		buf_fini(&json);
	}
	return (int)code;
}

const char *
ctl_option(const struct ctl *ctl, const char *name)
{
	for (size_t i = 0; i < ctl->option_count; i++) {
		if (strcmp(ctl->option_names[i], name) == 0)
			return ctl->option_values[i] != NULL
				   ? ctl->option_values[i]
				   : "";
	}
	return NULL;
}

/* ---- the command line ---- */

enum option_kind { OPTION_UNKNOWN, OPTION_PLAIN, OPTION_VALUE };

/* Looks for "name" or "name=" in the row's list. */
static enum option_kind
option_kind(const struct ctl_row *row, const char *name)
{
	size_t len = strlen(name);
	const char *at = row->options;

	while (*at != '\0') {
		size_t word = strcspn(at, " ");
		bool takes_value = at[word - 1] == '=';
		size_t bare = takes_value ? word - 1 : word;

		if (bare == len && memcmp(at, name, len) == 0)
			return takes_value ? OPTION_VALUE : OPTION_PLAIN;
		at += word;
		at += strspn(at, " ");
	}
	return OPTION_UNKNOWN;
}

/* "user add" by two words, "status" by one. @return words taken, 0: none */
static int
find_row(struct ctl *ctl, int argc, char **argv)
{
	char name[64];

	for (int words = argc >= 2 ? 2 : 1; words >= 1; words--) {
		snprintf(name, sizeof(name), "%s%s%s", argv[0],
		    words == 2 ? " " : "", words == 2 ? argv[1] : "");
		for (size_t i = 0; i < ROW_COUNT; i++) {
			if (strcmp(rows[i].name, name) == 0) {
				ctl->row = &rows[i];
				return words;
			}
		}
	}
	return 0;
}

/* argv[0] is the option. @return words taken, or -1 (said) */
static int
take_option(struct ctl *ctl, int argc, char **argv)
{
	const char *name = argv[0] + 2;
	enum option_kind kind;

	if (strcmp(name, "json") == 0) {
		ctl->wants_json = true;
		return 1;
	}
	kind = option_kind(ctl->row, name);
	if (kind == OPTION_UNKNOWN || ctl->option_count == CTL_OPTIONS_MAX) {
		ctl_fail(ctl, CTL_USAGE, "unknown option --%s", name);
		return -1;
	}
	if (kind == OPTION_VALUE && argc < 2) {
		ctl_fail(ctl, CTL_USAGE, "--%s needs a value", name);
		return -1;
	}
	ctl->option_names[ctl->option_count] = name;
	ctl->option_values[ctl->option_count++] =
	    kind == OPTION_VALUE ? argv[1] : NULL;
	return kind == OPTION_VALUE ? 2 : 1;
}

/* What follows the verb. @return CTL_OK or CTL_USAGE (said) */
static int
take_words(struct ctl *ctl, int argc, char **argv)
{
	bool options_are_over = false;

	while (argc > 0) {
		int taken = 1;

		if (!options_are_over && strcmp(argv[0], "--") == 0) {
			options_are_over = true;
		} else if (!options_are_over &&
			   strncmp(argv[0], "--", 2) == 0) {
			taken = take_option(ctl, argc, argv);
			if (taken < 0)
				return CTL_USAGE;
		} else if (ctl->arg_count == CTL_ARGS_MAX) {
			return ctl_fail(ctl, CTL_USAGE,
			    "too many arguments for %s", ctl->row->name);
		} else {
			ctl->args[ctl->arg_count++] = argv[0];
		}
		argc -= taken;
		argv += taken;
	}
	if (ctl->arg_count < ctl->row->arg_min ||
	    ctl->arg_count > ctl->row->arg_max)
		return ctl_fail(ctl, CTL_USAGE,
		    "wrong number of arguments for %s", ctl->row->name);
	return CTL_OK;
}

/* What precedes the verb. @return words taken, or -1: exit with *code_out */
static int
take_globals(struct ctl *ctl, int argc, char **argv, int *code_out)
{
	int i = 0;

	while (i < argc && argv[i][0] == '-') {
		const char *word = argv[i++];

		if (strcmp(word, "-c") == 0 && i < argc) {
			ctl->conf_path = argv[i++];
		} else if (strcmp(word, "--json") == 0) {
			ctl->wants_json = true;
		} else if (strcmp(word, "-V") == 0 ||
			   strcmp(word, "--version") == 0) {
			puts("parleyctl " PACKAGE_VERSION);
			*code_out = CTL_OK;
			return -1;
		} else if (strcmp(word, "-h") == 0 ||
			   strcmp(word, "--help") == 0) {
			print_help(stdout);
			*code_out = CTL_OK;
			return -1;
		} else {
			*code_out = ctl_fail(ctl, CTL_USAGE,
			    "unknown option %s; parleyctl -h helps", word);
			return -1;
		}
	}
	return i;
}

/* @return CTL_OK: *ctl is complete; else the exit status */
static int
parse(struct ctl *ctl, int argc, char **argv, bool *is_over_out)
{
	int code = CTL_OK;
	int taken = take_globals(ctl, argc, argv, &code);

	*is_over_out = taken < 0;
	if (taken < 0)
		return code;
	argc -= taken;
	argv += taken;
	*is_over_out = true;
	if (argc == 0) {
		print_help(stderr);
		return CTL_USAGE;
	}
	taken = find_row(ctl, argc, argv);
	if (taken == 0)
		return ctl_fail(ctl, CTL_USAGE,
		    "unknown verb \"%s\"; parleyctl -h lists them", argv[0]);
	code = take_words(ctl, argc - taken, argv + taken);
	*is_over_out = code != CTL_OK;
	return code;
}

int
main(int argc, char **argv)
{
	struct ctl ctl = {.conf_path = DEFAULT_CONF};
	char error[512];
	bool is_over;
	int code = parse(&ctl, argc - 1, argv + 1, &is_over);

	if (is_over)
		return code;
	if (conf_load(ctl.conf_path, &ctl.conf, error, sizeof(error)) != 0)
		return ctl_fail(&ctl, CTL_FAILED, "%s", error);
	code = ctl.row->fn(&ctl);
	conf_free(&ctl.conf);
	/* a full disk or a closed pipe must not look like success */
	if (fflush(stdout) != 0 || ferror(stdout))
		return CTL_FAILED;
	return code;
}
