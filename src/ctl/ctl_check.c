/*
 * ctl_check.c - parleyctl check: is every row of a store sound?
 *
 * Role:    runs shm/verify.c in a process of its own and says what it found.
 * Process: parleyctl; its child reads the store, as the user who owns it.
 * Blocks:  for as long as the store is large.
 * Trust:   none: liblmdb may crash on a damaged page. Then the child is gone
 *          and shared memory has the row.
 * See:     shm/verify.h, doc/operations.md, t/63-check.t.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "ctl/ctl_priv.h"
#include "shm/verify.h"

#define FINDINGS_SAID_MAX 1000
#define LOOK_MS           1000
#define WHAT_MAX          VERIFY_WHY_MAX

/* What the child tells, one write each: shorter than PIPE_BUF. */
struct word {
	bool is_end;
	bool is_error; /* of the whole: what says why nothing was judged */
	uint32_t dbi;
	uint32_t key_len;
	uint8_t key[VERIFY_KEY_MAX];
	char what[WHAT_MAX];
	struct verify_result result; /* with is_end */
};
_Static_assert(sizeof(struct word) <= PIPE_BUF, "words are written whole");

struct check {
	struct ctl *ctl;
	const char *folder;
	struct verify_place *place; /* shared with the child */
	int words;                  /* pipe */
	struct buf json;
	uint64_t said;
	bool is_silent;  /* only the verdict counts */
	pid_t pid;       /* of the child */
	bool is_stalled; /* it was killed for that */
	struct word end;
};

/* ---- the child ---- */

static void
tell(int fd, const struct word *word)
{
	if (write(fd, word, sizeof(*word)) != (ssize_t)sizeof(*word))
		_exit(EXIT_FAILURE);
}

static void
tell_finding(void *ctx, enum store_dbi dbi, struct blob key, const char *what)
{
	const int *fd = ctx;
	struct word word = {
	    .dbi = (uint32_t)dbi,
	    .key_len = (uint32_t)key.len,
	};

	if (key.len > 0)
		memcpy(word.key, key.data, key.len);
	snprintf(word.what, sizeof(word.what), "%s", what);
	tell(*fd, &word);
}

_Noreturn static void
give_up(int fd, const char *why)
{
	struct word word = {.is_end = true, .is_error = true};

	snprintf(word.what, sizeof(word.what), "%s", why);
	tell(fd, &word);
	_exit(EXIT_FAILURE);
}

_Noreturn static void
run_child(const struct check *check, int fd, pid_t parent)
{
	const struct log_conf silent = {"/dev/null", "error", "text", false};
	struct word end = {.is_end = true};
	const struct verify_sink sink = {tell_finding, &fd};
	char error[WHAT_MAX];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 0); /* a core would hold messages */
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	if (ctl_become_owner(check->folder, error, sizeof(error)) != 0)
		give_up(fd, error);
	/* each damaged row is told of here */
	if (log_open(&silent) != 0)
		_exit(EXIT_FAILURE);
	if (verify_folder(check->folder,
		(size_t)check->ctl->conf->store_map_size, check->place, &sink,
		&end.result, error) != 0)
		give_up(fd, error);
	tell(fd, &end);
	_exit(EXIT_SUCCESS);
}

/* ---- what is said ---- */

static void
say_finding(struct check *check, const struct word *word)
{
	struct blob key = {word->key, word->key_len};
	char text[VERIFY_KEY_TEXT_MAX];

	if (check->said++ >= FINDINGS_SAID_MAX || check->is_silent)
		return;
	verify_key_text((enum store_dbi)word->dbi, key, text);
	if (!check->ctl->wants_json) {
		printf("%s %s: %s\n",
		    verify_dbi_name((enum store_dbi)word->dbi), text,
		    word->what);
		return;
	}
	json_object_begin(&check->json);
	json_put_text(
	    &check->json, "table", verify_dbi_name((enum store_dbi)word->dbi));
	json_put_text(&check->json, "key", text);
	json_put_text(&check->json, "finding", word->what);
	json_object_end(&check->json);
}

/* Is there more to read, or the end? Damaged pages may lead in a circle. */
static bool
await_word(const struct check *check)
{
	struct pollfd fd = {.fd = check->words, .events = POLLIN};
	uint64_t seen = 0;
	uint64_t rows = 0;
	int64_t moved_ms = clock_mono_ms();

	while (poll(&fd, 1, LOOK_MS) <= 0) {
		rows = atomic_load(&check->place->rows);
		if (rows != seen)
			moved_ms = clock_mono_ms();
		else if (clock_mono_ms() - moved_ms >= VERIFY_STALL_MS)
			return false;
		seen = rows;
	}
	return true;
}

static void
read_words(struct check *check)
{
	struct word word;
	ssize_t n;

	for (;;) {
		if (!await_word(check)) {
			check->is_stalled = true;
			kill(check->pid, SIGKILL);
			return;
		}
		n = read(check->words, &word, sizeof(word));
		if (n == -1 && errno == EINTR)
			continue;
		if (n != (ssize_t)sizeof(word))
			return;
		if (word.is_end)
			check->end = word;
		else
			say_finding(check, &word);
	}
}

/* The child is gone before its last word. */
static void
say_crash(struct check *check, int status)
{
	struct verify_place *place = check->place;
	struct word word = {
	    .dbi = atomic_load(&place->dbi),
	    .key_len = atomic_load(&place->key_len),
	};

	memcpy(word.key, place->key, sizeof(word.key));
	if (atomic_load(&place->rows) == 0)
		word.dbi = DBI_END;
	if (check->is_stalled)
		snprintf(word.what, sizeof(word.what),
		    "reading on from this row does not end: damaged pages");
	else if (WIFSIGNALED(status))
		snprintf(word.what, sizeof(word.what),
		    "reading on from this row crashes (signal %d): damaged "
		    "pages",
		    WTERMSIG(status));
	else
		snprintf(word.what, sizeof(word.what),
		    "reading on from this row ends the program: damaged pages");
	say_finding(check, &word);
}

static int
say_result(struct check *check, bool is_complete, int64_t took_ms)
{
	const struct verify_result *result = &check->end.result;
	uint64_t rows = is_complete ? 0 : atomic_load(&check->place->rows);
	bool is_sound = is_complete && check->said == 0;

	for (int i = 0; is_complete && i < DBI_END; i++)
		rows += result->rows[i];
	if (check->ctl->wants_json) {
		json_array_end(&check->json);
		json_put_bool(&check->json, "ok", is_sound);
		json_put_bool(&check->json, "complete", is_complete);
		json_put_u64(&check->json, "rows", rows);
		json_put_u64(&check->json, "findings", check->said);
		json_put_u64(&check->json, "ms", (uint64_t)took_ms);
		json_object_end(&check->json);
		printf("%.*s\n", (int)check->json.len, check->json.data);
	} else {
		if (check->said > FINDINGS_SAID_MAX)
			printf("... and %llu more\n",
			    (unsigned long long)(check->said -
						 FINDINGS_SAID_MAX));
		printf("%s: %llu rows in %.1f s, %s\n", check->folder,
		    (unsigned long long)rows, (double)took_ms / 1000,
		    is_sound       ? "all sound"
		    : !is_complete ? "then no further"
				   : "some are damaged");
	}
	return is_sound ? CTL_OK : CTL_FAILED;
}

/* @return the child's end, or -1: it could not be started */
static int
run(struct check *check)
{
	int fds[2] = {-1, -1};
	pid_t parent = getpid();
	int status = -1;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) == -1)
		return -1;
	pid = fork();
	if (pid == 0)
		run_child(check, fds[1], parent);
	check->pid = pid;
	close(fds[1]);
	check->words = fds[0];
	if (pid != -1) {
		read_words(check);
		while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
			continue;
	}
	close(fds[0]);
	return status;
}

/* @return false: there was no memory or no process for it: said */
static bool
run_shared(struct check *check, int *status_out)
{
	check->place = mmap(NULL, sizeof(*check->place), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fflush(stdout); /* not twice */
	*status_out = check->place == MAP_FAILED ? -1 : run(check);
	if (*status_out == -1)
		ctl_fail(check->ctl, CTL_FAILED, "cannot start a process: %s",
		    strerror(errno));
	return *status_out != -1;
}

int
ctl_check_folder(struct ctl *ctl, const char *folder)
{
	struct check check = {.ctl = ctl, .folder = folder, .is_silent = true};
	int code = CTL_OK;
	int status;

	if (!run_shared(&check, &status))
		return CTL_FAILED;
	if (check.end.is_error)
		code =
		    ctl_fail(ctl, CTL_FAILED, "%s: %s", folder, check.end.what);
	else if (!check.end.is_end || check.said > 0)
		code = ctl_fail(ctl, CTL_FAILED,
		    "%s: the store is damaged; parleyctl check %s says where",
		    folder, folder);
	munmap(check.place, sizeof(*check.place));
	return code;
}

int
ctl_check(struct ctl *ctl)
{
	struct check check = {
	    .ctl = ctl,
	    .folder =
		ctl->arg_count > 0 ? ctl->args[0] : ctl->conf->server_data_dir,
	};
	int64_t began_ms = clock_mono_ms();
	int status;
	int code;

	if (ctl->wants_json) {
		json_object_begin(&check.json);
		json_key(&check.json, "damaged");
		json_array_begin(&check.json);
	}
	if (!run_shared(&check, &status)) {
		code = CTL_FAILED;
	} else if (check.end.is_error) {
		code = ctl_fail(
		    ctl, CTL_FAILED, "%s: %s", check.folder, check.end.what);
	} else {
		if (!check.end.is_end)
			say_crash(&check, status);
		code = say_result(
		    &check, check.end.is_end, clock_mono_ms() - began_ms);
	}
	buf_fini(&check.json);
	if (check.place != MAP_FAILED)
		munmap(check.place, sizeof(*check.place));
	return code;
}
