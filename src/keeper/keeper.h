/*
 * keeper.h - the only writer of the store.
 */
#ifndef KEEPER_KEEPER_H
#define KEEPER_KEEPER_H

#include "shm/process.h"

int keeper_main(const struct process *process);

#endif
