/*
 * attempts.h - how often passwords may be tried: a token bucket per user name
 * and one per peer address, in a table of fixed size.
 *
 * A bucket holds as many tokens as wrong passwords are permitted and fills up
 * within the window. A right password puts its token back, so nobody who
 * knows it meets the limit unless others try it under that name.
 */
#ifndef DIRECTORY_ATTEMPTS_H
#define DIRECTORY_ATTEMPTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"

struct attempts;

/** Who tries; both parts count. */
struct attempt {
	const char *name; /* borrowed; as given, whether it exists or not */
	size_t name_len;
	const uint8_t *peer; /* 16 bytes; all zero: not known, not limited */
};

/**
 * @param conf     borrowed for its whole life: auth_password_*
 * @param run_dir  keeps the buckets for a successor; NULL, or where that
 *                 fails: they are forgotten with this process
 * @param now_ms   clock_mono_ms()
 */
struct attempts *attempts_new(
    const struct conf *conf, const char *run_dir, int64_t now_ms);
void attempts_free(struct attempts **attempts);
/**
 * Take a token of each bucket, or of none.
 *
 * @param now_ms  clock_mono_ms()
 * @return        0: it may be tried; else ms until it may
 */
int64_t attempts_take(
    struct attempts *attempts, const struct attempt *attempt, int64_t now_ms);
/** It was no wrong password: put back what was taken. */
void attempts_give_back(
    struct attempts *attempts, const struct attempt *attempt, int64_t now_ms);

#endif
