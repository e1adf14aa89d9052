/*
 * crew.c - the supervisor's children.
 *
 * Role:    starts, watches and replaces processes; one function sets a
 *          state, one table says which may follow.
 * Process: supervisor.
 * Blocks:  never.
 * Trust:   of the children only wait(2) and their `up` field are believed.
 * See:     policy.c (when), spawn.c (how), crew_orders.c (stops), supervisor.c
 * (in which order).
 */
#include "config.h"

#include "supervisor/crew.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "supervisor/crew_priv.h"
#include "supervisor/inquest.h"
#include "supervisor/patrol.h"

#define UP_POLL_MS          10 /* `up` has no signal: look */
#define UP_POLL_SLOW_MS     100
#define UP_POLL_FAST_FOR_MS 5000
#define START_SLOW_MS       30000 /* said once */
#define REALTIME_RETRY_MS   60000

static const char *
child_name(const struct crew *crew, const struct child *child, char buf[24])
{
	return board_slot_name(crew->board, child->slot, buf);
}

bool
crew_is_alive(const struct child *child)
{
	return child->pid > 0;
}

void
crew_set_state(struct crew *crew, struct child *child, enum process_state state)
{
	struct board_slot *slot = board_slot(crew->board, child->slot);
	char name[24];

	child_name(crew, child, name);
	if (!policy_may_follow(child->state, state))
		log_error(NULL, "process-state-illegal",
		    "name=%s from=%s to=%s", name,
		    board_state_name(child->state), board_state_name(state));
	log_debug(NULL, "process-state", "name=%s from=%s to=%s", name,
	    board_state_name(child->state), board_state_name(state));
	child->state = state;
	atomic_store(&slot->state, state);
}

void
crew_add(struct crew *crew, const struct process_kind *kind, int slot)
{
	struct child *child = &crew->children[crew->child_count++];

	memset(child, 0, sizeof(*child));
	child->slot = slot;
	child->kind = kind;
	child->is_wanted = true;
}

void
crew_init(struct crew *crew, const struct process_kind *kinds,
    size_t kind_count, int worker_count)
{
	crew->child_count = 0;
	for (size_t i = 0; i < kind_count; i++) {
		int last = kinds[i].last_slot;

		if (kinds[i].first_slot >= SLOT_WORKER_0)
			last = kinds[i].first_slot + worker_count - 1;
		for (int slot = kinds[i].first_slot; slot <= last; slot++) {
			crew_add(crew, &kinds[i], slot);
		}
	}
}

struct child *
crew_child(struct crew *crew, int slot)
{
	for (int i = 0; i < crew->child_count; i++) {
		if (crew->children[i].slot == slot)
			return &crew->children[i];
	}
	return NULL;
}

struct child *
crew_find(struct crew *crew, const char *name)
{
	char buf[24];

	for (int i = 0; i < crew->child_count; i++) {
		struct child *child = &crew->children[i];

		if (strcmp(child_name(crew, child, buf), name) == 0)
			return child;
	}
	return NULL;
}

bool
crew_all_in(const struct crew *crew, enum process_state state)
{
	for (int i = 0; i < crew->child_count; i++) {
		const struct child *child = &crew->children[i];

		if (child->is_wanted && child->state != state)
			return false;
	}
	return true;
}

bool
crew_is_moving(const struct crew *crew)
{
	for (int i = 0; i < crew->child_count; i++) {
		const struct child *child = &crew->children[i];

		if (child->state == PROCESS_STARTING ||
		    child->state == PROCESS_STOPPING ||
		    (child->state == PROCESS_DEAD && child->is_wanted))
			return true;
	}
	return false;
}

bool
crew_uses_store(const struct child *child)
{
	return child->kind->needs_store || child->slot == SLOT_KEEPER;
}

/* ---- birth ---- */

static bool
may_start(const struct crew *crew, const struct child *child)
{
	const struct board_header *header = board_header(crew->board);

	switch (crew->store) {
	case STORE_USABLE:
		return !child->kind->needs_store ||
		       atomic_load(&header->ready) != 0;
	case STORE_SUSPECT:
		break;
	case STORE_REFUSED: /* workers say so to whoever comes */
		return slot_is_worker(child->slot) || !crew_uses_store(child);
	}
	return !crew_uses_store(child);
}

static void
put_off(
    struct crew *crew, struct child *child, int64_t now_ms, int64_t pause_ms)
{
	child->restart_at_ms = now_ms + pause_ms;
	if (child->state != PROCESS_BACKOFF)
		crew_set_state(crew, child, PROCESS_BACKOFF);
}

static pid_t
child_fork(struct crew *crew, struct child *child)
{
	struct board_slot *slot = board_slot(crew->board, child->slot);
	struct spawn spawn = {
	    .kind = child->kind,
	    .conf = crew->conf,
	    .bus = crew->bus,
	    .sockets = &crew->sockets,
	    .vault = crew->vault,
	    .hold = crew->hold,
	    .rights = &crew->rights,
	    .slot = child->slot,
	    .data_lock_fd = crew->data_lock_fd,
	    .private_fds = crew->private_fds,
	    .private_count =
		sizeof(crew->private_fds) / sizeof(crew->private_fds[0]),
	};

	atomic_store(&slot->generation, child->generation);
	atomic_store(&slot->restarts, child->restarts);
	atomic_store(&slot->started_at_ms, clock_wall_ms());
	atomic_store(&slot->realtime, 0);
	atomic_store(&slot->successor, 0);
	return spawn_process(&spawn);
}

static void
child_start(struct crew *crew, struct child *child, int64_t now_ms)
{
	struct board_slot *slot = board_slot(crew->board, child->slot);
	char error[256];
	char name[24];

	child_name(crew, child, name);
	if (slot_is_worker(child->slot) &&
	    sockets_open_worker(&crew->sockets, child->slot - SLOT_WORKER_0,
		error, sizeof(error)) != 0) {
		log_error(
		    NULL, "listen-failed", "name=%s error=\"%s\"", name, error);
		put_off(crew, child, now_ms, POLICY_BACKOFF_MAX_MS);
		return;
	}
	if (child->generation > 0)
		child->restarts++;
	child->generation++;
	/* Before the board's generation: whoever sees the new one must not
	 * take what became of the old one for its state. */
	crew_set_state(crew, child, PROCESS_STARTING);
	child->pid = child_fork(crew, child);
	if (child->pid == -1) {
		child->pid = 0;
		log_error(NULL, "fork-failed", "name=%s error=\"%s\"", name,
		    strerror(errno));
		crew_set_state(crew, child, PROCESS_DEAD);
		put_off(crew, child, now_ms, POLICY_BACKOFF_MAX_MS);
		return;
	}
	atomic_store(&slot->pid, (int32_t)child->pid);
	child->started_at_ms = now_ms;
	child->conf_serial = crew->conf_serial;
	child->is_realtime = false;
	child->realtime_at_ms = 0;
	child->watchdog = (struct watchdog){0};
	log_info(NULL, "process-start", "name=%s pid=%d generation=%u", name,
	    (int)child->pid, child->generation);
}

/* ---- death ---- */

static void
log_death(const struct crew *crew, const struct child *child, int status,
    int64_t lived_ms)
{
	char name[24];
	char cause[64];
	bool is_asked = child->state == PROCESS_STOPPING;

	child_name(crew, child, name);
	if (WIFSIGNALED(status))
		snprintf(cause, sizeof(cause), "signal=%d (%s)",
		    WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(
		    cause, sizeof(cause), "status=%d", WEXITSTATUS(status));
	if (is_asked && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		log_info(NULL, "process-end", "name=%s pid=%d %s", name,
		    (int)child->pid, cause);
	else
		log_warn(NULL, "process-died",
		    "name=%s pid=%d %s lived_ms=%lld", name, (int)child->pid,
		    cause, (long long)lived_ms);
}

static void
give_up(struct crew *crew, struct child *child)
{
	char name[24];

	crew_set_state(crew, child, PROCESS_ERRORED);
	/* the kernel would go on sending it its share of the clients */
	if (slot_is_worker(child->slot))
		sockets_close_worker(
		    &crew->sockets, child->slot - SLOT_WORKER_0);
	child_name(crew, child, name);
	log_error(NULL, "process-errored",
	    "name=%s failures=%d hint=\"it stays down; find the cause above, "
	    "then: parleyctl restart %s\"",
	    name, child->policy.short_lives, name);
}

static void
follow_verdict(struct crew *crew, struct child *child,
    enum restart_verdict verdict, int64_t now_ms, int64_t pause_ms)
{
	switch (verdict) {
	case RESTART_NOW:
		break;
	case RESTART_LATER:
		put_off(crew, child, now_ms, pause_ms);
		break;
	case RESTART_NEVER:
		give_up(crew, child);
		break;
	}
}

static void
child_died(struct crew *crew, struct child *child, int status, int64_t now_ms)
{
	struct board_slot *slot = board_slot(crew->board, child->slot);
	int64_t lived_ms = now_ms - child->started_at_ms;
	bool is_asked = child->state == PROCESS_STOPPING;
	bool was_up = atomic_load(&slot->up) == atomic_load(&slot->generation);
	/* our own SIGKILL ends a hang: the process' fault, unless somebody
	 * has stopped it */
	bool is_hang =
	    child->watchdog.abort_at_ms != 0 && !child->watchdog.is_stopped;
	bool is_killed = was_up && !is_hang && WIFSIGNALED(status) &&
			 WTERMSIG(status) == SIGKILL;
	struct restart_limits limits = {
	    .min_uptime_ms = crew->conf->supervisor_min_uptime,
	    .delay_ms = crew->conf->supervisor_restart_delay,
	    .restarts_max = (int)crew->conf->supervisor_max_restarts,
	};
	enum restart_verdict verdict;
	int64_t pause_ms = 0;

	log_death(crew, child, status, lived_ms);
	patrol_log_trace(crew, child);
	atomic_store(&slot->last_status, status);
	atomic_store(&slot->pid, 0);
	atomic_store(&slot->realtime, 0);
	child->pid = 0;
	crew_set_state(crew, child, PROCESS_DEAD);
	/* else crew_tick starts it if it is wanted */
	if (child->is_wanted && !is_asked) {
		verdict = policy_died(
		    &child->policy, &limits, lived_ms, is_killed, &pause_ms);
		follow_verdict(crew, child, verdict, now_ms, pause_ms);
	}
	inquest_note(crew, child, status, now_ms);
}

void
crew_reap(struct crew *crew, int64_t now_ms)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		inquest_reaped(pid, status);
		for (int i = 0; i < crew->child_count; i++) {
			if (crew->children[i].pid == pid)
				child_died(
				    crew, &crew->children[i], status, now_ms);
		}
	}
}

/* ---- what is due ---- */

static void
look_if_up(struct crew *crew, struct child *child, int64_t now_ms)
{
	struct board_slot *slot = board_slot(crew->board, child->slot);
	int64_t age_ms = now_ms - child->started_at_ms;
	char name[24];

	if (atomic_load(&slot->up) != child->generation) {
		if (age_ms >= START_SLOW_MS &&
		    age_ms < START_SLOW_MS + UP_POLL_SLOW_MS)
			log_warn(NULL, "process-start-slow",
			    "name=%s pid=%d age_ms=%lld",
			    child_name(crew, child, name), (int)child->pid,
			    (long long)age_ms);
		return;
	}
	crew_set_state(crew, child, PROCESS_RUNNING);
	child->realtime_at_ms = now_ms;
	log_info(NULL, "process-up", "name=%s pid=%d after_ms=%lld",
	    child_name(crew, child, name), (int)child->pid, (long long)age_ms);
}

/*
 * Given when the start is done, which may compute for long; taken back by the
 * process itself (SIGXCPU) and offered again later.
 */
static void
care_for_realtime(struct crew *crew, struct child *child, int64_t now_ms)
{
	struct board_slot *slot = board_slot(crew->board, child->slot);

	if (!child->kind->is_realtime || !crew->may_realtime)
		return;
	if (child->is_realtime && atomic_load(&slot->realtime) == 0) {
		log_warn(NULL, "realtime-lost",
		    "pid=%d hint=\"it computed too long without sleeping\"",
		    (int)child->pid);
		child->is_realtime = false;
		child->realtime_at_ms = now_ms + REALTIME_RETRY_MS;
	}
	if (child->is_realtime || now_ms < child->realtime_at_ms)
		return;
	child->realtime_at_ms = now_ms + REALTIME_RETRY_MS;
	/* before the call: its SIGXCPU handler may clear it at any time */
	atomic_store(&slot->realtime, 1);
	child->is_realtime = spawn_raise_keeper(child->pid);
	if (!child->is_realtime)
		atomic_store(&slot->realtime, 0);
}

static void
kill_if_overdue(struct crew *crew, struct child *child, int64_t now_ms)
{
	char name[24];

	if (child->kill_at_ms == 0 || now_ms < child->kill_at_ms)
		return;
	log_warn(NULL, "process-kill", "name=%s pid=%d",
	    child_name(crew, child, name), (int)child->pid);
	kill(child->pid, SIGKILL);
	child->kill_at_ms = 0;
}

/* A worker that is not wanted any more: nobody takes who waits there, and its
 * holder has nothing more to hold. */
static void
surplus_gone(struct crew *crew, const struct child *child, int64_t now_ms)
{
	int worker = child->slot - SLOT_WORKER_0;
	struct child *holder = crew_child(crew, SLOT_HOLDER_0 + worker);

	sockets_close_worker(&crew->sockets, worker);
	if (holder == NULL || !holder->is_wanted)
		return;
	holder->is_wanted = false;
	crew_stop(crew, holder, now_ms);
}

static void
child_tick(struct crew *crew, struct child *child, int64_t now_ms)
{
	switch (child->state) {
	case PROCESS_DEAD:
		if (child->is_wanted && may_start(crew, child))
			child_start(crew, child, now_ms);
		else if (child->is_surplus)
			surplus_gone(crew, child, now_ms);
		break;
	case PROCESS_STARTING:
		look_if_up(crew, child, now_ms);
		break;
	case PROCESS_RUNNING:
		care_for_realtime(crew, child, now_ms);
		break;
	case PROCESS_STOPPING:
		kill_if_overdue(crew, child, now_ms);
		break;
	case PROCESS_BACKOFF:
		if (now_ms >= child->restart_at_ms)
			child_start(crew, child, now_ms);
		break;
	case PROCESS_ERRORED:
		break;
	}
}

void
crew_tick(struct crew *crew, int64_t now_ms)
{
	for (int i = 0; i < crew->child_count; i++)
		child_tick(crew, &crew->children[i], now_ms);
}

static int64_t
child_patience_ms(
    const struct crew *crew, const struct child *child, int64_t now_ms)
{
	switch (child->state) {
	case PROCESS_DEAD: /* waits for the keeper, if it is wanted */
		if (!child->is_wanted)
			return INT64_MAX;
		return may_start(crew, child) ? 0 : UP_POLL_MS;
	case PROCESS_STARTING:
		return now_ms - child->started_at_ms < UP_POLL_FAST_FOR_MS
			   ? UP_POLL_MS
			   : UP_POLL_SLOW_MS;
	case PROCESS_STOPPING:
		return child->kill_at_ms == 0 ? INT64_MAX
					      : child->kill_at_ms - now_ms;
	case PROCESS_BACKOFF:
		return child->restart_at_ms - now_ms;
	case PROCESS_RUNNING:
	case PROCESS_ERRORED:
		break;
	}
	return INT64_MAX;
}

int64_t
crew_patience_ms(const struct crew *crew, int64_t now_ms, int64_t max_ms)
{
	int64_t patience_ms = max_ms;

	for (int i = 0; i < crew->child_count; i++) {
		int64_t ms =
		    child_patience_ms(crew, &crew->children[i], now_ms);

		if (ms < patience_ms)
			patience_ms = ms;
	}
	return patience_ms < 0 ? 0 : patience_ms;
}
