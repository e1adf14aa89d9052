/*
 * inquest.c - two deaths in the store, and what they died of.
 *
 * Role:    LMDB has no checksums of its pages: what a damaged one leads to is a
 *          crash, an endless walk, or an error. When processes have died in the
 *          store twice within a short time all that open it are stopped, a
 *          process of its own reads every row (shm/verify.c), and then they go
 *          on, or the store is set aside under another name and nothing is
 *          begun in its place.
 * Process: supervisor; the check is a child without anything but its rights.
 * Blocks:  never, but for a rename and a small file.
 * Trust:   opens no store. What the check says comes through shared memory and
 *          may be scribbled over by a crash: numbers are compared, texts are
 *          copied as far as they are plain.
 * See:     store_mark.h, policy.c (when), doc/decisions/013,
 *          t/62-damaged-store.t.
 */
#include "config.h"

#include "supervisor/inquest.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/store_mark.h"
#include "shm/verify.h"

#define STOP_MS 2000    /* for those that have it open */
#define REST_MS 3600000 /* after one that was sound */

#define FINDING_MAX (VERIFY_KEY_TEXT_MAX + VERIFY_WHY_MAX + 16)

enum inquest_step {
	INQUEST_NONE,
	INQUEST_STOP,  /* processes end */
	INQUEST_CHECK, /* its child reads */
};

enum inquest_verdict {
	VERDICT_NONE, /* it has not come to one */
	VERDICT_SOUND,
	VERDICT_DAMAGED,
	VERDICT_UNKNOWN, /* it could not be looked at: finding says why */
};

/* Written by the check's child. */
struct inquest_report {
	struct verify_place place;
	_Atomic uint32_t verdict; /* last */
	char finding[FINDING_MAX];
};

static struct {
	enum inquest_step step;
	struct doubt_watch doubts;
	int64_t rest_until_ms;
	int64_t began_ms;
	struct inquest_report *report; /* shared with the child */
	pid_t pid;                     /* 0: none */
	int status;                    /* of wait(2), once pid is 0 */
	uint64_t rows_seen;
	int64_t moved_at_ms; /* rows_seen grew */
	bool is_stalled;     /* and was killed for it */
} inquest;

/* ---- the child ---- */

struct check_task {
	const struct conf *conf;
	struct inquest_report *report;
};

static void
note_finding(void *ctx, enum store_dbi dbi, struct blob key, const char *what)
{
	struct inquest_report *report = ctx;
	char text[VERIFY_KEY_TEXT_MAX];

	if (report->finding[0] != '\0')
		return;
	verify_key_text(dbi, key, text);
	snprintf(report->finding, FINDING_MAX, "%s%s%s: %s",
	    verify_dbi_name(dbi), text[0] != '\0' ? " " : "", text, what);
}

static void
run_check(void *ctx)
{
	const struct log_conf silent = {
	    .target = "/dev/null", .level = "error", .format = "text"};
	const struct check_task *task = ctx;
	struct inquest_report *report = task->report;
	const struct verify_sink sink = {note_finding, report};
	struct verify_result result;
	char why[VERIFY_WHY_MAX] = "";
	char path[PATH_MAX];
	uint32_t verdict;
	int rc;

	if (log_open(&silent) != 0)
		return;
	rc = verify_folder(task->conf->server_data_dir,
	    (size_t)task->conf->store_map_size, &report->place, &sink, &result,
	    why);
	if (rc != 0)
		snprintf(report->finding, FINDING_MAX, "%s", why);
	/* a file whose tables cannot be found, or none at all? */
	snprintf(path, sizeof(path), "%s/" STORE_MAIN_FILE,
	    task->conf->server_data_dir);
	if (rc == ERR_NOT_FOUND && access(path, F_OK) == 0)
		rc = ERR_CORRUPT;
	if (rc == 0)
		verdict =
		    result.findings == 0 ? VERDICT_SOUND : VERDICT_DAMAGED;
	else
		verdict = rc == ERR_CORRUPT ? VERDICT_DAMAGED : VERDICT_UNKNOWN;
	atomic_store(&report->verdict, verdict);
}

/* ---- states ---- */

static void
set_store(struct crew *crew, enum store_state state)
{
	struct board_header *header = board_header(crew->board);

	crew->store = state;
	atomic_store(&header->store, state);
	/* before the first keeper it is so anyway */
	if (state != STORE_USABLE)
		atomic_store(&header->ready, 0);
}

/* Those that are nothing without it; workers have something to say. */
static void
refuse(struct crew *crew)
{
	set_store(crew, STORE_REFUSED);
	for (int i = 0; i < crew->child_count; i++) {
		struct child *child = &crew->children[i];

		if (crew_uses_store(child) && !slot_is_worker(child->slot) &&
		    child->state == PROCESS_DEAD)
			crew_hold_back(crew, child);
	}
}

/* @return is there a mark that says no? Then it is told */
static bool
refuse_by_mark(struct crew *crew)
{
	char why[1024];

	if (store_mark_judge(crew->conf->server_data_dir, why, sizeof(why)) ==
	    0)
		return false;
	log_error(NULL, "store-refused", "%s", why);
	refuse(crew);
	return true;
}

static void
set_aside(struct crew *crew, const char *finding)
{
	const char *folder = crew->conf->server_data_dir;
	char aside[STORE_ASIDE_MAX];
	char advice[STORE_MARK_TEXT_MAX];
	int rc = store_mark_set_aside(folder, finding, clock_wall_ms(), aside);
	int cause = errno;

	store_mark_advise(folder, advice);
	if (rc != 0)
		log_error(NULL, "store-damaged",
		    "file=%s/" STORE_MAIN_FILE " found=\"%s\" error=\"it could "
		    "not be given the name %s: %s\" hint=\"%s\"",
		    folder, finding, aside, strerror(cause), advice);
	else
		log_error(NULL, "store-damaged",
		    "file=%s/" STORE_MAIN_FILE " set_aside=%s found=\"%s\" "
		    "hint=\"%s\"",
		    folder, aside, finding, advice);
	refuse(crew);
}

static void
go_on(struct crew *crew, int64_t now_ms)
{
	inquest.rest_until_ms = now_ms + REST_MS;
	set_store(crew, STORE_USABLE);
}

/* ---- the verdict ---- */

/* Of a child that died without one: where, and what of. */
static void
describe_place(char *out, size_t len, const char *what)
{
	const struct verify_place *place = &inquest.report->place;
	char text[VERIFY_KEY_TEXT_MAX];
	uint32_t key_len = atomic_load(&place->key_len);
	struct blob key = {place->key, key_len};
	uint32_t dbi = atomic_load(&place->dbi);

	if (key.len > VERIFY_KEY_MAX)
		key.len = 0;
	if (atomic_load(&place->rows) == 0 || dbi >= DBI_END) {
		snprintf(out, len, "%s", what);
		return;
	}
	verify_key_text((enum store_dbi)dbi, key, text);
	snprintf(out, len, "%s behind %s %s", what,
	    verify_dbi_name((enum store_dbi)dbi), text);
}

static void
copy_plain(char *out, const char *from)
{
	size_t i;

	for (i = 0; i < FINDING_MAX - 1 && from[i] != '\0'; i++)
		out[i] = from[i] >= ' ' && from[i] != '"' && from[i] != 127
			     ? from[i]
			     : '?';
	out[i] = '\0';
}

static bool
is_crash(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL &&
	       WTERMSIG(status) != SIGTERM;
}

/* How the check ended, in one word, and why. */
static enum inquest_verdict
judge_end(char finding[FINDING_MAX])
{
	uint32_t verdict = atomic_load(&inquest.report->verdict);
	char what[64];

	copy_plain(finding, inquest.report->finding);
	if (inquest.is_stalled) {
		describe_place(finding, FINDING_MAX, "reading does not end");
		return VERDICT_DAMAGED;
	}
	if (is_crash(inquest.status)) {
		snprintf(what, sizeof(what), "reading crashes (signal %d)",
		    WTERMSIG(inquest.status));
		describe_place(finding, FINDING_MAX, what);
		return VERDICT_DAMAGED;
	}
	if (verdict == VERDICT_SOUND || verdict == VERDICT_DAMAGED)
		return (enum inquest_verdict)verdict;
	if (finding[0] == '\0')
		snprintf(finding, FINDING_MAX, "it ended with status %d",
		    inquest.status);
	return VERDICT_UNKNOWN;
}

static void
finish(struct crew *crew, int64_t now_ms)
{
	char finding[FINDING_MAX];
	unsigned long long rows = atomic_load(&inquest.report->place.rows);
	enum inquest_verdict verdict = judge_end(finding);

	munmap(inquest.report, sizeof(*inquest.report));
	inquest.report = NULL;
	inquest.step = INQUEST_NONE;
	switch (verdict) {
	case VERDICT_DAMAGED:
		set_aside(crew, finding);
		break;
	case VERDICT_SOUND:
		log_warn(NULL, "store-sound",
		    "rows=%llu ms=%lld hint=\"the deaths have another cause\"",
		    rows, (long long)(now_ms - inquest.began_ms));
		go_on(crew, now_ms);
		break;
	case VERDICT_NONE:
	case VERDICT_UNKNOWN:
		log_error(NULL, "store-check-failed", "error=\"%s\"", finding);
		go_on(crew, now_ms);
		break;
	}
}

/* ---- steps ---- */

static void
begin(struct crew *crew, int64_t now_ms)
{
	log_warn(NULL, "store-suspect",
	    "hint=\"processes have died in the store twice: all that open it "
	    "are stopped, and every row is read\"");
	set_store(crew, STORE_SUSPECT);
	inquest.step = INQUEST_STOP;
	inquest.began_ms = now_ms;
	for (int i = 0; i < crew->child_count; i++) {
		struct child *child = &crew->children[i];

		if (!crew_uses_store(child))
			continue;
		crew_stop(crew, child, now_ms);
		if (child->state == PROCESS_STOPPING &&
		    child->kill_at_ms > now_ms + STOP_MS)
			child->kill_at_ms = now_ms + STOP_MS;
	}
}

static bool
is_anybody_in(const struct crew *crew)
{
	for (int i = 0; i < crew->child_count; i++) {
		if (crew_uses_store(&crew->children[i]) &&
		    crew_is_alive(&crew->children[i]))
			return true;
	}
	return false;
}

static void
start_check(struct crew *crew, int64_t now_ms)
{
	static const struct process_kind kind = {
	    .name = "store-check", .keeps_data_lock = true};
	struct check_task task = {.conf = crew->conf};
	struct spawn spawn = {
	    .kind = &kind,
	    .bus = crew->bus,
	    .sockets = &crew->sockets,
	    .vault = crew->vault,
	    .hold = crew->hold,
	    .rights = &crew->rights,
	    .slot = SLOT_SUPERVISOR,
	    .data_lock_fd = crew->data_lock_fd,
	    .private_fds = crew->private_fds,
	    .private_count =
		sizeof(crew->private_fds) / sizeof(crew->private_fds[0]),
	};

	if (refuse_by_mark(crew)) {
		inquest.step = INQUEST_NONE;
		return;
	}
	inquest.report = mmap(NULL, sizeof(*inquest.report),
	    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	task.report = inquest.report;
	inquest.pid = inquest.report == MAP_FAILED
			  ? -1
			  : spawn_tool(&spawn, run_check, &task);
	if (inquest.pid > 0) {
		inquest.step = INQUEST_CHECK;
		inquest.rows_seen = 0;
		inquest.moved_at_ms = now_ms;
		inquest.is_stalled = false;
		return;
	}
	log_error(NULL, "store-check-failed", "error=\"%s\"", strerror(errno));
	if (inquest.report != MAP_FAILED)
		munmap(inquest.report, sizeof(*inquest.report));
	inquest.report = NULL;
	inquest.pid = 0;
	inquest.step = INQUEST_NONE;
	go_on(crew, now_ms);
}

static void
watch_check(struct crew *crew, int64_t now_ms)
{
	uint64_t rows;

	if (inquest.pid == 0) {
		finish(crew, now_ms);
		return;
	}
	rows = atomic_load(&inquest.report->place.rows);
	if (rows != inquest.rows_seen) {
		inquest.rows_seen = rows;
		inquest.moved_at_ms = now_ms;
	} else if (now_ms - inquest.moved_at_ms >= VERIFY_STALL_MS) {
		inquest.is_stalled = true;
		kill(inquest.pid, SIGKILL);
	}
}

/* ---- for others ---- */

void
inquest_open(struct crew *crew)
{
	set_store(crew, STORE_USABLE);
	(void)refuse_by_mark(crew);
}

void
inquest_note(
    struct crew *crew, const struct child *child, int status, int64_t now_ms)
{
	const struct board_slot *slot = board_slot(crew->board, child->slot);
	char name[24];

	if (atomic_load(&slot->store_doubt) == 0 &&
	    (!is_crash(status) || atomic_load(&slot->in_store) == 0))
		return;
	if (crew->store != STORE_USABLE || !child->is_wanted)
		return;
	log_warn(NULL, "store-doubt",
	    "name=%s hint=\"it died in the store; once more, and the store is "
	    "checked\"",
	    board_slot_name(crew->board, child->slot, name));
	if (policy_doubt(&inquest.doubts, now_ms) &&
	    now_ms >= inquest.rest_until_ms)
		begin(crew, now_ms);
}

void
inquest_reaped(pid_t pid, int status)
{
	if (pid != inquest.pid)
		return;
	inquest.pid = 0;
	inquest.status = status;
}

void
inquest_tick(struct crew *crew, int64_t now_ms)
{
	switch (inquest.step) {
	case INQUEST_NONE:
		break;
	case INQUEST_STOP:
		if (!is_anybody_in(crew))
			start_check(crew, now_ms);
		break;
	case INQUEST_CHECK:
		watch_check(crew, now_ms);
		break;
	}
}

void
inquest_abandon(void)
{
	if (inquest.pid != 0)
		kill(inquest.pid, SIGKILL);
	inquest.step = INQUEST_NONE;
}

bool
inquest_is_settled(const struct crew *crew)
{
	if (crew->store != STORE_REFUSED)
		return false;
	for (int i = 0; i < crew->child_count; i++) {
		const struct child *child = &crew->children[i];
		bool is_down =
		    crew_uses_store(child) && !slot_is_worker(child->slot);

		if (child->is_wanted && !is_down &&
		    child->state != PROCESS_RUNNING)
			return false;
	}
	return true;
}
