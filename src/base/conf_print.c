/*
 * conf_print.c - the configuration as text: -T, sample file, manual page.
 *
 * Role:    everything readers see about settings is made from conf.def.
 * Process: parleyd before it starts; the build.
 * Blocks:  on the stream it is given.
 * Trust:   secrets are never printed, not even their number; but for
 *          conf_dump, whose reader is the supervisor's successor.
 * See:     conf.def, t/unit/conf.c (what is printed is read back).
 */
#include <inttypes.h>
#include <string.h>

#include "base/conf_priv.h"
#include "base/text.h"

#define HELP_WIDTH 76

static void
section_print(const struct conf_key *key, FILE *out)
{
	bool is_first = key == conf_keys;

	if (!is_first && strcmp(key[-1].section, key->section) == 0)
		return;
	fprintf(out, "%s[%s]\n", is_first ? "" : "\n", key->section);
}

static void
list_print(const char *name, const struct conf_list *list, FILE *out)
{
	fprintf(out, "%s =", name);
	for (size_t i = 0; i < list->count; i++)
		fprintf(out, "%s %s", i > 0 ? "," : "", list->items[i]);
	fputc('\n', out);
}

/* As a comment: read back, "(hidden)" must not become a known secret. */
static void
secrets_print(const char *name, const struct conf_list *list, FILE *out)
{
	if (list->count > 0)
		fprintf(out, "; %s = (hidden)\n", name);
	else
		fprintf(out, "%s =\n", name);
}

static void
string_print(const char *name, const char *text, FILE *out)
{
	fprintf(out, "%s =%s%s\n", name, text[0] != '\0' ? " " : "", text);
}

static void
value_print(const struct conf *conf, const struct conf_key *key,
    bool with_secrets, FILE *out)
{
	const void *field = conf_field_const(conf, key);
	char text[TEXT_UNIT_MAX];

	switch (key->kind) {
	case CONF_BOOL:
		string_print(
		    key->key, *(const bool *)field ? "yes" : "no", out);
		break;
	case CONF_INT:
		fprintf(out, "%s = %" PRId64 "\n", key->key,
		    *(const int64_t *)field);
		break;
	case CONF_DURATION:
		text_format_duration(*(const int64_t *)field, text);
		string_print(key->key, text, out);
		break;
	case CONF_SIZE:
		text_format_size(*(const int64_t *)field, text);
		string_print(key->key, text, out);
		break;
	case CONF_STRING:
	case CONF_CHOICE:
		string_print(key->key, *(char *const *)field, out);
		break;
	case CONF_LIST:
		list_print(key->key, field, out);
		break;
	case CONF_SECRETS:
		if (with_secrets)
			list_print(key->key, field, out);
		else
			secrets_print(key->key, field, out);
		break;
	}
}

static void
all_print(const struct conf *conf, bool with_secrets, FILE *out)
{
	for (const struct conf_key *k = conf_keys; k->section != NULL; k++) {
		section_print(k, out);
		value_print(conf, k, with_secrets, out);
	}
}

void
conf_print(const struct conf *conf, FILE *out)
{
	all_print(conf, false, out);
}

void
conf_dump(const struct conf *conf, FILE *out)
{
	all_print(conf, true, out);
}

/* Words on lines of at most HELP_WIDTH after "; ". */
static void
comment_print(const char *text, FILE *out)
{
	while (*text != '\0') {
		size_t len = strlen(text);

		if (len > HELP_WIDTH) {
			len = HELP_WIDTH;
			while (len > 0 && text[len] != ' ')
				len--;
			if (len == 0)
				len = strcspn(text, " ");
		}
		fprintf(out, "; %.*s\n", (int)len, text);
		text += len;
		text += strspn(text, " ");
	}
}

static const char *
reload_text(const struct conf_key *key)
{
	if (key->reload == 0)
		return "Needs a restart.";
	return key->reload == 1 ? "Applied by a reload, by new processes."
				: "Applied by a reload at once.";
}

static void
sample_key_print(const struct conf_key *key, FILE *out)
{
	struct buf about = {0};

	comment_print(key->help, out);
	buf_add_str(&about, "Expected: ");
	conf_expect(key, &about);
	buf_printf(&about, ". %s", reload_text(key));
	buf_add_char(&about, '\0');
	comment_print(about.data, out);
	fprintf(out, ";%s =%s%s\n\n", key->key,
	    key->initial[0] != '\0' ? " " : "", key->initial);
	buf_fini(&about);
}

void
conf_print_sample(FILE *out)
{
	fputs("; parleyd.conf - see parleyd.conf(5). Every setting is shown "
	      "with its default;\n"
	      "; remove the ';' before a key to change it. A comment needs a "
	      "line of its own.\n\n",
	    out);
	for (const struct conf_key *k = conf_keys; k->section != NULL; k++) {
		section_print(k, out);
		sample_key_print(k, out);
	}
}

/* roff: a backslash and '-' are special, '.' and '\'' at a line's start. */
static void
roff_print(const char *text, FILE *out)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
	}
}

static void
manual_key_print(const struct conf_key *key, FILE *out)
{
	struct buf expected = {0};

	conf_expect(key, &expected);
	buf_add_char(&expected, '\0');
	fprintf(out, ".TP\n.B %s\n", key->key);
	roff_print(key->help, out);
	fputs("\n.br\nExpected: ", out);
	roff_print(expected.data, out);
	fputs(".\n.br\nDefault: ", out);
	roff_print(key->initial[0] != '\0' ? key->initial : "empty", out);
	fprintf(out, ".\n.br\n%s\n", reload_text(key));
	buf_fini(&expected);
}

static const char manual_head[] =
    ".\\\" Made from conf.def; do not edit.\n"
    ".TH PARLEYD.CONF 5 \"\" parley \"File formats\"\n"
    ".SH NAME\n"
    "parleyd.conf \\- configuration of the parley chat server\n"
    ".SH SYNOPSIS\n"
    ".B parleyd \\-c\n"
    ".I parleyd.conf\n"
    ".SH DESCRIPTION\n"
    "The file is UTF\\-8 text of sections and keys:\n"
    ".PP\n"
    ".RS\n"
    ".nf\n"
    "[server]\n"
    "listen = 0.0.0.0:3333, [::]:3333\n"
    "; a comment has a line of its own\n"
    "ping_interval = 25s\n"
    ".fi\n"
    ".RE\n"
    ".PP\n"
    "White space around keys and values does not matter. Lines that start "
    "with\n"
    "\\(oq;\\(cq or \\(oq#\\(cq are comments; a comment behind a value is "
    "not possible.\n"
    "A section may appear several times, a key once. An unknown section or "
    "key and\n"
    "a bad value are refused with file and line, and nothing is changed.\n"
    ".SS Units\n"
    "Durations are whole numbers with\n"
    ".BR ms ,\n"
    ".BR s ,\n"
    ".BR m ,\n"
    ".B h\n"
    "or\n"
    ".BR d ;\n"
    "a bare number is seconds. Sizes are whole numbers with\n"
    ".BR K ,\n"
    ".B M\n"
    "or\n"
    ".B G\n"
    "(powers of 1024); a bare number is bytes. Lists are separated by "
    "commas.\n"
    "Yes and no may be written yes, true, on, 1 and no, false, off, 0.\n"
    ".SS Environment\n"
    "The variable\n"
    ".BI PARLEY_ SECTION _ KEY\n"
    "in capital letters overrides a key of the file:\n"
    ".B PARLEY_SERVER_LISTEN\n"
    "stands for\n"
    ".B listen\n"
    "in\n"
    ".BR [server] .\n"
    "An unknown key of a known section is refused here as well.\n"
    ".SS Reload\n"
    "SIGHUP and\n"
    ".B parleyctl reload\n"
    "read the file again; other settings need a restart, as noted below.\n";

static const char manual_tail[] = ".SH SEE ALSO\n"
				  ".BR parleyd (8),\n"
				  ".BR parleyctl (8)\n";

void
conf_print_manual(FILE *out)
{
	fputs(manual_head, out);
	for (const struct conf_key *k = conf_keys; k->section != NULL; k++) {
		if (k == conf_keys || strcmp(k[-1].section, k->section) != 0)
			fprintf(out, ".SH SECTION [%s]\n", k->section);
		manual_key_print(k, out);
	}
	fputs(manual_tail, out);
}
