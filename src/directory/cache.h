/*
 * cache.h - answers of a back end about users, kept for a while.
 *
 * In front of a back end that has to ask outside this machine. It stands in the
 * directory's memory, and so is one for all workers: each asks this process.
 * What one user was answered is never given to another.
 */
#ifndef DIRECTORY_CACHE_H
#define DIRECTORY_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "directory/dir.h"

struct cache;

struct cache_config {
	int64_t ttl_ms;   /* 0: keep nothing; askers still share a question */
	size_t bytes_max; /* of all that is kept */
	/* The back end has said something new: a page, a user, or (UPDATE)
	 * that it has a change. Not of what was overtaken by a change
	 * meanwhile. Called before who has asked is answered. May be NULL. */
	void (*told)(void *ctx, const struct dir_request *request);
	void *ctx;
};

/** @param ops, backend  must live longer */
struct cache *cache_new(const struct cache_config *config,
    const struct dir_ops *ops, struct dir_backend *backend);
/** After the back end has given everything back. */
void cache_free(struct cache **cache);
/**
 * As ops->run: answer from memory, with others who wait for the same answer,
 * or by the back end. Operations that are not about users go through.
 */
void cache_run(
    struct cache *cache, struct dir_request *request, dir_done_fn done);
/** Nothing of what is known of this user, or of whom he knows, is true any
 *  more. */
void cache_forget(struct cache *cache, uint64_t user);
/** Before the back end is closed: who waits is answered with what comes. */
void cache_stop(struct cache *cache);

#endif
