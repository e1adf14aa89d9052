/*
 * tds_conn.c - servers, and connections to them.
 *
 * Role:    a connection that is as it was asked for: protocol 7.4, UTF-8,
 *          encrypted, with the session's options set - or none.
 * Process: directory, parleyctl.
 * Blocks:  tds_connect: on name resolution, the network and the server.
 * Trust:   whoever answers there is hostile until TLS has verified him.
 * See:     tds_priv.h, t/unit/tds_conn.c.
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "tds/tds_priv.h"

/*
 * db-lib's sessions begin with these off and with texts cut at 4,096 bytes;
 * ODBC's would not. LOCK_TIMEOUT: below [mssql] query_timeout as it comes,
 * so that the server says so and the connection stays.
 */
static const char session_options[] =
    "SET ANSI_NULLS, ANSI_PADDING, ANSI_WARNINGS, ARITHABORT, "
    "CONCAT_NULL_YIELDS_NULL, QUOTED_IDENTIFIER ON; "
    "SET NUMERIC_ROUNDABORT OFF; SET XACT_ABORT ON; SET NOCOUNT ON; "
    "SET TEXTSIZE 2147483647; SET LOCK_TIMEOUT 3000";

/* [MS-TDS] 2.2.3.1 and 2.2.5.3: before the text of a batch, UTF-16. */
#define PACKET_HEADER 8
#define BATCH_HEADERS 22

struct tds_server {
	char name[48]; /* of its section: no host can have it, RFC 6761 6.4 */
	char *database;
	char *user;
	char *password;
	enum tds_encryption encryption;
	int64_t connect_timeout_ms;
	bool is_read_only;
};

static atomic_uint servers_made;

/* ---- servers ---- */

static bool
is_plain(const char *text, bool may_have_blanks)
{
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f || (!may_have_blanks && c == ' '))
			return false;
	}
	return true;
}

static const char *
target_refuse(const struct tds_target *target)
{
	if (target->host == NULL || target->host[0] == '\0' ||
	    !is_plain(target->host, false))
		return "server: expected a name or an address";
	if (target->port < 1 || target->port > 65535)
		return "port: expected 1 to 65535";
	if (target->user == NULL || target->user[0] == '\0')
		return "user: must not be empty";
	if (target->database == NULL || target->database[0] == '\0')
		return "database: must not be empty";
	/* The field of LOGIN7, and what db-lib keeps: 128 characters. */
	if (strlen(target->user) > 128 || strlen(target->database) > 128)
		return "user and database: at most 128 bytes";
	if (target->password == NULL || strlen(target->password) > 128)
		return "password: at most 128 bytes";
	if (target->ca_file != NULL && !is_plain(target->ca_file, true))
		return "ca_file: no path";
	return NULL;
}

static int
section_add(const struct tds_server *server, const struct tds_target *target)
{
	static const char *const levels[] = {
	    [TDS_ENCRYPT_OFF] = "off",
	    [TDS_ENCRYPT_REQUIRE] = "require",
	    [TDS_ENCRYPT_VERIFY] = "require",
	};
	char section[2048];
	char ca[1100] = "";
	int n;

	if (target->encryption == TDS_ENCRYPT_VERIFY)
		snprintf(ca, sizeof(ca),
		    "ca file = %s\ncheck certificate hostname = yes\n",
		    target->ca_file != NULL && target->ca_file[0] != '\0'
			? target->ca_file
			: "system");
	n = snprintf(section, sizeof(section),
	    "[%s]\nhost = %s\nport = %d\ntds version = 7.4\nencryption = %s\n%s"
	    "client charset = UTF-8\ntext size = 2147483647\n"
	    "connect timeout = %lld\n",
	    server->name, target->host, target->port,
	    levels[target->encryption], ca,
	    (long long)(server->connect_timeout_ms / 1000));
	if (n < 0 || (size_t)n >= sizeof(section))
		return ERR_BAD_REQUEST;
	return tds_library_add(section);
}

int
tds_server_new(const struct tds_target *target, struct tds_server **server_out,
    char *error, size_t error_len)
{
	const char *wrong = target_refuse(target);
	struct tds_server *server;
	int rc;

	if (wrong != NULL) {
		snprintf(error, error_len, "%s", wrong);
		return ERR_BAD_REQUEST;
	}
	server = xcalloc(1, sizeof(*server));
	snprintf(server->name, sizeof(server->name), "parley-%u.invalid",
	    atomic_fetch_add(&servers_made, 1));
	server->database = xstrdup(target->database);
	server->user = xstrdup(target->user);
	server->password = xstrdup(target->password);
	server->encryption = target->encryption;
	server->connect_timeout_ms =
	    (target->connect_timeout_ms + 999) / 1000 * 1000;
	server->is_read_only = target->is_read_only;
	rc = section_add(server, target);
	if (rc != 0) {
		snprintf(error, error_len,
		    "server or ca_file: too long, or no memory for them");
		tds_server_free(&server);
		return rc;
	}
	*server_out = server;
	return 0;
}

void
tds_server_free(struct tds_server **server)
{
	struct tds_server *old = *server;

	if (old == NULL)
		return;
	mem_wipe(old->password, strlen(old->password));
	free(old->password);
	free(old->user);
	free(old->database);
	free(old);
	*server = NULL;
}

/* ---- connections ---- */

static DBPROCESS *
server_login(const struct tds_server *server)
{
	LOGINREC *login = dblogin();
	DBPROCESS *db = NULL;

	if (login == NULL)
		return NULL;
	if (DBSETLUSER(login, server->user) == SUCCEED &&
	    DBSETLPWD(login, server->password) == SUCCEED &&
	    DBSETLAPP(login, "parley") == SUCCEED &&
	    DBSETLDBNAME(login, server->database) == SUCCEED &&
	    DBSETLCHARSET(login, "UTF-8") == SUCCEED &&
	    /* Autodetection hangs for ever with a server that is silent. */
	    DBSETLVERSION(login, DBVERSION_74) == SUCCEED &&
	    (!server->is_read_only || DBSETLREADONLY(login, 1) == SUCCEED))
		db = dbopen(login, server->name);
	dbloginfree(login);
	return db;
}

/* Bytes handed to the network, repeated ones once. */
static uint64_t
bytes_sent(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
		return 0;
	return info.tcpi_bytes_sent - info.tcpi_bytes_retrans +
	       info.tcpi_notsent_bytes;
}

/*
 * The library ends TLS after the login when the server's first answer, which
 * nothing protects, says that only the login is to be encrypted - whatever we
 * asked for. It has no function that tells. But TLS makes what is sent longer,
 * and how much was sent is known here: no one on the way can change that.
 */
static bool
was_encrypted(const struct tds_conn *conn, uint64_t before, size_t sql_len)
{
	uint64_t sent = bytes_sent(conn->guard_fd) - before;

	return sent > PACKET_HEADER + BATCH_HEADERS + 2 * sql_len;
}

static int
session_begin(
    const struct tds_server *server, struct tds_conn *conn, int64_t deadline_ms)
{
	unsigned user_timeout_ms = (unsigned)server->connect_timeout_ms;
	uint64_t before;
	int rc;

	conn->guard_fd = fcntl(dbiordesc(conn->db), F_DUPFD_CLOEXEC, 0);
	if (conn->guard_fd == -1)
		return tds_fail(
		    &conn->error, TDS_CLASS_RETRY, "", "no descriptor is left");
	fcntl(dbiordesc(conn->db), F_SETFD, FD_CLOEXEC);
	setsockopt(conn->guard_fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
	    &user_timeout_ms, sizeof(user_timeout_ms));
	before = bytes_sent(conn->guard_fd);
	rc = tds_batch(conn, session_options, deadline_ms);
	rc = tds_finish(conn, rc);
	if (rc == 0 && server->encryption != TDS_ENCRYPT_OFF &&
	    !was_encrypted(conn, before, strlen(session_options)))
		rc = tds_fail(&conn->error, TDS_CLASS_BAD_SETUP, "",
		    "the server has ended the encryption after the login");
	return rc;
}

int
tds_connect(const struct tds_server *server, struct tds_conn **conn_out,
    struct tds_error *error)
{
	int64_t deadline_ms = clock_mono_ms() + server->connect_timeout_ms;
	struct tds_conn *conn = xcalloc(1, sizeof(*conn));
	int rc = 0;

	conn->guard_fd = -1;
	tds_catch(&conn->error);
	if (!tds_library_is_readable())
		rc = tds_fail(&conn->error, TDS_CLASS_BAD_SETUP, "",
		    "/proc is not readable");
	if (rc == 0) {
		conn->db = server_login(server);
		if (conn->db == NULL)
			rc = tds_fail(
			    &conn->error, TDS_CLASS_RETRY, "", "no connection");
	}
	tds_catch(NULL);
	if (rc == 0)
		rc = session_begin(server, conn, deadline_ms);
	/* Nothing of value was sent: nothing can be lost. */
	if (rc != 0 && conn->error.class == TDS_CLASS_LOST) {
		conn->error.class = TDS_CLASS_RETRY;
		rc = tds_class_rc(TDS_CLASS_RETRY);
	}
	*error = conn->error;
	if (rc != 0)
		tds_close(&conn);
	else
		*conn_out = conn;
	return rc;
}

void
tds_close(struct tds_conn **conn)
{
	struct tds_conn *old = *conn;

	if (old == NULL)
		return;
	if (old->is_answering)
		tds_watch_remove(old);
	/* Not politely: a server that hangs would be waited for. */
	if (old->guard_fd != -1) {
		shutdown(old->guard_fd, SHUT_RDWR);
		close(old->guard_fd);
	}
	if (old->db != NULL)
		dbclose(old->db);
	free(old);
	*conn = NULL;
}

bool
tds_is_usable(const struct tds_conn *conn)
{
	struct pollfd fd = {.fd = conn->guard_fd, .events = POLLIN};

	/* Nothing was asked: what can be read is the end, or not for us. */
	return !conn->is_broken && !dbdead(conn->db) && poll(&fd, 1, 0) == 0;
}

const struct tds_error *
tds_error(const struct tds_conn *conn)
{
	return &conn->error;
}
