/*
 * rehearsal.h - takes an outbox as a database would, and forgets it.
 */
#ifndef DIRECTORY_REHEARSAL_H
#define DIRECTORY_REHEARSAL_H

#include "directory/dir.h"

/** dir_write_fn: counts what it is given. */
void rehearsal_write(
    struct dir_backend *backend, struct batch *batch, dir_written_fn done);
/** Say in the log what it was; when the process stops. */
void rehearsal_tell(void);

#endif
