/*
 * call_work.h - the one call that the keeper is working on.
 */
#ifndef KEEPER_CALL_WORK_H
#define KEEPER_CALL_WORK_H

#include "keeper/keeper_priv.h"

struct call_work {
	struct call call;
	struct call_effects effects; /* of the last step */
	uint8_t payload[CALL_PAYLOAD_MAX];
};

/* Here because of its size; between two steps it means nothing. */
extern struct call_work call_work;

/** The times and settings of now; the rest is the caller's. */
struct call_input call_input_now(const struct keeper *keeper);
/** Out of the map, which a put moves; as of this boot (call_renew).
 *  @return 0, ERR_NOT_FOUND, ERR_CORRUPT */
NODISCARD int call_load(struct keeper *keeper, uint64_t id);
/**
 * Tell what the last step has done, and keep it.
 *
 * @param except  session that gets the reply instead of the events; 0: none
 */
NODISCARD int call_store(struct keeper *keeper, uint64_t except);

#endif
