/*
 * err.c - texts and outside meanings of the error codes.
 *
 * Role:    looks a code up in err.def.
 * Process: all.
 * Blocks:  never.
 * Trust:   any int may come in; an unknown one is a server error.
 * See:     t/unit/err_buf_text.c.
 */
#include "base/err.h"

#include <stddef.h>

struct err_row {
	const char *reason;
	const char *text;
	int http_status;
};

/* The codes count up from ERR_FIRST_ + 1 in the order of err.def. */
static const struct err_row rows[] = {
#define ERR(name, reason, http, close, text) {reason, text, http},
#include "base/err.def"
#undef ERR
};

static const struct err_row row_ok = {"OK", "success", 200};
static const struct err_row row_unknown = {
    "SERVER_ERROR", "unknown error", 500};

static const struct err_row *
err_find(int rc)
{
	if (rc == 0)
		return &row_ok;
	if (rc <= ERR_FIRST_ || rc >= ERR_END_)
		return &row_unknown;
	return &rows[rc - ERR_FIRST_ - 1];
}

const char *
err_text(int rc)
{
	return err_find(rc)->text;
}

const char *
err_reason(int rc)
{
	return err_find(rc)->reason;
}

int
err_http_status(int rc)
{
	return err_find(rc)->http_status;
}
