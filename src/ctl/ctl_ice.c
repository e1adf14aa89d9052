/*
 * ctl_ice.c - the IceServers that a client of a call is given, to try them.
 *
 * Role:    makes credentials for the TURN servers as a worker does.
 * Process: parleyctl; needs no running server.
 * Blocks:  no.
 * Trust:   who can read turn_secret could make them by hand as well.
 * See:     base/ice.h.
 */
#include "config.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/ice.h"
#include "base/json.h"
#include "base/mem.h"
#include "ctl/ctl_priv.h"

int
ctl_ice(struct ctl *ctl)
{
	struct buf json = {0};

	if (ctl->wants_json) {
		json_object_begin(&json);
		json_put_bool(&json, "ok", true);
		json_key(&json, "IceServers");
	}
	ice_servers_put(&json, ctl->conf, "parleyctl", clock_wall_ms());
	if (ctl->wants_json)
		json_object_end(&json);
	printf("%.*s\n", (int)json.len, json.data);
	mem_wipe(json.data, json.len);
	buf_fini(&json);
	return CTL_OK;
}
