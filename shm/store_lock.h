/*
 * store_lock.h - the lock of a data folder.
 */
#ifndef SHM_STORE_LOCK_H
#define SHM_STORE_LOCK_H

#include <stddef.h>

#include "base/err.h"

/**
 * DATA_DIR/parleyd.lock: two servers never share a store, whatever their run
 * folders. The keeper inherits it: while a killed supervisor's keeper still
 * waits for the disk, no successor opens the store; and whoever listens does:
 * its addresses are free before a successor asks for them. Waits a few
 * seconds for that.
 *
 * @return descriptor, ERR_CONFLICT, ERR_IO
 */
NODISCARD int store_lock(const char *folder, char *error, size_t error_len);

#endif
