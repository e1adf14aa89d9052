/*
 * gate.c - who may connect to this worker.
 *
 * Role:    gives net the networks of the configuration.
 * Process: worker.
 * Blocks:  never.
 * Trust:   the networks have been checked by the supervisor.
 * See:     net/network.h, t/20-proxy.t.
 */
#include "worker/worker_priv.h"

void
gate_init(struct worker *worker)
{
	const struct conf_list *proxies = &worker->conf->server_trusted_proxies;

	networks_init(&worker->gate.trusted_proxies,
	    (const char *const *)proxies->items, proxies->count);
}

void
gate_fini(struct worker *worker)
{
	networks_fini(&worker->gate.trusted_proxies);
}
