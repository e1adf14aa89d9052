/*
 * request.c - fields of a command, checked.
 *
 * Role:    getters that write what was expected into the request.
 * Process: worker.
 * Trust:   everything in the JSON is the client's.
 */
#include "worker/request.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/records.h"
#include "worker/session.h"

int
request_bad_field(
    struct request *request, const char *field, const char *expected, ...)
{
	size_t room = sizeof(request->message);
	va_list args;
	int len;

	len = snprintf(request->message, room, "%s: expected ", field);
	va_start(args, expected);
	if (len > 0 && (size_t)len < room)
		vsnprintf(
		    request->message + len, room - (size_t)len, expected, args);
	va_end(args);
	return ERR_BAD_REQUEST;
}

int
request_fail(struct request *request, int rc, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(request->message, sizeof(request->message), fmt, args);
	va_end(args);
	return rc;
}

/* What a getter of json.h said, as the caller of a request's getter wants
 * it: absence is an error only where the field is required. */
static bool
is_settled(int rc, enum field kind)
{
	return rc == 0 || (rc == ERR_NOT_FOUND && kind == FIELD_OPTIONAL);
}

int
request_u64(struct request *request, const char *field, enum field kind,
    uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t n = min;
	int rc;

	rc = json_get_u64(request->json, field, max, &n);
	if (!is_settled(rc, kind) || n < min)
		return request_bad_field(request, field,
		    "an integer from %llu to %llu", (unsigned long long)min,
		    (unsigned long long)max);
	if (rc == 0)
		*out = n;
	return rc;
}

int
request_i64(
    struct request *request, const char *field, enum field kind, int64_t *out)
{
	const int64_t limit = (int64_t)SEQ_MAX;
	int64_t n = 0;
	int rc;

	rc = json_get_i64(request->json, field, -limit, limit, &n);
	if (!is_settled(rc, kind))
		return request_bad_field(
		    request, field, "an integer (milliseconds since 1970)");
	if (rc == 0)
		*out = n;
	return rc;
}

int
request_id(
    struct request *request, const char *field, enum field kind, uint64_t *out)
{
	uint64_t id = 0;
	int rc;

	rc = json_get_id(request->json, field, MESSAGE_ID_MAX, &id);
	if (!is_settled(rc, kind) || (rc == 0 && id == 0))
		return request_bad_field(
		    request, field, "a string of decimal digits, below 2^63");
	if (rc == 0)
		*out = id;
	return rc;
}

int
request_string(struct request *request, const char *field, enum field kind,
    size_t min, size_t max, const char **text_out, size_t *len_out)
{
	const char *text;
	size_t len;
	int rc;

	rc = json_get_string(request->json, field, &text, &len);
	if (rc == 0 && len > max)
		return request_fail(request,
		    max > CLIENT_ID_MAX ? ERR_TOO_LARGE : ERR_BAD_REQUEST,
		    "%s: expected a string of %zu to %zu bytes", field, min,
		    max);
	if (!is_settled(rc, kind) || (rc == 0 && len < min))
		return request_bad_field(
		    request, field, "a string of %zu to %zu bytes", min, max);
	if (rc == 0) {
		*text_out = text;
		*len_out = len;
	}
	return rc;
}

int
request_bool(struct request *request, const char *field, bool *out)
{
	int rc;

	rc = json_get_bool(request->json, field, out);
	if (rc == ERR_BAD_REQUEST)
		return request_bad_field(request, field, "true or false");
	return rc;
}

static int
compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int
request_user_set(struct request *request, const char *field, enum field kind,
    size_t max, uint64_t *users_out, size_t *count_out)
{
	const struct json_object *array;
	size_t count = 0;
	size_t kept = 0;
	int rc;

	*count_out = 0;
	rc = json_get_array(request->json, field, &array, &count);
	if (rc == ERR_NOT_FOUND && kind == FIELD_OPTIONAL)
		return rc;
	if (rc != 0 || count == 0 || count > max)
		goto bad;
	for (size_t i = 0; i < count; i++) {
		rc = json_value_u64(
		    json_array_at(array, i), USER_ID_MAX, &users_out[i]);
		if (rc != 0 || users_out[i] == 0)
			goto bad;
	}
	qsort(users_out, count, sizeof(*users_out), compare_u64);
	for (size_t i = 0; i < count; i++) {
		if (kept == 0 || users_out[kept - 1] != users_out[i])
			users_out[kept++] = users_out[i];
	}
	*count_out = kept;
	return 0;
bad:
	return request_bad_field(request, field,
	    "an array of 1 to %zu user ids (integers from 1 to 2^53-1)", max);
}

int
request_users(struct request *request, const char *field, uint64_t *users_out,
    size_t *count_out)
{
	size_t count;
	size_t kept = 0;
	int rc;

	rc = request_user_set(
	    request, field, FIELD_REQUIRED, RECIPIENTS_MAX, users_out, &count);
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < count; i++) {
		if (users_out[i] != request->session->user)
			users_out[kept++] = users_out[i];
	}
	*count_out = kept; /* 0: a note to oneself */
	return 0;
}
