/*
 * hush.h - how often the others hear of one user.
 */
#ifndef KEEPER_HUSH_H
#define KEEPER_HUSH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct hush;
struct keeper;

/** For a keeper that begins: it looks for what its predecessor has left. */
struct hush *hush_new(void);
void hush_free(struct hush **hush);
/**
 * Something about the user is to be told.
 *
 * @param is_forced  even should it look the same (status text)
 * @param holds_out  true: not now, he was told of a moment ago; hush_turn
 *                   comes back to it
 * @return           0, the store's error
 */
NODISCARD int hush_ask(
    struct keeper *keeper, uint64_t user, bool is_forced, bool *holds_out);
/** Part of the batch: users whose time has come are looked at again. */
NODISCARD int hush_turn(struct keeper *keeper);
/** ms until the next one's time; -1: nobody waits. */
int64_t hush_wait_ms(const struct keeper *keeper);

#endif
