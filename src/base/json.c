/*
 * json.c - reading JSON with json-c.
 *
 * Role:    builds the tree of a text that json_check accepted, and answers
 *          typed questions about it.
 * Process: all.
 * Blocks:  never.
 * Trust:   the text is a peer's; json_check refuses what json-c would accept
 *          or mend silently, so json-c sees only RFC 8259.
 * See:     json_check.c, t/unit/json.c.
 */
#include "base/json.h"

#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/json_priv.h"
#include "base/text.h"

/* One per thread: making one costs more than reading a short text. */
static _Thread_local struct json_tokener *tokener;
static _Thread_local size_t fault_offset;

static const struct json_limits peer_limits = {
    .containers = JSON_CONTAINER_MAX,
    .values = JSON_VALUE_MAX,
};

static const struct json_limits trusted_limits = {
    .containers = SIZE_MAX,
    .values = SIZE_MAX,
};

static int
json_build(const char *data, size_t len, struct json_object **value_out)
{
	struct json_object *value;

	if (tokener == NULL) {
		/* json-c counts scalars as a level: leave room for it. */
		tokener = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
		if (tokener == NULL)
			return ERR_NO_MEMORY;
		json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	}
	value = json_tokener_parse_ex(tokener, data, (int)len);
	if (value == NULL) {
		/* The text is known to be good: only memory can be short. */
		json_tokener_reset(tokener);
		return ERR_NO_MEMORY;
	}
	*value_out = value;
	return 0;
}

static int
json_parse_limited(const char *data, size_t len,
    const struct json_limits *limits, struct json_object **value_out,
    char *error, size_t error_len)
{
	struct json_fault fault;
	int rc;

	if (len > INT_MAX) {
		snprintf(error, error_len, "larger than 2 GiB");
		return ERR_TOO_LARGE;
	}
	rc = json_check(data, len, limits, &fault);
	if (rc != 0) {
		fault_offset = fault.offset;
		snprintf(error, error_len, "expected %s at byte %zu",
		    fault.expected, fault.offset);
		return rc;
	}
	rc = json_build(data, len, value_out);
	if (rc != 0)
		snprintf(error, error_len, "%s", err_text(rc));
	return rc;
}

int
json_parse(const char *data, size_t len, struct json_object **value_out,
    char *error, size_t error_len)
{
	return json_parse_limited(
	    data, len, &peer_limits, value_out, error, error_len);
}

bool
json_is_object(const char *data, size_t len)
{
	struct json_object *value = NULL;
	char error[128];
	int rc = json_parse(data, len, &value, error, sizeof(error));

	json_free(&value);
	return rc == 0;
}

int
json_parse_trusted(const char *data, size_t len, struct json_object **value_out,
    char *error, size_t error_len)
{
	return json_parse_limited(
	    data, len, &trusted_limits, value_out, error, error_len);
}

size_t
json_fault_offset(void)
{
	return fault_offset;
}

void
json_free(struct json_object **value)
{
	json_object_put(*value);
	*value = NULL;
}

void
json_fini(void)
{
	if (tokener != NULL)
		json_tokener_free(tokener);
	tokener = NULL;
}

int
json_value_u64(const struct json_object *value, uint64_t max, uint64_t *out)
{
	uint64_t n;

	if (value == NULL)
		return ERR_NOT_FOUND;
	if (!json_object_is_type(value, json_type_int) ||
	    json_object_get_int64(value) < 0)
		return ERR_BAD_REQUEST;
	n = json_object_get_uint64(value);
	if (n > max)
		return ERR_BAD_REQUEST;
	*out = n;
	return 0;
}

int
json_value_i64(
    const struct json_object *value, int64_t min, int64_t max, int64_t *out)
{
	int64_t n;

	if (value == NULL)
		return ERR_NOT_FOUND;
	if (!json_object_is_type(value, json_type_int))
		return ERR_BAD_REQUEST;
	n = json_object_get_int64(value);
	if (n < min || n > max)
		return ERR_BAD_REQUEST;
	/* INT64_MAX also stands for what only an uint64_t can hold. */
	if (n == INT64_MAX && json_object_get_uint64(value) > INT64_MAX)
		return ERR_BAD_REQUEST;
	*out = n;
	return 0;
}

int
json_value_string(
    const struct json_object *value, const char **text_out, size_t *len_out)
{
	struct json_object *string = (struct json_object *)value;

	if (value == NULL)
		return ERR_NOT_FOUND;
	if (!json_object_is_type(value, json_type_string))
		return ERR_BAD_REQUEST;
	/* Not const in json-c, yet a string is only looked at. */
	*text_out = json_object_get_string(string);
	*len_out = (size_t)json_object_get_string_len(value);
	return 0;
}

int
json_value_id(const struct json_object *value, uint64_t max, uint64_t *out)
{
	const char *text;
	size_t len;
	int rc;

	rc = json_value_string(value, &text, &len);
	return rc != 0 ? rc : text_parse_u64(text, len, max, out);
}

int
json_value_bool(const struct json_object *value, bool *out)
{
	if (value == NULL)
		return ERR_NOT_FOUND;
	if (!json_object_is_type(value, json_type_boolean))
		return ERR_BAD_REQUEST;
	*out = json_object_get_boolean(value) != 0;
	return 0;
}

int
json_value_array(const struct json_object *value, size_t *count_out)
{
	if (value == NULL)
		return ERR_NOT_FOUND;
	if (!json_object_is_type(value, json_type_array))
		return ERR_BAD_REQUEST;
	*count_out = json_object_array_length(value);
	return 0;
}

bool
json_value_is_object(const struct json_object *value)
{
	return value != NULL && json_object_is_type(value, json_type_object);
}

const struct json_object *
json_array_at(const struct json_object *array, size_t index)
{
	return json_object_array_get_idx(array, index);
}

int
json_get_value(const struct json_object *object, const char *key,
    const struct json_object **value_out)
{
	struct json_object *value;

	if (!json_value_is_object(object) ||
	    !json_object_object_get_ex(object, key, &value) || value == NULL)
		return ERR_NOT_FOUND;
	*value_out = value;
	return 0;
}

int
json_get_u64(const struct json_object *object, const char *key, uint64_t max,
    uint64_t *out)
{
	const struct json_object *value;
	int rc;

	rc = json_get_value(object, key, &value);
	return rc != 0 ? rc : json_value_u64(value, max, out);
}

int
json_get_i64(const struct json_object *object, const char *key, int64_t min,
    int64_t max, int64_t *out)
{
	const struct json_object *value;
	int rc;

	rc = json_get_value(object, key, &value);
	return rc != 0 ? rc : json_value_i64(value, min, max, out);
}

int
json_get_id(const struct json_object *object, const char *key, uint64_t max,
    uint64_t *out)
{
	const struct json_object *value;
	int rc;

	rc = json_get_value(object, key, &value);
	return rc != 0 ? rc : json_value_id(value, max, out);
}

int
json_get_string(const struct json_object *object, const char *key,
    const char **text_out, size_t *len_out)
{
	const struct json_object *value;
	int rc;

	rc = json_get_value(object, key, &value);
	return rc != 0 ? rc : json_value_string(value, text_out, len_out);
}

int
json_get_bool(const struct json_object *object, const char *key, bool *out)
{
	const struct json_object *value;
	int rc;

	rc = json_get_value(object, key, &value);
	return rc != 0 ? rc : json_value_bool(value, out);
}

int
json_get_array(const struct json_object *object, const char *key,
    const struct json_object **array_out, size_t *count_out)
{
	const struct json_object *value;
	int rc;

	rc = json_get_value(object, key, &value);
	if (rc == 0)
		rc = json_value_array(value, count_out);
	if (rc == 0)
		*array_out = value;
	return rc;
}

int
json_get_object(const struct json_object *object, const char *key,
    const struct json_object **object_out)
{
	const struct json_object *value;
	int rc;

	rc = json_get_value(object, key, &value);
	if (rc != 0)
		return rc;
	if (!json_value_is_object(value))
		return ERR_BAD_REQUEST;
	*object_out = value;
	return 0;
}

void
json_each(const struct json_object *object, json_member_fn fn, void *ctx)
{
	struct json_object *members = (struct json_object *)object;

	if (!json_value_is_object(object))
		return;
	json_object_object_foreach(members, key, value) fn(ctx, key, value);
}

static void json_value_members(
    struct buf *buf, const struct json_object *object);

void
json_value(struct buf *buf, const struct json_object *value)
{
	const char *text;
	size_t len;

	if (json_value_is_object(value)) {
		json_value_members(buf, value);
	} else if (json_value_string(value, &text, &len) == 0) {
		json_string(buf, text, len);
	} else if (json_value_array(value, &len) == 0) {
		json_array_begin(buf);
		for (size_t i = 0; i < len; i++)
			json_value(buf, json_array_at(value, i));
		json_array_end(buf);
	} else {
		/* null, true, false, or a number in its own digits */
		text = json_object_to_json_string_ext(
		    (struct json_object *)value, JSON_C_TO_STRING_PLAIN);
		json_raw(buf, text, strlen(text));
	}
}

static void
json_value_member(void *ctx, const char *key, const struct json_object *value)
{
	struct buf *buf = ctx;

	json_key(buf, key);
	json_value(buf, value);
}

static void
json_value_members(struct buf *buf, const struct json_object *object)
{
	json_object_begin(buf);
	json_each(object, json_value_member, buf);
	json_object_end(buf);
}
