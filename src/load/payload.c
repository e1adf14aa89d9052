/*
 * payload.c - what stands in the Message of a test message.
 *
 * Role:    writes and reads the identification; checks the rest byte by byte.
 * Process: each generator; pure.
 * Blocks:  never.
 * Trust:   any bytes may come back.
 * See:     traffic.c, t/unit/load_wire.c.
 */
#include "load/payload.h"

#include <string.h>

/* Repeats with a length that divides no power of two: a shifted copy shows. */
#define FILL_PERIOD 37

static const char digits[] = "0123456789abcdef";
static const char fill[FILL_PERIOD + 1] =
    "abcdefghijklmnopqrstuvwxyz0123456789.";

static char *
put_hex(char *at, uint64_t n, int width)
{
	for (int i = width - 1; i >= 0; i--) {
		at[i] = digits[n & 15];
		n >>= 4;
	}
	return at + width;
}

void
payload_put(struct buf *out, const struct payload *payload, size_t len)
{
	char *start = buf_reserve(out, len);
	char *at = start;

	at = put_hex(at, payload->run, 16);
	*at++ = '-';
	at = put_hex(at, payload->sender, 14);
	*at++ = '-';
	at = put_hex(at, payload->number, 10);
	*at++ = '-';
	at = put_hex(at, (uint64_t)payload->intended_ns, 16);
	*at++ = ':';
	while (at < start + len) {
		size_t part = (size_t)(start + len - at);

		if (part > FILL_PERIOD)
			part = FILL_PERIOD;
		memcpy(at, fill, part);
		at += part;
	}
	out->len += len;
}

static bool
take_hex(const char **at, int width, char end, uint64_t *n_out)
{
	uint64_t n = 0;

	for (int i = 0; i < width; i++) {
		char c = (*at)[i];

		if (c >= '0' && c <= '9')
			n = n << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	if ((*at)[width] != end)
		return false;
	*at += width + 1;
	*n_out = n;
	return true;
}

bool
payload_parse(const char *data, size_t len, struct payload *payload_out)
{
	uint64_t intended;

	if (len < PAYLOAD_LEN_MIN)
		return false;
	if (!take_hex(&data, 16, '-', &payload_out->run) ||
	    !take_hex(&data, 14, '-', &payload_out->sender) ||
	    !take_hex(&data, 10, '-', &payload_out->number) ||
	    !take_hex(&data, 16, ':', &intended))
		return false;
	payload_out->intended_ns = (int64_t)intended;
	return true;
}

bool
payload_is_whole(const char *data, size_t len, size_t len_sent)
{
	size_t at = PAYLOAD_LEN_MIN;

	if (len != len_sent)
		return false;
	while (at < len) {
		size_t part = len - at < FILL_PERIOD ? len - at : FILL_PERIOD;

		if (memcmp(data + at, fill, part) != 0)
			return false;
		at += part;
	}
	return true;
}
