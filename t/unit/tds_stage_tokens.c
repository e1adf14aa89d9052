/*
 * tds_stage_tokens.c - what the server on the stage says, as bytes.
 *
 * Role:    [MS-TDS] 2.2.7, as far as the tests need it.
 * Process: the test.
 * Blocks:  never.
 * Trust:   none needed.
 * See:     tds_stage.c.
 */
#include "config.h"

#include "tds_stage_tokens.h"

#include <string.h>

void
tds_put_le(struct buf *out, uint64_t number, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf_add_char(out, (char)(number >> (8 * i)));
}

/* ASCII as UTF-16, with its length in characters before it. */
void
tds_put_name(struct buf *out, const char *name, size_t prefix_len)
{
	tds_put_le(out, strlen(name), prefix_len);
	for (; *name != '\0'; name++)
		tds_put_le(out, (unsigned char)*name, 2);
}

/* ---- tokens, [MS-TDS] 2.2.7 ---- */

void
tds_put_done(struct buf *out, int token, int status)
{
	tds_put_le(out, (uint64_t)token, 1);
	tds_put_le(out, (uint64_t)status, 2);
	tds_put_le(out, 0, 2);
	tds_put_le(out, 0, 8);
}

void
tds_put_error(struct buf *out, uint32_t number)
{
	struct buf body = {0};

	tds_put_le(&body, number, 4);
	tds_put_le(&body, 1, 1);
	tds_put_le(&body, 16, 1);
	tds_put_name(&body, "secret data of a patient", 2);
	tds_put_name(&body, "stage", 1);
	tds_put_name(&body, "Inner", 1);
	tds_put_le(&body, 12, 4);
	tds_put_le(out, 0xaa, 1);
	tds_put_le(out, body.len, 2);
	buf_add(out, body.data, body.len);
	buf_fini(&body);
}

void
tds_put_column(struct buf *out, const char *name, const void *type, size_t len)
{
	tds_put_le(out, 0, 4);
	tds_put_le(out, 9, 2);
	buf_add(out, type, len);
	tds_put_name(out, name, 1);
}

static const uint8_t type_bigint[] = {0x26, 8};
static const uint8_t type_int[] = {0x26, 4};
static const uint8_t type_text[] = {
    0xe7, 0xff, 0xff, 0x09, 0x04, 0xd0, 0x00, 0x34};

void
tds_put_plp(struct buf *out, const void *data, size_t len)
{
	tds_put_le(out, len, 8);
	if (len > 0) {
		tds_put_le(out, len, 4);
		buf_add(out, data, len);
	}
	tds_put_le(out, 0, 4);
}

void
tds_put_number_row(struct buf *out, int spid)
{
	static const char name[] = {(char)0xe4, 0, 'b', 0};

	tds_put_le(out, 0x81, 1);
	tds_put_le(out, 4, 2);
	tds_put_column(out, "Id", type_bigint, sizeof(type_bigint));
	tds_put_column(out, "Gone", type_int, sizeof(type_int));
	tds_put_column(out, "Name", type_text, sizeof(type_text));
	tds_put_column(out, "Spid", type_int, sizeof(type_int));
	tds_put_le(out, 0xd1, 1);
	tds_put_le(out, 8, 1);
	tds_put_le(out, 7, 8);
	tds_put_le(out, 0, 1); /* NULL */
	tds_put_plp(out, name, sizeof(name));
	tds_put_le(out, 4, 1);
	tds_put_le(out, (uint64_t)spid, 4);
	tds_put_done(out, 0xff, 1);
	tds_put_le(out, 0x79, 1);
	tds_put_le(out, 3, 4);
	tds_put_done(out, 0xfe, 0);
}

void
tds_put_int_row(struct buf *out, const char *column, int number)
{
	tds_put_le(out, 0x81, 1);
	tds_put_le(out, 1, 2);
	tds_put_column(out, column, type_int, sizeof(type_int));
	tds_put_le(out, 0xd1, 1);
	tds_put_le(out, 4, 1);
	tds_put_le(out, (uint64_t)number, 4);
	tds_put_done(out, 0xff, 1);
}

void
tds_put_text_column(struct buf *out, const char *name)
{
	tds_put_column(out, name, type_text, sizeof(type_text));
}
