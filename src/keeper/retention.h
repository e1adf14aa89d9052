/*
 * retention.h - what has grown old leaves the store, a slice with each batch.
 *
 *   inbox    events older than inbox_retention, and those that only devices
 *            hold which were not used within device_retention
 *   log      from the front: messages older than history_retention, or more
 *            than history_max_bytes hold; never what an inbox or an outbox
 *            still needs
 *   calls    that ended, older than call_retention
 *
 * Old is what the store's own time says (age.h). What it deletes is in the
 * transaction of the batch; where it stands is stored with it.
 */
#ifndef KEEPER_RETENTION_H
#define KEEPER_RETENTION_H

#include "keeper/keeper_priv.h"

/** In the first transaction. @return 0, the store's error */
NODISCARD int retention_open(struct keeper *keeper);
void retention_close(struct keeper *keeper);
/** A transaction begins: forget what was not committed. */
void retention_begin(struct keeper *keeper);
/** One slice, behind all else in a batch. @return 0, the store's error */
NODISCARD int retention_run(struct keeper *keeper);
/** Behind all that may need something: where it stands goes with the batch.
 *  @return 0, the store's error */
NODISCARD int retention_save(struct keeper *keeper);
/** After the commit, and after a batch in which nothing was to be done. */
void retention_committed(struct keeper *keeper);
/** An inbox row refers to this id of the log from now on. */
void retention_need(struct keeper *keeper, uint64_t ref);
/** ms until there is something to do; -1: nothing is known of. */
int retention_wait_ms(const struct keeper *keeper);
/** Once a second: the gauges. */
void retention_look(struct keeper *keeper);

#endif
