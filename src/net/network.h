/*
 * network.h - networks of addresses, as the configuration names them.
 */
#ifndef NET_NETWORK_H
#define NET_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn_peer;

struct network {
	uint8_t address[16]; /* as in struct conn_peer; no bit behind `bits` */
	uint8_t family;
	uint8_t bits;
};

struct networks {
	struct network *items;
	size_t count;
};

/**
 * "10.0.0.0/8", "2001:db8::/32", or one address.
 *
 * @return  NULL, or what is wrong with it
 */
const char *network_parse(const char *text, struct network *out);
/** All of a list; panics on one that network_parse refuses: it has been
 *  checked. Release with networks_fini. */
void networks_init(
    struct networks *networks, const char *const *texts, size_t count);
void networks_fini(struct networks *networks);
/** Is the address in one of them? NULL has none. */
bool networks_have(
    const struct networks *networks, const struct conn_peer *peer);

#endif
