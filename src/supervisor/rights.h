/*
 * rights.h - who the processes run as, and the folders they need.
 */
#ifndef SUPERVISOR_RIGHTS_H
#define SUPERVISOR_RIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/conf.h"
#include "base/err.h"

struct rights {
	bool is_dropping; /* started by root, and a user is configured */
	char name[64];
	uid_t uid;
	gid_t gid;
};

/**
 * Look up [server] user. Not root: one's own ids, whatever is configured.
 *
 * @param error  one line: the user and what to do
 * @return       0 or ERR_BAD_REQUEST: no such user
 */
NODISCARD int rights_find(const struct conf *conf, struct rights *rights_out,
    char *error, size_t error_len);
/** Become that user for good. @return 0 or ERR_IO (errno is set) */
NODISCARD int rights_drop(const struct rights *rights);
/** Give path to the user; never follows a link. Nothing unless dropping. */
void rights_give(const struct rights *rights, const char *path);
/**
 * Make the folder (0750, given to the user) unless it is there; check that the
 * user can write to it.
 *
 * @param error  one line: the folder, what is wrong, what to do
 * @return       0 or ERR_IO
 */
NODISCARD int rights_make_folder(const struct rights *rights, const char *path,
    char *error, size_t error_len);
/** Descriptors up to the hard limit, and beyond when permitted. */
void rights_raise_files(int64_t wanted);

#endif
