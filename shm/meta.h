/*
 * meta.h - what the store knows of itself, and the positions of the rings.
 */
#ifndef SHM_META_H
#define SHM_META_H

#include "shm/store.h"

struct meta {
	uint64_t epoch;
	uint64_t base; /* seqs start above it */
	uint8_t secret[16];
};

/** Time in the store, when it was kept: see keeper/age.h. */
struct meta_age {
	int64_t age_ms;
	int64_t wall_ms;
	int64_t mono_ms;
	char boot[40]; /* of the machine, as the kernel names it */
};

/** Keeper: read, or make on an empty store; one of an earlier schema is brought
 *  up to date. @return 0, ERR_STALE: of a later one, or too old, ... */
NODISCARD int meta_init(struct txn *txn, int64_t now_ms, struct meta *out);
/** Readers: only the schema's version, whatever it is. */
/**
 * A store of an earlier schema, from SCHEMA_OLDEST on, becomes one of this, in
 * this transaction; any other is left as it is. Earlier builds cannot read it
 * any more.
 */
NODISCARD int meta_upgrade(struct txn *txn);
NODISCARD int meta_schema(struct txn *txn, uint32_t *schema_out);
/** Readers. */
NODISCARD int meta_get(struct txn *txn, struct meta *out);
/** @return 0, ERR_NOT_FOUND: none yet */
NODISCARD int meta_rings_get(struct txn *txn, struct meta_rings *out);
NODISCARD int meta_rings_put(struct txn *txn, const struct meta_rings *rings);
/** @return 0, ERR_NOT_FOUND: none yet, ERR_CORRUPT: it has no such length */
NODISCARD int meta_age_get(struct txn *txn, struct meta_age *out);
NODISCARD int meta_age_put(struct txn *txn, const struct meta_age *age);
/** @return 0, ERR_NOT_FOUND: none yet, ERR_CORRUPT */
NODISCARD int meta_retention_get(struct txn *txn, struct meta_retention *out);
NODISCARD int meta_retention_put(
    struct txn *txn, const struct meta_retention *retention);
/** The base of a store that begins, or begins again, at this time. */
uint64_t meta_base_at(int64_t now_ms);
/**
 * A restored store is another one: a new epoch, a new base, no ring of before,
 * ids above last_id. The secret stays, as hashes were made with it.
 */
NODISCARD int meta_renew(struct txn *txn, uint64_t base, uint64_t last_id);

#endif
