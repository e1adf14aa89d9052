/*
 * journal.h - what the recorder writes down and the replay reads.
 *
 * One file; each entry is appended by one write, so that the order of entries
 * is the order of events in all processes. Native integers.
 */
#ifndef T_POWERCUT_JOURNAL_H
#define T_POWERCUT_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#define JOURNAL_MAGIC 0x6c616e72756f6a70ULL
#define JOURNAL_ALIGN 8 /* bytes are padded to it */

/* In the folder that POWERCUT_FOLDER names. */
#define JOURNAL_FILE "journal"
#define CONTROL_FILE "die" /* one uint32_t: enum die_at, 0: live on */

enum journal_kind {
	JOURNAL_OPENED = 1, /* by a writer; bytes: the file as it found it */
	JOURNAL_WRITE,      /* begins; bytes go to offset */
	JOURNAL_WRITTEN,    /* the last one of this process has ended, well */
	JOURNAL_SYNC,       /* begins */
	JOURNAL_SYNCED,     /* has ended; offset: 0, or it failed */
	JOURNAL_SENT,       /* bytes are on their way to fd, a client's */
	JOURNAL_SENT_PART,  /* only this many of them: offset */
	JOURNAL_NAMED,      /* the folder of the store has been synced */
	JOURNAL_KIND_END
};

struct journal_entry { /* followed by len bytes */
	uint64_t magic;
	uint32_t kind; /* enum journal_kind */
	uint32_t pid;
	int32_t fd;
	uint32_t is_synchronous; /* a write with O_DSYNC */
	uint64_t offset;
	uint64_t len;
};

/* Where the next commit kills its process. */
enum die_at {
	DIE_IN_DATA = 1, /* half of a page is written */
	DIE_BEFORE_SYNC, /* all pages are written */
	DIE_IN_SYNC,     /* they are on the disk, which nobody was told */
	DIE_IN_META,     /* the meta page is in memory, not on the disk */
	DIE_AFTER_META,  /* it is on the disk, nobody was told */
	DIE_AT_END
};

#endif
