/*
 * http.h - the ops port: health, metrics, pages. GET and HEAD only.
 */
#ifndef CONSOLE_HTTP_H
#define CONSOLE_HTTP_H

#include "base/err.h"
#include "console/console_priv.h"

struct http;

/** Serve on a listening socket (kept open by the caller). @return 0, ERR_IO */
NODISCARD int http_new(struct console *console, int fd, struct http **http_out);
void http_free(struct http **http);

#endif
