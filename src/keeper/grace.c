/*
 * grace.c - who has gone may come back before others are told.
 *
 * Role:    [policy] presence_grace: from the end of a user's last session on,
 *          others go on seeing what they saw. Deadlines lie in the store.
 * Process: keeper.
 * See:     doc/protocol.md, P_PRESENCE; announce.c, which tells.
 */
#include "keeper/keeper_priv.h"

#define GRACE_PER_BATCH 512

static void
grace_key(uint8_t out[16], int64_t at_ms, uint64_t user)
{
	key_u64(out, (uint64_t)at_ms);
	key_u64(out + 8, user);
}

int
grace_start(struct keeper *keeper, struct userhead *head)
{
	uint8_t key[16];

	head->row.grace_at_ms =
	    keeper->age_ms + keeper->conf->policy_presence_grace;
	if (keeper->next_grace_ms == 0 ||
	    head->row.grace_at_ms < keeper->next_grace_ms)
		keeper->next_grace_ms = head->row.grace_at_ms;
	grace_key(key, head->row.grace_at_ms, head->user);
	return txn_put(&keeper->txn, DBI_grace, key, sizeof(key), "", 0);
}

int
grace_stop(struct keeper *keeper, struct userhead *head)
{
	uint8_t key[16];
	int rc;

	if (head->row.grace_at_ms == 0)
		return 0;
	grace_key(key, head->row.grace_at_ms, head->user);
	head->row.grace_at_ms = 0;
	rc = txn_del(&keeper->txn, DBI_grace, key, sizeof(key));
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int
grace_end(struct keeper *keeper, uint64_t user)
{
	struct userhead head;
	int rc;

	rc = userhead_get(&keeper->txn, user, &head);
	if (rc != 0)
		return keeper_is_lost(keeper, rc) ? 0 : rc;
	head.row.grace_at_ms = 0;
	rc = userhead_put(&keeper->txn, &head);
	announce_later(keeper, user, false);
	return rc;
}

int
grace_expire(struct keeper *keeper)
{
	uint8_t start[16] = {0};
	uint64_t users[GRACE_PER_BATCH];
	size_t count = 0;
	struct walk walk;
	int rc;

	/* A store of another place, or the setting: none outlasts its length.
	 */
	int64_t horizon_ms =
	    keeper->age_ms + keeper->conf->policy_presence_grace;

	keeper->next_grace_ms = 0;
	rc = walk_begin(&walk, &keeper->txn, DBI_grace, start, sizeof(start));
	while (rc == 0 && count < GRACE_PER_BATCH) {
		int64_t at_ms = (int64_t)key_get_u64(walk.key.data);

		if (at_ms > keeper->age_ms && at_ms <= horizon_ms) {
			keeper->next_grace_ms = at_ms;
			break;
		}
		users[count++] =
		    key_get_u64((const uint8_t *)walk.key.data + 8);
		rc = walk_delete(&walk);
		if (rc == 0)
			rc = walk_next(&walk);
	}
	walk_end(&walk);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	if (count == GRACE_PER_BATCH)
		keeper->next_grace_ms = keeper->age_ms;
	rc = 0;
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = grace_end(keeper, users[i]);
	if (count > 0)
		keeper->batch.has_work = true;
	return rc;
}
