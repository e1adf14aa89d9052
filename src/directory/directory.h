/*
 * directory.h - who the users are.
 */
#ifndef DIRECTORY_DIRECTORY_H
#define DIRECTORY_DIRECTORY_H

#include "shm/process.h"

struct dir_ops;

/** Entry of the process, with the back end that the configuration names. */
int directory_main(const struct process *process);
/** The same with a given back end; tests bring their own. */
int directory_run(const struct process *process, const struct dir_ops *ops);
/** The back end of that name (backends.def), NULL: none such. */
const struct dir_ops *directory_backend(const char *name);

#endif
