/*
 * orders.c - what signals and parleyctl ask of the supervisor, but for the
 * stop.
 *
 * Role:    reload, upgrade, restart, drain, scale: one function each, one row
 * each in the table of what parleyctl may say. Process: supervisor. Blocks:  on
 * the configuration's files at a reload. Trust:   who may write to the socket
 * is judged by command.c; words that are not in the table are refused. See:
 * command.h, ctl/ctl_daemon.c, t/60-ctl.t.
 */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/settings.h"
#include "supervisor/command.h"
#include "supervisor/reload.h"
#include "supervisor/scale.h"
#include "supervisor/setup.h"
#include "supervisor/supervisor_priv.h"
#include "supervisor/upgrade.h"

/* ---- reload ---- */

/*
 * Certificates go to the workers as they are; everything else that a process
 * has read when it started needs a successor, unless it can take it over from
 * the board. Without a difference nothing happens: whoever wants new processes
 * restarts them.
 */
static bool
needs_successors(struct supervisor *sup, struct conf *next,
    struct certs_next *take_certs, struct reload_names *names)
{
	uint8_t digest[sizeof(sup->key_digest)];
	enum reload_kind kind = reload_adopt(sup->conf, next, names);

	if (certs_replace(&sup->certs, next, take_certs) &&
	    kind == RELOAD_NOTHING)
		kind = RELOAD_IN_PLACE;
	reload_digest(next, digest);
	if (memcmp(digest, sup->key_digest, sizeof(digest)) != 0)
		kind = RELOAD_SUCCESSORS;
	memcpy(sup->key_digest, digest, sizeof(digest));
	return kind == RELOAD_SUCCESSORS;
}

int
orders_reload(struct supervisor *sup, char *reply)
{
	struct reload_names names = {.in_place = {0}};
	struct certs_next certs = {.pack = {0}};
	struct conf *next = reload_read(sup->options.conf_path,
	    sup->options.is_background,
	    sup->certs.vault != NULL ? &certs : NULL, reply, COMMAND_LEN_MAX);

	int workers_before;

	if (next != NULL && scale_check(&sup->crew, sup->conf, next, reply,
				COMMAND_LEN_MAX) != 0)
		conf_free(&next);
	if (next == NULL) {
		certs_next_fini(&certs);
		return ERR_BAD_REQUEST;
	}
	workers_before = setup_worker_count(sup->conf);
	sup->is_rolling =
	    needs_successors(sup, next, &certs, &names) || sup->is_rolling;
	conf_free(&sup->conf);
	sup->conf = next;
	sup->crew.conf = next;
	if (names.in_place.len > 0)
		settings_publish(sup->crew.board, next);
	if (sup->is_rolling)
		sup->crew.conf_serial++;
	else
		log_info(
		    NULL, "reload-done", "serial=%u", sup->crew.conf_serial);
	sockets_set_conf(&sup->crew.sockets, next);
	if (supervisor_open_log(next, sup->options.is_background, false) != 0)
		log_error(
		    NULL, "log-open-failed", "target=%s", next->log_target);
	supervisor_give_log(sup);
	scale_reload(&sup->crew, workers_before, setup_worker_count(next));
	reload_answer(&names, sup->is_rolling, reply, COMMAND_LEN_MAX);
	reload_names_fini(&names);
	return 0;
}

/* ---- upgrade ---- */

static struct upgrade_world
upgrade_world(struct supervisor *sup)
{
	return (struct upgrade_world){
	    .crew = &sup->crew,
	    .conf = sup->conf,
	    .certs = &sup->certs,
	    .key_digest = sup->key_digest,
	    .conf_path = sup->options.conf_path,
	    .is_background = sup->options.is_background,
	    .pid_file_fd = sup->crew.private_fds[FD_PID_FILE],
	    .command_fd = sup->crew.private_fds[FD_COMMAND],
	};
}

int
orders_upgrade(struct supervisor *sup, char *error, size_t error_len)
{
	struct upgrade_world world = upgrade_world(sup);

	if (sup->phase == PHASE_SERVING && !sup->is_rolling &&
	    sup->crew.store == STORE_USABLE)
		return upgrade_begin(&world, error, error_len);
	snprintf(error, error_len,
	    "processes are being stopped or replaced, or the store is not "
	    "usable; try again later");
	log_error(NULL, "upgrade-refused", "error=\"%s\"", error);
	return ERR_CONFLICT;
}

void
orders_upgrade_step(struct supervisor *sup, int64_t now_ms)
{
	struct upgrade_world world = upgrade_world(sup);

	upgrade_step(&world, sup->is_rolling, now_ms);
}

/* ---- the log ---- */

void
orders_reopen_log(struct supervisor *sup)
{
	log_reopen();
	supervisor_give_log(sup);
	crew_signal(&sup->crew, SIGUSR1);
}

/* ---- what parleyctl says ---- */

static void
obey_drain(struct supervisor *sup, const char *name, char *reply)
{
	struct child *child = crew_find(&sup->crew, name);

	if (child == NULL || !slot_is_worker(child->slot)) {
		snprintf(reply, COMMAND_LEN_MAX,
		    "error: there is no worker of this name");
		return;
	}
	if (child->state != PROCESS_RUNNING) {
		snprintf(reply, COMMAND_LEN_MAX, "error: %s is %s", name,
		    board_state_name(child->state));
		return;
	}
	log_info(NULL, "drain-ordered", "name=%s", name);
	crew_drain(&sup->crew, child, clock_mono_ms());
	snprintf(reply, COMMAND_LEN_MAX, "ok");
}

static void
obey_restart(struct supervisor *sup, const char *name, char *reply)
{
	struct child *child = crew_find(&sup->crew, name);

	if (child == NULL) {
		snprintf(reply, COMMAND_LEN_MAX,
		    "error: no process of this name can be restarted");
		return;
	}
	if (sup->crew.store != STORE_USABLE && crew_uses_store(child)) {
		snprintf(reply, COMMAND_LEN_MAX,
		    "error: the store is damaged, gone or being checked: "
		    "parleyctl status says which");
		return;
	}
	log_info(NULL, "restart-ordered", "name=%s", name);
	crew_restart(&sup->crew, child, clock_mono_ms());
	snprintf(reply, COMMAND_LEN_MAX, "ok");
}

static void
tell(int rc, const char *error, char *reply)
{
	if (rc != 0)
		snprintf(reply, COMMAND_LEN_MAX, "error: %s", error);
	else
		snprintf(reply, COMMAND_LEN_MAX, "ok");
}

static void
obey_reload(struct supervisor *sup, const char *name, char *reply)
{
	char text[COMMAND_LEN_MAX];

	(void)name;
	snprintf(reply, COMMAND_LEN_MAX, "%s%.*s",
	    orders_reload(sup, text) != 0 ? "error: " : "", COMMAND_LEN_MAX - 8,
	    text);
}

static void
obey_scale(struct supervisor *sup, const char *number, char *reply)
{
	scale_obey(&sup->crew, number, reply, COMMAND_LEN_MAX);
}

static void
obey_settings(struct supervisor *sup, const char *name, char *reply)
{
	(void)name;
	reload_print(sup->conf, reply, COMMAND_LEN_MAX);
}

static void
obey_upgrade(struct supervisor *sup, const char *name, char *reply)
{
	char error[512];

	(void)name;
	tell(orders_upgrade(sup, error, sizeof(error)), error, reply);
}

static void
obey_upgrade_status(struct supervisor *sup, const char *name, char *reply)
{
	(void)sup;
	(void)name;
	upgrade_status(reply, COMMAND_LEN_MAX);
}

/* Those that end with a blank are followed by the name of a process, or by a
 * number. */
static const struct order {
	const char *text;
	void (*obey)(struct supervisor *sup, const char *name, char *reply);
} orders[] = {
    {"drain ", obey_drain},
    {"reload", obey_reload},
    {"restart ", obey_restart},
    {"scale ", obey_scale},
    {"settings", obey_settings},
    {"upgrade", obey_upgrade},
    {"upgrade status", obey_upgrade_status},
};

void
orders_obey(void *ctx, const char *text, char *reply)
{
	struct supervisor *sup = ctx;

	if (sup->phase != PHASE_SERVING) {
		snprintf(reply, COMMAND_LEN_MAX, "error: parleyd is stopping");
		return;
	}
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		size_t len = strlen(orders[i].text);
		bool has_name = orders[i].text[len - 1] == ' ';

		if (strncmp(text, orders[i].text, len) == 0 &&
		    (has_name || text[len] == '\0')) {
			orders[i].obey(sup, text + len, reply);
			return;
		}
	}
	snprintf(reply, COMMAND_LEN_MAX, "error: unknown order");
}
