/*
 * handover.h - what a supervisor leaves to the program that takes its place:
 * descriptors that stay open over execve(2), and a description of them in
 * memory that is sealed and has no name.
 *
 * Both programs may be of different versions. What they must have in common
 * is HANDOVER_VERSION and LAYOUT_VERSION; a probe has compared them before.
 */
#ifndef SUPERVISOR_HANDOVER_H
#define SUPERVISOR_HANDOVER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "shm/hold.h"
#include "shm/layout.h"
#include "supervisor/crew.h"
#include "supervisor/sockets.h"

#define HANDOVER_VERSION      2
#define HANDOVER_SETTINGS_MAX 4096

struct handover_child {
	int32_t slot;
	int32_t state; /* enum process_state */
	int32_t pid;
	uint32_t generation;
	uint32_t restarts;
	uint32_t conf_serial;
	uint8_t is_wanted;
	uint8_t is_realtime;
	uint8_t pad[6];
	int64_t started_at_ms; /* monotonic, as all below */
	int64_t restart_at_ms;
	int64_t kill_at_ms;
	int64_t realtime_at_ms;
};

/* A change here raises HANDOVER_VERSION. */
struct handover {
	uint64_t magic;
	uint32_t version; /* HANDOVER_VERSION */
	uint32_t bytes;   /* of this struct */
	uint32_t layout_version;
	uint32_t schema_version;
	uint64_t boot_id;
	int32_t worker_count;
	int32_t address_count;
	int32_t plain_count;
	int32_t child_count;
	uint32_t serial_current; /* of children that the giver has started */
	uint32_t serial_next;    /* for those of the taker: no child has it */
	/* descriptors; -1: none */
	int32_t program_fd; /* what to go back to */
	int32_t image_fd;   /* what was executed; of no more use */
	int32_t conf_fd;    /* the giver's configuration, by conf_dump */
	int32_t board_fd;
	int32_t bus_fd;
	int32_t vault_fd;
	int32_t pid_file_fd;
	int32_t data_lock_fd;
	int32_t command_fd;
	int32_t ops_fd;
	int32_t worker_fds[WORKER_MAX][SOCKETS_ADDRESS_MAX];
	int32_t event_fds[SLOT_END];
	uint16_t ports[SOCKETS_ADDRESS_MAX];
	struct hold_fds hold_fds;
	struct handover_child children[BOARD_SLOT_END];
	int64_t rotate_at_ms; /* keys of tickets */
	uint8_t key_digest[16];
	char program[PATH_MAX];               /* what was started */
	char giver[32];                       /* PACKAGE_VERSION */
	char settings[HANDOVER_SETTINGS_MAX]; /* handover_settings */
};

/** Fill in what follows from crew and conf; no descriptor of the caller's. */
void handover_fill(struct handover *handover, const struct crew *crew,
    const struct conf *conf);
/** @return a sealed descriptor with what is in force, as above */
NODISCARD int handover_write_conf(const struct conf *conf);
/** @return a sealed descriptor with a copy, close-on-exec; or ERR_IO */
NODISCARD int handover_write(const struct handover *handover);
/**
 * Read and judge a description.
 *
 * @param error  one line: what does not fit
 * @return       0, ERR_STALE (another version), ERR_CORRUPT
 */
NODISCARD int handover_read(
    int fd, struct handover *out, char *error, size_t error_len);
/**
 * Settings that only a start can change must be what they were.
 *
 * @return 0 or ERR_BAD_REQUEST; error names the first that is not
 */
NODISCARD int handover_check_settings(const struct handover *handover,
    const struct conf *conf, char *error, size_t error_len);
/** Keep its descriptors open over execve, or close them there again. */
void handover_inherit(const struct handover *handover, bool is_inherited);
/**
 * Map board and bus, take the sockets: crew is as it was. Its children are
 * entered by handover_adopt_children. The descriptors are taken on success,
 * those of the caller (pid file, lock, commands, vault) never.
 *
 * @return 0 or ERR_*, see error
 */
NODISCARD int handover_adopt(const struct handover *handover,
    const struct conf *conf, struct crew *crew, char *error, size_t error_len);
/**
 * After crew_init: they run, wait or are down as the giver left them. Those
 * that have to be replaced are of another serial than crew.
 *
 * @param is_return  the giver had replaced this program before: those that it
 *                   has not replaced stay. But workers with TLS do not see
 *                   the new vault, and are replaced nevertheless
 */
void handover_adopt_children(
    const struct handover *handover, struct crew *crew, bool is_return);

#endif
