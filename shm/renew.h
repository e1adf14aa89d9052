/*
 * renew.h - a copy of a store begins a life of its own.
 */
#ifndef SHM_RENEW_H
#define SHM_RENEW_H

#include "shm/store.h"

/** The last message id that a store has given out. @return 0 or ERR_* */
NODISCARD int renew_last_id(struct store *store, uint64_t *id_out);
/**
 * A backup is put back: clients and other programs know numbers that its
 * original gave out after the copy was made. Its epoch is new, and everybody's
 * seqs and all ids go on above those (protocol.md, Inbox): seqs above the
 * seconds since 2020 times 1024, as those of a new store.
 *
 * @param store    opened as a writer, and nobody else's
 * @param last_id  ids go on above it
 * @return         0 or ERR_*; then it must not be used
 */
NODISCARD int renew_store(
    struct store *store, int64_t now_ms, uint64_t last_id);

#endif
