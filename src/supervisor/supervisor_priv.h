/*
 * supervisor_priv.h - what the supervisor's own files share: its state, and
 * what can be ordered of it.
 */
#ifndef SUPERVISOR_SUPERVISOR_PRIV_H
#define SUPERVISOR_SUPERVISOR_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "supervisor/certs.h"
#include "supervisor/crew.h"
#include "supervisor/supervisor.h"

enum phase {
	PHASE_SERVING,
	PHASE_STOP_WORKERS,
	PHASE_STOP_HELPERS, /* directory, console */
	PHASE_STOP_KEEPER,
	PHASE_STOPPED,
};

enum private_fd { FD_SIGNAL, FD_COMMAND, FD_PID_FILE, FD_REPORT };

struct supervisor {
	struct supervisor_options options;
	struct conf *conf;
	struct crew crew;
	struct certs certs;
	uint8_t key_digest[16]; /* reload_digest of what runs */
	enum phase phase;
	bool was_serving; /* everything has been up once */
	bool is_rolling;
	int exit_status;
};

/** The log's file belongs to those who write it. */
void supervisor_give_log(const struct supervisor *sup);

/* orders.c */

/**
 * SIGHUP.
 *
 * @param reply  COMMAND_LEN_MAX bytes: what has changed, see command.h, or why
 *               nothing has; logged, too
 * @return       0 or ERR_BAD_REQUEST
 */
int orders_reload(struct supervisor *sup, char *reply);
/** SIGUSR2: begin. @return 0 or ERR_*: see error; it is logged */
int orders_upgrade(struct supervisor *sup, char *error, size_t error_len);
/** Each turn; may replace this program, and then does not return. */
void orders_upgrade_step(struct supervisor *sup, int64_t now_ms);
/** SIGUSR1. */
void orders_reopen_log(struct supervisor *sup);
/** command_fn of parleyctl's orders; ctx is the supervisor. */
void orders_obey(void *ctx, const char *text, char *reply);

#endif
