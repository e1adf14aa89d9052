/*
 * worker.h - sockets and sessions; one process per core.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "shm/process.h"

int worker_main(const struct process *process);

#endif
