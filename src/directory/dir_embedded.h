/*
 * dir_embedded.h - the back end "embedded".
 */
#ifndef DIRECTORY_DIR_EMBEDDED_H
#define DIRECTORY_DIR_EMBEDDED_H

#include "directory/dir.h"

/* Password checks that may wait for a thread; the next one is refused. */
#define EMBEDDED_PASSWORDS_MAX 256

extern const struct dir_ops dir_embedded_ops;

#endif
