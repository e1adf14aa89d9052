/*
 * inquest.h - what follows when processes die in the store: is it damaged?
 */
#ifndef SUPERVISOR_INQUEST_H
#define SUPERVISOR_INQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "supervisor/crew.h"

/** At the start, before any process: is there a store to open, or one to make?
 *  Else those that need it stay down. */
void inquest_open(struct crew *crew);
/** A process has died, with this status of wait(2); its slot still has what it
 *  said last. */
void inquest_note(
    struct crew *crew, const struct child *child, int status, int64_t now_ms);
/** wait(2) has found this one: the check's own process, maybe. */
void inquest_reaped(pid_t pid, int status);
/** Each turn while the server serves. */
void inquest_tick(struct crew *crew, int64_t now_ms);
/** The server stops, or another program takes over: no verdict. */
void inquest_abandon(void);
/** The store cannot be opened, and all that does without it runs. */
bool inquest_is_settled(const struct crew *crew);

#endif
