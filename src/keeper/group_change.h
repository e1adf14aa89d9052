/*
 * group_change.h - a change of a group: made, written down and told, all of it
 * or nothing.
 */
#ifndef KEEPER_GROUP_CHANGE_H
#define KEEPER_GROUP_CHANGE_H

#include "keeper/keeper_priv.h"
#include "shm/group.h"

/* What is to be done, checked; everything in it does change something. */
struct group_change {
	struct keeper *keeper;
	const char *event; /* its name on the wire */
	uint64_t actor;
	uint64_t session;      /* the actor's: its reply stands for the event */
	struct userhead *head; /* the actor's; NULL: is not told of it */
	struct group group;    /* with its new name */
	bool has_new_name;     /* also of a new group */
	uint64_t added[GROUP_MEMBERS_MAX];
	size_t added_count;
	uint64_t removed[RECIPIENTS_MAX];
	size_t removed_count;
	/* Of members who stay. One of them may be made the owner; then the
	 * present one is among them, too. */
	struct group_role_change roles[RECIPIENTS_MAX + 1];
	size_t role_count;
	/* out */
	uint64_t event_id;
	uint64_t seq; /* the actor's own, or 0 */
	size_t told;  /* members, with those who were taken out */
};

/** @return 0, the store's error */
NODISCARD int group_change_make(struct group_change *change);
/**
 * Take the actor out. The owner's place is taken by the admin, else the member
 * who has been there longest.
 */
NODISCARD int group_change_leave(struct group_change *change);

#endif
