/*
 * gate.c - who may connect to this worker, and how often.
 *
 * Role:    gives net the networks of the configuration, and counts connections
 *          by address together with the other workers.
 * Process: worker.
 * Blocks:  never.
 * Trust:   the networks have been checked by the supervisor.
 * See:     net/admit.c, shm/crowd.h, t/22-crowds.t.
 */
#include "shm/crowd.h"
#include "worker/worker_priv.h"

static void
read_networks(struct networks *networks, const struct conf_list *texts)
{
	networks_init(
	    networks, (const char *const *)texts->items, texts->count);
}

void
gate_init(struct worker *worker)
{
	struct gate *gate = &worker->gate;

	read_networks(
	    &gate->trusted_proxies, &worker->conf->server_trusted_proxies);
	read_networks(&gate->exempt, &worker->conf->limits_exempt);
	gate->crowd = crowd_new(worker->bus);
}

void
gate_fini(struct worker *worker)
{
	struct gate *gate = &worker->gate;

	networks_fini(&gate->trusted_proxies);
	networks_fini(&gate->exempt);
	crowd_free(&gate->crowd);
}

bool
gate_enter(void *ctx, const uint8_t key[16], bool is_adopted)
{
	struct worker *worker = ctx;
	int64_t max = worker->conf->limits_connections_per_address;

	return crowd_enter(
	    worker->gate.crowd, key, is_adopted ? 0 : (uint32_t)max);
}

void
gate_leave(void *ctx, const uint8_t key[16])
{
	struct worker *worker = ctx;

	crowd_leave(worker->gate.crowd, key);
}
