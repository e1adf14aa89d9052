/*
 * vault.c - secrets from the supervisor to the workers.
 *
 * Role:    boxes of bytes with a serial each: odd while one is being written,
 *          raised by two with each change.
 * Process: the supervisor writes, workers read.
 * Blocks:  never; a box that is being written is looked at later.
 * Trust:   workers are not trusted to write: the memory is sealed
 *          (F_SEAL_FUTURE_WRITE, memfd_create(2)) and mapped again, read-only,
 *          in each; a mapping cannot be made writable afterwards.
 * See:     supervisor/certs.c, worker/worker_tls.c, t/unit/vault.c.
 */
#include "config.h"

#include "shm/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define BOX_COUNT 2

/* include/uapi/linux/fcntl.h, since Linux 5.1 */
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

struct vault_head {
	_Atomic uint64_t serial; /* supervisor */
	uint64_t len;            /* supervisor */
};

/* In shared memory; the one writer is the supervisor. */
struct vault_memory {
	struct vault_head heads[BOX_COUNT];
	uint8_t tickets[VAULT_TICKETS_MAX];
	uint8_t files[VAULT_FILES_MAX];
};

struct vault {
	struct vault_memory *memory;
	int fd;
};

static uint8_t *
bytes_of(struct vault_memory *memory, enum vault_box box, size_t *max_out)
{
	switch (box) {
	case VAULT_FILES:
		*max_out = sizeof(memory->files);
		return memory->files;
	case VAULT_TICKETS:
		*max_out = sizeof(memory->tickets);
		return memory->tickets;
	}
	panic("no such box");
}

static int
map(struct vault *vault, int protection)
{
	size_t size = sizeof(struct vault_memory);
	void *memory = mmap(NULL, size, protection, MAP_SHARED, vault->fd, 0);

	if (memory == MAP_FAILED)
		return ERR_IO;
	(void)madvise(memory, size, MADV_DONTDUMP);
	/* best effort: RLIMIT_MEMLOCK may be too low for it */
	(void)mlock2(memory, size, MLOCK_ONFAULT);
	vault->memory = memory;
	return 0;
}

int
vault_create(struct vault **vault_out)
{
	struct vault *vault = xcalloc(1, sizeof(*vault));
	int seals = F_SEAL_SHRINK | F_SEAL_GROW;

	vault->fd =
	    memfd_create("parley-vault", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (vault->fd == -1 ||
	    ftruncate(vault->fd, sizeof(struct vault_memory)) == -1 ||
	    map(vault, PROT_READ | PROT_WRITE) != 0 ||
	    fcntl(vault->fd, F_ADD_SEALS,
		seals | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == -1) {
		log_error(
		    NULL, "vault-failed", "error=\"%s\"", strerror(errno));
		vault_free(&vault);
		return ERR_IO;
	}
	*vault_out = vault;
	return 0;
}

int
vault_adopt(int fd, struct vault **vault_out)
{
	struct vault *vault = xcalloc(1, sizeof(*vault));
	struct stat st;

	vault->fd = fd;
	if (fstat(fd, &st) == -1 ||
	    st.st_size != (off_t)sizeof(struct vault_memory) ||
	    map(vault, PROT_READ) != 0) {
		free(vault);
		return ERR_IO;
	}
	vault->fd = -1;
	*vault_out = vault;
	return 0;
}

int
vault_fd(const struct vault *vault)
{
	return vault->fd;
}

void
vault_free(struct vault **vault_io)
{
	struct vault *vault = *vault_io;

	if (vault == NULL)
		return;
	*vault_io = NULL;
	if (vault->memory != NULL)
		munmap(vault->memory, sizeof(*vault->memory));
	if (vault->fd != -1)
		close(vault->fd);
	free(vault);
}

int
vault_put(struct vault *vault, enum vault_box box, const void *data, size_t len)
{
	struct vault_head *head = &vault->memory->heads[box];
	size_t max;
	uint8_t *bytes = bytes_of(vault->memory, box, &max);
	uint64_t serial = atomic_load(&head->serial);

	if (len > max)
		return ERR_TOO_LARGE;
	atomic_store(&head->serial, serial + 1);
	atomic_thread_fence(memory_order_seq_cst);
	if (len > 0)
		memcpy(bytes, data, len);
	/* of a longer predecessor nothing stays */
	if (head->len > len)
		mem_wipe(bytes + len, head->len - len);
	head->len = len;
	atomic_store(&head->serial, serial + 2);
	return 0;
}

int
vault_become_reader(struct vault *vault)
{
	munmap(vault->memory, sizeof(*vault->memory));
	vault->memory = NULL;
	if (map(vault, PROT_READ) != 0)
		return ERR_IO;
	close(vault->fd);
	vault->fd = -1;
	return 0;
}

bool
vault_get(struct vault *vault, enum vault_box box, uint64_t *serial_io,
    struct buf *out)
{
	struct vault_head *head = &vault->memory->heads[box];
	uint64_t serial = atomic_load(&head->serial);
	size_t max;
	const uint8_t *bytes = bytes_of(vault->memory, box, &max);
	size_t len;

	if (serial % 2 != 0 || serial == *serial_io)
		return false;
	len = head->len <= max ? head->len : max;
	(void)buf_reserve(out, len + 1);
	buf_add(out, bytes, len);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&head->serial) != serial) {
		mem_wipe(out->data, len);
		buf_fini(out);
		return false; /* it changed meanwhile: next time */
	}
	*serial_io = serial;
	return true;
}
