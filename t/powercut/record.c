/*
 * record.c - a journal in memory: where each entry is.
 *
 * See: journal.h, recorder.c.
 */
#include "config.h"

#include "t/powercut/record.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

static void
add(struct record *record, size_t *cap, const struct record_item *item)
{
	const struct journal_entry *entry = &item->entry;
	size_t end = entry->len;

	if (record->count == *cap) {
		*cap = *cap == 0 ? 1024 : *cap * 2;
		record->items =
		    xrealloc(record->items, *cap * sizeof(*record->items));
	}
	record->items[record->count++] = *item;
	if (entry->kind == JOURNAL_WRITE)
		end += entry->offset;
	else if (entry->kind != JOURNAL_OPENED)
		return;
	if (end > record->store_len)
		record->store_len = end;
}

void
record_load(struct record *record, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t cap = 0;
	struct stat st;

	*record = (struct record){0};
	if (fd == -1 || fstat(fd, &st) != 0 || st.st_size == 0)
		fatal("%s: there is no journal", path);
	record->map_len = (size_t)st.st_size;
	record->map =
	    mmap(NULL, record->map_len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (record->map == MAP_FAILED)
		fatal("%s: cannot be read", path);
	close(fd);
	for (size_t at = 0; at < record->map_len;) {
		struct record_item item;
		size_t left = record->map_len - at;

		if (left < sizeof(item.entry))
			fatal("%s: ends within an entry", path);
		memcpy(&item.entry, record->map + at, sizeof(item.entry));
		item.bytes = record->map + at + sizeof(item.entry);
		left -= sizeof(item.entry);
		if (item.entry.magic != JOURNAL_MAGIC ||
		    item.entry.len > left ||
		    item.entry.kind >= JOURNAL_KIND_END)
			fatal("%s: no entry at %zu", path, at);
		add(record, &cap, &item);
		at +=
		    sizeof(item.entry) + (item.entry.len + JOURNAL_ALIGN - 1) /
					     JOURNAL_ALIGN * JOURNAL_ALIGN;
	}
}

void
record_fini(struct record *record)
{
	munmap((void *)record->map, record->map_len);
	free(record->items);
	*record = (struct record){0};
}
