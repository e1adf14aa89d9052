/*
 * console.h - the process for operators: health, metrics, pages, and the
 * control socket of parleyctl.
 */
#ifndef CONSOLE_CONSOLE_H
#define CONSOLE_CONSOLE_H

#include "shm/process.h"

/** process_main_fn of the console. */
int console_main(const struct process *process);

#endif
