/*
 * ice.h - where the two ends of a call find a way to each other: STUN and TURN
 * servers, and time-limited credentials for the latter.
 *
 * A TURN server that shares a secret with us (coturn: use-auth-secret,
 * static-auth-secret) takes
 *
 *     username    end of validity, Unix time, ":", a name
 *     credential  base64(HMAC-SHA1(secret, username))
 *
 * without asking anybody (draft-uberti-behave-turn-rest-00, 2.2). The name
 * travels in clear text and stands in the logs of the TURN server; so it is
 * not the user's id, see ice_name.
 */
#ifndef BASE_ICE_H
#define BASE_ICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/conf.h"

#define ICE_NAME_LEN       16
#define ICE_USERNAME_LEN   (20 + 1 + ICE_NAME_LEN)
#define ICE_CREDENTIAL_LEN 28

/**
 * What a user is called towards TURN servers: the same all day (UTC), so that
 * they can limit what one user takes; another one the next day, and only we
 * can tell whose it is.
 *
 * @param key  16 bytes, secret
 * @param out  hexadecimal digits and NUL
 */
void ice_name(const uint8_t key[16], uint64_t user, int64_t now_ms,
    char out[ICE_NAME_LEN + 1]);
/** Password for a username that ends with NUL; out ends with NUL. */
void ice_credential(
    const char *secret, const char *username, char out[ICE_CREDENTIAL_LEN + 1]);
/**
 * The value of IceServers, as RTCPeerConnection takes it; [] where none are
 * configured. Never to be logged.
 *
 * @param name    at most ICE_NAME_LEN bytes, without ':'
 * @param now_ms  wall clock
 */
void ice_servers_put(
    struct buf *out, const struct conf *conf, const char *name, int64_t now_ms);

enum ice_kind { ICE_STUN, ICE_TURN };

/**
 * A URL as browsers take it (RFC 7064, RFC 7065); they refuse a whole call for
 * a wrong one.
 */
bool ice_url_is_valid(const char *url, enum ice_kind kind);

#endif
