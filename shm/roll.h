/*
 * roll.h - who is in a group or in a call now, and what is left of a call to
 * which somebody has written.
 *
 * In a group the members' rows say who is in it. In a call its own row does;
 * members' rows (group.h) are made with the first message, so that a call in
 * which nobody writes has none, and say who sees which part of what was said.
 */
#ifndef SHM_ROLL_H
#define SHM_ROLL_H

#include "shm/call.h"
#include "shm/group.h"

/**
 * Who is in it now, in order of ids.
 *
 * @param key   of a group or a call
 * @param seen  only those who can see this message; 0: all
 * @return 0; ERR_NOT_FOUND: there is no such group or call; ERR_CORRUPT: some
 *         cannot be read
 */
NODISCARD int roll_users(struct txn *txn, const struct conv_key *key,
    uint64_t seen, uint64_t users[GROUP_MEMBERS_MAX], size_t *count_out);
/**
 * Is he in it now?
 *
 * @param state_out  with ERR_CONFLICT: of the call
 * @return 0; ERR_NOT_FOUND: no, or there is none; ERR_CONFLICT: he is a
 *         participant of the call, and not in it now; ERR_CORRUPT
 */
NODISCARD int roll_has(struct txn *txn, const struct conv_key *key,
    uint64_t user, enum call_state *state_out);
/** How many they are. @return as roll_users */
NODISCARD int roll_count(
    struct txn *txn, const struct conv_key *key, uint32_t *count_out);
/**
 * Forget the conversation of a call and who sees what of it, once neither the
 * call is there nor any of its messages.
 *
 * @param upto  id; all messages up to it are gone
 */
NODISCARD int roll_forget_call(struct txn *txn, uint64_t call, uint64_t upto);

#endif
