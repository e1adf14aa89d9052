/*
 * meta.c - what the store knows of itself, and the positions of the rings.
 *
 * Role:    schema version, epoch, first seq, the key of identifier hashes;
 *          ring positions that commit with the work they stand for.
 * Process: written by the keeper; workers, directory and console read.
 * Blocks:  on cold pages of the disk.
 * Trust:   a value of another length is corrupt; a store that holds messages
 *          or users but no schema is never taken for an empty one.
 * See:     keeper/keeper.c (ring positions), t/unit/store_users.c.
 */
#include "shm/meta.h"

#include <string.h>

#include "base/crypto.h"
#include "base/log.h"

/*
 * A new store's seqs start at seconds since 2020 times 1024: above all that
 * a lost predecessor gave out, as long as a user had fewer than 1,024 events
 * a second on average (protocol.md, Inbox).
 */
#define BASE_EPOCH_MS       1577836800000LL
#define BASE_SEQ_PER_SECOND 1024

static int
meta_read(struct txn *txn, const char *key, void *out, size_t len)
{
	return txn_get_fixed(txn, DBI_meta, key, strlen(key), out, len);
}

static int
meta_write(struct txn *txn, const char *key, const void *value, size_t len)
{
	return txn_put(txn, DBI_meta, key, strlen(key), value, len);
}

uint64_t
meta_base_at(int64_t now_ms)
{
	int64_t since_ms = now_ms - BASE_EPOCH_MS;

	return since_ms > 0 ? (uint64_t)since_ms / 1000 * BASE_SEQ_PER_SECOND
			    : BASE_SEQ_PER_SECOND;
}

static int
meta_make(struct txn *txn, int64_t now_ms, struct meta *out)
{
	uint32_t schema = SCHEMA_VERSION;
	int rc;

	out->base = meta_base_at(now_ms);
	out->epoch = crypto_random_u64();
	crypto_random(out->secret, sizeof(out->secret));
	rc = meta_write(txn, "schema", &schema, sizeof(schema));
	if (rc == 0)
		rc = meta_write(txn, "epoch", &out->epoch, sizeof(out->epoch));
	if (rc == 0)
		rc = meta_write(txn, "base", &out->base, sizeof(out->base));
	if (rc == 0)
		rc =
		    meta_write(txn, "secret", out->secret, sizeof(out->secret));
	return rc;
}

/* The one row that is read before it is known whether rows are sealed. */
int
meta_schema(struct txn *txn, uint32_t *schema_out)
{
	struct blob value;
	int rc = txn_get_raw(txn, DBI_meta, "schema", strlen("schema"), &value);

	if (rc != 0)
		return rc;
	if (value.len != sizeof(*schema_out))
		return meta_read(
		    txn, "schema", schema_out, sizeof(*schema_out));
	memcpy(schema_out, value.data, sizeof(*schema_out));
	return *schema_out < SCHEMA_SEALED ? 0 : ERR_CORRUPT;
}

int
meta_get(struct txn *txn, struct meta *out)
{
	uint32_t schema;
	int rc;

	rc = meta_schema(txn, &schema);
	if (rc != 0)
		return rc;
	if (schema != SCHEMA_VERSION)
		return ERR_STALE;
	rc = meta_read(txn, "epoch", &out->epoch, sizeof(out->epoch));
	if (rc == 0)
		rc = meta_read(txn, "base", &out->base, sizeof(out->base));
	if (rc == 0)
		rc = meta_read(txn, "secret", out->secret, sizeof(out->secret));
	return rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc;
}

int
meta_upgrade(struct txn *txn)
{
	const uint32_t schema = SCHEMA_VERSION;
	uint32_t found;
	int rc;

	rc = meta_schema(txn, &found);
	if (rc != 0 || found < SCHEMA_OLDEST || found >= schema)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	/* Rows of `sent` of schema 2 get their check when they are written
	 * anew. */
	if (found < SCHEMA_SEALED)
		rc = txn_seal_all(txn);
	if (rc != 0)
		return rc;
	log_info(NULL, "store-upgraded", "schema=%u was=%u", schema, found);
	return meta_write(txn, "schema", &schema, sizeof(schema));
}

int
meta_init(struct txn *txn, int64_t now_ms, struct meta *out)
{
	int rc;

	rc = meta_upgrade(txn);
	if (rc == 0)
		rc = meta_get(txn, out);
	if (rc != ERR_NOT_FOUND)
		return rc;
	/* Never an automatic empty start over something that holds data. */
	if (store_count(txn, DBI_log) != 0 || store_count(txn, DBI_users) != 0)
		return ERR_CORRUPT;
	return meta_make(txn, now_ms, out);
}

int
meta_rings_get(struct txn *txn, struct meta_rings *out)
{
	return meta_read(txn, "rings", out, sizeof(*out));
}

int
meta_rings_put(struct txn *txn, const struct meta_rings *rings)
{
	return meta_write(txn, "rings", rings, sizeof(*rings));
}

int
meta_age_get(struct txn *txn, struct meta_age *out)
{
	return meta_read(txn, "age", out, sizeof(*out));
}

int
meta_age_put(struct txn *txn, const struct meta_age *age)
{
	return meta_write(txn, "age", age, sizeof(*age));
}

int
meta_retention_get(struct txn *txn, struct meta_retention *out)
{
	return meta_read(txn, "retention", out, sizeof(*out));
}

int
meta_retention_put(struct txn *txn, const struct meta_retention *retention)
{
	return meta_write(txn, "retention", retention, sizeof(*retention));
}

int
meta_renew(struct txn *txn, uint64_t base, uint64_t last_id)
{
	struct meta_rings rings;
	struct meta_rings next = {.last_id = last_id};
	uint64_t epoch = crypto_random_u64();
	int rc = meta_rings_get(txn, &rings);

	if (rc == 0 && rings.last_id > last_id)
		next.last_id = rings.last_id;
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = meta_rings_put(txn, &next);
	if (rc == 0)
		rc = meta_write(txn, "epoch", &epoch, sizeof(epoch));
	if (rc == 0)
		rc = meta_write(txn, "base", &base, sizeof(base));
	return rc;
}
