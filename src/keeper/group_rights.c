/*
 * group_rights.c - the table group_rights.def at work.
 *
 * Role:    answers; knows no group.
 * Process: keeper; pure.
 * Blocks:  never.
 * Trust:   roles come from the store: what is none may do nothing.
 * See:     t/unit/group_rights.c (each operation, actor and target).
 */
#include "keeper/group_rights.h"

#include <stdint.h>

enum target_set {
	NONE = 1 << ROLE_NONE,
	GROUP = 1 << ROLE_NONE,
	MEMBER = 1 << ROLE_MEMBER,
	ADMIN = 1 << ROLE_ADMIN,
};

static const uint8_t rights[GROUP_OPERATION_END][ROLE_END] = {
#define GROUP_RIGHT(operation, admin, owner)                                   \
	[GROUP_##operation] = {[ROLE_ADMIN] = (admin), [ROLE_OWNER] = (owner)},
#include "keeper/group_rights.def"
#undef GROUP_RIGHT
};

bool
group_may(enum group_operation operation, enum group_role actor,
    enum group_role target)
{
	return operation < GROUP_OPERATION_END && actor < ROLE_END &&
	       target < ROLE_END &&
	       (rights[operation][actor] & 1u << target) != 0;
}

enum group_operation
group_making(enum group_role role)
{
	switch (role) {
	case ROLE_OWNER:
		return GROUP_MAKE_OWNER;
	case ROLE_ADMIN:
		return GROUP_MAKE_ADMIN;
	case ROLE_MEMBER:
		return GROUP_MAKE_MEMBER;
	case ROLE_NONE:
	case ROLE_END:
		break;
	}
	return GROUP_OPERATION_END;
}
