/*
 * json.h - JSON (RFC 8259): a writer over struct buf, a strict reader.
 *
 * The reader is json-c behind a stricter door; only json.c includes json-c,
 * whose exported names (json_object_object_add, json_object_get, ...) are not
 * used here.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/*
 * Writer. Commas come by themselves: none at the start of the buffer and
 * after '{', '[' and ':', one everywhere else. One document per buffer.
 * Names and strings must be valid UTF-8.
 */
void json_object_begin(struct buf *buf);
void json_object_end(struct buf *buf);
void json_array_begin(struct buf *buf);
void json_array_end(struct buf *buf);
/** A member's name; its value follows. */
void json_key(struct buf *buf, const char *key);
void json_string(struct buf *buf, const char *text, size_t len);
void json_u64(struct buf *buf, uint64_t n);
void json_i64(struct buf *buf, int64_t n);
/** An id as a decimal string: JavaScript's numbers end at 2^53. */
void json_id(struct buf *buf, uint64_t id);
/** Not json_bool: that is a type of json-c. */
void json_boolean(struct buf *buf, bool value);
void json_null(struct buf *buf);
/** Text that is JSON already. */
void json_raw(struct buf *buf, const char *json, size_t len);
/** The members of an object that is JSON already, braces and all. */
void json_members(struct buf *buf, const char *object, size_t len);

/* A member in one call. */
void json_put_string(
    struct buf *buf, const char *key, const char *text, size_t len);
/** NUL-terminated text. */
void json_put_text(struct buf *buf, const char *key, const char *text);
void json_put_u64(struct buf *buf, const char *key, uint64_t n);
void json_put_i64(struct buf *buf, const char *key, int64_t n);
void json_put_id(struct buf *buf, const char *key, uint64_t id);
void json_put_bool(struct buf *buf, const char *key, bool value);
void json_put_raw(
    struct buf *buf, const char *key, const char *json, size_t len);

/* Reader. */
struct json_object; /* json-c's; any value, not only an object */

#define JSON_DEPTH_MAX     32    /* arrays and objects inside each other */
#define JSON_CONTAINER_MAX 4096  /* arrays and objects in one text */
#define JSON_VALUE_MAX     65536 /* values in one text */

/**
 * Read one JSON text whose top level is an object. Strict: RFC 8259, valid
 * UTF-8 (no lone surrogate escapes either), no \u0000 in names, no integer
 * beyond 64 bits, nothing but white space after it. Where a name stands twice
 * the last one counts.
 *
 * The limits above keep the memory for a hostile text small: json-c takes
 * about 800 bytes for the three of "{},".
 *
 * @param data       need not end with NUL
 * @param value_out  release with json_free; untouched on error
 * @param error      one line: what was expected and at which byte offset
 *                   (from 0); never quotes the text
 * @return           0, ERR_BAD_REQUEST, ERR_TOO_LARGE (a limit above, or
 *                   2 GiB), ERR_NO_MEMORY
 */
NODISCARD int json_parse(const char *data, size_t len,
    struct json_object **value_out, char *error, size_t error_len);
/** The same without limits on counts, for what our own processes wrote. */
NODISCARD int json_parse_trusted(const char *data, size_t len,
    struct json_object **value_out, char *error, size_t error_len);
/** Would json_parse take it? */
bool json_is_object(const char *data, size_t len);
/** Accepts NULL and clears the pointer; parts of it are gone as well. */
void json_free(struct json_object **value);

/* Part of a text, borrowed from it. */
struct json_span {
	const char *data;
	size_t len;
};

/**
 * Of a text that json_parse refused: the value of a member of the outermost
 * object, as it is written there, of several the last. It may be cut off or
 * malformed itself: parse it before believing it.
 */
bool json_salvage_member(const char *data, size_t len, const char *name,
    struct json_span *value_out);
/**
 * Of such a text: the name of the outermost member whose value holds the
 * offset, as it is written there.
 */
bool json_salvage_culprit(
    const char *data, size_t len, size_t offset, struct json_span *name_out);
/** The offset that the calling thread's last refusal by json_parse named. */
size_t json_fault_offset(void);
/** Give back what json_parse keeps for this thread (before it ends). */
void json_fini(void);

/*
 * Members of an object. Strings and values are borrowed and live as long as
 * the whole; outputs are untouched on error.
 *   0                 here it is
 *   ERR_NOT_FOUND     absent or null
 *   ERR_BAD_REQUEST   another type, or out of range
 * Numbers must be written as integers: 1.0, 1e3 and "1" are another type.
 */
NODISCARD int json_get_u64(const struct json_object *object, const char *key,
    uint64_t max, uint64_t *out);
NODISCARD int json_get_i64(const struct json_object *object, const char *key,
    int64_t min, int64_t max, int64_t *out);
/** A decimal string as json_put_id writes it, up to max. */
NODISCARD int json_get_id(const struct json_object *object, const char *key,
    uint64_t max, uint64_t *out);
/** May hold NUL bytes; a NUL that is not counted follows. */
NODISCARD int json_get_string(const struct json_object *object, const char *key,
    const char **text_out, size_t *len_out);
NODISCARD int json_get_bool(
    const struct json_object *object, const char *key, bool *out);
NODISCARD int json_get_array(const struct json_object *object, const char *key,
    const struct json_object **array_out, size_t *count_out);
NODISCARD int json_get_object(const struct json_object *object, const char *key,
    const struct json_object **object_out);
/** Any type but null. */
NODISCARD int json_get_value(const struct json_object *object, const char *key,
    const struct json_object **value_out);

/* The same for a value in hand; NULL stands for null. */
NODISCARD int json_value_u64(
    const struct json_object *value, uint64_t max, uint64_t *out);
NODISCARD int json_value_i64(
    const struct json_object *value, int64_t min, int64_t max, int64_t *out);
NODISCARD int json_value_id(
    const struct json_object *value, uint64_t max, uint64_t *out);
NODISCARD int json_value_string(
    const struct json_object *value, const char **text_out, size_t *len_out);
NODISCARD int json_value_bool(const struct json_object *value, bool *out);
NODISCARD int json_value_array(
    const struct json_object *value, size_t *count_out);
bool json_value_is_object(const struct json_object *value);
/** Element of an array; NULL for null and beyond the end. */
const struct json_object *json_array_at(
    const struct json_object *array, size_t index);

typedef void (*json_member_fn)(
    void *ctx, const char *key, const struct json_object *value);
/** Call fn for each member of an object in the order of the text. */
void json_each(const struct json_object *object, json_member_fn fn, void *ctx);

/** Write a value that was read; numbers keep the form they came in. */
void json_value(struct buf *buf, const struct json_object *value);

#endif
