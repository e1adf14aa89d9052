/*
 * tds_conf.c - the servers of section [mssql].
 *
 * Role:    settings to servers; the password from the file it stands in.
 * Process: directory, supervisor and parleyd -t (through its check), parleyctl.
 * Blocks:  on reading small files, at start.
 * Trust:   the configuration is its owner's; secrets are never printed, and
 *          a file that others may read is refused.
 * See:     tds.h, t/unit/tds_conf.c.
 */
#include "config.h"

#include "tds/tds_conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define PASSWORD_MAX 128 /* bytes; LOGIN7 has room for as many characters */

static int
refuse(const struct conf_check *to, const char *key, const char *what)
{
	return conf_refuse(to, "mssql", key, "%s", what);
}

/* @return ERR_IO */
static int
refuse_file(const struct conf_check *to, const char *key)
{
	(void)refuse(to, key, strerror(errno));
	return ERR_IO;
}

/* Room for one byte more: a longer one is refused, not cut. */
static int
password_read(const struct conf_check *to, char out[PASSWORD_MAX + 2])
{
	struct stat st;
	ssize_t n = -1;
	int rc = 0;
	int fd = open(
	    to->conf->mssql_password_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd != -1 && fstat(fd, &st) == 0) {
		if (!S_ISREG(st.st_mode) || (st.st_mode & 07) != 0) {
			close(fd);
			return refuse(to, "password_file",
			    "must be a plain file that others may not read: "
			    "chmod o= on it");
		}
		n = read(fd, out, PASSWORD_MAX + 1);
	}
	if (n < 0)
		rc = refuse_file(to, "password_file");
	if (fd != -1)
		close(fd);
	if (rc != 0)
		return rc;
	out[n] = '\0';
	out[strcspn(out, "\r\n")] = '\0';
	if (out[0] == '\0' || strlen(out) > PASSWORD_MAX)
		return refuse(to, "password_file",
		    "its first line must be 1 to 128 bytes");
	return 0;
}

static int
password_get(const struct conf_check *to, char out[PASSWORD_MAX + 2])
{
	const struct conf_list *given = &to->conf->mssql_password;
	bool has_file = to->conf->mssql_password_file[0] != '\0';

	if (given->count > 1)
		return refuse(
		    to, "password", "one with a comma goes into password_file");
	if (has_file == (given->count == 1))
		return refuse(
		    to, "password", "set either password or password_file");
	if (has_file)
		return password_read(to, out);
	if (strlen(given->items[0]) > PASSWORD_MAX)
		return refuse(to, "password", "at most 128 bytes");
	snprintf(out, PASSWORD_MAX + 2, "%s", given->items[0]);
	return 0;
}

static int
check(const struct conf_check *to)
{
	const struct conf *conf = to->conf;
	const char *ca_file = conf->mssql_ca_file;
	bool is_verified = strcmp(conf->mssql_encryption, "verify") == 0;

	if (conf->mssql_server[0] == '\0')
		return refuse(
		    to, "server", "needed with [directory] backend = mssql");
	if (conf->mssql_database[0] == '\0')
		return refuse(to, "database", "must not be empty");
	if (conf->mssql_user[0] == '\0')
		return refuse(to, "user", "must not be empty");
	if (conf->mssql_pool_min > conf->mssql_pool_max)
		return refuse(to, "pool_min", "is more than pool_max");
	if (ca_file[0] != '\0' && !is_verified)
		return refuse(
		    to, "ca_file", "is not used unless encryption = verify");
	if (ca_file[0] != '\0' && access(ca_file, R_OK) != 0)
		return refuse_file(to, "ca_file");
	return 0;
}

static int
server_new(const struct conf *conf, bool is_replica, const char *password,
    struct tds_server **server_out, char *error, size_t error_len)
{
	const char *encryption = conf->mssql_encryption;
	const struct tds_target target = {
	    .host = is_replica ? conf->mssql_replica : conf->mssql_server,
	    .port =
		(int)(is_replica ? conf->mssql_replica_port : conf->mssql_port),
	    .database = conf->mssql_database,
	    .user = conf->mssql_user,
	    .password = password,
	    .encryption = strcmp(encryption, "off") == 0 ? TDS_ENCRYPT_OFF
			  : strcmp(encryption, "require") == 0
			      ? TDS_ENCRYPT_REQUIRE
			      : TDS_ENCRYPT_VERIFY,
	    .ca_file = conf->mssql_ca_file,
	    .connect_timeout_ms = conf->mssql_connect_timeout,
	    .is_read_only = is_replica,
	};
	char what[160];
	int rc = tds_server_new(&target, server_out, what, sizeof(what));

	if (rc != 0)
		snprintf(error, error_len, "[mssql] %s%s",
		    is_replica ? "replica: " : "", what);
	return rc;
}

int
tds_conf_check(const struct conf *conf, char *error, size_t error_len)
{
	const struct conf_check to = {conf, error, error_len};
	char password[PASSWORD_MAX + 2];
	int rc = check(&to);

	if (rc == 0)
		rc = password_get(&to, password);
	mem_wipe(password, sizeof(password));
	return rc;
}

int
tds_conf_server(const struct conf *conf, bool is_replica,
    struct tds_server **server_out, char *error, size_t error_len)
{
	const struct conf_check to = {conf, error, error_len};
	char password[PASSWORD_MAX + 2];
	int rc;

	if (is_replica && conf->mssql_replica[0] == '\0')
		return ERR_NOT_FOUND;
	rc = check(&to);
	if (rc == 0)
		rc = password_get(&to, password);
	if (rc == 0)
		rc = server_new(
		    conf, is_replica, password, server_out, error, error_len);
	mem_wipe(password, sizeof(password));
	return rc;
}
