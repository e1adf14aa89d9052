/*
 * scan.h - the few fields parleyload needs from a server's message, without
 * building a tree.
 */
#ifndef LOAD_SCAN_H
#define LOAD_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/** A string without its quotes, escapes not resolved; NULL when absent. */
struct scan_text {
	const char *data;
	size_t len;
};

struct scan {
	struct scan_text command;
	struct scan_text epoch; /* as it stands, quotes included */
	struct scan_text message;
	struct scan_text reason;
	struct scan_text status;
	struct scan_text users; /* as it stands: an array */
	uint64_t from_user;     /* FromUser.UserId */
	uint64_t group_id;      /* GroupId, a decimal string; 0: none */
	uint64_t last_seq;
	uint64_t message_id; /* MessageId, a decimal string on the wire */
	uint64_t request_id;
	uint64_t retry_after; /* ms */
	uint64_t seq;
	uint64_t user; /* UserId */
	bool has_last_seq;
	bool has_message_id;
	bool has_request_id; /* an integer */
	bool has_seq;
	bool is_unrecovered; /* Recovered is there and false */
};

/**
 * Read the top level of one JSON object. Of duplicate keys the last counts;
 * what is not asked for is skipped, its nesting checked.
 *
 * @param data      borrowed; scan_out points into it
 * @param scan_out  all fields set
 * @return          0 or ERR_BAD_REQUEST
 */
NODISCARD int scan_parse(const char *data, size_t len, struct scan *scan_out);
/**
 * The next value of an array.
 *
 * @param rest  the array as it stands; what is left of it afterwards
 * @return      false: no more, or no array
 */
bool scan_next(struct scan_text *rest, struct scan_text *item_out);
bool scan_text_is(struct scan_text text, const char *literal);

#endif
