/*
 * ages.h - which ids had been given out by when, in the store's time.
 *
 * Ids carry the time of the wall clock, which may have been wrong; by what is
 * noted here things grow old by what has really passed (keeper/age.h).
 */
#ifndef SHM_AGES_H
#define SHM_AGES_H

#include "shm/store.h"

/** All ids up to last_id had been given out by then (ms, time in the store). */
NODISCARD int ages_put(struct txn *txn, int64_t age_ms, uint64_t last_id);
/** The note that was made last, by its time. @return 0, ERR_NOT_FOUND */
NODISCARD int ages_last(struct txn *txn, int64_t *age_ms_out);
/**
 * The last id of which it is known that it had been given out by then.
 *
 * @param id_out  0: of none
 * @return        0, the store's error
 */
NODISCARD int ages_upto(struct txn *txn, int64_t age_ms, uint64_t *id_out);
/** Delete the notes that no later question up to this time needs.
 *  @param limit  at most so many now
 *  @return 0, the store's error */
NODISCARD int ages_forget(struct txn *txn, int64_t age_ms, size_t limit);

#endif
