/*
 * age.c - time in the store, by which things grow old.
 *
 * Role:    see age.h.
 * Process: keeper.
 * Blocks:  never, but on a small file at the start.
 * Trust:   the row in the store is checked; one that cannot be is forgotten.
 * See:     t/unit/age.c, t/69-clock.t, doc/decisions/014.
 */
#include "keeper/age.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define SAVE_MS       60000
#define AGE_MAX_MS    (INT64_C(1) << 53) /* no clock ever says so */
#define BOOT_ID_PATH  "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_CHARS 36

int64_t
age_since(const struct meta_age *last, const struct meta_age *now)
{
	int64_t passed_ms;

	if (now->boot[0] != '\0' &&
	    memcmp(last->boot, now->boot, sizeof(last->boot)) == 0 &&
	    now->mono_ms >= last->mono_ms)
		return last->age_ms + now->mono_ms - last->mono_ms;
	passed_ms = now->wall_ms - last->wall_ms;
	if (passed_ms < 0)
		passed_ms = 0;
	if (passed_ms > AGE_GAP_MAX_MS)
		passed_ms = AGE_GAP_MAX_MS;
	return last->age_ms + passed_ms;
}

/* As text; all zero where there is none: then no two boots are the same. */
static void
read_boot(struct meta_age *now)
{
	int fd = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);

	_Static_assert(sizeof(now->boot) >= BOOT_ID_CHARS, "a boot id fits");
	if (fd == -1)
		return;
	if (read(fd, now->boot, BOOT_ID_CHARS) != BOOT_ID_CHARS)
		memset(now->boot, 0, sizeof(now->boot));
	close(fd);
}

static bool
is_sound(const struct meta_age *age)
{
	return age->age_ms >= 0 && age->age_ms < AGE_MAX_MS &&
	       age->mono_ms >= 0 && age->mono_ms < AGE_MAX_MS &&
	       age->wall_ms > -AGE_MAX_MS && age->wall_ms < AGE_MAX_MS;
}

int
age_open(struct age *age, struct txn *txn)
{
	struct meta_age now = {
	    .wall_ms = clock_wall_ms(),
	    .mono_ms = clock_mono_ms(),
	};
	struct meta_age last;
	int rc = meta_age_get(txn, &last);

	if (rc == 0 && !is_sound(&last))
		rc = ERR_CORRUPT;
	if (rc == ERR_CORRUPT)
		log_error(NULL, "store-corrupt", "dbi=meta key=age");
	if (rc != 0 && rc != ERR_NOT_FOUND && rc != ERR_CORRUPT)
		return rc;
	read_boot(&now);
	now.age_ms = rc == 0 ? age_since(&last, &now) : now.wall_ms;
	*age = (struct age){
	    .saved = now,
	    .base_ms = now.age_ms,
	    .mono_ms = now.mono_ms,
	};
	log_info(NULL, "store-time", "behind_s=%lld",
	    (long long)(now.wall_ms - now.age_ms) / 1000);
	return 0;
}

int64_t
age_now(const struct age *age)
{
	return age->base_ms + clock_mono_ms() - age->mono_ms;
}

int
age_save(struct age *age, struct txn *txn)
{
	int64_t mono_ms = clock_mono_ms();

	if (mono_ms < age->save_at_ms)
		return 0;
	age->save_at_ms = mono_ms + SAVE_MS;
	age->saved.age_ms = age->base_ms + mono_ms - age->mono_ms;
	age->saved.mono_ms = mono_ms;
	age->saved.wall_ms = clock_wall_ms();
	return meta_age_put(txn, &age->saved);
}
