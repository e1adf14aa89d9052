/*
 * verifiers.h - what is needed to check the passwords of those who have logged
 * in lately, while nobody else can check them.
 *
 * By user name, as it was typed. In memory that is in no core file and, as far
 * as RLIMIT_MEMLOCK goes, not on a disk; never written anywhere. Time is passed
 * in.
 */
#ifndef DIRECTORY_VERIFIERS_H
#define DIRECTORY_VERIFIERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/password.h"

struct verifier {
	uint64_t user; /* 0: none */
	char hash[PASSWORD_HASH_MAX];
};

struct verifiers;

/** @param max  names; beyond it the one that was learned first goes */
struct verifiers *verifiers_new(size_t max);
/** Accepts NULL and clears. */
void verifiers_free(struct verifiers **verifiers);
/** From now on this is the one of that name. @param now_ms  not before that of
 *  the last call */
void verifiers_learn(struct verifiers *verifiers, const char *name,
    size_t name_len, const struct verifier *verifier, int64_t now_ms);
/** There is none of that name. */
void verifiers_forget(
    struct verifiers *verifiers, const char *name, size_t name_len);
/** @param out  a copy, the caller's to wipe; user 0: there is none */
void verifiers_find(const struct verifiers *verifiers, const char *name,
    size_t name_len, struct verifier *out);
/** Forget those that were learned before. */
void verifiers_expire(struct verifiers *verifiers, int64_t before_ms);
size_t verifiers_count(const struct verifiers *verifiers);

#endif
