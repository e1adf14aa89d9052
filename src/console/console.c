/*
 * console.c - the process for operators.
 *
 * Role:    the turn: events, the keeper's answers, requests, the ring.
 * Process: console.
 * Blocks:  never, but on pages of the store and of small files.
 * Trust:   see control.c and http.c.
 * See:     verbs.def, shm/process.h.
 */
#include "config.h"

#include "console/console.h"

#include <signal.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/log.h"
#include "console/console_priv.h"
#include "console/control.h"
#include "console/http.h"
#include "console/keeper_call.h"
#include "shm/store.h"

#define TICK_MS        200  /* deadlines, the heartbeat, a full ring */
#define STOP_WITHIN_MS 2000 /* for requests under way */

static const struct timeval tick = {.tv_usec = TICK_MS * 1000};

struct store *
console_store(struct console *console)
{
	const struct conf *conf = console->process->conf;
	struct board *board = bus_board(console->process->bus);
	char error[256];

	/* What was set aside, or is being read for that, is not the store. */
	if (atomic_load(&board_header(board)->ready) == 0)
		store_close(&console->store);
	if (console->store != NULL ||
	    atomic_load(&board_header(board)->ready) == 0)
		return console->store;
	if (store_open(STORE_MAIN, conf->server_data_dir,
		(size_t)conf->store_map_size, false, &console->store, error,
		sizeof(error)) != 0) {
		log_error(NULL, "store-open-failed", "error=\"%s\"", error);
		console->store = NULL;
	}
	return console->store;
}

/* ---- events: they only end the wait, the turn looks at everything ---- */

static void
wake_cb(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	(void)ctx;
}

static struct event *
add_event(
    struct console *console, int fd, short what, const struct timeval *timeout)
{
	struct event *event =
	    event_new(console->base, fd, what, wake_cb, console);

	if (event == NULL || event_add(event, timeout) != 0)
		fatal("console: cannot add an event");
	return event;
}

static void
read_signals(struct console *console, int fd)
{
	int number;

	while ((number = process_signal_next(fd)) != 0) {
		if (number == SIGUSR1) {
			log_reopen();
			continue;
		}
		console->is_stopping = true;
		console->stop_by_ms = clock_mono_ms() + STOP_WITHIN_MS;
		control_stop(console->control);
	}
}

static void
turn(struct console *console, int signal_fd)
{
	struct bus *bus = console->process->bus;
	bool may_sleep = bus_prepare_sleep(bus);

	/*
	 * Never EVLOOP_NONBLOCK alone: event_base_loop then goes on while
	 * anything is ready, and the bell stays so until bus_awake.
	 */
	event_base_loop(
	    console->base, EVLOOP_ONCE | (may_sleep ? 0 : EVLOOP_NONBLOCK));
	bus_awake(bus);
	process_beat(console->process);
	read_signals(console, signal_fd);
	keeper_calls_read(console);
	control_turn(console->control);
	keeper_calls_put(console);
	bus_publish_all(bus);
}

static bool
is_over(const struct console *console)
{
	return console->is_stopping &&
	       (!control_is_busy(console->control) ||
		   clock_mono_ms() >= console->stop_by_ms);
}

static int
serve(struct console *console)
{
	int signal_fd = process_signal_fd();
	struct event *events[] = {
	    add_event(console, signal_fd, EV_READ | EV_PERSIST, NULL),
	    add_event(console, bus_eventfd(console->process->bus),
		EV_READ | EV_PERSIST, NULL),
	    add_event(console, -1, EV_PERSIST, &tick),
	};

	process_up(console->process);
	while (!is_over(console))
		turn(console, signal_fd);
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		event_free(events[i]);
	return 0;
}

int
console_main(const struct process *process)
{
	struct console console = {.process = process};
	int status = 1;

	TAILQ_INIT(&console.calls);
	console.base = event_base_new();
	if (console.base == NULL)
		fatal("console: cannot make an event base");
	if (control_new(&console, &console.control) != 0)
		goto out;
	if (process->listen_count > 0 &&
	    http_new(&console, process->listen_fds[0], &console.http) != 0)
		goto out;
	status = serve(&console);
out:
	http_free(&console.http);
	control_free(&console.control);
	store_close(&console.store);
	event_base_free(console.base);
	libevent_global_shutdown();
	return status;
}
