/*
 * setup.h - parts of the supervisor's start.
 */
#ifndef SUPERVISOR_SETUP_H
#define SUPERVISOR_SETUP_H

#include <stddef.h>

#include "base/conf.h"
#include "base/err.h"
#include "supervisor/crew.h"

/** [server] workers, or one per core. */
int setup_worker_count(const struct conf *conf);
/** Workers that shared memory is laid out for: what parleyctl scale may ask
 *  for. Memory that no worker uses is not allocated. */
int setup_worker_room(int workers);
/** A new segment has no sessions: who was online is not any more. */
void setup_forget_presence(const char *run_dir);
/** The supervisor's signals as a descriptor; -1: errno. */
int setup_signals(void);
/** Board and bus of crew. @return 0 or ERR_IO, see error */
NODISCARD int setup_shared_memory(struct crew *crew, const struct conf *conf,
    int workers, char *error, size_t error_len);
/** The supervisor's fields of the board, and its priority. */
void setup_own_slot(const struct crew *crew);
/** As many descriptors as the configuration may need; warns of too few. */
void setup_raise_files(const struct conf *conf, int workers);

#endif
