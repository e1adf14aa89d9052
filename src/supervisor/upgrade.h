/*
 * upgrade.h - another program in the place of this one, while clients are
 * served: probe it, execute it, let it replace the processes one by one, and
 * go back to this one when it does not come up.
 */
#ifndef SUPERVISOR_UPGRADE_H
#define SUPERVISOR_UPGRADE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/certs.h"
#include "supervisor/crew.h"
#include "supervisor/handover.h"

/* What a successor is to be given; borrowed. */
struct upgrade_world {
	struct crew *crew;
	const struct conf *conf;
	const struct certs *certs;
	const uint8_t *key_digest; /* 16 bytes */
	const char *conf_path;
	bool is_background;
	int pid_file_fd;
	int command_fd;
};

/** First of all in main: where this program was started from, and itself. */
void upgrade_remember_program(void);
/** The file that it was started from, by its absolute name. */
const char *upgrade_program(void);
/**
 * In a program that takes over (--handover): from now on whatever ends this
 * process, an exit or a crash, executes the giver again. Nothing that the
 * giver needs is touched before upgrade_settle.
 *
 * @param is_return  the giver has failed; there is nothing to go back to
 * @return           0 or ERR_*: said on stderr
 */
NODISCARD int upgrade_guard(int handover_fd, const char *conf_path,
    bool is_background, const char *returned);
/** What upgrade_guard has read; NULL: an ordinary start. */
const struct handover *upgrade_legacy(void);
/** Why the giver is back, or NULL. */
const char *upgrade_returned(void);
/** Set-up of the taker failed: the giver goes on. Returns if it cannot. */
void upgrade_give_back(const char *why);
/** The taker has what it needs: the guard goes, replacement begins. */
void upgrade_settle(void);

/**
 * Begin with a probe. What follows happens in upgrade_step.
 *
 * @param error  one line, logged: why not
 * @return       0, ERR_CONFLICT (one is under way), ERR_BAD_REQUEST, ERR_IO
 */
NODISCARD int upgrade_begin(
    const struct upgrade_world *world, char *error, size_t error_len);
/**
 * Each turn. May replace this program, and then does not return.
 *
 * @param is_rolling  reload_step has something to do
 */
void upgrade_step(
    const struct upgrade_world *world, bool is_rolling, int64_t now_ms);
/** The server stops: no more of it. */
void upgrade_abandon(void);
/** "busy: ...", "ok: ..." or "error: ..." of the last one. */
void upgrade_status(char *reply, size_t reply_len);
/** ms until upgrade_step is needed, at most max_ms. */
int64_t upgrade_patience_ms(int64_t max_ms);

#endif
