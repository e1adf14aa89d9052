/*
 * sends.h - what the keeper has at hand of the last sends of busy devices.
 */
#ifndef KEEPER_SENDS_H
#define KEEPER_SENDS_H

#include "base/err.h"
#include "shm/sent.h"

struct keeper;
struct sends;

#define SENDS_MAX 16384 /* devices; about 1 KB each, taken when they send */

/** @param max  devices kept at most, the one unused longest goes first */
struct sends *sends_new(size_t max);
void sends_free(struct sends **sends);
/**
 * The last sends of a device, from memory or from the store.
 *
 * Nothing has to be told when a transaction is undone: a copy counts only
 * while the device's last send in the store is the copy's.
 *
 * @param device      of user, as it is in this transaction
 * @param recall_out  valid until the next call
 * @return            0, or an error of the store
 */
NODISCARD int sends_recall(struct keeper *keeper, uint64_t user,
    const struct userhead_device *device, struct sent_recall **recall_out);
/** Damage was found: read it anew next time. */
void sends_forget(struct keeper *keeper, uint64_t user, uint32_t device);

#endif
