/*
 * chance.h - numbers that come again with their seed.
 */
#ifndef T_POWERCUT_CHANCE_H
#define T_POWERCUT_CHANCE_H

#include <stdint.h>

/** splitmix64. @return anything */
static inline uint64_t
chance_next(uint64_t *state)
{
	uint64_t n = *state += 0x9e3779b97f4a7c15ULL;

	n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9ULL;
	n = (n ^ n >> 27) * 0x94d049bb133111ebULL;
	return n ^ n >> 31;
}

/** @return 0..below-1; below is not 0 */
static inline uint64_t
chance_below(uint64_t *state, uint64_t below)
{
	return chance_next(state) % below;
}

#endif
