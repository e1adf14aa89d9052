/*
 * tds_stage_tokens.h - what the server on the stage says, as bytes.
 */
#ifndef TDS_STAGE_TOKENS_H
#define TDS_STAGE_TOKENS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

void tds_put_le(struct buf *out, uint64_t number, size_t len);
/** ASCII as UTF-16, behind its length in characters. */
void tds_put_name(struct buf *out, const char *name, size_t prefix_len);
/** @param token  0xfd DONE, 0xfe DONEPROC, 0xff DONEINPROC */
void tds_put_done(struct buf *out, int token, int status);
/** Severity 16, with a text that quotes data. */
void tds_put_error(struct buf *out, uint32_t number);
void tds_put_column(
    struct buf *out, const char *name, const void *type, size_t len);
/** NVARCHAR(MAX) */
void tds_put_text_column(struct buf *out, const char *name);
void tds_put_plp(struct buf *out, const void *data, size_t len);
/** The whole answer of Number, tds_stage.h. */
void tds_put_number_row(struct buf *out, int spid);
/** A result set of one row; others follow. */
void tds_put_int_row(struct buf *out, const char *column, int number);

#endif
