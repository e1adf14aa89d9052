/*
 * worker_tls.c - certificates and ticket keys out of the vault.
 *
 * Role:    looks into the vault at the start and ten times a second, and hands
 *          on to net what has changed.
 * Process: worker.
 * Blocks:  never.
 * Trust:   the supervisor has judged what is there; a pack that does not work
 *          here all the same changes nothing.
 * See:     shm/vault.h, net/tls.h, supervisor/certs.c.
 */
#include <sched.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/net.h"
#include "net/tls.h"
#include "shm/vault.h"
#include "worker/worker_priv.h"

/*
 * Of each loop turn this much may go into handshakes: between two of them
 * messages wait that long, and a flood of handshakes gets no more
 * (doc/decisions/007-tls-records.md).
 */
#define TLS_TURN_US 1000

/* A vault that is being written is complete after some ten microseconds. */
#define FIRST_LOOK_MS 1000

/* @return whether there is a context now */
static bool
take_files(struct worker *worker)
{
	struct vault *vault = worker->process->vault;
	struct tls_context *context;
	struct buf pack = {0};
	char error[512];

	if (!vault_get(vault, VAULT_FILES, &worker->tls_files_serial, &pack))
		return false;
	context = tls_context_new(pack.data, pack.len, error, sizeof(error));
	tls_pack_fini(&pack);
	if (context == NULL) {
		log_error(NULL, "tls-refused",
		    "error=\"%s\" hint=\"the old certificates stay\"", error);
		return false;
	}
	net_tls_set_context(worker->net, context);
	return true;
}

static void
take_tickets(struct worker *worker)
{
	struct vault *vault = worker->process->vault;
	struct tls_tickets tickets;
	struct buf bytes = {0};

	if (!vault_get(
		vault, VAULT_TICKETS, &worker->tls_tickets_serial, &bytes))
		return;
	if (bytes.len == sizeof(tickets)) {
		memcpy(&tickets, bytes.data, sizeof(tickets));
		net_tls_set_tickets(worker->net, &tickets);
		mem_wipe(&tickets, sizeof(tickets));
	}
	tls_pack_fini(&bytes);
}

void
worker_tls_look(struct worker *worker)
{
	if (worker->process->vault == NULL)
		return;
	if (take_files(worker))
		log_info(NULL, "tls-context", "serial=%llu",
		    (unsigned long long)worker->tls_files_serial);
	take_tickets(worker);
}

void
worker_tls_start(struct worker *worker)
{
	struct tls_limits limits = {
	    .turn_us = TLS_TURN_US,
	    .handshakes_max = (size_t)worker->conf->server_tls_handshakes_max,
	};
	int64_t deadline_ms = clock_mono_ms() + FIRST_LOOK_MS;
	char error[256];

	if (worker->process->vault == NULL)
		return;
	if (net_tls_enable(worker->net, &limits, error, sizeof(error)) != 0)
		fatal("%s", error);
	/* the supervisor may be writing it, for a reload, at this moment */
	while (!take_files(worker)) {
		if (worker->tls_files_serial != 0 ||
		    clock_mono_ms() > deadline_ms)
			fatal("no certificate for TLS");
		sched_yield();
	}
	take_tickets(worker);
}

void
worker_tls_set(struct worker *worker)
{
	if (worker->process->vault != NULL)
		net_tls_set_handshakes_max(worker->net,
		    (size_t)worker->conf->server_tls_handshakes_max);
}
