/*
 * vault.h - secrets that the supervisor hands to the workers: two boxes of
 * bytes that can change while they run.
 *
 * The supervisor alone writes; a worker looks now and then. The memory has no
 * name, is in no core file, not swapped out where the limit allows, and
 * cannot be mapped for writing by anybody else (doc/decisions/004-tls-keys.md).
 */
#ifndef SHM_VAULT_H
#define SHM_VAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct vault;

enum vault_box {
	VAULT_FILES,   /* a pack of net/tls.h */
	VAULT_TICKETS, /* struct tls_tickets */
};

#define VAULT_FILES_MAX   ((size_t)512 * 1024)
#define VAULT_TICKETS_MAX ((size_t)1024)

/** Supervisor. @return 0 or ERR_IO, logged */
NODISCARD int vault_create(struct vault **vault_out);
/**
 * The vault of a program that was replaced by this one, to be read only: the
 * seal lets nobody write any more. fd stays the caller's. @return 0 or ERR_IO
 */
NODISCARD int vault_adopt(int fd, struct vault **vault_out);
/** The supervisor's, -1 in a reader; stays the vault's. */
int vault_fd(const struct vault *vault);
void vault_free(struct vault **vault);
/** Supervisor: replace what is in a box. @return 0 or ERR_TOO_LARGE */
NODISCARD int vault_put(
    struct vault *vault, enum vault_box box, const void *data, size_t len);
/** A child that may look: from now on it can do nothing else. @return 0 or
 *  ERR_IO */
NODISCARD int vault_become_reader(struct vault *vault);
/**
 * What is in the box, if it is not what it was.
 *
 * @param serial_io  begin with 0; names what was read last
 * @param out        empty; wiped and freed by the caller. Filled in at once,
 *                   so no copy is left behind
 * @return           true: there is something new in out
 */
bool vault_get(struct vault *vault, enum vault_box box, uint64_t *serial_io,
    struct buf *out);

#endif
