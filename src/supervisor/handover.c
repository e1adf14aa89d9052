/*
 * handover.c - from one program of the supervisor to the next.
 *
 * Role:    describes descriptors and children, and takes them over by such a
 *          description.
 * Process: supervisor, before and after it executes another program; the
 *          probe, which takes over on trial.
 * Blocks:  never.
 * Trust:   the description is in memory that only the supervisor could write
 *          and nobody can change (F_SEAL_WRITE); it is checked nevertheless,
 *          as the other program may be of any version.
 * See:     upgrade.c, probe.c, doc/decisions/009-upgrade.md,
 *          t/unit/handover.c.
 */
#include "config.h"

#include "supervisor/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/crypto.h"
#include "base/log.h"
#include "shm/store_schema.h"

#define HANDOVER_MAGIC UINT64_C(0x70756b6f6f74) /* "tookup" */

/*
 * The layout that this program was built for, to be found in the file by its
 * mark. Volatile: what is compared is what stands in the file.
 */
static const volatile struct {
	char mark[24];
	uint32_t layout_version;
} stamp = {"parleyd-layout-version:", LAYOUT_VERSION};

/* ---- settings ---- */

static void
render_text(struct buf *out, const char *text)
{
	buf_add(
	    out, text != NULL ? text : "", text != NULL ? strlen(text) + 1 : 1);
}

static void
render_number(struct buf *out, int64_t number)
{
	buf_add(out, &number, sizeof(number));
}

static void
render_list(struct buf *out, const struct conf_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		render_text(out, list->items[i]);
}

#define RENDER_BOOL(out, at)     render_number((out), *(at) ? 1 : 0)
#define RENDER_INT(out, at)      render_number((out), *(at))
#define RENDER_DURATION(out, at) render_number((out), *(at))
#define RENDER_SIZE(out, at)     render_number((out), *(at))
#define RENDER_STRING(out, at)   render_text((out), *(at))
#define RENDER_CHOICE(out, at)   render_text((out), *(at))
#define RENDER_LIST(out, at)     render_list((out), (at))
#define RENDER_SECRETS(out, at)  render_list((out), (at))

/* "name digest\n": values may be long, and are nobody's business. */
static void
add_setting(struct buf *out, const char *name, const struct buf *value)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t digest[16];

	crypto_sha256_128(
	    value->len > 0 ? value->data : "", value->len, digest);
	buf_add(out, name, strlen(name));
	buf_add_char(out, ' ');
	for (size_t i = 0; i < sizeof(digest); i++) {
		buf_add_char(out, digits[digest[i] >> 4]);
		buf_add_char(out, digits[digest[i] & 15]);
	}
	buf_add_char(out, '\n');
}

/* Those of conf.def with 0 in the column reload. */
static void
list_settings(const struct conf *conf, char out[HANDOVER_SETTINGS_MAX])
{
	struct buf lines = {0};
	struct buf value = {0};

#define CONF(section, key, type, def, min, max, reload, help)                  \
	if ((reload) == 0) {                                                   \
		value.len = 0;                                                 \
		RENDER_##type(&value, &conf->section##_##key);                 \
		add_setting(&lines, #section "." #key, &value);                \
	}
#include "base/conf.def"
#undef CONF
	if (lines.len >= HANDOVER_SETTINGS_MAX)
		panic("%zu bytes of settings", lines.len);
	memset(out, 0, HANDOVER_SETTINGS_MAX);
	memcpy(out, lines.data, lines.len);
	buf_fini(&lines);
	buf_fini(&value);
}

/* @return the line of this name (len of it, blank included), or NULL */
static const char *
find_setting(const char *lines, const char *name, size_t len)
{
	while (*lines != '\0') {
		if (strncmp(lines, name, len) == 0)
			return lines;
		lines += strcspn(lines, "\n");
		lines += strspn(lines, "\n");
	}
	return NULL;
}

int
handover_check_settings(const struct handover *handover,
    const struct conf *conf, char *error, size_t error_len)
{
	char own[HANDOVER_SETTINGS_MAX];
	const char *line = own;

	list_settings(conf, own);
	while (*line != '\0') {
		size_t len = strcspn(line, "\n");
		size_t name_len = strcspn(line, " ") + 1;
		const char *old =
		    find_setting(handover->settings, line, name_len);

		/* one that the other program does not know is no change */
		if (old != NULL && strncmp(old, line, len) != 0) {
			snprintf(error, error_len,
			    "the setting %.*s has changed and takes effect at "
			    "a start only; put it back, or stop and start",
			    (int)name_len - 1, line);
			return ERR_BAD_REQUEST;
		}
		line += len;
		line += strspn(line, "\n");
	}
	return 0;
}

/* ---- giving ---- */

static void
fill_sockets(struct handover *handover, const struct sockets *sockets)
{
	handover->address_count = (int32_t)sockets->address_count;
	handover->plain_count = (int32_t)sockets->plain_count;
	handover->ops_fd = sockets->ops_fd;
	memset(handover->worker_fds, -1, sizeof(handover->worker_fds));
	memcpy(handover->ports, sockets->ports, sizeof(handover->ports));
	for (int worker = 0; worker < sockets->worker_count; worker++) {
		for (size_t i = 0; i < sockets->address_count; i++)
			handover->worker_fds[worker][i] =
			    sockets->worker_fds[worker][i];
	}
}

static void
fill_child(struct handover_child *out, const struct child *child)
{
	*out = (struct handover_child){
	    .slot = child->slot,
	    .state = (int32_t)child->state,
	    .pid = child->pid,
	    .generation = child->generation,
	    .restarts = child->restarts,
	    .conf_serial = child->conf_serial,
	    .is_wanted = child->is_wanted,
	    .is_realtime = child->is_realtime,
	    .started_at_ms = child->started_at_ms,
	    .restart_at_ms = child->restart_at_ms,
	    .kill_at_ms = child->kill_at_ms,
	    .realtime_at_ms = child->realtime_at_ms,
	};
}

void
handover_fill(
    struct handover *handover, const struct crew *crew, const struct conf *conf)
{
	const int *event_fds = bus_eventfds(crew->bus);

	memset(handover, 0, sizeof(*handover));
	handover->magic = HANDOVER_MAGIC;
	handover->version = HANDOVER_VERSION;
	handover->bytes = sizeof(*handover);
	handover->layout_version = stamp.layout_version;
	handover->schema_version = SCHEMA_VERSION;
	handover->boot_id = board_header(crew->board)->boot_id;
	handover->worker_count = bus_worker_count(crew->bus);
	handover->board_fd = board_fd(crew->board);
	handover->bus_fd = bus_segment_fd(crew->bus);
	handover->vault_fd = crew->vault != NULL ? vault_fd(crew->vault) : -1;
	handover->data_lock_fd = crew->data_lock_fd;
	memset(handover->event_fds, -1, sizeof(handover->event_fds));
	for (int slot = 0; slot < bus_slot_end(crew->bus); slot++)
		handover->event_fds[slot] = event_fds[slot];
	hold_describe(crew->hold, &handover->hold_fds);
	fill_sockets(handover, &crew->sockets);
	handover->serial_current = crew->conf_serial;
	handover->serial_next = crew->conf_serial;
	handover->child_count = crew->child_count;
	for (int i = 0; i < crew->child_count; i++) {
		fill_child(&handover->children[i], &crew->children[i]);
		if (crew->children[i].conf_serial > handover->serial_next)
			handover->serial_next = crew->children[i].conf_serial;
	}
	handover->serial_next++;
	snprintf(
	    handover->giver, sizeof(handover->giver), "%s", PACKAGE_VERSION);
	list_settings(conf, handover->settings);
}

static int
memory_open(const char *name)
{
	return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/* @return take_fd, or ERR_IO: it is closed */
static int
seal(int take_fd, bool is_complete)
{
	if (is_complete &&
	    fcntl(take_fd, F_ADD_SEALS,
		F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
		return take_fd;
	if (take_fd != -1)
		close(take_fd);
	return ERR_IO;
}

int
handover_write(const struct handover *handover)
{
	int fd = memory_open("parley-handover");
	ssize_t len = (ssize_t)sizeof(*handover);

	return seal(fd, write(fd, handover, sizeof(*handover)) == len);
}

int
handover_write_conf(const struct conf *conf)
{
	int fd = memory_open("parley-conf");
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	FILE *file = copy != -1 ? fdopen(copy, "w") : NULL;
	bool is_complete;

	if (file == NULL) {
		if (copy != -1)
			close(copy);
		return seal(fd, false);
	}
	conf_dump(conf, file);
	is_complete = ferror(file) == 0;
	if (fclose(file) != 0)
		is_complete = false;
	return seal(fd, is_complete);
}

static void
keep_open(int fd, bool is_inherited)
{
	if (fd != -1)
		(void)fcntl(fd, F_SETFD, is_inherited ? 0 : FD_CLOEXEC);
}

void
handover_inherit(const struct handover *handover, bool is_inherited)
{
	const int32_t fds[] = {handover->program_fd, handover->image_fd,
	    handover->conf_fd, handover->board_fd, handover->bus_fd,
	    handover->vault_fd, handover->pid_file_fd, handover->data_lock_fd,
	    handover->command_fd, handover->ops_fd};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		keep_open(fds[i], is_inherited);
	for (int slot = 0; slot < SLOT_END; slot++)
		keep_open(handover->event_fds[slot], is_inherited);
	keep_open(handover->hold_fds.segment, is_inherited);
	for (int worker = 0; worker < WORKER_MAX; worker++) {
		keep_open(handover->hold_fds.worker_ends[worker], is_inherited);
		keep_open(handover->hold_fds.holder_ends[worker], is_inherited);
		for (int i = 0; i < SOCKETS_ADDRESS_MAX; i++)
			keep_open(
			    handover->worker_fds[worker][i], is_inherited);
	}
}

/* ---- taking ---- */

static bool
are_counts_sane(const struct handover *handover)
{
	return handover->worker_count >= 1 &&
	       handover->worker_count <= WORKER_MAX &&
	       handover->address_count >= 1 &&
	       handover->address_count <= SOCKETS_ADDRESS_MAX &&
	       handover->plain_count >= 0 &&
	       handover->plain_count <= handover->address_count &&
	       handover->child_count >= 1 &&
	       handover->child_count <= BOARD_SLOT_END;
}

int
handover_read(int fd, struct handover *out, char *error, size_t error_len)
{
	const int sealed = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
	ssize_t n = pread(fd, out, sizeof(*out), 0);

	if (n < (ssize_t)offsetof(struct handover, boot_id) ||
	    out->magic != HANDOVER_MAGIC ||
	    (fcntl(fd, F_GET_SEALS) & sealed) != sealed) {
		snprintf(error, error_len,
		    "descriptor %d is no handover of a supervisor", fd);
		return ERR_CORRUPT;
	}
	if (out->layout_version != stamp.layout_version) {
		snprintf(error, error_len,
		    "the running processes share memory of layout %u, this "
		    "program has layout %u: they cannot be replaced one by "
		    "one; stop and start",
		    out->layout_version, stamp.layout_version);
		return ERR_STALE;
	}
	if (out->version != HANDOVER_VERSION || out->bytes != sizeof(*out) ||
	    n != (ssize_t)sizeof(*out)) {
		snprintf(error, error_len,
		    "the running supervisor hands over by version %u, this "
		    "program takes version %d; stop and start",
		    out->version, HANDOVER_VERSION);
		return ERR_STALE;
	}
	if (!are_counts_sane(out)) {
		snprintf(error, error_len, "the handover is damaged");
		return ERR_CORRUPT;
	}
	out->program[sizeof(out->program) - 1] = '\0';
	out->giver[sizeof(out->giver) - 1] = '\0';
	out->settings[sizeof(out->settings) - 1] = '\0';
	return 0;
}

static void
adopt_sockets(const struct handover *handover, const struct conf *conf,
    struct sockets *sockets)
{
	memset(sockets, 0, sizeof(*sockets));
	memset(sockets->worker_fds, -1, sizeof(sockets->worker_fds));
	sockets->address_count = (size_t)handover->address_count;
	sockets->plain_count = (size_t)handover->plain_count;
	sockets->worker_count = handover->worker_count;
	sockets->ops_fd = handover->ops_fd;
	memcpy(sockets->ports, handover->ports, sizeof(sockets->ports));
	for (int worker = 0; worker < handover->worker_count; worker++) {
		for (int i = 0; i < handover->address_count; i++)
			sockets->worker_fds[worker][i] =
			    handover->worker_fds[worker][i];
	}
	sockets_set_conf(sockets, conf);
}

int
handover_adopt(const struct handover *handover, const struct conf *conf,
    struct crew *crew, char *error, size_t error_len)
{
	size_t addresses =
	    conf->server_listen.count + conf->server_listen_tls.count;
	int rc;

	if ((size_t)handover->address_count != addresses) {
		snprintf(error, error_len,
		    "%d addresses are listened on, the configuration has %zu",
		    handover->address_count, addresses);
		return ERR_BAD_REQUEST;
	}
	rc = board_adopt(handover->board_fd, handover->boot_id, &crew->board);
	if (rc == 0)
		rc = bus_adopt(crew->board, handover->worker_count,
		    handover->bus_fd, handover->event_fds, &crew->bus);
	if (rc == 0)
		rc = hold_adopt(
		    handover->worker_count, &handover->hold_fds, &crew->hold);
	if (rc != 0) {
		snprintf(error, error_len,
		    "cannot take over the shared memory: %s", err_text(rc));
		return rc;
	}
	crew->data_lock_fd = handover->data_lock_fd;
	adopt_sockets(handover, conf, &crew->sockets);
	return 0;
}

static void
adopt_child(const struct handover_child *from, struct child *child)
{
	child->state = (enum process_state)from->state;
	child->pid = from->pid;
	child->generation = from->generation;
	child->restarts = from->restarts;
	child->conf_serial = from->conf_serial;
	child->is_wanted = from->is_wanted != 0;
	child->is_realtime = from->is_realtime != 0;
	child->started_at_ms = from->started_at_ms;
	child->restart_at_ms = from->restart_at_ms;
	child->kill_at_ms = from->kill_at_ms;
	child->realtime_at_ms = from->realtime_at_ms;
}

void
handover_adopt_children(
    const struct handover *handover, struct crew *crew, bool is_return)
{
	crew->conf_serial =
	    is_return ? handover->serial_current : handover->serial_next;
	for (int i = 0; i < handover->child_count; i++) {
		for (int k = 0; k < crew->child_count; k++) {
			if (crew->children[k].slot ==
			    handover->children[i].slot)
				adopt_child(
				    &handover->children[i], &crew->children[k]);
		}
	}
	for (int k = 0; crew->vault != NULL && k < crew->child_count; k++) {
		if (slot_is_worker(crew->children[k].slot))
			crew->children[k].conf_serial = 0; /* of nobody */
	}
}
