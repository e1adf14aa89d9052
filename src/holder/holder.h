/*
 * holder.h - keeps the sockets of one worker's clients open over its death.
 */
#ifndef HOLDER_HOLDER_H
#define HOLDER_HOLDER_H

#include "shm/process.h"

int holder_main(const struct process *process);

#endif
