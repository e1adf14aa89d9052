/*
 * ws_offer.c - negotiates permessage-deflate (RFC 6455 9.1, RFC 7692 7.1).
 *
 * Role:    reads Sec-WebSocket-Extensions and writes the answer to it. Neither
 *          side ever keeps its window from one message to the next: both
 *          no_context_takeover are always answered, so that compression needs
 *          no memory per connection.
 * Process: worker; pure.
 * Blocks:  never.
 * Trust:   none in the header; nothing of it is sent back but a number.
 * See:     ws_deflate.c (the compression itself), t/unit/ws_offer.c.
 */
#include "net/ws_offer.h"

#include <string.h>

#include "base/buf.h"
#include "net/http_head.h"

#define FIELD "Sec-WebSocket-Extensions"

/* A value that was not there, and one that is no number of 8 to 15. */
#define BITS_NONE (-1)
#define BITS_BAD  0

enum param_kind {
	PARAM_CLIENT_BITS,
	PARAM_CLIENT_NO_CONTEXT,
	PARAM_SERVER_BITS,
	PARAM_SERVER_NO_CONTEXT,
	PARAM_UNKNOWN,
};

static const char *const param_names[] = {
    [PARAM_CLIENT_BITS] = "client_max_window_bits",
    [PARAM_CLIENT_NO_CONTEXT] = "client_no_context_takeover",
    [PARAM_SERVER_BITS] = "server_max_window_bits",
    [PARAM_SERVER_NO_CONTEXT] = "server_no_context_takeover",
};

/* One extension of the list while it is read. */
struct candidate {
	bool is_deflate;
	bool is_impossible;
	unsigned seen; /* bit per param_kind */
	int server_bits;
};

/* Where reading has got to within one header field. */
struct reader {
	const char *at;
	const char *end;
};

static void
skip_blanks(struct reader *reader)
{
	while (reader->at < reader->end &&
	       (*reader->at == ' ' || *reader->at == '\t'))
		reader->at++;
}

/* Is c next, after blanks? Then it is taken. */
static bool
take_char(struct reader *reader, char c)
{
	skip_blanks(reader);
	if (reader->at == reader->end || *reader->at != c)
		return false;
	reader->at++;
	return true;
}

static bool
take_token(struct reader *reader, struct http_text *token_out)
{
	skip_blanks(reader);
	token_out->data = reader->at;
	while (reader->at < reader->end &&
	       http_is_token_char((unsigned char)*reader->at))
		reader->at++;
	token_out->len = (size_t)(reader->at - token_out->data);
	return token_out->len > 0;
}

/*
 * RFC 6455 9.1: a quoted value is a token once unquoted. One with a quoted
 * pair is read to its end but is no number that we know: data is NULL then.
 */
static bool
take_quoted(struct reader *reader, struct http_text *value_out)
{
	const char *start = reader->at;
	bool is_plain = true;

	for (; reader->at < reader->end && *reader->at != '"'; reader->at++) {
		if (*reader->at == '\\') {
			is_plain = false;
			if (++reader->at == reader->end)
				return false;
		}
		if (!http_is_token_char((unsigned char)*reader->at))
			return false;
	}
	if (reader->at == reader->end || reader->at == start)
		return false;
	*value_out = (struct http_text){
	    is_plain ? start : NULL, (size_t)(reader->at - start)};
	reader->at++;
	return true;
}

/* RFC 7692 7.1.2.1: decimal, no leading zero, 8 to 15. */
static int
parse_bits(struct http_text value)
{
	if (value.data == NULL)
		return BITS_BAD;
	if (value.len == 1 && (*value.data == '8' || *value.data == '9'))
		return *value.data - '0';
	if (value.len == 2 && value.data[0] == '1' && value.data[1] >= '0' &&
	    value.data[1] <= '5')
		return 10 + value.data[1] - '0';
	return BITS_BAD;
}

static enum param_kind
param_kind(struct http_text name)
{
	int kind = 0;

	while (kind < PARAM_UNKNOWN &&
	       !http_text_is_nocase(name, param_names[kind]))
		kind++;
	return (enum param_kind)kind;
}

/*
 * @param bits  BITS_NONE without a value
 *
 * zlib has no raw window of 8 bits: it compresses with 9 instead, which the
 * client would not understand (zlib.h, deflateInit2). Such an offer is
 * declined. How far the client looks back is all the same to us, we can
 * always follow 15 bits, so client_max_window_bits needs no answer.
 */
static void
take_param(struct candidate *candidate, struct http_text name, int bits)
{
	enum param_kind kind = param_kind(name);
	bool is_possible = false;

	switch (kind) {
	case PARAM_CLIENT_BITS:
		is_possible = bits != BITS_BAD;
		break;
	case PARAM_SERVER_BITS:
		is_possible = bits >= WS_DEFLATE_BITS_MIN;
		candidate->server_bits = bits;
		break;
	case PARAM_CLIENT_NO_CONTEXT:
	case PARAM_SERVER_NO_CONTEXT:
		is_possible = bits == BITS_NONE;
		break;
	case PARAM_UNKNOWN:
		break;
	}
	if (!is_possible || (candidate->seen & 1U << kind) != 0)
		candidate->is_impossible = true;
	candidate->seen |= 1U << kind;
}

/* What follows a semicolon. @return false: malformed */
static bool
read_param(struct reader *reader, struct candidate *candidate)
{
	struct http_text name;
	struct http_text value;
	int bits = BITS_NONE;

	if (!take_token(reader, &name))
		return false;
	if (take_char(reader, '=')) {
		bool is_read = take_char(reader, '"')
				   ? take_quoted(reader, &value)
				   : take_token(reader, &value);

		if (!is_read)
			return false;
		bits = parse_bits(value);
	}
	take_param(candidate, name, bits);
	return true;
}

static bool
read_extension(struct reader *reader, struct candidate *candidate)
{
	struct http_text name;

	if (!take_token(reader, &name))
		return false;
	*candidate = (struct candidate){
	    .is_deflate = http_text_is_nocase(name, "permessage-deflate")};
	while (take_char(reader, ';')) {
		if (!read_param(reader, candidate))
			return false;
	}
	return true;
}

static void
consider(const struct candidate *candidate, struct ws_offer *offer)
{
	int bits = WS_DEFLATE_BITS;

	if (offer->window_bits != 0 || !candidate->is_deflate ||
	    candidate->is_impossible)
		return;
	offer->has_window_limit =
	    (candidate->seen & 1U << PARAM_SERVER_BITS) != 0;
	if (offer->has_window_limit && candidate->server_bits < bits)
		bits = candidate->server_bits;
	offer->window_bits = (uint8_t)bits;
}

/* Elements may be empty (RFC 9110 5.6.1.2). @return false: malformed */
static bool
read_list(struct http_text list, struct ws_offer *offer)
{
	struct reader reader = {list.data, list.data + list.len};
	struct candidate candidate;

	for (;;) {
		while (take_char(&reader, ','))
			continue;
		if (reader.at == reader.end)
			return true;
		if (!read_extension(&reader, &candidate))
			return false;
		consider(&candidate, offer);
		if (reader.at < reader.end && !take_char(&reader, ',')) {
			skip_blanks(&reader);
			if (reader.at < reader.end)
				return false;
		}
	}
}

bool
ws_offer_choose(const struct http_head *head, struct ws_offer *offer_out)
{
	*offer_out = (struct ws_offer){0};
	for (size_t i = 0; i < head->field_count; i++) {
		if (http_text_is_nocase(head->fields[i].name, FIELD) &&
		    !read_list(head->fields[i].value, offer_out))
			return false;
	}
	return true;
}

void
ws_offer_answer(const struct ws_offer *offer, struct buf *out)
{
	if (offer->window_bits == 0)
		return;
	buf_add_str(out,
	    FIELD ": permessage-deflate; server_no_context_takeover; "
		  "client_no_context_takeover");
	if (offer->has_window_limit)
		buf_printf(out, "; server_max_window_bits=%d",
		    (int)offer->window_bits);
	buf_add_str(out, "\r\n");
}
