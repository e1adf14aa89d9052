/*
 * room.c - stop before the disk is full.
 *
 * Role:    looks how much of the disk of data_dir and of the store's map is
 *          left: a warning first, then new messages are refused while there
 *          is room for all that has to go on (receipts, logins, deleting).
 * Process: keeper, once a second.
 * Blocks:  never; statvfs(2) of a local disk.
 * Trust:   none needed.
 * See:     batch.c (what a full store means), doc/operations.md,
 *          t/61-low-space.t.
 */
#include "base/count.h"
#include "base/log.h"
#include "keeper/keeper_priv.h"

#define MARGIN_PERCENT 1  /* so much better before it counts as over */
#define EARLY_PERCENT  10 /* of the map: the warning comes before */

static const char *const room_names[] = {
    [ROOM_ENOUGH] = "enough",
    [ROOM_LITTLE] = "little",
    [ROOM_NONE] = "none",
};

/* @param free_percent  what is left
 * @param least         with less there is none
 * @param warn          with less there is little */
static enum storage_room
judge(
    enum storage_room before, int64_t free_percent, int64_t least, int64_t warn)
{
	if (free_percent < least + (before == ROOM_NONE ? MARGIN_PERCENT : 0))
		return ROOM_NONE;
	if (free_percent < warn + (before != ROOM_ENOUGH ? MARGIN_PERCENT : 0))
		return ROOM_LITTLE;
	return ROOM_ENOUGH;
}

static void
room_tell(
    const struct keeper *keeper, const struct store_room *room, bool is_disk)
{
	const char *advice =
	    is_disk ? "free space on the disk of data_dir"
		    : "raise [store] map_size and restart, or make it smaller: "
		      "parleyctl compact";

	if (keeper->room == ROOM_ENOUGH)
		log_info(NULL, "storage-room",
		    "room=enough disk_free_percent=%u map_used_percent=%u",
		    room->disk_free_percent, room->map_used_percent);
	else if (keeper->room == ROOM_LITTLE)
		log_warn(NULL, "storage-room",
		    "room=little disk_free_percent=%u map_used_percent=%u; "
		    "soon new messages are refused: %s",
		    room->disk_free_percent, room->map_used_percent, advice);
	else
		log_error(NULL, "storage-room",
		    "room=%s disk_free_percent=%u map_used_percent=%u; new "
		    "messages are refused: %s",
		    room_names[keeper->room], room->disk_free_percent,
		    room->map_used_percent, advice);
}

void
room_look(struct keeper *keeper)
{
	const struct conf *conf = keeper->conf;
	struct store_room room;
	enum storage_room disk;
	enum storage_room map;
	enum storage_room worse;
	int64_t map_free;

	if (store_room(keeper->main, &room) != 0)
		return; /* the next commit says what is wrong */
	map_free = 100 - (int64_t)room.map_used_percent;
	disk = judge(keeper->room, room.disk_free_percent, conf->store_min_free,
	    2 * conf->store_min_free);
	map = judge(keeper->room, map_free, 100 - conf->store_map_high_water,
	    100 - conf->store_map_high_water + EARLY_PERCENT);
	worse = disk > map ? disk : map;
	GAUGE_SET(store_disk_free_percent, room.disk_free_percent);
	GAUGE_SET(store_map_used_percent, room.map_used_percent);
	GAUGE_SET(store_room, worse);
	/* what is set aside is for what goes on when messages are refused */
	if (worse != ROOM_NONE)
		store_set_aside(keeper->main);
	if (worse == keeper->room)
		return;
	keeper->room = worse;
	room_tell(keeper, &room, disk >= map);
}
