/*
 * directory.h - who the users are.
 */
#ifndef DIRECTORY_DIRECTORY_H
#define DIRECTORY_DIRECTORY_H

#include <stddef.h>

#include "base/conf.h"
#include "base/err.h"
#include "shm/process.h"

struct dir_ops;

/** Entry of the process, with the back end that the configuration names. */
int directory_main(const struct process *process);
/**
 * Would the back end that the configuration names start with it? Asks nobody
 * outside this machine.
 *
 * @param error  one line: the setting, and what to do
 * @return       0 or ERR_*
 */
NODISCARD int directory_check(
    const struct conf *conf, char *error, size_t error_len);
/** The same with a given back end; tests bring their own. */
int directory_run(const struct process *process, const struct dir_ops *ops);
/** The back end of that name (backends.def), NULL: none such. */
const struct dir_ops *directory_backend(const char *name);

#endif
