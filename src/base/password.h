/*
 * password.h - scrypt password hashes: "$scrypt$ln=15,r=8,p=1$salt$hash".
 *
 * About 50 ms and 32 MiB each: never on an event loop.
 */
#ifndef BASE_PASSWORD_H
#define BASE_PASSWORD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define PASSWORD_LEN_MAX  1024
#define PASSWORD_HASH_MAX 160

/** @return 0, ERR_BAD_REQUEST (empty or too long), ERR_NO_MEMORY */
NODISCARD int password_hash(
    const char *password, size_t len, char out[PASSWORD_HASH_MAX]);
/**
 * @param hash  NULL or "" for a user that does not exist or has no password:
 *              takes the same time and returns false
 */
NODISCARD bool password_verify(
    const char *hash, const char *password, size_t len);

#endif
