/*
 * hold.c - connections that outlive their worker: the tables, the messages
 * and the ends of the socketpairs.
 *
 * Role:    see hold.h.
 * Process: the supervisor makes it; workers and holders use it.
 * Blocks:  never.
 * Trust:   a table was written by a process that may have crashed: rows are
 *          checked when they are read. Messages are checked in full, and no
 *          descriptor is lost whatever comes with them.
 * See:     hold.h, t/unit/hold.c.
 */
#include "config.h"

#include "shm/hold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/log.h"
#include "base/mem.h"
#include "shm/segment.h"

#define HOLD_BUFFER_BYTES (512 * 1024) /* of each end */

struct hold_table {
	_Atomic uint32_t used __attribute__((aligned(CACHE_LINE)));
	_Atomic uint32_t crashes;
	struct hold_row rows[HOLD_ROWS_MAX];
};

struct hold {
	struct hold_table *tables; /* all of them */
	int worker_count;
	int own; /* which one; -1: not of a worker */
	int fd;  /* the end that is kept; -1: none */
	struct hold_fds fds;
};

_Static_assert(sizeof(struct hold_row) == 2 * CACHE_LINE, "layout");

/* ---- the table ---- */

static struct hold_table *
own_table(struct hold *hold)
{
	if (hold->own < 0)
		panic("no worker's process");
	return &hold->tables[hold->own];
}

struct hold_row *
hold_rows(struct hold *hold)
{
	return own_table(hold)->rows;
}

_Atomic uint32_t *
hold_rows_used(struct hold *hold)
{
	return &own_table(hold)->used;
}

_Atomic uint32_t *
hold_crashes(struct hold *hold)
{
	return &own_table(hold)->crashes;
}

static uint64_t
row_checksum(const struct hold_session *session, uint32_t serial)
{
	return XXH3_64bits_withSeed(session, sizeof(*session), serial);
}

void
hold_row_seal(struct hold_row *row)
{
	row->checksum = row_checksum(&row->session, row->serial);
}

int
hold_row_read(const struct hold_row *row, uint32_t serial,
    struct hold_session *out, enum hold_mark *mark_out)
{
	uint32_t mark = atomic_load(&row->mark);
	uint64_t checksum = row->checksum;

	/* Whatever else stands there says nothing of what is out. */
	*mark_out = HOLD_WRITING;
	if (row->serial != serial)
		return ERR_STALE;
	if (mark == HOLD_FREE || mark == HOLD_BUSY) {
		*mark_out = (enum hold_mark)mark;
		return ERR_STALE;
	}
	if (mark != HOLD_SETTLED)
		return ERR_STALE;
	*out = row->session;
	if (row_checksum(out, serial) != checksum)
		return ERR_CORRUPT;
	*mark_out = HOLD_SETTLED;
	return 0;
}

/* ---- the messages ---- */

/* Room for descriptors, aligned as a header wants it. */
union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(HOLD_ITEMS_MAX * sizeof(int))];
};

static size_t
message_bytes(uint32_t count)
{
	return offsetof(struct hold_message, items) +
	       count * sizeof(struct hold_item);
}

static bool
has_descriptors(uint32_t type)
{
	return type == HOLD_PUT || type == HOLD_GIVE;
}

int
hold_send(int fd, const struct hold_message *message, const int *fds)
{
	struct iovec part = {
	    .iov_base = (void *)(uintptr_t)message,
	    .iov_len = message_bytes(message->count),
	};
	union control control = {0};
	struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
	size_t fds_len = message->count * sizeof(int);
	ssize_t n;

	if (message->count > HOLD_ITEMS_MAX ||
	    (fds != NULL && message->count == 0))
		panic("%u items", message->count);
	if (fds != NULL) {
		head.msg_control = control.bytes;
		head.msg_controllen = CMSG_SPACE(fds_len);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(fds_len);
		memcpy(CMSG_DATA(&control.header), fds, fds_len);
	}
	do {
		n = sendmsg(fd, &head, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n == -1 && errno == EINTR);
	if (n >= 0)
		return 0;
	/* ETOOMANYREFS: unix(7), too many descriptors under way */
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ||
		       errno == ENOMEM || errno == ETOOMANYREFS
		   ? ERR_AGAIN
		   : ERR_IO;
}

/* @return how many came */
static size_t
collect_fds(struct msghdr *head, int fds_out[HOLD_ITEMS_MAX])
{
	size_t count = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(head); c != NULL;
	     c = CMSG_NXTHDR(head, c)) {
		size_t len;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		/* msg_control has no room for more */
		len = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds_out + count, CMSG_DATA(c), len * sizeof(int));
		count += len;
	}
	return count;
}

static bool
is_sound(const struct hold_message *message, size_t bytes, size_t fd_count)
{
	if (bytes < message_bytes(0) || message->type < HOLD_PUT ||
	    message->type > HOLD_DONE || message->count > HOLD_ITEMS_MAX ||
	    bytes != message_bytes(message->count))
		return false;
	for (uint32_t i = 0; i < message->count; i++) {
		if (message->items[i].row >= HOLD_ROWS_MAX)
			return false;
	}
	return has_descriptors(message->type) ? fd_count <= message->count
					      : fd_count == 0;
}

int
hold_receive(
    int fd, struct hold_message *message_out, int fds_out[HOLD_ITEMS_MAX])
{
	struct iovec part = {
	    .iov_base = message_out,
	    .iov_len = sizeof(*message_out),
	};
	union control control;
	struct msghdr head = {
	    .msg_iov = &part,
	    .msg_iovlen = 1,
	    .msg_control = control.bytes,
	    .msg_controllen = sizeof(control.bytes),
	};
	size_t count;
	ssize_t n;

	do {
		n = recvmsg(fd, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n == -1 && errno == EINTR);
	if (n == -1)
		return errno == EAGAIN || errno == EWOULDBLOCK ? ERR_AGAIN
							       : ERR_IO;
	count = collect_fds(&head, fds_out);
	if ((head.msg_flags & MSG_TRUNC) != 0 ||
	    !is_sound(message_out, (size_t)n, count)) {
		for (size_t i = 0; i < count; i++)
			close(fds_out[i]);
		return ERR_CORRUPT;
	}
	/* MSG_CTRUNC: this process may not open more; the first ones came. */
	for (size_t i = count; i < HOLD_ITEMS_MAX; i++)
		fds_out[i] = -1;
	return 0;
}

/* ---- who has it ---- */

static void
close_fd(int32_t *fd)
{
	if (*fd != -1)
		close(*fd);
	*fd = -1;
}

static struct hold *
hold_new(int worker_count)
{
	struct hold *hold = xcalloc(1, sizeof(*hold));

	hold->worker_count = worker_count;
	hold->own = -1;
	hold->fd = -1;
	memset(&hold->fds, -1, sizeof(hold->fds));
	return hold;
}

static size_t
segment_bytes(int worker_count)
{
	return (size_t)worker_count * sizeof(struct hold_table);
}

static int
make_pair(struct hold *hold, int worker)
{
	int size = HOLD_BUFFER_BYTES;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		0, ends) != 0) {
		log_error(
		    NULL, "socketpair-failed", "error=\"%s\"", strerror(errno));
		return ERR_IO;
	}
	/* best effort: with less room it takes more turns */
	(void)setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	(void)setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	hold->fds.worker_ends[worker] = ends[0];
	hold->fds.holder_ends[worker] = ends[1];
	return 0;
}

int
hold_create(int worker_count, struct hold **hold_out)
{
	struct hold *hold = hold_new(worker_count);
	void *memory = NULL;
	int rc = segment_create_kept("parley-hold", segment_bytes(worker_count),
	    &memory, &hold->fds.segment);

	hold->tables = memory;
	for (int worker = 0; rc == 0 && worker < worker_count; worker++)
		rc = make_pair(hold, worker);
	if (rc != 0)
		hold_free(&hold);
	*hold_out = hold;
	return rc;
}

int
hold_adopt(
    int worker_count, const struct hold_fds *take_fds, struct hold **hold_out)
{
	struct hold *hold = hold_new(worker_count);
	void *memory = NULL;
	int rc = segment_adopt(
	    take_fds->segment, segment_bytes(worker_count), &memory);

	hold->tables = memory;
	for (int worker = 0; rc == 0 && worker < worker_count; worker++) {
		if (take_fds->worker_ends[worker] < 0 ||
		    take_fds->holder_ends[worker] < 0)
			rc = ERR_STALE;
	}
	if (rc != 0)
		hold_free(&hold);
	else
		hold->fds = *take_fds;
	*hold_out = hold;
	return rc;
}

void
hold_describe(const struct hold *hold, struct hold_fds *out)
{
	*out = hold->fds;
}

static void
keep_end(struct hold *hold, int32_t *end)
{
	hold->fd = *end;
	*end = -1;
	close_fd(&hold->fds.segment);
	for (int i = 0; i < WORKER_MAX; i++) {
		close_fd(&hold->fds.worker_ends[i]);
		close_fd(&hold->fds.holder_ends[i]);
	}
}

void
hold_become_worker(struct hold *hold, int worker)
{
	hold->own = worker;
	keep_end(hold, &hold->fds.worker_ends[worker]);
}

void
hold_become_holder(struct hold *hold, int worker)
{
	keep_end(hold, &hold->fds.holder_ends[worker]);
	/* The rows are not its business. */
	munmap(hold->tables, segment_bytes(hold->worker_count));
	hold->tables = NULL;
}

int
hold_fd(const struct hold *hold)
{
	return hold->fd;
}

void
hold_free(struct hold **hold_io)
{
	struct hold *hold = *hold_io;

	if (hold == NULL)
		return;
	*hold_io = NULL;
	keep_end(hold, &hold->fds.segment);
	close_fd(&hold->fd);
	if (hold->tables != NULL)
		munmap(hold->tables, segment_bytes(hold->worker_count));
	free(hold);
}
