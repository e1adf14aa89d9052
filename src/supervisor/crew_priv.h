/*
 * crew_priv.h - what the two files of the crew share.
 */
#ifndef SUPERVISOR_CREW_PRIV_H
#define SUPERVISOR_CREW_PRIV_H

#include "supervisor/crew.h"

/** The only writer of a state. */
void crew_set_state(
    struct crew *crew, struct child *child, enum process_state state);

#endif
