/*
 * store_mark.c - what is known of a store besides the store.
 *
 * Role:    remembers in files of their own that there has been a store, that
 *          it was set aside, where its newest backup is; LMDB would make an
 *          empty one in the place of one that is gone.
 * Process: keeper, supervisor, parleyctl.
 * Blocks:  on the disk.
 * Trust:   the folder may belong to the unprivileged user while we are root:
 *          links are not followed, and of a text only what is plain is shown.
 * See:     supervisor/inquest.c, ctl/ctl_backup.c, doc/decisions/013.
 */
#include "config.h"

#include "shm/store_mark.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

#define MARK_MADE    "store-made"
#define MARK_DAMAGED "store-damaged"
#define MARK_BACKUP  "last-backup"

static void
path_of(const char *folder, const char *name, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/%s", folder, name);
}

static void
utc_text(int64_t now_ms, bool is_name, char out[32])
{
	time_t now = (time_t)(now_ms / 1000);
	struct tm utc;

	gmtime_r(&now, &utc);
	if (is_name)
		strftime(out, 32, "%Y%m%dT%H%M%SZ", &utc);
	else
		strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static bool
is_there(const char *folder, const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	path_of(folder, name, path);
	return lstat(path, &st) == 0;
}

/* A store of no bytes is none: LMDB would make one of it. */
static bool
has_store(const char *folder)
{
	char path[PATH_MAX];
	struct stat st;

	path_of(folder, STORE_MAIN_FILE, path);
	return stat(path, &st) == 0 && st.st_size > 0;
}

/* ---- texts ---- */

/* The folder's owner reads it, whoever writes it. */
static int
mark_write(const char *folder, const char *name, const char *text)
{
	char path[PATH_MAX];
	struct stat st;
	size_t len = strlen(text);
	int rc = ERR_IO;
	int fd;

	path_of(folder, name, path);
	fd = file_open_plain(path);
	if (fd == -1)
		return ERR_IO;
	if (geteuid() == 0 && stat(folder, &st) == 0 &&
	    fchown(fd, st.st_uid, st.st_gid) == -1)
		goto out;
	if (ftruncate(fd, 0) == 0 && write(fd, text, len) == (ssize_t)len &&
	    fsync(fd) == 0 && file_sync_folder(folder) == 0)
		rc = 0;
out:
	close(fd);
	return rc;
}

/* One line of it, as far as it is plain. @return is there such a file? */
static bool
mark_read(const char *folder, const char *name, char out[STORE_MARK_TEXT_MAX])
{
	char path[PATH_MAX];
	ssize_t n;
	int fd;

	out[0] = '\0';
	path_of(folder, name, path);
	/* O_NONBLOCK: a pipe must not stop us */
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd == -1)
		return is_there(folder, name);
	n = read(fd, out, STORE_MARK_TEXT_MAX - 1);
	close(fd);
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	for (char *at = out; *at != '\0'; at++) {
		if (*at < ' ' || *at == '"' || *at == 127)
			*at = '?';
	}
	return true;
}

static int
mark_remove(const char *folder, const char *name)
{
	char path[PATH_MAX];

	path_of(folder, name, path);
	return unlink(path) == 0 || errno == ENOENT ? 0 : ERR_IO;
}

/* ---- what they mean ---- */

void
store_mark_advise(const char *folder, char *text)
{
	char backup[STORE_MARK_TEXT_MAX];
	const char *place;

	(void)mark_read(folder, MARK_BACKUP, backup);
	place = strchr(backup, ' ');
	if (place == NULL)
		snprintf(text, STORE_MARK_TEXT_MAX,
		    "no backup is known here: parleyctl stop, then parleyctl "
		    "restore FOLDER, or, to begin without all that was "
		    "written, parleyctl restore --empty");
	else
		snprintf(text, STORE_MARK_TEXT_MAX,
		    "parleyctl stop, then parleyctl restore %.*s (the newest "
		    "backup known here, of %.*s)",
		    STORE_MARK_TEXT_MAX / 2, place + 1, (int)(place - backup),
		    backup);
}

int
store_mark_judge(const char *folder, char *why, size_t why_len)
{
	char advice[STORE_MARK_TEXT_MAX];
	char text[STORE_MARK_TEXT_MAX];

	if (mark_read(folder, MARK_DAMAGED, text)) {
		store_mark_advise(folder, advice);
		snprintf(why, why_len,
		    "the store in %s was damaged and set aside: %.160s; %.400s",
		    folder, text, advice);
		return ERR_CORRUPT;
	}
	if (is_there(folder, MARK_MADE) && !has_store(folder)) {
		store_mark_advise(folder, advice);
		snprintf(why, why_len,
		    "there has been a store in %s, and " STORE_MAIN_FILE
		    " is gone or empty; %.400s",
		    folder, advice);
		return ERR_NOT_FOUND;
	}
	return 0;
}

int
store_mark_made(const char *folder)
{
	return is_there(folder, MARK_MADE)
		   ? 0
		   : mark_write(folder, MARK_MADE,
			 "A store has been made here. Without " STORE_MAIN_FILE
			 " nothing starts: see parleyctl(8), restore.\n");
}

int
store_mark_set_aside(
    const char *folder, const char *finding, int64_t now_ms, char *aside_out)
{
	char text[STORE_MARK_TEXT_MAX];
	char from[PATH_MAX];
	char to[PATH_MAX];
	char at[32];
	int rc;

	utc_text(now_ms, true, at);
	snprintf(aside_out, STORE_ASIDE_MAX, STORE_MAIN_FILE ".damaged-%s", at);
	snprintf(text, sizeof(text), "%s (%s)\n", aside_out, finding);
	rc = mark_write(folder, MARK_DAMAGED, text);
	path_of(folder, STORE_MAIN_FILE, from);
	path_of(folder, aside_out, to);
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == -1 ||
	    file_sync_folder(folder) == -1)
		rc = ERR_IO;
	return rc;
}

int
store_mark_restored(const char *folder)
{
	int rc = store_mark_made(folder);

	return rc != 0 ? rc : mark_remove(folder, MARK_DAMAGED);
}

int
store_mark_forget(const char *folder)
{
	int rc = mark_remove(folder, MARK_MADE);

	if (rc == 0)
		rc = mark_remove(folder, MARK_DAMAGED);
	if (rc == 0 && file_sync_folder(folder) == -1)
		rc = ERR_IO;
	return rc;
}

int
store_mark_backup(const char *folder, const char *place, int64_t now_ms)
{
	char text[PATH_MAX + 64];
	char at[32];

	utc_text(now_ms, false, at);
	snprintf(text, sizeof(text), "%s %s\n", at, place);
	return mark_write(folder, MARK_BACKUP, text);
}
