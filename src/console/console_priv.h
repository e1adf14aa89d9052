/*
 * console_priv.h - what the files of this folder share.
 */
#ifndef CONSOLE_CONSOLE_PRIV_H
#define CONSOLE_CONSOLE_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "shm/process.h"

struct control;
struct event_base;
struct http;
struct keeper_call;
struct store;

TAILQ_HEAD(keeper_call_list, keeper_call);

struct console {
	const struct process *process;
	struct event_base *base;
	struct store *store; /* NULL: not opened yet, see console_store */
	struct keeper_call_list calls;
	uint32_t next_call;
	struct control *control;
	struct http *http;
	bool is_stopping;
	int64_t stop_by_ms;
};

/** The main store, opened at the first use; NULL: not there (yet). */
struct store *console_store(struct console *console);

#endif
