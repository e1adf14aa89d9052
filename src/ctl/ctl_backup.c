/*
 * ctl_backup.c - parleyctl backup, restore, compact: whole stores.
 *
 * Role:    copies a store beside a running server; puts a copy in the place of
 *          the store of a stopped one.
 * Process: parleyctl; what opens a store is a child, as the user who owns it.
 * Blocks:  for as long as the store is large.
 * Trust:   a copy counts when each of its rows has been judged; nothing is
 *          replaced before, and what was there is kept.
 * See:     doc/operations.md, shm/renew.h, t/62-backup.t.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "ctl/ctl_priv.h"
#include "shm/ids.h"
#include "shm/meta.h"
#include "shm/renew.h"
#include "shm/store_lock.h"
#include "shm/store_mark.h"

#define STORE_FILE STORE_MAIN_FILE
#define NEW_FOLDER "main.new"
#define COPY_CHUNK ((size_t)1 << 20)
#define WHY_MAX    512

struct names {
	char store[PATH_MAX]; /* FOLDER/main.mdb */
	char lock[PATH_MAX];  /* its lock file: of readers, not of servers */
	char next_folder[PATH_MAX]; /* where its successor is made */
	char next[PATH_MAX];
	char next_lock[PATH_MAX];
	char aside[PATH_MAX]; /* what was there is called so then */
};

static void
name_all(const char *folder, struct names *names)
{
	time_t now = time(NULL);
	struct tm utc;
	char at[32];

	gmtime_r(&now, &utc);
	strftime(at, sizeof(at), "%Y%m%dT%H%M%SZ", &utc);
	snprintf(names->store, PATH_MAX, "%s/" STORE_FILE, folder);
	snprintf(names->lock, PATH_MAX, "%s/" STORE_FILE "-lock", folder);
	snprintf(names->next_folder, PATH_MAX, "%s/" NEW_FOLDER, folder);
	snprintf(
	    names->next, PATH_MAX, "%s/" NEW_FOLDER "/" STORE_FILE, folder);
	snprintf(names->next_lock, PATH_MAX,
	    "%s/" NEW_FOLDER "/" STORE_FILE "-lock", folder);
	snprintf(
	    names->aside, PATH_MAX, "%s/" STORE_FILE ".before-%s", folder, at);
}

static int
fail_on(struct ctl *ctl, const char *path)
{
	return ctl_fail(ctl, CTL_FAILED, "%s: %s", path, strerror(errno));
}

/* ---- children ---- */

int
ctl_become_owner(const char *folder, char *why, size_t why_len)
{
	struct names names;
	struct stat st;

	name_all(folder, &names);
	if (stat(names.store, &st) == -1) {
		snprintf(
		    why, why_len, "%.120s: %s", names.store, strerror(errno));
		return -1;
	}
	if (geteuid() != 0 || st.st_uid == 0)
		return 0;
	if (setgroups(0, NULL) == -1 || setgid(st.st_gid) == -1 ||
	    setuid(st.st_uid) == -1) {
		snprintf(why, why_len, "cannot become its owner: %s",
		    strerror(errno));
		return -1;
	}
	return 0;
}

/* Work on a store, and what the child leaves to its parent. */
struct work {
	struct ctl *ctl;
	const char *folder;
	bool is_writer;
	bool is_compact;
	int fd; /* of a copy */
	uint64_t last_id;
	char why[WHY_MAX];
};

typedef int (*work_fn)(struct work *work, struct store *store);

_Noreturn static void
run_work(struct work *work, work_fn fn, pid_t parent)
{
	struct store *store = NULL;
	int rc;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 0);
	if (getppid() != parent ||
	    ctl_become_owner(work->folder, work->why, WHY_MAX) != 0)
		_exit(EXIT_FAILURE);
	rc = store_open(STORE_MAIN, work->folder,
	    (size_t)work->ctl->conf->store_map_size, work->is_writer, &store,
	    work->why, WHY_MAX);
	if (rc == 0)
		rc = fn(work, store);
	store_close(&store);
	_exit(rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* In a process of its own: liblmdb may crash on a damaged page.
 * @param shared  of share_work @return was it done? why says what not */
static bool
work_apart(struct work *shared, work_fn fn)
{
	pid_t parent = getpid();
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
		run_work(shared, fn, parent);
	if (pid == -1) {
		snprintf(shared->why, WHY_MAX, "fork: %s", strerror(errno));
		return false;
	}
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		continue;
	if (WIFSIGNALED(status))
		snprintf(shared->why, WHY_MAX,
		    "%s: reading it crashes (signal %d): the store is damaged",
		    shared->folder, WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static struct work *
share_work(struct ctl *ctl, const char *folder)
{
	struct work *work = mmap(NULL, sizeof(*work), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (work == MAP_FAILED) {
		ctl_fail(ctl, CTL_FAILED, "no memory");
		return NULL;
	}
	work->ctl = ctl;
	work->folder = folder;
	work->fd = -1;
	return work;
}

static int
copy_work(struct work *work, struct store *store)
{
	int cause = store_copy(store, work->fd, work->is_compact);

	if (cause != 0)
		snprintf(work->why, WHY_MAX, "cannot copy the store: %s",
		    strerror(cause));
	return cause;
}

static int
last_id_work(struct work *work, struct store *store)
{
	return renew_last_id(store, &work->last_id);
}

/* A copy may be one that an earlier version has made. */
static int
upgrade_work(struct work *work, struct store *store)
{
	struct txn txn = {0};
	int rc = store_begin_write(store, &txn);

	if (rc == 0)
		rc = meta_upgrade(&txn);
	if (rc == 0)
		rc = txn_commit(&txn);
	txn_end(&txn);
	if (rc != 0)
		snprintf(work->why, WHY_MAX,
		    "cannot bring the store up to date: %s", err_text(rc));
	return rc;
}

static int
renew_work(struct work *work, struct store *store)
{
	int rc = renew_store(store, clock_wall_ms(), work->last_id);

	if (rc != 0)
		snprintf(work->why, WHY_MAX,
		    "cannot give the store new numbers: %s", err_text(rc));
	return rc;
}

/* ---- a copy in a new file ---- */

/* @return CTL_OK, or said; then there is no file */
static int
copy_store(struct ctl *ctl, const char *from, const char *to, bool is_compact)
{
	struct work *work = share_work(ctl, from);
	int code = CTL_OK;

	if (work == NULL)
		return CTL_FAILED;
	work->is_compact = is_compact;
	work->fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (work->fd == -1) {
		code = fail_on(ctl, to);
	} else if (!work_apart(work, copy_work)) {
		code = ctl_fail(ctl, CTL_FAILED, "%s", work->why);
		unlink(to);
	} else if (fsync(work->fd) == -1) {
		code = fail_on(ctl, to);
		unlink(to);
	}
	if (work->fd != -1)
		close(work->fd);
	munmap(work, sizeof(*work));
	return code;
}

static void
say_file(const struct ctl *ctl, const char *path, int64_t began_ms,
    const char *aside)
{
	struct buf json = {0};
	struct stat st = {0};
	int64_t took_ms = clock_mono_ms() - began_ms;

	(void)stat(path, &st);
	if (!ctl->wants_json) {
		printf("%s: %lld bytes in %.1f s, all sound\n", path,
		    (long long)st.st_size, (double)took_ms / 1000);
		if (aside != NULL)
			printf("what was there is %s now\n", aside);
		return;
	}
	json_object_begin(&json);
	json_put_bool(&json, "ok", true);
	json_put_text(&json, "file", path);
	json_put_u64(&json, "bytes", (uint64_t)st.st_size);
	json_put_u64(&json, "ms", (uint64_t)took_ms);
	if (aside != NULL)
		json_put_text(&json, "before", aside);
	json_object_end(&json);
	printf("%.*s\n", (int)json.len, json.data);
	buf_fini(&json);
}

/* For whoever needs one: a log that says "the store is damaged" names it. */
static void
note_backup(const char *data_dir, const char *folder)
{
	char place[PATH_MAX];

	if (realpath(folder, place) == NULL ||
	    store_mark_backup(data_dir, place, clock_wall_ms()) != 0)
		fprintf(stderr,
		    "parleyctl: cannot note in %s where the backup is: %s\n",
		    data_dir, strerror(errno));
}

int
ctl_backup(struct ctl *ctl)
{
	const char *folder = ctl->args[0];
	const char *from = ctl->conf->server_data_dir;
	int64_t began_ms = clock_mono_ms();
	struct names names;
	int code;

	name_all(folder, &names);
	if (mkdir(folder, 0700) == -1 && errno != EEXIST)
		return fail_on(ctl, folder);
	if (access(names.store, F_OK) == 0)
		return ctl_fail(ctl, CTL_FAILED,
		    "%s is there already: name a new folder", names.store);
	/* it is called main.mdb when it is complete and sound */
	if (mkdir(names.next_folder, 0700) == -1)
		return errno != EEXIST
			   ? fail_on(ctl, names.next_folder)
			   : ctl_fail(ctl, CTL_FAILED,
				 "%s is there already, of a backup that was "
				 "broken off: remove it",
				 names.next_folder);
	code = copy_store(
	    ctl, from, names.next, ctl_option(ctl, "compact") != NULL);
	if (code == CTL_OK)
		code = ctl_check_folder(ctl, names.next_folder);
	unlink(names.next_lock);
	if (code == CTL_OK && (rename(names.next, names.store) == -1 ||
				  file_sync_folder(folder) == -1))
		code = fail_on(ctl, names.store);
	if (code != CTL_OK)
		unlink(names.next);
	rmdir(names.next_folder);
	if (code == CTL_OK) {
		note_backup(from, folder);
		say_file(ctl, names.store, began_ms, NULL);
	}
	return code;
}

/* ---- another store in the place of this one ---- */

static int
copy_bytes(int from, int to)
{
	char *chunk = malloc(COPY_CHUNK);
	ssize_t n = chunk != NULL ? 1 : -1;

	while (n > 0) {
		n = read(from, chunk, COPY_CHUNK);
		for (ssize_t done = 0; n > 0 && done < n;) {
			ssize_t m = write(to, chunk + done, (size_t)(n - done));

			if (m == -1) {
				n = -1;
				break;
			}
			done += m;
		}
	}
	free(chunk);
	return n == 0 ? fsync(to) : -1;
}

static int
copy_file(struct ctl *ctl, const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = -1;
	int code = CTL_OK;

	if (in == -1)
		return fail_on(ctl, from);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out == -1 || copy_bytes(in, out) == -1)
		code = fail_on(ctl, to);
	if (out != -1)
		close(out);
	close(in);
	return code;
}

/* The folder for what is being made, and what is in it, are the server's. */
static int
give_to_server(struct ctl *ctl, const struct names *names)
{
	struct stat st;

	if (stat(ctl->conf->server_data_dir, &st) == -1)
		return fail_on(ctl, ctl->conf->server_data_dir);
	if (geteuid() == 0 &&
	    (chown(names->next_folder, st.st_uid, st.st_gid) == -1 ||
		chown(names->next, st.st_uid, st.st_gid) == -1))
		return fail_on(ctl, names->next);
	return CTL_OK;
}

/*
 * At no moment there is no store: a server that found none would begin an
 * empty one. So both change their names at once.
 */
static int
exchange(struct ctl *ctl, const struct names *names, bool *has_aside_out)
{
	const char *folder = ctl->conf->server_data_dir;

	*has_aside_out = access(names->store, F_OK) == 0;
	unlink(names->lock); /* of readers that are gone */
	if (!*has_aside_out) {
		if (rename(names->next, names->store) == -1)
			return fail_on(ctl, names->store);
	} else if (renameat2(AT_FDCWD, names->next, AT_FDCWD, names->store,
		       RENAME_EXCHANGE) == -1 ||
		   rename(names->next, names->aside) == -1) {
		return fail_on(ctl, names->store);
	}
	return file_sync_folder(folder) == -1 ? fail_on(ctl, folder) : CTL_OK;
}

/* @return the lock of the folder, or -1: said */
static int
lock_stopped(struct ctl *ctl)
{
	char error[256];
	int fd;

	if (ctl_daemon_pid(ctl) != 0) {
		ctl_fail(ctl, CTL_FAILED,
		    "parleyd is running: parleyctl stop first");
		return -1;
	}
	fd = store_lock(ctl->conf->server_data_dir, error, sizeof(error));
	if (fd >= 0)
		return fd;
	ctl_fail(ctl, CTL_FAILED, "%s", error);
	return -1;
}

/* Begin with an empty folder; one that was broken off is of no use. */
static int
make_next_folder(struct ctl *ctl, const struct names *names)
{
	unlink(names->next);
	unlink(names->next_lock);
	rmdir(names->next_folder);
	if (mkdir(names->next_folder, 0700) == -1)
		return fail_on(ctl, names->next_folder);
	return CTL_OK;
}

static void
remove_next_folder(const struct names *names)
{
	unlink(names->next);
	unlink(names->next_lock);
	rmdir(names->next_folder);
}

/* The highest id that this server may have given out, as far as is known. */
static uint64_t
highest_id(struct ctl *ctl)
{
	struct work *work = share_work(ctl, ctl->conf->server_data_dir);
	uint64_t id = message_id_next(0, clock_wall_ms(), 0);

	if (work == NULL)
		return id;
	/* it may be damaged, or gone: then the time is what counts */
	if (work_apart(work, last_id_work) && work->last_id > id)
		id = work->last_id;
	munmap(work, sizeof(*work));
	return id;
}

/* @param fn  what is done to a copy before it is the store */
static int
change(struct ctl *ctl, const char *folder, work_fn fn, uint64_t last_id)
{
	struct work *work = share_work(ctl, folder);
	int code = CTL_OK;

	if (work == NULL)
		return CTL_FAILED;
	work->is_writer = true;
	work->last_id = last_id;
	if (!work_apart(work, fn))
		code = ctl_fail(ctl, CTL_FAILED, "%s", work->why);
	munmap(work, sizeof(*work));
	return code;
}

static int
restore_folder(struct ctl *ctl)
{
	int64_t began_ms = clock_mono_ms();
	struct names from;
	struct names names;
	bool has_aside = false;
	int lock = lock_stopped(ctl);
	int code;

	if (lock == -1)
		return CTL_FAILED;
	name_all(ctl->args[0], &from);
	name_all(ctl->conf->server_data_dir, &names);
	code = make_next_folder(ctl, &names);
	if (code == CTL_OK)
		code = copy_file(ctl, from.store, names.next);
	if (code == CTL_OK)
		code = give_to_server(ctl, &names);
	if (code == CTL_OK)
		code = change(ctl, names.next_folder, upgrade_work, 0);
	if (code == CTL_OK)
		code = ctl_check_folder(ctl, names.next_folder);
	if (code == CTL_OK)
		code =
		    change(ctl, names.next_folder, renew_work, highest_id(ctl));
	if (code == CTL_OK)
		code = ctl_check_folder(ctl, names.next_folder);
	if (code == CTL_OK)
		code = exchange(ctl, &names, &has_aside);
	if (code == CTL_OK &&
	    store_mark_restored(ctl->conf->server_data_dir) != 0)
		code = fail_on(ctl, ctl->conf->server_data_dir);
	remove_next_folder(&names);
	if (code == CTL_OK)
		say_file(
		    ctl, names.store, began_ms, has_aside ? names.aside : NULL);
	close(lock);
	return code;
}

/* What is there keeps another name; the next start finds a new folder. */
static int
restore_nothing(struct ctl *ctl)
{
	const char *folder = ctl->conf->server_data_dir;
	struct names names;
	int lock = lock_stopped(ctl);
	int code = CTL_OK;

	if (lock == -1)
		return CTL_FAILED;
	name_all(folder, &names);
	unlink(names.lock);
	if (rename(names.store, names.aside) == 0)
		fprintf(stderr, "what was there is %s now\n", names.aside);
	else if (errno != ENOENT)
		code = fail_on(ctl, names.store);
	if (code == CTL_OK && store_mark_forget(folder) != 0)
		code = fail_on(ctl, folder);
	if (code == CTL_OK && ctl->wants_json)
		puts("{\"ok\":true}");
	else if (code == CTL_OK)
		printf("%s: the next start makes an empty store\n", folder);
	close(lock);
	return code;
}

int
ctl_restore(struct ctl *ctl)
{
	bool wants_empty = ctl_option(ctl, "empty") != NULL;

	if (wants_empty == (ctl->arg_count > 0))
		return ctl_fail(ctl, CTL_USAGE,
		    "restore: name the folder of a backup, or say --empty");
	return wants_empty ? restore_nothing(ctl) : restore_folder(ctl);
}

int
ctl_compact(struct ctl *ctl)
{
	int64_t began_ms = clock_mono_ms();
	const char *folder = ctl->conf->server_data_dir;
	struct names names;
	bool has_aside = false;
	int lock = lock_stopped(ctl);
	int code;

	if (lock == -1)
		return CTL_FAILED;
	name_all(folder, &names);
	code = ctl_check_folder(ctl, folder);
	if (code == CTL_OK)
		code = make_next_folder(ctl, &names);
	if (code == CTL_OK)
		code = copy_store(ctl, folder, names.next, true);
	if (code == CTL_OK)
		code = give_to_server(ctl, &names);
	if (code == CTL_OK)
		code = ctl_check_folder(ctl, names.next_folder);
	if (code == CTL_OK)
		code = exchange(ctl, &names, &has_aside);
	remove_next_folder(&names);
	if (code == CTL_OK) {
		unlink(names.aside); /* the same, and larger */
		say_file(ctl, names.store, began_ms, NULL);
	}
	close(lock);
	return code;
}
