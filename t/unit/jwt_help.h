/*
 * jwt_help.h - makes keys and tokens, right ones and crafted ones, for tests.
 */
#ifndef T_UNIT_JWT_HELP_H
#define T_UNIT_JWT_HELP_H

#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"

#define HELP_TOKEN_MAX 10240
#define HELP_PEM_MAX   4096

struct evp_pkey_st;
struct jwt_verifier;

/** A new RSA key of so many bits, or with 0 one on P-256, or P-384 with 1. */
struct evp_pkey_st *help_key_new(unsigned bits);
/** Its public half in PEM. */
void help_key_pem(struct evp_pkey_st *key, char out[HELP_PEM_MAX]);
/** Write a text to a new file; unlink() it. */
void help_file(const char *text, char path_out[64]);
/** Fails the test when it cannot be made. */
struct jwt_verifier *help_verifier_new(struct conf_list secrets,
    struct conf_list files, const char *issuer, const char *audience);
/** header.payload, both encoded. */
size_t help_input(const char *header, const char *payload, size_t payload_len,
    char out[HELP_TOKEN_MAX]);
/** Append the signature of a secret (HS256) or a key (RS256, ES256). */
void help_sign_secret(char *token, const char *secret);
void help_sign_key(char *token, struct evp_pkey_st *key);

#endif
