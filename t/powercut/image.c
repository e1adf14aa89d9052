/*
 * image.c - one image of a store after a power cut, judged.
 *
 * It opens; every row is sound (what parleyctl check does); each message that
 * a client was told of is in the log, and in its receiver's inbox unless the
 * receiver can have acknowledged it; no Seq is missing. Then it is written to:
 * a free page that is none would show afterwards.
 *
 * See: shm/verify.c, told.c.
 */
#include "config.h"

#include "t/powercut/image.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "load/payload.h"
#include "shm/conv.h"
#include "shm/inbox.h"
#include "shm/log.h"
#include "shm/userhead.h"
#include "shm/verify.h"

#define TIME_LIMIT_S 60
#define REWRITES     4   /* a page freed by one is used by the third */
#define SAMPLE_MAX   400 /* messages told last */

struct inbox_view {
	uint64_t user;
	uint64_t cursor;
	uint64_t *refs; /* of cursor + 1, cursor + 2 ... */
	size_t count;
	size_t cap;
	bool has_hole;
};

struct judge {
	const struct image *image;
	struct store *store;
	struct txn txn;
	struct inbox_view *inboxes;
	size_t inbox_count;
	char *words;
};

/* ---- in the child: each function ends it with a verdict, or returns ---- */

__attribute__((format(printf, 3, 4))) _Noreturn static void
end(const struct judge *judge, enum image_verdict verdict, const char *format,
    ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(judge->words, IMAGE_WORDS_MAX, format, args);
	va_end(args);
	_exit((int)verdict);
}

static void
note_finding(void *ctx, enum store_dbi dbi, struct blob key, const char *what)
{
	char text[VERIFY_KEY_TEXT_MAX];
	struct judge *judge = ctx;

	verify_key_text(dbi, key, text);
	snprintf(judge->words, IMAGE_WORDS_MAX, "%s %s: %s",
	    verify_dbi_name(dbi), text, what);
}

static void
verify(struct judge *judge, const char *when)
{
	struct verify_result result;
	char finding[IMAGE_WORDS_MAX];

	if (verify_store(judge->store, NULL, note_finding, judge, &result) != 0)
		end(judge, IMAGE_DAMAGED, "%s, no parley store", when);
	if (result.findings == 0)
		return;
	snprintf(finding, sizeof(finding), "%s", judge->words);
	end(judge, IMAGE_DAMAGED, "%s, %llu findings; %.120s", when,
	    (unsigned long long)result.findings, finding);
}

static bool
keep_ref(void *ctx, const struct inbox_event *event)
{
	struct inbox_view *inbox = ctx;

	if (inbox->count == inbox->cap) {
		inbox->cap = inbox->cap == 0 ? 64 : inbox->cap * 2;
		inbox->refs =
		    xrealloc(inbox->refs, inbox->cap * sizeof(*inbox->refs));
	}
	inbox->refs[inbox->count++] = event->ref;
	if (event->seq != inbox->cursor + inbox->count)
		inbox->has_hole = true;
	return true;
}

static struct inbox_view *
inbox_of(struct judge *judge, uint64_t user)
{
	struct inbox_view *inbox;
	struct userhead head;

	for (size_t i = 0; i < judge->inbox_count; i++) {
		if (judge->inboxes[i].user == user)
			return &judge->inboxes[i];
	}
	judge->inboxes = xrealloc(
	    judge->inboxes, (judge->inbox_count + 1) * sizeof(*judge->inboxes));
	inbox = &judge->inboxes[judge->inbox_count++];
	*inbox = (struct inbox_view){.user = user};
	if (userhead_get(&judge->txn, user, &head) != 0 ||
	    head.row.device_count != 1)
		end(judge, IMAGE_LOST, "user %llu has not one device",
		    (unsigned long long)user);
	inbox->cursor = head.devices[0].cursor > head.row.floor
			    ? head.devices[0].cursor
			    : head.row.floor;
	if (inbox_each(&judge->txn, user, inbox->cursor, UINT64_MAX, keep_ref,
		inbox) != 0)
		end(judge, IMAGE_DAMAGED, "the inbox of %llu cannot be read",
		    (unsigned long long)user);
	if (inbox->has_hole || inbox->cursor + inbox->count != head.row.head)
		end(judge, IMAGE_LOST, "the inbox of %llu has a hole",
		    (unsigned long long)user);
	return inbox;
}

static uint64_t
receiver_of(const struct log_message *message)
{
	uint64_t lower;
	uint64_t higher;

	conv_key_members(&message->conv, &lower, &higher);
	return message->sender == lower ? higher : lower;
}

static bool
has_event(const struct judge *judge, const struct inbox_view *inbox,
    const struct told *told)
{
	if (told->seq == 0) {
		for (size_t i = 0; i < inbox->count; i++) {
			if (inbox->refs[i] == told->id)
				return true;
		}
		return false;
	}
	/* Nobody acknowledges what was not delivered to him. */
	if (told->seq <= inbox->cursor)
		return told->delivered < judge->image->cut;
	return told->seq - inbox->cursor <= inbox->count &&
	       inbox->refs[told->seq - inbox->cursor - 1] == told->id;
}

static void
judge_message(struct judge *judge, const struct told *told)
{
	unsigned long long id = told->id;
	const struct inbox_view *inbox;
	struct log_message message;
	struct payload payload;
	const char *body;

	if (log_get(&judge->txn, told->id, &message) != 0)
		end(judge, IMAGE_LOST, "message %llu is not in the log", id);
	body = message.body.data;
	if (!payload_parse(body, message.body.len, &payload) ||
	    !payload_is_whole(body, message.body.len, message.body.len) ||
	    payload.sender != message.sender || payload.number != told->number)
		end(judge, IMAGE_LOST, "message %llu is another one", id);
	inbox = inbox_of(judge, receiver_of(&message));
	if (!has_event(judge, inbox, told))
		end(judge, IMAGE_LOST,
		    "message %llu is not in the inbox of %llu: seq %llu, "
		    "acknowledged up to %llu, %zu events above",
		    id, (unsigned long long)inbox->user,
		    (unsigned long long)told->seq,
		    (unsigned long long)inbox->cursor, inbox->count);
}

/* One line: sender, receiver, message id, client's id, seq, text. */
static void
put_sample(struct judge *judge, FILE *file, const struct told *told)
{
	struct log_message message;

	if (log_get(&judge->txn, told->id, &message) != 0)
		return;
	fprintf(file, "%llu %llu %llu %.*s %llu %.*s\n",
	    (unsigned long long)message.sender,
	    (unsigned long long)receiver_of(&message),
	    (unsigned long long)told->id, (int)message.client_id.len,
	    (const char *)message.client_id.data, (unsigned long long)told->seq,
	    (int)message.body.len, (const char *)message.body.data);
}

static void
write_sample(struct judge *judge)
{
	const struct told_list *list = judge->image->told;
	FILE *file = fopen(judge->image->sample, "we");
	size_t first = list->count;
	size_t count = 0;

	if (file == NULL)
		end(judge, IMAGE_CLOSED, "%s: cannot be written",
		    judge->image->sample);
	while (first > 0 && count < SAMPLE_MAX) {
		if (list->messages[--first].answered < judge->image->cut)
			count++;
	}
	for (size_t i = first; i < list->count; i++) {
		if (list->messages[i].answered < judge->image->cut)
			put_sample(judge, file, &list->messages[i]);
	}
	fclose(file);
}

static void
judge_told(struct judge *judge)
{
	const struct told_list *list = judge->image->told;

	if (store_begin_read(judge->store, &judge->txn) != 0)
		end(judge, IMAGE_DAMAGED, "it cannot be read");
	for (size_t i = 0; i < list->count; i++) {
		if (told_since(&list->messages[i]) < judge->image->cut)
			judge_message(judge, &list->messages[i]);
	}
	if (judge->image->sample != NULL)
		write_sample(judge);
	txn_end(&judge->txn);
}

/* The same rows again, as the keeper would: their old pages become free. */
static int
rewrite(struct txn *txn, enum store_dbi dbi)
{
	struct walk walk;
	struct buf rows = {0};
	size_t at = 0;
	int rc;

	for (rc = walk_begin(&walk, txn, dbi, NULL, 0); rc == 0;
	     rc = walk_next(&walk)) {
		buf_add(&rows, &walk.key.len, sizeof(size_t));
		buf_add(&rows, &walk.value.len, sizeof(size_t));
		buf_add(&rows, walk.key.data, walk.key.len);
		buf_add(&rows, walk.value.data, walk.value.len);
	}
	walk_end(&walk);
	rc = rc == ERR_NOT_FOUND ? 0 : rc;
	while (rc == 0 && at < rows.len) {
		const char *row = rows.data + at;
		size_t len[2];

		memcpy(len, row, sizeof(len));
		row += sizeof(len);
		rc = txn_put(txn, dbi, row, len[0], row + len[0], len[1]);
		at += sizeof(len) + len[0] + len[1];
	}
	buf_fini(&rows);
	return rc;
}

static void
write_on(struct judge *judge)
{
	int rc = 0;

	for (int i = 0; rc == 0 && i < REWRITES; i++) {
		rc = store_begin_write(judge->store, &judge->txn);
		if (rc == 0)
			rc = rewrite(&judge->txn, DBI_userhead);
		if (rc == 0)
			rc = rewrite(&judge->txn, DBI_conv);
		if (rc == 0)
			rc = txn_commit(&judge->txn);
	}
	if (rc != 0)
		end(judge, IMAGE_DAMAGED, "it cannot be written on: %s",
		    err_text(rc));
}

_Noreturn static void
run_child(const struct image *image, char *words)
{
	const struct log_conf silent = {
	    .target = "/dev/null", .level = "error", .format = "text"};
	struct judge judge = {.image = image, .words = words};
	char error[512];

	alarm(TIME_LIMIT_S);
	/* what is damaged is told of there, and by the library here */
	if (log_open(&silent) != 0 || freopen("/dev/null", "w", stderr) == NULL)
		end(&judge, IMAGE_CLOSED, "/dev/null");
	if (store_open(STORE_MAIN, image->folder, image->map_size, true,
		&judge.store, error, sizeof(error)) != 0)
		end(&judge, IMAGE_CLOSED, "%.150s", error);
	verify(&judge, "at once");
	judge_told(&judge);
	write_on(&judge);
	verify(&judge, "written on");
	store_close(&judge.store);
	_exit(IMAGE_SOUND);
}

/* ---- outside ---- */

enum image_verdict
image_judge(const struct image *image, char words_out[IMAGE_WORDS_MAX])
{
	char *words = mmap(NULL, IMAGE_WORDS_MAX, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	if (words == MAP_FAILED)
		fatal("out of memory");
	fflush(stdout); /* not twice */
	pid = fork();
	if (pid == 0)
		run_child(image, words);
	if (pid == -1 || waitpid(pid, &status, 0) != pid)
		fatal("no process for an image");
	memcpy(words_out, words, IMAGE_WORDS_MAX);
	munmap(words, IMAGE_WORDS_MAX);
	if (WIFEXITED(status) && WEXITSTATUS(status) < IMAGE_VERDICT_END)
		return (enum image_verdict)WEXITSTATUS(status);
	snprintf(words_out, IMAGE_WORDS_MAX, "reading it crashes (%d)", status);
	return IMAGE_DAMAGED;
}
