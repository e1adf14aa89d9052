/*
 * conf_parse.c - one value of the configuration, by its type.
 *
 * Role:    text to field, and the sentence that says what was expected.
 * Process: all.
 * Blocks:  never.
 * Trust:   values are the operator's; nothing is guessed or cut.
 * See:     conf.def, t/unit/conf.c.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf_priv.h"
#include "base/mem.h"
#include "base/text.h"

static void
trim(const char **text, size_t *len)
{
	while (*len > 0 && isspace((unsigned char)(*text)[0])) {
		(*text)++;
		(*len)--;
	}
	while (*len > 0 && isspace((unsigned char)(*text)[*len - 1]))
		(*len)--;
}

/* Text that stays one line in the file, in logs and in paths. */
static bool
is_printable(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return text_utf8_valid(text, len);
}

/*
 * A comment after a value is not known here (';' may be part of a value):
 * better refused than taken for a part of a path.
 */
static bool
has_comment(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		bool is_start = i == 0 || isspace((unsigned char)text[i - 1]);

		if (is_start && (text[i] == ';' || text[i] == '#'))
			return true;
	}
	return false;
}

static int
bool_parse(const char *text, size_t len, bool *out)
{
	static const struct {
		const char *word;
		bool value;
	} words[] = {
	    {"yes", true},
	    {"no", false},
	    {"true", true},
	    {"false", false},
	    {"on", true},
	    {"off", false},
	    {"1", true},
	    {"0", false},
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i].word) == len &&
		    strncasecmp(words[i].word, text, len) == 0) {
			*out = words[i].value;
			return 0;
		}
	}
	return ERR_BAD_REQUEST;
}

static int
int_parse(const char *text, size_t len, int64_t *out)
{
	uint64_t n;

	if (text_parse_u64(text, len, INT64_MAX, &n) != 0)
		return ERR_BAD_REQUEST;
	*out = (int64_t)n;
	return 0;
}

static int
number_set(
    int64_t *field, const struct conf_key *key, const char *text, size_t len)
{
	int64_t n;
	int rc;

	if (key->kind == CONF_DURATION)
		rc = text_parse_duration_ms(text, len, &n);
	else if (key->kind == CONF_SIZE)
		rc = text_parse_size(text, len, &n);
	else
		rc = int_parse(text, len, &n);
	if (rc != 0 || n < key->min || n > key->max)
		return ERR_BAD_REQUEST;
	*field = n;
	return 0;
}

static int
string_set(char **field, const char *text, size_t len)
{
	if (!is_printable(text, len) || has_comment(text, len))
		return ERR_BAD_REQUEST;
	free(*field);
	*field = xstrndup(text, len);
	return 0;
}

static int
choice_set(char **field, const char *choices, const char *text, size_t len)
{
	const char *at = choices;

	while (*at != '\0') {
		size_t choice_len = strcspn(at, "|");

		if (choice_len == len && memcmp(at, text, len) == 0)
			return string_set(field, text, len);
		at += choice_len;
		if (*at == '|')
			at++;
	}
	return ERR_BAD_REQUEST;
}

static void
list_fini(struct conf_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		mem_wipe(list->items[i], strlen(list->items[i]));
		free(list->items[i]);
	}
	free(list->items);
	*list = (struct conf_list){0};
}

static void
list_add(struct conf_list *list, const char *text, size_t len)
{
	list->items =
	    xrealloc(list->items, (list->count + 1) * sizeof(list->items[0]));
	list->items[list->count++] = xstrndup(text, len);
}

static int
list_set(struct conf_list *field, const struct conf_key *key, const char *text,
    size_t len)
{
	const char *end = text + len;

	if (!is_printable(text, len))
		return ERR_BAD_REQUEST;
	if (key->kind != CONF_SECRETS && has_comment(text, len))
		return ERR_BAD_REQUEST;
	list_fini(field);
	while (text < end) {
		const char *comma = memchr(text, ',', (size_t)(end - text));
		const char *item = text;
		size_t item_len =
		    (size_t)((comma != NULL ? comma : end) - item);

		text += item_len + 1;
		trim(&item, &item_len);
		if (item_len == 0)
			continue;
		if (key->kind == CONF_SECRETS && (int64_t)item_len < key->min)
			return ERR_BAD_REQUEST;
		list_add(field, item, item_len);
	}
	return 0;
}

int
conf_value_set(
    struct conf *conf, const struct conf_key *key, const char *text, size_t len)
{
	void *field = conf_field(conf, key);

	trim(&text, &len);
	switch (key->kind) {
	case CONF_BOOL:
		return bool_parse(text, len, field);
	case CONF_INT:
	case CONF_DURATION:
	case CONF_SIZE:
		return number_set(field, key, text, len);
	case CONF_STRING:
		return string_set(field, text, len);
	case CONF_LIST:
	case CONF_SECRETS:
		return list_set(field, key, text, len);
	case CONF_CHOICE:
		return choice_set(field, key->choices, text, len);
	}
	return ERR_BAD_REQUEST;
}

void
conf_value_fini(struct conf *conf, const struct conf_key *key)
{
	char **string;

	switch (key->kind) {
	case CONF_BOOL:
	case CONF_INT:
	case CONF_DURATION:
	case CONF_SIZE:
		break;
	case CONF_STRING:
	case CONF_CHOICE:
		string = conf_field(conf, key);
		free(*string);
		*string = NULL;
		break;
	case CONF_LIST:
	case CONF_SECRETS:
		list_fini(conf_field(conf, key));
		break;
	}
}

static void
expect_choice(const char *choices, struct buf *out)
{
	buf_add_str(out, "one of ");
	for (const char *c = choices; *c != '\0'; c++) {
		if (*c == '|')
			buf_add_str(out, ", ");
		else
			buf_add_char(out, *c);
	}
}

void
conf_expect(const struct conf_key *key, struct buf *out)
{
	char min[TEXT_UNIT_MAX];
	char max[TEXT_UNIT_MAX];

	switch (key->kind) {
	case CONF_BOOL:
		buf_add_str(out, "yes or no");
		break;
	case CONF_INT:
		buf_printf(out, "an integer from %" PRId64 " to %" PRId64,
		    key->min, key->max);
		break;
	case CONF_DURATION:
		buf_printf(out,
		    "a duration from %s to %s (with ms, s, m, h or d)",
		    text_format_duration(key->min, min),
		    text_format_duration(key->max, max));
		break;
	case CONF_SIZE:
		buf_printf(out, "a size from %s to %s (with K, M or G)",
		    text_format_size(key->min, min),
		    text_format_size(key->max, max));
		break;
	case CONF_STRING:
		buf_add_str(out, "text (no comment behind it)");
		break;
	case CONF_LIST:
		buf_add_str(
		    out, "a list separated by commas (no comment behind it)");
		break;
	case CONF_SECRETS:
		buf_printf(out,
		    "secrets of at least %" PRId64
		    " bytes each, separated by commas",
		    key->min);
		break;
	case CONF_CHOICE:
		expect_choice(key->choices, out);
		break;
	}
}
