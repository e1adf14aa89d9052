/*
 * verify_priv.h - what the files that judge rows share.
 */
#ifndef SHM_VERIFY_PRIV_H
#define SHM_VERIFY_PRIV_H

#include <stdint.h>

#include "shm/conv.h"
#include "shm/store.h"

struct row {
	struct walk *walk;
	struct txn *txn;
	uint64_t
	    oldest; /* message of the log; what is below has been deleted */
	uint64_t last_id; /* given out; 0: not known */
};

/* Each @return NULL, or what is wrong with the row on which walk stands. */
const char *check_groupcount(struct row *row);
const char *check_groupmade(struct row *row);
const char *check_groups(struct row *row);
const char *check_leaving(struct row *row);
const char *check_member(struct row *row);

/** Is it his? Of a group also where he has left. */
bool verify_is_of(struct row *row, struct conv *conv, uint64_t user);

#endif
