/*
 * jwt_claims.c - what a token says: its header and its claims.
 *
 * Role:    parses both strictly and judges them by RFC 7519 and RFC 8725.
 *          A text that two parsers could read differently (a member given
 *          twice, on top of what json.c refuses) is not accepted: whoever
 *          issued it may have meant somebody else.
 * Process: workers; any thread.
 * Blocks:  never.
 * Trust:   the header is a stranger's; the claims were signed by an issuer
 *          we trust, and are checked all the same.
 * See:     jwt.c, t/unit/jwt.c.
 */
#include "base/jwt_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/text.h"

#define USER_ID_MAX ((1ULL << 53) - 1)
/* 9999-12-31; also tells milliseconds, given by mistake, from seconds. */
#define TIME_MAX_S 253402300799LL

struct search {
	const char *key;
	bool is_found;
};

static const char reason_header[] = "the token's header is not acceptable";
static const char reason_alg[] = "the token's algorithm is not accepted here";
static const char reason_json[] = "the token's claims are not acceptable JSON";
static const char reason_sub[] =
    "the token names no user: sub must be a number from 1 to 2^53-1";
static const char reason_time[] = "the token's exp or nbf is not a valid time";
static const char reason_iss[] = "the token's issuer is not accepted here";
static const char reason_aud[] = "the token is meant for another audience";
static const char reason_name[] = "the token's name is not a string";
static const char reason_early[] = "the token is not valid yet";
static const char reason_late[] = "the token has expired";

/*
 * RFC 7515 4.1.11: what is critical and unknown refuses the token.
 * RFC 8725 3.10: keys come from the configuration, from nowhere else.
 */
static const char *const refused_members[] = {
    "crit", "jku", "jwk", "x5c", "x5u"};

/*
 * Members of the outermost object of a text that json_parse took: its colons
 * outside of strings.
 */
static size_t
members_written(const char *text, size_t len)
{
	bool in_string = false;
	size_t count = 0;
	int depth = 0;

	for (size_t i = 0; i < len; i++) {
		if (in_string) {
			if (text[i] == '\\')
				i++; /* what is escaped ends nothing */
			else if (text[i] == '"')
				in_string = false;
			continue;
		}
		if (text[i] == '"')
			in_string = true;
		else if (text[i] == '{' || text[i] == '[')
			depth++;
		else if (text[i] == '}' || text[i] == ']')
			depth--;
		else if (text[i] == ':' && depth == 1)
			count++;
	}
	return count;
}

static void
member_count(void *ctx, const char *key, const struct json_object *value)
{
	size_t *count = ctx;

	(void)key;
	(void)value;
	++*count;
}

/*
 * An object that has one meaning only. json_parse lets the last of two equal
 * names count, others the first: then fewer members are read than written.
 *
 * @return an object to json_free, or NULL
 */
static struct json_object *
object_parse(const char *text, size_t len)
{
	struct json_object *object = NULL;
	char error[128]; /* for us: what it says is not for strangers */
	size_t count = 0;

	if (json_parse(text, len, &object, error, sizeof(error)) != 0)
		return NULL;
	json_each(object, member_count, &count);
	if (count != members_written(text, len))
		json_free(&object);
	return object;
}

static bool
string_equals(const struct json_object *value, const char *expected)
{
	const char *text;
	size_t len;

	return json_value_string(value, &text, &len) == 0 &&
	       len == strlen(expected) && memcmp(text, expected, len) == 0;
}

static void
member_match(void *ctx, const char *key, const struct json_object *value)
{
	struct search *search = ctx;

	(void)value;
	if (strcmp(key, search->key) == 0)
		search->is_found = true;
}

/* Also when its value is null, which the getters take for absent. */
static bool
member_exists(const struct json_object *object, const char *key)
{
	struct search search = {.key = key};

	json_each(object, member_match, &search);
	return search.is_found;
}

static bool
member_equals(
    const struct json_object *object, const char *key, const char *expected)
{
	const struct json_object *value;

	return json_get_value(object, key, &value) == 0 &&
	       string_equals(value, expected);
}

/* One spelling per user: a string of digits, or an integer. */
static bool
sub_get(const struct json_object *claims, uint64_t *user_id_out)
{
	if (json_get_id(claims, "sub", USER_ID_MAX, user_id_out) != 0 &&
	    json_get_u64(claims, "sub", USER_ID_MAX, user_id_out) != 0)
		return false;
	return *user_id_out != 0;
}

/*
 * RFC 7519 2, NumericDate: seconds, perhaps with a fraction.
 *
 * @return  -1 for what is not a number
 */
static double
number_of(const struct json_object *value)
{
	struct buf text = {0};
	double number = -1;

	/* The reader has no fractions, but keeps numbers as written. */
	json_value(&text, value);
	buf_add_char(&text, '\0');
	/* The house runs in the C locale: the point is a point. */
	if (text.data[0] >= '0' && text.data[0] <= '9')
		number = strtod(text.data, NULL);
	buf_fini(&text);
	return number;
}

/* @return 0 (with 0 ms when absent), or ERR_AUTH_FAILED */
static int
time_get(const struct json_object *claims, const char *key, int64_t *at_ms_out)
{
	const struct json_object *value;
	int64_t integer_s;
	double at_s;
	int rc;

	*at_ms_out = 0;
	rc = json_get_i64(claims, key, 1, TIME_MAX_S, &integer_s);
	if (rc == 0) {
		*at_ms_out = integer_s * 1000;
		return 0;
	}
	if (rc == ERR_NOT_FOUND)
		return member_exists(claims, key) ? ERR_AUTH_FAILED : 0;
	if (json_get_value(claims, key, &value) != 0)
		return ERR_AUTH_FAILED;
	/* From 1 on: an exp of 0 would read as "never". */
	at_s = number_of(value);
	if (!(at_s >= 1 && at_s <= (double)TIME_MAX_S))
		return ERR_AUTH_FAILED;
	*at_ms_out = (int64_t)(at_s * 1000);
	return 0;
}

static bool
audience_fits(const struct json_object *claims, const char *audience)
{
	const struct json_object *array;
	size_t count;

	if (json_get_array(claims, "aud", &array, &count) != 0)
		return member_equals(claims, "aud", audience);
	for (size_t i = 0; i < count; i++) {
		if (string_equals(json_array_at(array, i), audience))
			return true;
	}
	return false;
}

/* Absent and null are no name; a long one loses whole characters. */
static bool
name_get(const struct json_object *claims, char out[JWT_NAME_MAX + 1])
{
	const char *text;
	size_t len;
	int rc;

	out[0] = '\0';
	rc = json_get_string(claims, "name", &text, &len);
	if (rc == ERR_NOT_FOUND)
		return true;
	if (rc != 0 || memchr(text, '\0', len) != NULL)
		return false;
	if (len > JWT_NAME_MAX)
		len = text_utf8_valid_len(text, JWT_NAME_MAX);
	memcpy(out, text, len);
	out[len] = '\0';
	return true;
}

/* @return NULL when all but the time is right, else what is wrong */
static const char *
claims_judge(const struct json_object *claims, const struct jwt_rules *rules,
    struct jwt_claims *claims_out)
{
	if (!sub_get(claims, &claims_out->user_id))
		return reason_sub;
	if (rules->issuer != NULL &&
	    !member_equals(claims, "iss", rules->issuer))
		return reason_iss;
	if (rules->audience != NULL && !audience_fits(claims, rules->audience))
		return reason_aud;
	if (!name_get(claims, claims_out->name))
		return reason_name;
	return NULL;
}

int
jwt_header_check(const char *text, size_t len, enum jwt_alg *alg_out,
    const char **reason_out)
{
	struct json_object *header = object_parse(text, len);
	int rc = ERR_AUTH_FAILED;

	*reason_out = reason_header;
	if (header == NULL)
		return rc;
	for (size_t i = 0;
	     i < sizeof(refused_members) / sizeof(refused_members[0]); i++) {
		if (member_exists(header, refused_members[i]))
			goto out;
	}
	*reason_out = reason_alg;
	rc = 0;
	if (member_equals(header, "alg", "HS256"))
		*alg_out = JWT_ALG_HS256;
	else if (member_equals(header, "alg", "RS256"))
		*alg_out = JWT_ALG_RS256;
	else if (member_equals(header, "alg", "ES256"))
		*alg_out = JWT_ALG_ES256;
	else
		rc = ERR_AUTH_FAILED;
out:
	json_free(&header);
	return rc;
}

int
jwt_claims_check(const char *text, size_t len, const struct jwt_rules *rules,
    int64_t now_ms, struct jwt_claims *claims_out, const char **reason_out)
{
	struct json_object *claims = object_parse(text, len);
	int64_t leeway_ms = JWT_LEEWAY_S * 1000;
	int64_t not_before_ms;
	int rc = ERR_AUTH_FAILED;

	*reason_out = reason_json;
	if (claims == NULL)
		return rc;
	*reason_out = claims_judge(claims, rules, claims_out);
	if (*reason_out != NULL)
		goto out;
	*reason_out = reason_time;
	if (time_get(claims, "exp", &claims_out->expires_at_ms) != 0 ||
	    time_get(claims, "nbf", &not_before_ms) != 0)
		goto out;
	*reason_out = reason_early;
	if (not_before_ms - leeway_ms > now_ms)
		goto out;
	/* Last: "expired" tells a client that a new token would be accepted. */
	*reason_out = reason_late;
	rc = ERR_TOKEN_EXPIRED;
	if (claims_out->expires_at_ms != 0 &&
	    now_ms >= claims_out->expires_at_ms + leeway_ms)
		goto out;
	rc = 0;
out:
	json_free(&claims);
	return rc;
}
