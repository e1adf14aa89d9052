/*
 * apply.h - the table of apply functions.
 *
 * A function gets a payload of at least the record's fixed size and checks
 * the rest itself. It returns 0 when the record is dealt with, also by a
 * refusal that it has answered; ERR_BAD_REQUEST for a payload that makes no
 * sense (logged, counted, skipped); anything else is the store's sticky error
 * and the batch is done again without this record.
 */
#ifndef KEEPER_APPLY_H
#define KEEPER_APPLY_H

#include "keeper/keeper_priv.h"

typedef int (*apply_fn)(struct keeper *keeper, const struct origin *from,
    const void *payload, size_t len);

#define APPLY(record, function, refusal, when_full)                            \
	NODISCARD int apply_##function(struct keeper *keeper,                  \
	    const struct origin *from, const void *payload, size_t len);
#include "keeper/apply.def"
#undef APPLY

/** Apply one record or refuse it. */
NODISCARD int apply_record(struct keeper *keeper, const struct origin *from,
    uint16_t type, const void *payload, size_t len);
/** Tell the asker of a record that it could not be done. */
void apply_refuse(struct keeper *keeper, const struct origin *from,
    uint16_t type, const void *payload, size_t len, int rc);

#endif
