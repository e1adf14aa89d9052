/*
 * probe.c - could this program take over from the one that runs?
 *
 * Role:    what its parent makes of its words; and
 *          everything that a take-over does and that leaves no trace: the
 *          handover and its versions, the configuration, certificates, the
 *          memory and sockets of the server, the store's schema.
 * Process: a child of a running supervisor; root where that is, until the
 *          store is opened.
 * Blocks:  on files; its parent has a deadline for it.
 * Trust:   the store belongs to the unprivileged user: it is opened as that.
 * See:     upgrade.c, t/64-upgrade.t.
 */
#include "config.h"

#include "supervisor/probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "shm/meta.h"
#include "supervisor/certs.h"
#include "supervisor/check.h"
#include "supervisor/handover.h"
#include "supervisor/rights.h"
#include "supervisor/spawn.h"

static int
judge_schema(uint32_t schema, char *error, size_t error_len)
{
	if (schema > SCHEMA_VERSION) {
		snprintf(error, error_len,
		    "the store has schema %u, this program knows %d: it is "
		    "older than the one that runs",
		    schema, SCHEMA_VERSION);
		return ERR_STALE;
	}
	if (schema < SCHEMA_ROLLS_FROM) {
		snprintf(error, error_len,
		    "the store has schema %u, this program needs %d: old and "
		    "new processes cannot work on it side by side; stop and "
		    "start, the start brings it up to date",
		    schema, SCHEMA_VERSION);
		return ERR_STALE;
	}
	return 0;
}

static int
check_store(const struct conf *conf, char *error, size_t error_len)
{
	struct store *store = NULL;
	struct txn txn = {0};
	uint32_t schema = 0;
	int rc = store_open(STORE_MAIN, conf->server_data_dir,
	    (size_t)conf->store_map_size, false, &store, error, error_len);

	if (rc != 0)
		return rc;
	rc = store_begin_read(store, &txn);
	if (rc == 0)
		rc = meta_schema(&txn, &schema);
	if (rc != 0)
		snprintf(error, error_len, "cannot read the store in %s: %s",
		    conf->server_data_dir, err_text(rc));
	else
		rc = judge_schema(schema, error, error_len);
	txn_end(&txn);
	store_close(&store);
	return rc;
}

/* The memory is mapped as a supervisor does it; nothing is written. */
static int
check_memory(const struct handover *handover, const struct conf *conf,
    char *error, size_t error_len)
{
	struct vault *vault = NULL;
	struct crew crew;
	int rc;

	memset(&crew, 0, sizeof(crew));
	rc = handover_adopt(handover, conf, &crew, error, error_len);
	if (rc == 0 && handover->vault_fd != -1 &&
	    vault_adopt(handover->vault_fd, &vault) != 0) {
		snprintf(error, error_len,
		    "cannot take over the memory with the keys");
		rc = ERR_STALE;
	}
	vault_free(&vault);
	hold_free(&crew.hold);
	bus_free(&crew.bus);
	board_close(&crew.board);
	return rc;
}

static int
probe(int handover_fd, const char *conf_path, bool is_background, char *error,
    size_t error_len)
{
	struct handover handover;
	struct conf *conf = NULL;
	struct rights rights;
	int rc = handover_read(handover_fd, &handover, error, error_len);

	if (rc == 0)
		rc = conf_load(conf_path, &conf, error, error_len);
	if (rc == 0)
		rc = check_conf(conf, is_background, error, error_len);
	if (rc == 0)
		rc = handover_check_settings(&handover, conf, error, error_len);
	if (rc == 0)
		rc = rights_find(conf, &rights, error, error_len);
	if (rc == 0)
		rc = check_memory(&handover, conf, error, error_len);
	if (rc == 0 && rights_drop(&rights) != 0) {
		snprintf(error, error_len, "cannot become user %s: %s",
		    rights.name, strerror(errno));
		rc = ERR_IO;
	}
	if (rc == 0)
		rc = check_store(conf, error, error_len);
	conf_free(&conf);
	return rc;
}

int
probe_run(int handover_fd, const char *conf_path, bool is_background)
{
	char error[512] = "";

	log_set_process("probe");
	spawn_hide_memory();
	if (probe(handover_fd, conf_path, is_background, error,
		sizeof(error)) != 0) {
		printf(PROBE_BAD "%s\n", error);
		return EXIT_FAILURE;
	}
	printf(PROBE_GOOD "version %s, layout %d, schema %d\n", PACKAGE_VERSION,
	    LAYOUT_VERSION, SCHEMA_VERSION);
	return EXIT_SUCCESS;
}

/* Ends at the line's end; of the other program's words only what is plain. */
static void
copy_line(char *out, size_t out_len, const char *from)
{
	size_t len = strcspn(from, "\n");

	if (len >= out_len)
		len = out_len - 1;
	for (size_t i = 0; i < len; i++)
		out[i] = from[i] >= ' ' && from[i] != '"' && from[i] != 127
			     ? from[i]
			     : '\'';
	out[len] = '\0';
}

const char *
probe_verdict(const char *output, char text[PROBE_TEXT_MAX])
{
	const char *good;
	const char *bad;

	good = strstr(output, PROBE_GOOD);
	bad = strstr(output, PROBE_BAD);
	if (bad != NULL) {
		copy_line(text, PROBE_TEXT_MAX, bad + strlen(PROBE_BAD));
		return text;
	}
	if (good == NULL) {
		size_t n = (size_t)snprintf(text, PROBE_TEXT_MAX,
		    "it ended without a verdict, as if it were no parleyd "
		    "that can take over: ");

		copy_line(text + n, PROBE_TEXT_MAX - n, output);
		return text;
	}
	copy_line(text, PROBE_TEXT_MAX, good + strlen(PROBE_GOOD));
	return NULL;
}
