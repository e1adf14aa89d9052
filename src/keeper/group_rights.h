/*
 * group_rights.h - who may do what to whom in a group.
 */
#ifndef KEEPER_GROUP_RIGHTS_H
#define KEEPER_GROUP_RIGHTS_H

#include <stdbool.h>

#include "shm/store_schema.h"

enum group_operation {
#define GROUP_RIGHT(operation, admin, owner) GROUP_##operation,
#include "keeper/group_rights.def"
#undef GROUP_RIGHT
	GROUP_OPERATION_END
};

/** @param target  role of the one to whom it is done; of the group itself:
 *                 ROLE_NONE */
bool group_may(enum group_operation operation, enum group_role actor,
    enum group_role target);
/** What makes somebody one of this role. */
enum group_operation group_making(enum group_role role);

#endif
