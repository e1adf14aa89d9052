/*
 * tds_conf.h - the servers of section [mssql].
 */
#ifndef TDS_TDS_CONF_H
#define TDS_TDS_CONF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/conf.h"
#include "base/err.h"
#include "tds/tds.h"

/**
 * What [mssql] must satisfy beyond conf.def's ranges; reads password_file.
 *
 * @param error  one line: the setting and what to do; no secret
 * @return       0, ERR_BAD_REQUEST, ERR_IO (a file)
 */
NODISCARD int tds_conf_check(
    const struct conf *conf, char *error, size_t error_len);

/**
 * The primary, or the replica (with read-only intent), as configured.
 *
 * @param server_out  tds_server_free
 * @return            as tds_conf_check; ERR_NOT_FOUND: there is no replica
 */
NODISCARD int tds_conf_server(const struct conf *conf, bool is_replica,
    struct tds_server **server_out, char *error, size_t error_len);

#endif
