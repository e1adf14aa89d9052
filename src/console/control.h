/*
 * control.h - RUN_DIR/control.sock: one JSON object per line, one per answer.
 */
#ifndef CONSOLE_CONTROL_H
#define CONSOLE_CONTROL_H

#include <stdbool.h>

#include "base/err.h"
#include "console/console_priv.h"

struct control;

/** Bind and listen. @return 0 or ERR_IO (logged) */
NODISCARD int control_new(
    struct console *console, struct control **control_out);
void control_free(struct control **control);
/** No new connections. */
void control_stop(struct control *control);
/** Part of the turn: answers, new requests, connections that are over. */
void control_turn(struct control *control);
/** Is any request without an answer? */
bool control_is_busy(const struct control *control);

#endif
