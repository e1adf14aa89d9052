/*
 * cuts.c - where the power fails.
 *
 * See: powercut.c.
 */
#include "config.h"

#include "t/powercut/cuts.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "t/powercut/chance.h"

/* The first and last of those that come in turn. */
#define TURN_FIRST CUT_PAGES_BEGUN
#define TURN_COUNT (CUT_OPENED - TURN_FIRST)

struct steps {
	size_t *items;
	size_t count;
};

struct chooser {
	const struct record *record;
	const struct told_list *told;
	size_t first; /* item behind which every cut lies */
	struct steps steps[CUT_PLACE_END];
	struct cut *cuts;
	size_t count;
	size_t wanted;
	uint64_t *chance;
};

const char *
cut_place_text(enum cut_place place)
{
	static const char *const texts[CUT_PLACE_END] = {
#define PLACE(name, text) text,
#include "t/powercut/places.def"
#undef PLACE
	};

	return texts[place];
}

static bool
ends_synchronous(const struct record *record, size_t index)
{
	uint32_t pid = record->items[index].entry.pid;

	while (index-- > 0) {
		const struct journal_entry *entry = &record->items[index].entry;

		if (entry->pid == pid && entry->kind == JOURNAL_WRITE)
			return entry->is_synchronous;
	}
	return false;
}

static enum cut_place
place_of(const struct record *record, size_t index)
{
	const struct journal_entry *entry = &record->items[index].entry;

	switch ((enum journal_kind)entry->kind) {
	case JOURNAL_OPENED:
		return CUT_OPENED;
	case JOURNAL_WRITE:
		return entry->is_synchronous ? CUT_META_BEGUN : CUT_PAGES_BEGUN;
	case JOURNAL_WRITTEN:
		return ends_synchronous(record, index) ? CUT_META_WRITTEN
						       : CUT_PAGES_WRITTEN;
	case JOURNAL_SYNC:
		return CUT_SYNC_BEGUN;
	case JOURNAL_SYNCED:
		return CUT_SYNC_ENDED;
	case JOURNAL_SENT:
		return CUT_TOLD;
	case JOURNAL_SENT_PART:
	case JOURNAL_NAMED:
	case JOURNAL_KIND_END:
		break;
	}
	return CUT_ANYWHERE;
}

/* Before that the store was being made, and nobody had come. */
static size_t
find_first_client(const struct record *record)
{
	size_t first = 0;

	while (first < record->count && place_of(record, first) != CUT_TOLD)
		first++;
	return first;
}

static void
sort_steps(struct chooser *chooser)
{
	const struct record *record = chooser->record;

	for (int place = 0; place < CUT_PLACE_END; place++)
		chooser->steps[place].items =
		    xcalloc(record->count, sizeof(size_t));
	for (size_t i = chooser->first; i < record->count; i++) {
		struct steps *steps = &chooser->steps[place_of(record, i)];

		steps->items[steps->count++] = i;
	}
}

static enum replay_mode
choose_mode(uint64_t *chance)
{
	static const enum replay_mode modes[] = {REPLAY_DROP, REPLAY_DROP,
	    REPLAY_DROP, REPLAY_KEEP, REPLAY_PAGES, REPLAY_PAGES, REPLAY_PAGES,
	    REPLAY_SECTORS, REPLAY_SECTORS, REPLAY_SECTORS};

	return modes[chance_below(chance, sizeof(modes) / sizeof(modes[0]))];
}

static void
add(struct chooser *chooser, size_t behind, enum cut_place place,
    enum replay_mode mode)
{
	if (chooser->count < chooser->wanted)
		chooser->cuts[chooser->count++] =
		    (struct cut){behind + 1, place, mode};
}

/*
 * A successor stands on what its predecessor left, durable or not. The hardest
 * moment is that of its first answer, with all gone that is not.
 */
static void
choose_around_starts(struct chooser *chooser)
{
	const struct steps *starts = &chooser->steps[CUT_OPENED];

	for (size_t n = 0; n < starts->count; n++) {
		size_t told = TOLD_NEVER;

		for (size_t i = 0; i < chooser->told->count; i++) {
			size_t at = chooser->told->messages[i].answered;

			if (at > starts->items[n] && at < told)
				told = at;
		}
		add(chooser, starts->items[n], CUT_OPENED,
		    choose_mode(chooser->chance));
		if (told != TOLD_NEVER)
			add(chooser, told, CUT_SUCCESSOR_TOLD, REPLAY_DROP);
	}
}

static void
choose_one(struct chooser *chooser, size_t turn)
{
	enum cut_place place = TURN_FIRST + turn / 2 % TURN_COUNT;
	const struct steps *steps = &chooser->steps[place];
	size_t span = chooser->record->count - chooser->first;
	enum replay_mode mode = choose_mode(chooser->chance);
	uint64_t n = chance_next(chooser->chance);

	if (turn % 2 == 0 || steps->count == 0)
		add(chooser, chooser->first + n % span, CUT_ANYWHERE, mode);
	else
		add(chooser, steps->items[n % steps->count], place, mode);
}

static int
by_item(const void *left_ptr, const void *right_ptr)
{
	const struct cut *left = left_ptr;
	const struct cut *right = right_ptr;

	return left->item < right->item ? -1 : left->item > right->item;
}

struct cut *
cuts_choose(const struct record *record, const struct told_list *told,
    size_t count, uint64_t *chance)
{
	struct chooser chooser = {
	    .record = record,
	    .told = told,
	    .first = find_first_client(record),
	    .cuts = xcalloc(count, sizeof(*chooser.cuts)),
	    .wanted = count,
	    .chance = chance,
	};

	if (chooser.first == record->count)
		fatal("no client ever came");
	sort_steps(&chooser);
	choose_around_starts(&chooser);
	for (size_t turn = 0; chooser.count < count; turn++)
		choose_one(&chooser, turn);
	for (int place = 0; place < CUT_PLACE_END; place++)
		free(chooser.steps[place].items);
	qsort(chooser.cuts, count, sizeof(*chooser.cuts), by_item);
	return chooser.cuts;
}
