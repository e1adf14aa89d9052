/*
 * json_salvage.c - what can still be told of a text that json_parse refused.
 *
 * Role:    finds members of the outermost object without believing the rest,
 *          so that a client learns which of its requests was malformed, and
 *          in which field.
 * Process: any; pure.
 * Blocks:  never; each byte is looked at once per call.
 * Trust:   none: spans lie within the text, and nothing is said about them.
 * See:     json_check.c (what is refused), worker/command.c (the user).
 */
#include <string.h>

#include "base/json.h"
#include "base/json_priv.h"

struct walk {
	const char *data;
	size_t len;
	size_t at;
	struct json_span name;  /* between the quotes, as written */
	struct json_span value; /* as written, perhaps cut off */
};

static bool
walk_is_at(const struct walk *walk, char c)
{
	return walk->at < walk->len && walk->data[walk->at] == c;
}

static void
walk_skip(struct walk *walk, const char *set)
{
	while (walk->at < walk->len && walk->data[walk->at] != '\0' &&
	       strchr(set, walk->data[walk->at]) != NULL)
		walk->at++;
}

/* From the quote to behind the other one, or to the end of the text. */
static void
walk_string(struct walk *walk)
{
	walk->at++;
	while (walk->at < walk->len && walk->data[walk->at] != '"')
		walk->at += walk->data[walk->at] == '\\' ? 2 : 1;
	walk->at = walk->at < walk->len ? walk->at + 1 : walk->len;
}

/* To the comma or bracket that ends the value, whatever it is. */
static void
walk_value(struct walk *walk)
{
	size_t depth = 0;

	while (walk->at < walk->len) {
		char c = walk->data[walk->at];

		if (depth == 0 && (c == ',' || c == '}' || c == ']'))
			return;
		if (c == '"') {
			walk_string(walk);
			continue;
		}
		if (c == '{' || c == '[')
			depth++;
		else if (c == '}' || c == ']')
			depth--;
		walk->at++;
	}
}

static bool
walk_next(struct walk *walk)
{
	static const char space[] = " \t\r\n";
	size_t start;

	walk_skip(walk, " \t\r\n,");
	if (!walk_is_at(walk, '"'))
		return false;
	start = walk->at + 1;
	walk_string(walk);
	if (walk->at <= start)
		return false;
	walk->name =
	    (struct json_span){walk->data + start, walk->at - start - 1};
	walk_skip(walk, space);
	if (!walk_is_at(walk, ':'))
		return false;
	walk->at++;
	walk_skip(walk, space);
	start = walk->at;
	walk_value(walk);
	walk->value = (struct json_span){walk->data + start, walk->at - start};
	return true;
}

static struct walk
walk_begin(const char *data, size_t len)
{
	struct walk walk = {.data = data, .len = len};

	walk_skip(&walk, " \t\r\n");
	if (walk_is_at(&walk, '{'))
		walk.at++;
	else
		walk.at = len;
	return walk;
}

bool
json_salvage_member(
    const char *data, size_t len, const char *name, struct json_span *value_out)
{
	struct walk walk = walk_begin(data, len);
	size_t name_len = strlen(name);
	bool is_found = false;

	while (walk_next(&walk)) {
		if (walk.name.len == name_len &&
		    memcmp(walk.name.data, name, name_len) == 0) {
			*value_out = walk.value; /* the last one counts */
			is_found = true;
		}
	}
	return is_found;
}

bool
json_salvage_culprit(
    const char *data, size_t len, size_t offset, struct json_span *name_out)
{
	struct walk walk = walk_begin(data, len);

	while (walk_next(&walk)) {
		size_t start = (size_t)(walk.value.data - data);

		if (offset >= start && offset <= start + walk.value.len) {
			*name_out = walk.name;
			return true;
		}
	}
	return false;
}
