/*
 * board.c - the scoreboard: a slot per process, readable by anybody.
 *
 * Role:    pids, states, heartbeats and counters, for the supervisor, the
 *          console and parleyctl.
 * Process: the supervisor makes the file, its children inherit the mapping,
 *          others open it read-only.
 * Blocks:  on the run folder's file system, at start only.
 * Trust:   a file opened is checked for magic, version and size; its numbers
 *          are shown, nothing is reached through them.
 * See:     layout.h (each field's writer), t/unit/board.c.
 */
#include "config.h"

#include "shm/board.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

struct board {
	void *map;
	size_t bytes;
	struct board_header *header;
	struct board_slot *slots;
	int worker_count; /* checked once; the file's may be scribbled over */
	int fd;           /* the supervisor's, for a successor; else -1 */
};

static const char *const fixed_names[SLOT_WORKER_0] = {
    [SLOT_SUPERVISOR] = "supervisor",
    [SLOT_KEEPER] = "keeper",
    [SLOT_DIRECTORY] = "directory",
    [SLOT_CONSOLE] = "console",
    [SLOT_HERALD] = "herald",
    [SLOT_LINK] = "link",
};

/* Each worker with its holder. */
static uint32_t
slots_for(uint32_t worker_count)
{
	return SLOT_WORKER_0 + 2 * worker_count;
}

static size_t
board_bytes(uint32_t worker_count)
{
	return sizeof(struct board_header) +
	       slots_for(worker_count) * sizeof(struct board_slot);
}

static int
board_path(char path[PATH_MAX], const char *run_dir, const char *name)
{
	int n = snprintf(path, PATH_MAX, "%s/%s", run_dir, name);

	return n >= 0 && n < PATH_MAX ? 0 : ERR_IO;
}

static struct board *
board_new(void *map, size_t bytes, uint32_t worker_count)
{
	struct board *board = xcalloc(1, sizeof(*board));

	board->map = map;
	board->bytes = bytes;
	board->header = map;
	board->slots = (void *)((uint8_t *)map + sizeof(struct board_header));
	board->worker_count = (int)worker_count;
	board->fd = -1;
	return board;
}

static void
header_fill(struct board_header *header, int worker_count)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (getrandom(&header->boot_id, sizeof(header->boot_id), 0) !=
	    sizeof(header->boot_id))
		header->boot_id =
		    (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	header->boot_id |= 1; /* 0 is no boot */
	header->layout_version = LAYOUT_VERSION;
	header->worker_count = (uint32_t)worker_count;
	header->slot_count = slots_for((uint32_t)worker_count);
	atomic_store(&header->workers, (uint32_t)worker_count);
	header->started_at_ms =
	    (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	snprintf(
	    header->version, sizeof(header->version), "%s", PACKAGE_VERSION);
	atomic_store(&header->supervisor_pid, (int32_t)getpid());
	header->magic = LAYOUT_MAGIC;
}

/*
 * A file of our own with its blocks allocated: a full run folder is an error
 * here instead of a SIGBUS at some counter later.
 */
static int
file_make(const char *path, size_t bytes, int *fd_out)
{
	int fd;

	if (unlink(path) == -1 && errno != ENOENT)
		return ERR_IO;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
	    S_IRUSR | S_IWUSR);
	if (fd == -1)
		return ERR_IO;
	*fd_out = fd;
	errno = posix_fallocate(fd, 0, (off_t)bytes);
	if (errno != 0 || fchmod(fd, 0644) == -1)
		return ERR_IO;
	return 0;
}

int
board_create(const char *run_dir, int worker_count, struct board **board_out)
{
	char path[PATH_MAX] = "";
	char temporary[PATH_MAX] = "";
	void *map = MAP_FAILED;
	size_t bytes;
	int fd = -1;
	int rc;

	if (worker_count < 0 || worker_count > WORKER_MAX)
		panic("board for %d workers", worker_count);
	bytes = board_bytes((uint32_t)worker_count);
	errno = ENAMETOOLONG;
	rc = board_path(path, run_dir, "board");
	if (rc == 0)
		rc = board_path(temporary, run_dir, "board.new");
	if (rc == 0)
		rc = file_make(temporary, bytes, &fd);
	if (rc != 0)
		goto out;
	rc = ERR_IO;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		goto out;
	header_fill(map, worker_count);
	/* an old reader keeps the old file */
	if (rename(temporary, path) == -1)
		goto out;
	*board_out = board_new(map, bytes, (uint32_t)worker_count);
	(*board_out)->fd = fd;
	fd = -1;
	map = MAP_FAILED;
	rc = 0;
out:
	if (rc != 0)
		log_error(NULL, "board-failed", "path=%.256s error=\"%s\"",
		    path, strerror(errno));
	if (rc != 0 && fd != -1)
		unlink(temporary);
	if (map != MAP_FAILED)
		munmap(map, bytes);
	if (fd != -1)
		close(fd);
	return rc;
}

static int
header_check(const struct board_header *header, size_t bytes)
{
	if (header->magic != LAYOUT_MAGIC)
		return ERR_CORRUPT;
	if (header->layout_version != LAYOUT_VERSION)
		return ERR_STALE;
	if (header->worker_count > WORKER_MAX ||
	    header->slot_count != slots_for(header->worker_count) ||
	    bytes != board_bytes(header->worker_count))
		return ERR_CORRUPT;
	return 0;
}

int
board_adopt(int take_fd, uint64_t boot_id, struct board **board_out)
{
	const struct board_header *header;
	struct stat st;
	size_t bytes;
	void *map;
	int rc;

	if (fstat(take_fd, &st) == -1)
		return ERR_IO;
	if (st.st_size < (off_t)sizeof(*header) || st.st_size > INT_MAX)
		return ERR_CORRUPT;
	bytes = (size_t)st.st_size;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, take_fd, 0);
	if (map == MAP_FAILED)
		return ERR_IO;
	header = map;
	rc = header_check(header, bytes);
	if (rc == 0 && header->boot_id != boot_id)
		rc = ERR_CORRUPT;
	if (rc != 0) {
		munmap(map, bytes);
		return rc;
	}
	*board_out = board_new(map, bytes, header->worker_count);
	(*board_out)->fd = take_fd;
	return 0;
}

int
board_fd(const struct board *board)
{
	return board->fd;
}

void
board_set_version(struct board *board, const char *version)
{
	struct board_header *header = board->header;

	snprintf(header->version, sizeof(header->version), "%s", version);
}

int
board_open(const char *run_dir, struct board **board_out)
{
	char path[PATH_MAX];
	struct stat st;
	void *map = MAP_FAILED;
	size_t bytes = 0;
	int fd = -1;
	int rc = board_path(path, run_dir, "board");

	if (rc != 0)
		goto out;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1) {
		rc = errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
		goto out;
	}
	rc = ERR_IO;
	if (fstat(fd, &st) == -1)
		goto out;
	rc = ERR_CORRUPT;
	if (!S_ISREG(st.st_mode) ||
	    st.st_size < (off_t)sizeof(struct board_header) ||
	    st.st_size > INT_MAX)
		goto out;
	bytes = (size_t)st.st_size;
	rc = ERR_IO;
	map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		goto out;
	rc = header_check(map, bytes);
	if (rc != 0)
		goto out;
	*board_out = board_new(
	    map, bytes, ((const struct board_header *)map)->worker_count);
	map = MAP_FAILED;
out:
	if (map != MAP_FAILED)
		munmap(map, bytes);
	if (fd != -1)
		close(fd);
	return rc;
}

void
board_close(struct board **board)
{
	if (*board == NULL)
		return;
	munmap((*board)->map, (*board)->bytes);
	if ((*board)->fd != -1)
		close((*board)->fd);
	free(*board);
	*board = NULL;
}

struct board_header *
board_header(struct board *board)
{
	return board->header;
}

struct board_slot *
board_slot(struct board *board, int slot)
{
	int workers = board->worker_count;

	if (slot >= 0 && slot < SLOT_WORKER_0 + workers)
		return &board->slots[slot];
	if (slot >= SLOT_HOLDER_0 && slot < SLOT_HOLDER_0 + workers)
		return &board->slots[SLOT_WORKER_0 + workers + slot -
				     SLOT_HOLDER_0];
	return NULL;
}

int
board_slot_end(const struct board *board)
{
	return SLOT_HOLDER_0 + board->worker_count;
}

const char *
board_slot_name(const struct board *board, int slot, char buf[24])
{
	if (board_slot((struct board *)(uintptr_t)board, slot) == NULL)
		return NULL;
	if (slot_is_holder(slot))
		snprintf(buf, 24, "holder-%d", slot - SLOT_HOLDER_0);
	else if (slot < SLOT_WORKER_0)
		snprintf(buf, 24, "%s", fixed_names[slot]);
	else
		snprintf(buf, 24, "worker-%d", slot - SLOT_WORKER_0);
	return buf;
}

const char *
board_state_name(uint32_t state)
{
	switch ((enum process_state)state) {
	case PROCESS_DEAD:
		return "dead";
	case PROCESS_STARTING:
		return "starting";
	case PROCESS_RUNNING:
		return "running";
	case PROCESS_STOPPING:
		return "stopping";
	case PROCESS_BACKOFF:
		return "backoff";
	case PROCESS_ERRORED:
		return "errored";
	}
	return "unknown"; /* a number no release has used */
}

const char *
board_trouble_name(uint32_t trouble)
{
	switch ((enum process_trouble)trouble) {
	case TROUBLE_NONE:
		return "";
	case TROUBLE_DISK:
		return "disk";
	case TROUBLE_STARVED:
		return "processor";
	case TROUBLE_TRACED:
		return "debugger";
	}
	return "unknown"; /* a number no release has used */
}
