/*
 * users.h - the embedded directory's users, and who is in whose list.
 */
#ifndef SHM_USERS_H
#define SHM_USERS_H

#include "shm/store.h"

struct user {
	uint64_t id;
	int64_t created_ms;
	struct blob name;
	struct blob password; /* hash, empty: none */
	struct blob role;
	struct blob profile; /* JSON object, empty: none */
};

/** @return 0, ERR_NOT_FOUND, ERR_CORRUPT; blobs point into the map */
NODISCARD int users_get(struct txn *txn, uint64_t id, struct user *out);
/** Is what others see of both the same: name, role, profile? */
bool user_looks_like(const struct user *user, const struct user *other);
NODISCARD int users_put(struct txn *txn, const struct user *user);
NODISCARD int users_delete(struct txn *txn, uint64_t id);
/** Users with id > above in order of ids. fn returns false to stop. */
NODISCARD int users_each(struct txn *txn, uint64_t above,
    bool (*fn)(void *ctx, const struct user *user), void *ctx);

/** Flags of user's row for other (enum contact_flags), 0 for strangers. */
NODISCARD int contact_get(
    struct txn *txn, uint64_t user, uint64_t other, uint32_t *flags_out);
/** Set and clear bits, on both sides where the flag has a mirror. */
NODISCARD int contact_change(struct txn *txn, uint64_t user, uint64_t other,
    uint32_t set, uint32_t clear);
/** Rows of user with other > above. fn returns false to stop. */
NODISCARD int contact_each(struct txn *txn, uint64_t user, uint64_t above,
    bool (*fn)(void *ctx, uint64_t other, uint32_t flags), void *ctx);
/** How flags of (user, other) read in the row of (other, user). */
uint32_t contact_mirror(uint32_t flags);
/** other stands in the list that user sees. */
bool contact_is_listed(uint32_t flags);
/** user's presence is told to other. */
bool contact_is_watched_by(uint32_t flags);
/** user may write to other under the policy "contacts". */
bool contact_may_write(uint32_t flags);

#endif
