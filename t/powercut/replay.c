/*
 * replay.c - the disk under a store, at any point of a journal.
 *
 * A write that had begun when its process was killed may have happened, in
 * part or not at all. Until the next process opens the file that is left to
 * chance; what that one found is the truth then, though not yet durable.
 *
 * See: replay.h, recorder.c.
 */
#include "config.h"

#include "t/powercut/replay.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "t/powercut/chance.h"

#define PAGE   4096
#define SECTOR 512

struct piece {
	size_t item; /* of the write */
	uint64_t offset;
	const uint8_t *bytes;
	uint32_t len;
	uint32_t pid;
	bool is_written;
};

void
replay_init(struct replay *replay, const struct record *record)
{
	*replay = (struct replay){
	    .record = record,
	    .durable = xcalloc(record->store_len + PAGE, 1),
	};
}

void
replay_fini(struct replay *replay)
{
	free(replay->durable);
	free(replay->pieces);
	*replay = (struct replay){0};
}

/* ---- what happens ---- */

static void
begin_write(struct replay *replay, size_t index)
{
	const struct record_item *item = &replay->record->items[index];
	uint64_t at = item->entry.offset;
	const uint8_t *bytes = item->bytes;
	uint64_t end = at + item->entry.len;

	while (at < end) {
		uint64_t page_end = (at / PAGE + 1) * PAGE;
		uint32_t len =
		    (uint32_t)((page_end < end ? page_end : end) - at);

		if (replay->piece_count == replay->piece_cap) {
			replay->piece_cap =
			    replay->piece_cap == 0 ? 64 : replay->piece_cap * 2;
			replay->pieces = xrealloc(replay->pieces,
			    replay->piece_cap * sizeof(*replay->pieces));
		}
		replay->pieces[replay->piece_count++] = (struct piece){
		    index, at, bytes, len, item->entry.pid, false};
		at += len;
		bytes += len;
	}
}

/* Put a piece, or the part of it within [from, upto). */
static size_t
put_part(uint8_t *disk, size_t disk_len, const struct piece *piece,
    uint64_t from, uint64_t upto)
{
	uint64_t begin = piece->offset > from ? piece->offset : from;
	uint64_t end = piece->offset + piece->len;

	if (end > upto)
		end = upto;
	if (begin >= end)
		return disk_len;
	memcpy(disk + begin, piece->bytes + (begin - piece->offset),
	    (size_t)(end - begin));
	return end > disk_len ? (size_t)end : disk_len;
}

static size_t
put_piece(uint8_t *disk, size_t disk_len, const struct piece *piece)
{
	return put_part(disk, disk_len, piece, 0, UINT64_MAX);
}

static bool
is_synced(const struct piece *piece, size_t upto,
    const struct journal_entry *synchronous)
{
	if (synchronous == NULL)
		return piece->item < upto;
	return piece->offset / PAGE >= synchronous->offset / PAGE &&
	       piece->offset / PAGE <=
		   (synchronous->offset + synchronous->len - 1) / PAGE;
}

/* Either all writes before an item, or those to the pages of a synchronous
 * one, are on the disk. */
static void
make_durable(
    struct replay *replay, size_t upto, const struct journal_entry *synchronous)
{
	size_t left = 0;

	for (size_t i = 0; i < replay->piece_count; i++) {
		const struct piece *piece = &replay->pieces[i];

		if (is_synced(piece, upto, synchronous))
			replay->durable_len = put_piece(
			    replay->durable, replay->durable_len, piece);
		else
			replay->pieces[left++] = *piece;
	}
	replay->piece_count = left;
}

static void
end_write(struct replay *replay, uint32_t pid)
{
	const struct journal_entry *entry;
	size_t index = SIZE_MAX;

	for (size_t i = replay->piece_count; i-- > 0;) {
		struct piece *piece = &replay->pieces[i];

		if (piece->pid != pid || piece->is_written)
			break;
		piece->is_written = true;
		index = piece->item;
	}
	if (index == SIZE_MAX)
		return;
	entry = &replay->record->items[index].entry;
	if (entry->is_synchronous && !replay->has_no_dsync)
		make_durable(replay, 0, entry);
}

/* What became of writes that had begun. */
static void
resolve(struct replay *replay, const struct record_item *opened)
{
	size_t left = 0;

	for (size_t i = 0; i < replay->piece_count; i++) {
		struct piece piece = replay->pieces[i];
		uint64_t size = opened->entry.len;

		if (!piece.is_written) {
			if (piece.offset >= size)
				continue;
			if (piece.len > size - piece.offset)
				piece.len = (uint32_t)(size - piece.offset);
			piece.bytes = opened->bytes + piece.offset;
			piece.is_written = true;
		}
		replay->pieces[left++] = piece;
	}
	replay->piece_count = left;
}

void
replay_advance(struct replay *replay, size_t upto)
{
	for (; replay->next < upto; replay->next++) {
		const struct record_item *item =
		    &replay->record->items[replay->next];

		switch ((enum journal_kind)item->entry.kind) {
		case JOURNAL_OPENED:
			resolve(replay, item);
			if (!replay_is(replay, item->bytes, item->entry.len))
				replay->strays++;
			break;
		case JOURNAL_WRITE:
			begin_write(replay, replay->next);
			break;
		case JOURNAL_WRITTEN:
			end_write(replay, item->entry.pid);
			break;
		case JOURNAL_SYNC:
			replay->sync_upto = replay->next;
			break;
		case JOURNAL_SYNCED:
			if (item->entry.offset == 0)
				make_durable(replay, replay->sync_upto, NULL);
			break;
		case JOURNAL_NAMED:
			replay->is_named = true;
			break;
		case JOURNAL_SENT:
		case JOURNAL_SENT_PART:
		case JOURNAL_KIND_END:
			break;
		}
	}
}

bool
replay_is(const struct replay *replay, const void *data, size_t len)
{
	uint8_t *view = xcalloc(replay->record->store_len + PAGE, 1);
	size_t view_len = replay->durable_len;
	bool is_same;

	memcpy(view, replay->durable, view_len);
	for (size_t i = 0; i < replay->piece_count; i++)
		view_len = put_piece(view, view_len, &replay->pieces[i]);
	is_same = view_len == len && memcmp(view, data, len) == 0;
	free(view);
	return is_same;
}

/* ---- the power fails ---- */

static int
by_page(const void *left_ptr, const void *right_ptr)
{
	const struct piece *left = left_ptr;
	const struct piece *right = right_ptr;
	uint64_t left_page = left->offset / PAGE;
	uint64_t right_page = right->offset / PAGE;

	if (left_page != right_page)
		return left_page < right_page ? -1 : 1;
	return left->item < right->item ? -1 : left->item > right->item;
}

/* As the first so many of a page's writes left it, sector by sector or all of
 * it. */
static size_t
put_page(uint8_t *image, size_t len, const struct piece *pieces, size_t count,
    size_t step, uint64_t *chance)
{
	uint64_t page = pieces[0].offset / PAGE * PAGE;

	for (uint64_t at = page; at < page + PAGE; at += step) {
		uint64_t kept = chance_below(chance, count + 1);

		for (uint64_t i = 0; i < kept; i++)
			len = put_part(image, len, &pieces[i], at, at + step);
	}
	return len;
}

static size_t
put_some(
    const struct replay *replay, size_t step, uint64_t *chance, uint8_t *image)
{
	size_t count = replay->piece_count;
	struct piece *pieces = xcalloc(count + 1, sizeof(*pieces));
	size_t len = replay->durable_len;
	size_t end;

	if (count > 0)
		memcpy(pieces, replay->pieces, count * sizeof(*pieces));
	qsort(pieces, count, sizeof(*pieces), by_page);
	for (size_t from = 0; from < count; from = end) {
		end = from + 1;
		while (end < count &&
		       pieces[end].offset / PAGE == pieces[from].offset / PAGE)
			end++;
		len = put_page(
		    image, len, &pieces[from], end - from, step, chance);
	}
	free(pieces);
	return len;
}

size_t
replay_image(const struct replay *replay, enum replay_mode mode,
    uint64_t *chance, uint8_t *image)
{
	size_t len = replay->durable_len;

	if (!replay->is_named && mode != REPLAY_KEEP)
		return REPLAY_NO_FILE;
	memset(image, 0, replay->record->store_len);
	memcpy(image, replay->durable, len);
	switch (mode) {
	case REPLAY_DROP:
	case REPLAY_MODE_END:
		break;
	case REPLAY_KEEP:
		for (size_t i = 0; i < replay->piece_count; i++)
			len = put_piece(image, len, &replay->pieces[i]);
		break;
	case REPLAY_PAGES:
		return put_some(replay, PAGE, chance, image);
	case REPLAY_SECTORS:
		return put_some(replay, SECTOR, chance, image);
	}
	return len;
}
