/*
 * moody_backend.c - a back end of the directory with moods.
 */
#include "config.h"

#include "t/unit/moody_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "directory/outbox_batch.h"

struct moods *moods;

void
moods_new(void)
{
	moods = mmap(NULL, sizeof(*moods), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (moods == MAP_FAILED)
		abort();
}

struct dir_backend {
	struct batch *held;
	dir_written_fn done;
};

static void
take(struct batch *batch)
{
	unsigned each = atomic_load(&moods->refuse_each);

	for (size_t i = 0; i < batch->count; i++) {
		struct batch_entry *entry = &batch->entries[i];
		uint32_t at = atomic_load(&moods->written);

		if (entry->is_refused) {
			atomic_fetch_add(&moods->passed_over, 1);
			continue;
		}
		if (each != 0 && entry->entry.number % each == 0) {
			batch_refuse(batch, entry, 8152, "it is too long");
			continue;
		}
		if (entry->entry.kind == OUTBOX_MESSAGE) {
			/* its own body, and nobody else's */
			if (strtoull(entry->message.body.data, NULL, 10) !=
			    entry->message.id)
				abort();
			atomic_fetch_add(
			    &moods->bytes, entry->message.body.len);
		}
		if (at < LOG_MAX)
			moods->numbers[at] = entry->entry.number;
		atomic_store(&moods->written, at + 1);
	}
}

static void
moody_write(
    struct dir_backend *backend, struct batch *batch, dir_written_fn done)
{
	atomic_fetch_add(&moods->calls, 1);
	if (atomic_load(&moods->fail_left) > 0) {
		take(batch); /* written, and the answer lost */
		atomic_fetch_sub(&moods->fail_left, 1);
		done(batch, ERR_UNAVAILABLE);
	} else if (atomic_load(&moods->again_left) > 0) {
		atomic_fetch_sub(&moods->again_left, 1);
		done(batch, ERR_AGAIN);
	} else if (atomic_load(&moods->hold) != 0) {
		backend->held = batch;
		backend->done = done;
	} else {
		take(batch);
		done(batch, 0);
	}
}

static int
moody_open(const struct dir_host *host, struct dir_backend **backend_out,
    char *error, size_t error_len)
{
	(void)error;
	(void)error_len;
	assert_non_null(host->store);
	*backend_out = xcalloc(1, sizeof(**backend_out));
	return 0;
}

static int64_t
moody_turn(struct dir_backend *backend)
{
	struct batch *batch = backend->held;

	if (batch != NULL && atomic_load(&moods->hold) == 0) {
		backend->held = NULL;
		take(batch);
		backend->done(batch, 0);
	}
	return backend->held != NULL ? 0 : INT64_MAX;
}

static bool
moody_close(struct dir_backend **backend, int64_t until_ms)
{
	(void)until_ms;
	if ((*backend)->held != NULL)
		(*backend)->done((*backend)->held, ERR_UNAVAILABLE);
	free(*backend);
	*backend = NULL;
	return true;
}

const struct dir_ops moody_ops = {
    .name = "moody",
    .open = moody_open,
    .turn = moody_turn,
    .write_batch = moody_write,
    .close = moody_close,
};
