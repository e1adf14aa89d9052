/*
 * settings.c - a reload for processes that go on.
 *
 * Role:    the supervisor writes the numbers of conf.def on the scoreboard,
 *          each process takes over what it may (column reload, 2) when it
 *          beats. No strings: secrets never lie here, the file is readable.
 * Process: all.
 * Blocks:  never. A set that is being written is taken at the next beat.
 * Trust:   numbers are checked against their ranges; a program with another
 *          table of settings takes nothing.
 * See:     base/conf_number.c, process.c, t/unit/settings.c.
 */
#include "config.h"

#include "shm/settings.h"

#include <stdatomic.h>

#include "base/log.h"
#include "shm/health.h"

static struct board_settings *
of(struct board *board)
{
	return &board_header(board)->settings;
}

/* Odd while it is being written. */
void
settings_publish(struct board *board, const struct conf *conf)
{
	struct board_settings *settings = of(board);
	size_t count = conf_number_count();

	if (count > SETTINGS_MAX)
		panic("%zu settings", count);
	atomic_fetch_add(&settings->serial, 1);
	atomic_store(&settings->fingerprint, conf_fingerprint());
	for (size_t i = 0; i < count; i++)
		atomic_store(&settings->numbers[i], conf_number(conf, i));
	atomic_fetch_add(&settings->serial, 1);
}

bool
settings_follow(struct board *board, struct board_slot *slot, struct conf *conf)
{
	struct board_settings *settings = of(board);
	uint32_t serial = atomic_load(&settings->serial);
	int64_t numbers[SETTINGS_MAX];
	size_t count = conf_number_count();
	bool has_changed = false;

	if (serial == atomic_load(&slot->settings_seen) || serial % 2 != 0)
		return false;
	for (size_t i = 0; i < count; i++)
		numbers[i] = atomic_load(&settings->numbers[i]);
	if (atomic_load(&settings->fingerprint) == conf_fingerprint()) {
		if (atomic_load(&settings->serial) != serial)
			return false; /* at the next beat */
		for (size_t i = 0; i < count; i++) {
			if (conf_number_take(conf, i, numbers[i]))
				has_changed = true;
		}
	}
	atomic_store(&slot->settings_seen, serial);
	return has_changed;
}

bool
settings_are_everywhere(struct board *board)
{
	uint32_t serial = atomic_load(&of(board)->serial);

	for (int slot = SLOT_SUPERVISOR + 1; slot < board_slot_end(board);
	     slot++) {
		if (health_is_serving(board, slot) &&
		    atomic_load(&board_slot(board, slot)->settings_seen) !=
			serial)
			return false;
	}
	return true;
}
