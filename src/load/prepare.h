/*
 * prepare.h - the parleyctl commands that make users and contacts.
 */
#ifndef LOAD_PREPARE_H
#define LOAD_PREPARE_H

#include "base/err.h"
#include "load/options.h"

/**
 * Print the commands, or with options->parleyctl run them.
 *
 * @return  0, or ERR_IO: a command failed (said on standard error)
 */
NODISCARD int prepare_run(const struct options *options);

#endif
