/*
 * scale.h - more or fewer workers while the server runs.
 */
#ifndef SUPERVISOR_SCALE_H
#define SUPERVISOR_SCALE_H

#include <stddef.h>

#include "base/conf.h"

struct crew;

/** What the server starts with. */
void scale_begin(struct crew *crew, int workers);
/** Another supervisor's process: if it is a worker that is not wanted any more
 *  and takes its leave, make room for it in the crew. */
void scale_adopt(struct crew *crew, int slot);
/**
 * parleyctl scale N.
 *
 * @param text   the number
 * @param reply  "ok", or "error: " and why
 */
void scale_obey(
    struct crew *crew, const char *text, char *reply, size_t reply_len);
/**
 * May next be adopted? Another [server] workers has to find room.
 *
 * @param error  one line, logged
 * @return       0 or ERR_BAD_REQUEST
 */
int scale_check(const struct crew *crew, const struct conf *old,
    const struct conf *next, char *error, size_t error_len);
/** A reload: the number that scale has set stays unless the setting changed. */
void scale_reload(struct crew *crew, int before, int after);

#endif
