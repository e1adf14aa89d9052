/*
 * age.h - time in the store, by which things grow old.
 *
 * It goes forward by what has really passed, whatever the wall clock is set
 * to: a clock that jumps, or is wrong at boot, expires nothing. It is kept in
 * the store; over the time when no keeper ran it goes on by the monotonic
 * clock, or, after the machine has started anew, by the wall clock, but never
 * by more than AGE_GAP_MAX_MS: things rather live longer.
 *
 * What people see (ids, LastSeen) is of the wall clock.
 */
#ifndef KEEPER_AGE_H
#define KEEPER_AGE_H

#include <stdint.h>

#include "shm/meta.h"

#define AGE_GAP_MAX_MS INT64_C(3600000)

struct age {
	struct meta_age saved; /* or to be saved next */
	int64_t base_ms;       /* of the store, when it was opened */
	int64_t mono_ms;       /* of the monotonic clock then */
	int64_t save_at_ms;    /* monotonic */
};

/**
 * The store's time now; pure.
 *
 * @param last  as it was kept
 * @param now   monotonic and wall clock and boot of now; age_ms is not read
 */
int64_t age_since(const struct meta_age *last, const struct meta_age *now);
/** Read it, or begin with the wall clock. @return 0, ERR_* of the store */
NODISCARD int age_open(struct age *age, struct txn *txn);
/** ms */
int64_t age_now(const struct age *age);
/** Keep it in the store, once a minute; with each commit.
 *  @return 0, ERR_* of the transaction */
NODISCARD int age_save(struct age *age, struct txn *txn);

#endif
