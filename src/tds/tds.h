/*
 * tds.h - calls of stored procedures in SQL Server, and their answers.
 *
 * The only door to FreeTDS. Knows servers, connections, calls with named
 * parameters and result sets; nothing of users and messages.
 *
 *     const struct tds_param params[] = {
 *         tds_i64("UserId", 7),
 *         tds_text("Name", name, name_len),
 *     };
 *     rc = tds_call(conn, &(struct tds_call){"COB_GetUserById", params, 2,
 *         clock_mono_ms() + 5000});
 *     while (rc == 0 && (rc = tds_next_row(conn)) == 0)
 *             rc = tds_get_i64(conn, "UserId", &id);
 *     rc = tds_finish(conn, rc == ERR_NOT_FOUND ? 0 : rc);
 *
 * A connection belongs to one thread at a time. Every function that talks to
 * the server blocks: never call it on a loop. Its rc is 0 or the rc of the
 * error's class (classes.def); tds_error has the rest, and never the server's
 * text, which may quote data.
 *
 * Text is UTF-8 of any length and arrives whole, with one exception that the
 * library has: an empty text arrives as NULL. So a procedure reads NULL in a
 * parameter that cannot be absent as ''; where empty and absent differ, the
 * value travels inside JSON.
 */
#ifndef TDS_TDS_H
#define TDS_TDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* ---- what can go wrong ---- */

enum tds_class {
#define CLASS(name, rc, text) TDS_CLASS_##name,
#include "tds/classes.def"
#undef CLASS
	TDS_CLASS_END
};

#define TDS_NAME_MAX 128 /* bytes kept of a name, with NUL */

struct tds_error {
	enum tds_class class;
	int32_t number; /* the server's, below 20000 or above 30000, or
			 * db-lib's; 0: ours, see what */
	int32_t severity;
	int32_t state;
	int32_t line;
	char procedure[TDS_NAME_MAX];
	char what[TDS_NAME_MAX]; /* ours: the parameter or column and what is
				  * wrong with it; no data */
};

/** Class of a number by errors.def; what is not there by its severity. */
enum tds_class tds_classify(int32_t number, int32_t severity);
/** "RETRY_NOW", ...; what metrics and logs say. */
const char *tds_class_name(enum tds_class class);
/** What functions return for it: 0 for NONE. */
int tds_class_rc(enum tds_class class);
/**
 * "class=BAD_SETUP number=2812 severity=16 state=62 line=1 procedure=X": for
 * the log. @return out
 */
const char *tds_error_text(
    const struct tds_error *error, char *out, size_t out_len);

/* ---- servers and connections ---- */

enum tds_encryption {
	TDS_ENCRYPT_OFF,     /* clear text, the password too */
	TDS_ENCRYPT_REQUIRE, /* TLS with whoever it is */
	TDS_ENCRYPT_VERIFY   /* chain and host name are checked */
};

struct tds_target { /* borrowed strings */
	const char *host;
	int port;
	const char *database;
	const char *user;
	const char *password;
	enum tds_encryption encryption;
	const char *ca_file;        /* VERIFY: PEM, or NULL: the system's; the
				     * certificate has to be for host */
	int64_t connect_timeout_ms; /* whole seconds, rounded up */
	bool is_read_only;          /* ApplicationIntent=ReadOnly */
};

struct tds_server;
struct tds_conn;

/**
 * Once, before there are threads: from here on the environment cannot change
 * where we connect to (TDSHOST) or write what we say into a file (TDSDUMP).
 *
 * @return 0, ERR_NO_MEMORY, ERR_IO (no thread for the deadlines, no memfd)
 */
NODISCARD int tds_start(void);
/** After all connections and servers; other threads no longer call us. */
void tds_stop(void);

/**
 * Opens nothing. The strings are copied, the password is wiped at its end.
 *
 * @param error  one line, names the setting
 * @return       0, ERR_BAD_REQUEST (target), ERR_IO
 */
NODISCARD int tds_server_new(const struct tds_target *target,
    struct tds_server **server_out, char *error, size_t error_len);
/** After its connections. */
void tds_server_free(struct tds_server **server);

/**
 * @param error  filled in when it fails
 * @return       0 or the rc of the error's class
 */
NODISCARD int tds_connect(const struct tds_server *server,
    struct tds_conn **conn_out, struct tds_error *error);
/** NULL is accepted; a running answer is abandoned with it. */
void tds_close(struct tds_conn **conn);
/** Can the next call go out on it? Nothing is sent; ask before each. */
bool tds_is_usable(const struct tds_conn *conn);
/** What made the last function fail; class NONE after one that did not. */
const struct tds_error *tds_error(const struct tds_conn *conn);

/* ---- calls ---- */

enum tds_type {
	TDS_ASCII, /* VARCHAR, at most TDS_ASCII_MAX bytes: GUIDs, times */
	TDS_BINARY,
	TDS_BIT,
	TDS_I32,
	TDS_I64,
	TDS_TEXT /* NVARCHAR of any length */
};

#define TDS_ASCII_MAX 256

struct tds_param {
	const char *name; /* without "@"; from our tables or configuration */
	enum tds_type type;
	bool is_null;
	bool is_output; /* I32, I64, BIT: read with tds_output_i64 */
	int64_t number;
	const void *data; /* borrowed until the answer is finished */
	size_t len;
};

static inline struct tds_param
tds_i64(const char *name, int64_t number)
{
	return (struct tds_param){
	    .name = name, .type = TDS_I64, .number = number};
}

static inline struct tds_param
tds_i32(const char *name, int32_t number)
{
	return (struct tds_param){
	    .name = name, .type = TDS_I32, .number = number};
}

static inline struct tds_param
tds_bit(const char *name, bool is_set)
{
	return (struct tds_param){
	    .name = name, .type = TDS_BIT, .number = is_set};
}

static inline struct tds_param
tds_text(const char *name, const void *text, size_t len)
{
	return (struct tds_param){
	    .name = name, .type = TDS_TEXT, .data = text, .len = len};
}

static inline struct tds_param
tds_ascii(const char *name, const void *text, size_t len)
{
	return (struct tds_param){
	    .name = name, .type = TDS_ASCII, .data = text, .len = len};
}

static inline struct tds_param
tds_binary(const char *name, const void *data, size_t len)
{
	return (struct tds_param){
	    .name = name, .type = TDS_BINARY, .data = data, .len = len};
}

static inline struct tds_param
tds_null(const char *name, enum tds_type type)
{
	return (struct tds_param){.name = name, .type = type, .is_null = true};
}

/** Set by the procedure; it is NULL when that begins. */
static inline struct tds_param
tds_out(const char *name, enum tds_type type)
{
	return (struct tds_param){
	    .name = name, .type = type, .is_null = true, .is_output = true};
}

struct tds_call {
	const char *procedure;
	const struct tds_param *params;
	size_t param_count;
	int64_t deadline_ms; /* clock_mono_ms(), for the whole answer: at it
			      * the connection is cut and lost */
};

/**
 * Send a call and wait until its answer begins: its first result set, if it
 * has one, is open. What the call before left unread is read and dropped.
 */
NODISCARD int tds_call(struct tds_conn *conn, const struct tds_call *call);
/**
 * The same for a text of ours (a migration), never for one with data in it.
 * One batch: there is no GO.
 */
NODISCARD int tds_batch(
    struct tds_conn *conn, const char *sql, int64_t deadline_ms);

/** @return 0: there is one; ERR_NOT_FOUND: this result set has no more;
 *          else the rc of the error's class: the answer is broken */
NODISCARD int tds_next_row(struct tds_conn *conn);
/** To the next result set, whatever was not read of this one. As above. */
NODISCARD int tds_next_result(struct tds_conn *conn);
/**
 * Read the rest; outputs and status are there from here on.
 *
 * @param rc  of the caller's reading: passed on when it is not 0
 * @return    rc, or what was wrong with the answer
 */
NODISCARD int tds_finish(struct tds_conn *conn, int rc);

/*
 * Columns of the row, by name in either case of letters. A column that is
 * missing, NULL or of a type that does not fit is an error (BAD_SETUP) that
 * names it.
 */
NODISCARD int tds_get_bit(struct tds_conn *conn, const char *column, bool *out);
/** Any whole number. */
NODISCARD int tds_get_i64(
    struct tds_conn *conn, const char *column, int64_t *out);
/** DATETIME2, DATETIME. @param out  ms since 1970, UTC */
NODISCARD int tds_get_time_ms(
    struct tds_conn *conn, const char *column, int64_t *out);
/** UTF-8, not ended by NUL. @param out  valid until the next row */
NODISCARD int tds_get_text(struct tds_conn *conn, const char *column,
    const char **out, size_t *len_out);
NODISCARD int tds_get_binary(struct tds_conn *conn, const char *column,
    const void **out, size_t *len_out);
/** Ask before the getters where NULL means something. */
NODISCARD int tds_get_is_null(
    struct tds_conn *conn, const char *column, bool *out);
/** Has the result set such a column at all? */
bool tds_has_column(struct tds_conn *conn, const char *column);

/** RETURN's value; 0 when there was none. After tds_finish. */
int32_t tds_status(const struct tds_conn *conn);
/** @return 0, ERR_NOT_FOUND: NULL; else BAD_SETUP's: no such output */
NODISCARD int tds_output_i64(
    struct tds_conn *conn, const char *name, int64_t *out);

#endif
