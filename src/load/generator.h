/*
 * generator.h - one generator: follows the coordinator's steps.
 */
#ifndef LOAD_GENERATOR_H
#define LOAD_GENERATOR_H

#include "base/err.h"
#include "load/control.h"
#include "load/options.h"

/**
 * Run this generator's share to the end of the plan; the result lies in its
 * slot.
 *
 * @param number   which one, 0..options->processes-1
 * @param turn_fn  called every few ms, NULL: none
 * @return         0, or ERR_IO: slot->failure says why
 */
NODISCARD int generator_run(const struct options *options,
    struct control *control, uint64_t number, void (*turn_fn)(void *ctx),
    void *ctx);

#endif
