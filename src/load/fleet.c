/*
 * fleet.c - all connections of one generator and its loop.
 *
 * Role:    turns the loop, starts connections at a rate, ends those that take
 *          too long, flushes once per turn.
 * Process: each generator.
 * Blocks:  resolving the address at the start; else in epoll only.
 * Trust:   our own processes.
 * See:     client.c, generator.c.
 */
#include "load/fleet.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/crypto.h"
#include "base/mem.h"
#include "load/deflate.h"
#include "load/tls_client.h"

#define FLEET_MAGIC   0x666c7465
#define FLEET_TICK_US 5000
/* Logins under way, of all generators: a server that is slower than the rate
 * is to be measured, not to be buried under connections that time out. */
#define UNDER_WAY_MAX 4096

static int
find_address(struct fleet *fleet)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	int rc = getaddrinfo(
	    fleet->options->host, fleet->options->port, &hints, &found);

	if (rc != 0) {
		fleet_note_failure(fleet, gai_strerror(rc));
		return ERR_IO;
	}
	memcpy(&fleet->address, found->ai_addr, found->ai_addrlen);
	fleet->address_len = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

static void
launch_due(struct fleet *fleet)
{
	double rate =
	    fleet->options->login_rate / (double)fleet->control->slot_count;
	double due =
	    (double)(fleet->now_ns - fleet->launch_started_ns) * rate / 1e9;
	uint64_t under_way_max =
	    1 + UNDER_WAY_MAX / (uint64_t)fleet->control->slot_count;

	while (fleet->launch_next < fleet->launch_end &&
	       fleet->pending_count < under_way_max &&
	       (double)(fleet->launch_next - fleet->launch_first) <= due)
		client_connect(&fleet->clients[fleet->launch_next++]);
}

static void
end_overdue(struct fleet *fleet)
{
	int64_t limit_ns = fleet->options->timeout_ms * 1000000;
	struct client *client;

	while ((client = TAILQ_FIRST(&fleet->pending)) != NULL &&
	       fleet->now_ns - client->started_ns > limit_ns)
		client_time_out(client);
}

static void
fleet_tick_cb(evutil_socket_t fd, short what, void *arg)
{
	struct fleet *fleet = arg;

	(void)fd;
	(void)what;
	if (fleet->magic != FLEET_MAGIC)
		abort();
	fleet->now_ns = monotonic_ns();
	launch_due(fleet);
	end_overdue(fleet);
	if (fleet->tick_fn)
		fleet->tick_fn(fleet->tick_ctx);
}

static struct event_base *
new_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base;

	if (!config)
		return NULL;
	/* timers by timerfd: sends are due at microseconds, not at ticks */
	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

int
fleet_init(struct fleet *fleet, const struct options *options,
    struct control *control, struct slot *slot, uint64_t client_count)
{
	*fleet = (struct fleet){
	    .magic = FLEET_MAGIC,
	    .options = options,
	    .control = control,
	    .slot = slot,
	    .client_count = client_count,
	    .random = crypto_random_u64() | 1,
	    .now_ns = monotonic_ns(),
	};
	TAILQ_INIT(&fleet->pending);
	TAILQ_INIT(&fleet->dirty);
	fleet->clients = xcalloc(client_count, sizeof(*fleet->clients));
	fleet->read_buf = xcalloc(1, FLEET_READ_MAX);
	fleet->base = new_base();
	if (!fleet->base) {
		fleet_note_failure(fleet, "no event loop");
		return ERR_IO;
	}
	if (options->deflate)
		fleet->deflate = deflate_new();
	if (options->tls) {
		char error[FAILURE_TEXT_MAX];

		fleet->tls = tls_fleet_new(options, error, sizeof(error));
		if (!fleet->tls) {
			fleet_note_failure(fleet, error);
			return ERR_IO;
		}
	}
	return find_address(fleet);
}

void
fleet_fini(struct fleet *fleet)
{
	for (uint64_t i = 0; i < fleet->client_count; i++)
		client_fini(&fleet->clients[i]);
	free(fleet->clients);
	free(fleet->read_buf);
	buf_fini(&fleet->scratch);
	deflate_free(&fleet->deflate);
	tls_fleet_free(&fleet->tls);
	if (fleet->base)
		event_base_free(fleet->base);
	fleet->base = NULL;
	fleet->magic = 0;
}

void
fleet_launch(struct fleet *fleet, uint64_t first, uint64_t count)
{
	fleet->launch_first = first;
	fleet->launch_next = first;
	fleet->launch_end = first + count;
	fleet->launch_started_ns = fleet->now_ns;
}

bool
fleet_is_settled(const struct fleet *fleet)
{
	return fleet->launch_next == fleet->launch_end &&
	       fleet->pending_count == 0 && fleet->waiting_count == 0;
}

static void
flush_dirty(struct fleet *fleet)
{
	struct client *client;

	while ((client = TAILQ_FIRST(&fleet->dirty)) != NULL) {
		fleet_dirty_remove(fleet, client);
		client_flush(client);
	}
}

void
fleet_run(struct fleet *fleet)
{
	struct timeval tick = {0, FLEET_TICK_US};

	event_assign(&fleet->tick_event, fleet->base, -1, EV_PERSIST,
	    fleet_tick_cb, fleet);
	event_add(&fleet->tick_event, &tick);
	while (!fleet->is_stopped) {
		event_base_loop(fleet->base, EVLOOP_ONCE);
		flush_dirty(fleet);
	}
	event_del(&fleet->tick_event);
}

void
fleet_stop(struct fleet *fleet)
{
	fleet->is_stopped = true;
}

/* xorshift64*: masks and jitter need variety, not secrecy. */
uint64_t
fleet_random(struct fleet *fleet)
{
	uint64_t x = fleet->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	fleet->random = x;
	return (x * 0x2545f4914f6cdd1dULL) >> 16;
}

void
fleet_pending_add(struct fleet *fleet, struct client *client)
{
	TAILQ_INSERT_TAIL(&fleet->pending, client, pending);
	fleet->pending_count++;
}

void
fleet_pending_remove(struct fleet *fleet, struct client *client)
{
	TAILQ_REMOVE(&fleet->pending, client, pending);
	fleet->pending_count--;
}

void
fleet_dirty_add(struct fleet *fleet, struct client *client)
{
	if (client->is_dirty)
		return;
	client->is_dirty = true;
	TAILQ_INSERT_TAIL(&fleet->dirty, client, dirty);
}

void
fleet_dirty_remove(struct fleet *fleet, struct client *client)
{
	if (!client->is_dirty)
		return;
	client->is_dirty = false;
	TAILQ_REMOVE(&fleet->dirty, client, dirty);
}

void
fleet_note_failure(struct fleet *fleet, const char *text)
{
	if (fleet->slot->failure[0])
		return;
	snprintf(fleet->slot->failure, FAILURE_TEXT_MAX, "%s", text);
}
