/*
 * absent.h - users who, as the database has said just now, do not exist; and
 * one question about a user for all who ask while nobody knows.
 *
 * It has a bound of its own, so that whoever asks for many who are not there
 * pushes nobody out who is. Time is passed in; on one thread.
 *
 *     if (absent_has(absent, user, now))
 *             ERR_NOT_FOUND
 *     if (!absent_begin(absent, user, waiter))
 *             somebody asks already: the waiter hears what came of it
 *     ...
 *     absent_end(absent, user, rc, now)
 */
#ifndef DIRECTORY_ABSENT_H
#define DIRECTORY_ABSENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct absent;

/** Embedded in its owner's object, which lives until go is called. */
struct absent_waiter {
	STAILQ_ENTRY(absent_waiter) link; /* private */
	/** @param rc  of absent_end */
	void (*go)(struct absent_waiter *waiter, int rc);
};

struct absent_config {
	int64_t ttl_ms; /* 0: keep nothing; askers still share a question */
	size_t max;     /* users; beyond it the one noted first goes */
};

struct absent *absent_new(const struct absent_config *config);
/** No question is under way. Accepts NULL and clears. */
void absent_free(struct absent **absent);
bool absent_has(struct absent *absent, uint64_t user, int64_t now_ms);
/**
 * Ask about a user.
 *
 * @return true: it is for the caller to ask, then absent_end; false: another
 *         one does, and waiter is taken until then
 */
bool absent_begin(
    struct absent *absent, uint64_t user, struct absent_waiter *waiter);
/**
 * What came of it, for those who wait.
 *
 * @param rc  ERR_NOT_FOUND, said by the database: it is kept, unless he has
 *            appeared since absent_begin
 */
void absent_end(struct absent *absent, uint64_t user, int rc, int64_t now_ms);
/** There is such a user, or may be. */
void absent_forget(struct absent *absent, uint64_t user);
size_t absent_count(const struct absent *absent);

#endif
