/*
 * payload.h - what stands in the Message of a test message.
 *
 * RUN-SENDER-NUMBER-INTENDED:fill, fixed-width hex, so that each message says
 * whose it is and when it should have been sent. No character needs an escape
 * in JSON.
 */
#ifndef LOAD_PAYLOAD_H
#define LOAD_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* 16 run, 14 sender, 10 number, 16 intended, four separators. */
#define PAYLOAD_LEN_MIN 60
#define PAYLOAD_LEN_MAX 65536

struct payload {
	uint64_t run;
	uint64_t sender;
	uint64_t number;
	int64_t intended_ns; /* CLOCK_MONOTONIC of this machine */
};

/** @param len  PAYLOAD_LEN_MIN..PAYLOAD_LEN_MAX */
void payload_put(struct buf *out, const struct payload *payload, size_t len);
/** @return false: not one of ours */
bool payload_parse(const char *data, size_t len, struct payload *payload_out);
/** After payload_parse: is it as long as sent, and every byte of the fill? */
bool payload_is_whole(const char *data, size_t len, size_t len_sent);

#endif
