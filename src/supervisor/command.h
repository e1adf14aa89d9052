/*
 * command.h - RUN_DIR/supervisor.sock: parleyctl's word with the supervisor,
 * for when the console is down. One datagram in, one out.
 *
 *     "restart NAME"  ->  "ok" or "error: ..."
 *     "drain NAME"    ->  likewise; ok: it has begun
 *     "reload"        ->  likewise; ok is followed by what changes, each in a
 *                         line of its own: "now KEYS", "successors KEYS",
 *                         "restart KEYS" (the old values stay), and "rolling"
 *                         when processes are being replaced
 *     "scale N"       ->  likewise; ok: it has begun
 *     "settings"      ->  "ok", then what is in force, as parleyd -T has it
 *     "upgrade"       ->  "ok": the probe has begun; or "error: ..."
 *     "upgrade status" -> "busy: ...", "ok: ..." or "error: ..."
 */
#ifndef SUPERVISOR_COMMAND_H
#define SUPERVISOR_COMMAND_H

#include <stddef.h>

#include "base/err.h"
#include "supervisor/rights.h"

#define COMMAND_SOCKET  "supervisor.sock"
#define COMMAND_LEN_MAX 16384

/**
 * @param text       the order, NUL-terminated, one line
 * @param reply_out  COMMAND_LEN_MAX bytes
 */
typedef void (*command_fn)(void *ctx, const char *text, char *reply_out);

/** @return descriptor, or ERR_IO: see error */
int command_open(const char *run_dir, const struct rights *rights, char *error,
    size_t error_len);
/** Answer what has arrived, at most a few; never blocks. */
void command_read(int fd, command_fn fn, void *ctx);
void command_remove(const char *run_dir);

#endif
