/*
 * ctl_priv.h - one call of parleyctl: what was asked, and how it ends.
 */
#ifndef CTL_CTL_PRIV_H
#define CTL_CTL_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/password.h"

#define CTL_ARGS_MAX    2
#define CTL_OPTIONS_MAX 8

/* What scripts rely on. */
enum ctl_exit { CTL_OK, CTL_FAILED, CTL_USAGE, CTL_NOT_RUNNING };

struct ctl;
/** @return enum ctl_exit */
typedef int (*ctl_fn)(struct ctl *ctl);

struct ctl_row {
	const char *name;
	ctl_fn fn;
	size_t arg_min;
	size_t arg_max;
	const char *options;
	const char *usage;
	const char *help;
};

struct ctl {
	const struct ctl_row *row;
	const char *conf_path;
	struct conf *conf;
	bool wants_json;
	const char *args[CTL_ARGS_MAX];
	size_t arg_count;
	const char *option_names[CTL_OPTIONS_MAX];
	const char *option_values[CTL_OPTIONS_MAX]; /* NULL: takes none */
	size_t option_count;
};

/* Handlers of verbs.def: the local ones, and one for all of the console's. */
#define CTL_DECLARE_CONSOLE(id)
#define CTL_DECLARE_LOCAL(id) int ctl_##id(struct ctl *ctl);
#define VERB(id, name, where, min, max, options, usage, help)                  \
	CTL_DECLARE_##where(id)
#include "console/verbs.def"
#undef VERB
/** Ask the console. */
int ctl_ask_console(struct ctl *ctl);

/** Value of an option, "" for one without, NULL: not given. */
const char *ctl_option(const struct ctl *ctl, const char *name);
/** Say why it failed, on stderr and with --json on stdout. @return code */
int ctl_fail(const struct ctl *ctl, enum ctl_exit code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** The first line of standard input, without its end; wipe it.
 *  @return its length */
size_t ctl_read_secret(char *line, size_t size);
/** That line as a password, of which only the hash stays.
 *  @return CTL_OK, or said */
int ctl_read_password(struct ctl *ctl, char hash[PASSWORD_HASH_MAX]);

/** Is this the pid of a living parleyd? */
bool ctl_is_parleyd(int pid);
/** Its pid from the board, 0: it is not running. */
int ctl_daemon_pid(const struct ctl *ctl);
/** ctl_fail for "it is not running". */
int ctl_fail_not_running(const struct ctl *ctl);
void ctl_sleep_ms(int ms);

/**
 * In a child: give up the rights that the owner of FOLDER/main.mdb has not.
 * liblmdb makes a lock file where there is none; it must be the owner's, or
 * the server could not open its store afterwards.
 *
 * @return 0, or -1: see why
 */
int ctl_become_owner(const char *folder, char *why, size_t why_len);
/** Is every row of a store sound? @return CTL_OK, or said */
int ctl_check_folder(struct ctl *ctl, const char *folder);

#define CTL_REPLY_MAX 16384

/** An order to the supervisor (supervisor/command.h).
 *  @return CTL_OK: reply begins with "ok"; else said */
int ctl_order(struct ctl *ctl, const char *text, char reply[CTL_REPLY_MAX]);
/**
 * Connect to a socket of the daemon in run_dir.
 *
 * @param type        SOCK_STREAM or SOCK_DGRAM (then with an address of its own
 *                    for the reply)
 * @param patience_s  of each send and receive
 * @return            descriptor, or -1 with errno
 */
int ctl_connect(
    const struct ctl *ctl, const char *name, int type, int patience_s);

#endif
