/*
 * recorder.c - preloaded into parleyd: writes down what reaches the main
 * store, what was synced, and what was let out to clients in between.
 *
 * An entry stands in the journal before its event begins, and another one
 * when it has ended: what lies between them may have happened or not. Bytes to
 * clients stand there before they are sent; what is in the journal before them
 * is all that they may rely on.
 *
 * Environment, of parleyd:
 *   POWERCUT_FOLDER  where the journal is; a word written to the file "die"
 *                    there kills the keeper at that point of its next commit
 *   POWERCUT_NOSYNC  set: the main store is opened with MDB_NOSYNC, which must
 *                    not stand a power cut
 *
 * liblmdb 0.9.24 changes the file by pwrite and by lseek and writev, syncs by
 * fdatasync and writes the meta page through a second descriptor with O_DSYNC.
 * Should another version use other calls, the replay does not arrive at the
 * file as it is, and says so.
 *
 * See: t/62-power-cut.t, journal.h, replay.c.
 */
#include "config.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <lmdb.h>

#include "t/powercut/journal.h"

#define STORE_NAME "/main.mdb"
#define PARTS_MAX  1024 /* of one write, IOV_MAX */
#define PATH_ROOM  4096

/* What is defined below, as the C library has it. */
static struct {
	int (*open)(const char *, int, ...);
	ssize_t (*pwrite)(int, const void *, size_t, off_t);
	ssize_t (*writev)(int, const struct iovec *, int);
	int (*fdatasync)(int);
	int (*fsync)(int);
	ssize_t (*send)(int, const void *, size_t, int);
	int (*mdb_env_open)(MDB_env *, const char *, unsigned, mdb_mode_t);
} real;

static struct {
	pid_t pid; /* whose the descriptor is: it does not survive a fork */
	int journal_fd;
	int data_fd;
	int meta_fd;
	struct stat folder; /* of the store */
	_Atomic uint32_t *die_at;
} state = {.data_fd = -1, .meta_fd = -1};

_Noreturn static void
give_up(const char *what)
{
	fprintf(stderr, "powercut: %s: %s\n", what, strerror(errno));
	abort();
}

static void
look_up(void *address_out, const char *name)
{
	void *symbol = dlsym(RTLD_NEXT, name);

	memcpy(address_out, &symbol, sizeof(symbol));
}

__attribute__((constructor)) static void
look_up_all(void)
{
	look_up(&real.open, "open");
	look_up(&real.pwrite, "pwrite");
	look_up(&real.writev, "writev");
	look_up(&real.fdatasync, "fdatasync");
	look_up(&real.fsync, "fsync");
	look_up(&real.send, "send");
	look_up(&real.mdb_env_open, "mdb_env_open");
}

/* ---- the journal ---- */

static int
open_in_folder(const char *name, int flags)
{
	const char *folder = getenv("POWERCUT_FOLDER");
	char path[PATH_ROOM];
	int fd;

	if (folder == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = real.open(path, flags | O_CREAT | O_CLOEXEC, 0600);
	if (fd == -1)
		give_up(path);
	return fd;
}

static int
journal(void)
{
	if (state.pid != getpid()) {
		state.pid = getpid();
		state.journal_fd =
		    open_in_folder(JOURNAL_FILE, O_WRONLY | O_APPEND);
	}
	return state.journal_fd;
}

static void
note(struct journal_entry entry, const struct iovec *parts, int count)
{
	static const char padding[JOURNAL_ALIGN];
	struct iovec all[PARTS_MAX + 2];
	size_t total;
	size_t rest;

	if (journal() == -1)
		return;
	entry.magic = JOURNAL_MAGIC;
	entry.pid = (uint32_t)getpid();
	for (int i = 0; i < count; i++) {
		all[i + 1] = parts[i];
		entry.len += parts[i].iov_len;
	}
	all[0] = (struct iovec){&entry, sizeof(entry)};
	rest = (JOURNAL_ALIGN - entry.len % JOURNAL_ALIGN) % JOURNAL_ALIGN;
	all[count + 1] = (struct iovec){(void *)padding, rest};
	total = sizeof(entry) + entry.len + rest;
	if (real.writev(journal(), all, count + 2) != (ssize_t)total)
		give_up("the journal cannot be written");
}

static void
die_if(enum die_at here)
{
	uint32_t wanted = here;

	if (state.die_at != NULL &&
	    atomic_compare_exchange_strong(state.die_at, &wanted, 0))
		raise(SIGKILL);
}

static bool
will_die(enum die_at here)
{
	return state.die_at != NULL && *state.die_at == (uint32_t)here;
}

/* ---- the store ---- */

/* Also the truth about the last write of a predecessor that was killed. */
static void
note_opened(int fd)
{
	struct stat st;
	struct iovec content = {NULL, 0};
	size_t have = 0;

	if (fstat(fd, &st) != 0)
		give_up("the store has no size");
	content.iov_len = (size_t)st.st_size;
	content.iov_base = malloc(content.iov_len + 1);
	if (content.iov_base == NULL)
		give_up("the store");
	while (have < content.iov_len) {
		ssize_t n = pread(fd, (char *)content.iov_base + have,
		    content.iov_len - have, (off_t)have);

		if (n <= 0)
			give_up("the store cannot be read");
		have += (size_t)n;
	}
	note((struct journal_entry){.kind = JOURNAL_OPENED}, &content, 1);
	free(content.iov_base);
}

static void
attach_control(void)
{
	int fd = open_in_folder(CONTROL_FILE, O_RDWR);
	void *at;

	if (fd == -1)
		return;
	if (ftruncate(fd, sizeof(uint32_t)) != 0)
		give_up(CONTROL_FILE);
	at = mmap(
	    NULL, sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		give_up(CONTROL_FILE);
	close(fd);
	state.die_at = at;
}

static bool
is_main_store(const char *path)
{
	size_t len = strlen(path);
	size_t name_len = strlen(STORE_NAME);

	return len > name_len && strcmp(path + len - name_len, STORE_NAME) == 0;
}

static void
look_at_folder(const char *path)
{
	char folder[PATH_ROOM];

	snprintf(folder, sizeof(folder), "%.*s",
	    (int)(strlen(path) - strlen(STORE_NAME)), path);
	if (stat(folder, &state.folder) != 0)
		give_up(folder);
}

int
open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;
	int fd;

	va_start(args, flags);
	if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE)
		mode = va_arg(args, mode_t);
	va_end(args);
	fd = real.open(path, flags, mode);
	if (fd == -1 || (flags & O_ACCMODE) == O_RDONLY || !is_main_store(path))
		return fd;
	if (flags & O_DSYNC) {
		state.meta_fd = fd;
	} else {
		state.data_fd = fd;
		look_at_folder(path);
		attach_control();
		note_opened(fd);
	}
	return fd;
}

/* The meta page gets no further than the memory of the machine. */
static void
write_unsynced_and_die(const struct iovec *parts, off_t offset)
{
	(void)real.pwrite(
	    state.data_fd, parts[0].iov_base, parts[0].iov_len, offset);
	die_if(DIE_IN_META);
}

static ssize_t
write_store(int fd, const struct iovec *parts, int count, off_t offset)
{
	bool is_meta = fd == state.meta_fd;
	size_t len = 0;
	ssize_t n;

	if (count > PARTS_MAX)
		give_up("a write of too many parts");
	for (int i = 0; i < count; i++)
		len += parts[i].iov_len;
	note((struct journal_entry){.kind = JOURNAL_WRITE,
		 .is_synchronous = is_meta,
		 .offset = (uint64_t)offset},
	    parts, count);
	if (is_meta && will_die(DIE_IN_META))
		write_unsynced_and_die(parts, offset);
	if (!is_meta && will_die(DIE_IN_DATA)) {
		(void)real.pwrite(
		    fd, parts[0].iov_base, parts[0].iov_len / 2, offset);
		die_if(DIE_IN_DATA);
	}
	if (count == 1)
		n = real.pwrite(fd, parts[0].iov_base, len, offset);
	else
		n = real.writev(fd, parts, count);
	if (n != (ssize_t)len)
		give_up("the store cannot be written in whole");
	note((struct journal_entry){.kind = JOURNAL_WRITTEN}, NULL, 0);
	if (is_meta)
		die_if(DIE_AFTER_META);
	return n;
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t offset)
{
	const struct iovec part = {(void *)data, len};

	if (fd == -1 || (fd != state.data_fd && fd != state.meta_fd))
		return real.pwrite(fd, data, len, offset);
	return write_store(fd, &part, 1, offset);
}

ssize_t
writev(int fd, const struct iovec *parts, int count)
{
	if (fd == -1 || fd != state.data_fd)
		return real.writev(fd, parts, count);
	return write_store(fd, parts, count, lseek(fd, 0, SEEK_CUR));
}

int
fdatasync(int fd)
{
	int rc;

	if (fd == -1 || fd != state.data_fd)
		return real.fdatasync(fd);
	die_if(DIE_BEFORE_SYNC);
	note((struct journal_entry){.kind = JOURNAL_SYNC}, NULL, 0);
	rc = real.fdatasync(fd);
	die_if(DIE_IN_SYNC);
	note((struct journal_entry){.kind = JOURNAL_SYNCED,
		 .offset = rc == 0 ? 0 : 1},
	    NULL, 0);
	return rc;
}

int
fsync(int fd)
{
	int rc = real.fsync(fd);
	struct stat st;

	if (rc == 0 && state.data_fd != -1 && fstat(fd, &st) == 0 &&
	    st.st_dev == state.folder.st_dev &&
	    st.st_ino == state.folder.st_ino)
		note((struct journal_entry){.kind = JOURNAL_NAMED}, NULL, 0);
	return rc;
}

int
mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode)
{
	if (getenv("POWERCUT_NOSYNC") != NULL && is_main_store(path) &&
	    (flags & MDB_RDONLY) == 0)
		flags |= MDB_NOSYNC;
	return real.mdb_env_open(env, path, flags, mode);
}

/* ---- clients ---- */

ssize_t
send(int fd, const void *data, size_t len, int flags)
{
	const struct iovec part = {(void *)data, len};
	ssize_t n;

	note((struct journal_entry){.kind = JOURNAL_SENT, .fd = fd}, &part, 1);
	n = real.send(fd, data, len, flags);
	if (n != (ssize_t)len) {
		int error = errno;

		note((struct journal_entry){.kind = JOURNAL_SENT_PART,
			 .fd = fd,
			 .offset = n > 0 ? (uint64_t)n : 0},
		    NULL, 0);
		errno = error;
	}
	return n;
}
