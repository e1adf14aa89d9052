/*
 * userhead.h - a user's inbox head, devices and sessions: one small row.
 */
#ifndef SHM_USERHEAD_H
#define SHM_USERHEAD_H

#include "shm/store.h"

struct userhead {
	uint64_t user;
	struct userhead_row row;
	struct userhead_device devices[DEVICES_MAX];
};

/** @return 0, ERR_NOT_FOUND, ERR_CORRUPT */
NODISCARD int userhead_get(
    struct txn *txn, uint64_t user, struct userhead *out);
/** The row, or a new one whose seqs start above base. */
NODISCARD int userhead_get_or_new(
    struct txn *txn, uint64_t user, uint64_t base, struct userhead *out);
NODISCARD int userhead_put(struct txn *txn, const struct userhead *head);
struct userhead_device *userhead_find_device(
    struct userhead *head, const uint8_t hash[16]);
struct userhead_device *userhead_find_session(
    struct userhead *head, uint64_t session);
/** Take a device out of the row (not out of device and sent). */
void userhead_remove_device(
    struct userhead *head, struct userhead_device *device);

/* The full DeviceId. */
NODISCARD int device_put(struct txn *txn, uint64_t user, uint32_t number,
    const char *id, size_t len, int64_t now_ms);
/** Forget the id and the sends (shm/sent.h). */
NODISCARD int device_forget(struct txn *txn, uint64_t user, uint32_t number);

#endif
