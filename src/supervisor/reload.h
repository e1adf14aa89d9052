/*
 * reload.h - a new configuration: what of it applies, and handing it to the
 * processes one at a time.
 */
#ifndef SUPERVISOR_RELOAD_H
#define SUPERVISOR_RELOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/conf.h"
#include "supervisor/certs.h"
#include "supervisor/crew.h"

/**
 * Read and check path, and the files of TLS.
 *
 * @param certs_out  NULL: no TLS; certs_next_fini
 * @param error      one line, logged already
 * @return           the new configuration, or NULL: all stays as it is
 */
struct conf *reload_read(const char *path, bool is_background,
    struct certs_next *certs_out, char *error, size_t error_len);

/** What a change asks for; the column reload of conf.def, in another order. */
enum reload_kind {
	RELOAD_NOTHING,
	RELOAD_IN_PLACE,   /* 2: no new processes */
	RELOAD_SUCCESSORS, /* 1: only new processes will see it */
};

/* Keys that have changed, "section.key section.key"; buf_fini each. */
struct reload_names {
	struct buf in_place;
	struct buf successors;
	struct buf restart; /* their old values stay */
};

void reload_names_fini(struct reload_names *names);

/**
 * Settings that need a restart keep their old value (it moves from old to
 * next, old is good for conf_free only) and are named in the log, as are
 * those that change.
 *
 * @param names  zeroed; filled
 * @return the most that one of them asks for
 */
enum reload_kind reload_adopt(
    struct conf *old, struct conf *next, struct reload_names *names);

/**
 * "ok", then lines: "now KEYS", "successors KEYS", "restart KEYS", "rolling".
 * Those without keys are left out.
 */
void reload_answer(const struct reload_names *names, bool is_rolling,
    char *reply_out, size_t reply_len);

/** "ok", then what is in force, as -T prints it. */
void reload_print(const struct conf *conf, char *reply_out, size_t reply_len);

/** Of the content of files that processes read when they start. */
void reload_digest(const struct conf *conf, uint8_t digest_out[16]);

/**
 * One look at a rolling replacement: stops the next process that runs with an
 * old configuration when nothing else is on its way down or up. Workers
 * first, the keeper last.
 *
 * @return true: there is more to do, call again
 */
bool reload_step(struct crew *crew, int64_t now_ms);

#endif
