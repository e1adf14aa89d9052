/*
 * call_seats.h - who sees which part of what is said in a call.
 */
#ifndef KEEPER_CALL_SEATS_H
#define KEEPER_CALL_SEATS_H

#include "keeper/keeper_priv.h"

/**
 * With the first message in a call: rows for those who are in it.
 *
 * @param key  of its conversation; the caller puts that one's row
 * @return 0, ERR_NOT_FOUND: there is no such call; the store's error
 */
NODISCARD int call_seats_make(
    struct keeper *keeper, const struct conv_key *key);
/**
 * Who has come into a call or has left it; before call_put. Nothing is done
 * while nobody has written in it.
 *
 * @return 0, the store's error; rows that are damaged are passed over
 */
NODISCARD int call_seats_follow(struct keeper *keeper, const struct call *call);

#endif
