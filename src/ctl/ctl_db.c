/*
 * ctl_db.c - parleyctl db: the tables and procedures of [directory] backend =
 * mssql, and the hashes of passwords in them.
 *
 * Role:    compares the files of etc/mssql with what the database has noted,
 *          and runs those that are missing.
 * Process: parleyctl; needs no running server.
 * Blocks:  on the database, up to STATEMENT_MS for a batch.
 * Trust:   whoever knows an owner's password may do all of this by hand. What
 *          the server says of an error may quote data: only its number and
 *          line are shown, with our file's own words.
 * See:     migration.h, etc/mssql/README, man/parleyctl.8, t/57-db.t.
 *
 * A file is one transaction, its note in dbo.ParleyVersion included: it is
 * there as a whole or not at all. A file that was run is not run again, unless
 * asked for: what changes comes as a new file.
 */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/password.h"
#include "ctl/ctl_priv.h"
#include "ctl/migration.h"
#include "tds/tds_conf.h"

#define FOLDER       PARLEY_PKGDATADIR "/mssql"
#define ANSWER_MS    30000
#define STATEMENT_MS 3600000 /* an index on a table that is full */
#define NOTES_MAX    999     /* as many as there can be files */

/* What the database says of a file. */
struct note {
	bool is_there;
	char checksum[MIGRATION_CHECKSUM_LEN + 1];
	int64_t applied_ms;
};

struct db {
	struct ctl *ctl;
	struct migrations migrations;
	struct note *notes; /* of each file */
	int64_t newest;     /* greatest number that the database has */
	struct tds_server *server;
	struct tds_conn *conn;
};

/* ---- talking to it ---- */

/* @return CTL_FAILED, said: what was done, and what the server has of it */
static int
fail_on_server(const struct db *db, const char *what)
{
	char text[512];

	return ctl_fail(db->ctl, CTL_FAILED, "%s: %s", what,
	    tds_error_text(tds_error(db->conn), text, sizeof(text)));
}

/* A statement of ours whose answer nobody reads. @return as tds_finish */
static int
run(struct db *db, const char *sql, int64_t within_ms)
{
	int rc = tds_batch(db->conn, sql, clock_mono_ms() + within_ms);

	return tds_finish(db->conn, rc);
}

/* One that answers a row with a number. */
static int
ask(struct db *db, const char *sql, int64_t *number_out)
{
	int rc = tds_batch(db->conn, sql, clock_mono_ms() + ANSWER_MS);

	if (rc == 0)
		rc = tds_next_row(db->conn);
	if (rc == 0)
		rc = tds_get_i64(db->conn, "Answer", number_out);
	return tds_finish(db->conn, rc);
}

static int
connect_as(struct db *db, const char *user, char *password)
{
	struct conf conf = *db->ctl->conf; /* borrows */
	struct tds_error trouble = {0};
	char name[256];
	char text[512];
	int rc;

	if (user != NULL) {
		snprintf(name, sizeof(name), "%s", user);
		conf.mssql_user = name;
		conf.mssql_password = (struct conf_list){&password, 1};
		conf.mssql_password_file = "";
		conf.source = NULL; /* these stand in no file */
	}
	rc = tds_start();
	if (rc != 0)
		return ctl_fail(db->ctl, CTL_FAILED, "%s", err_text(rc));
	rc = tds_conf_server(&conf, false, &db->server, text, sizeof(text));
	if (rc != 0)
		return ctl_fail(db->ctl, CTL_FAILED, "%s", text);
	if (tds_connect(db->server, &db->conn, &trouble) == 0)
		return CTL_OK;
	return ctl_fail(db->ctl, CTL_FAILED, "cannot connect to %s: %s",
	    conf.mssql_server, tds_error_text(&trouble, text, sizeof(text)));
}

/* Who may not make tables would not be shown those that are there either. */
static int
check_rights(struct db *db)
{
	int64_t may = 0;

	if (ask(db,
		"SELECT COALESCE(HAS_PERMS_BY_NAME(DB_NAME(), N'DATABASE', "
		"N'CREATE TABLE'), 0) AS Answer",
		&may) != 0)
		return fail_on_server(db, "cannot ask for rights");
	if (may == 1)
		return CTL_OK;
	return ctl_fail(db->ctl, CTL_FAILED,
	    "this login may not make tables in %s: name an owner of it with "
	    "--user",
	    db->ctl->conf->mssql_database);
}

static int
open_db(struct db *db)
{
	const char *user = ctl_option(db->ctl, "user");
	bool has_password = ctl_option(db->ctl, "password-stdin") != NULL;
	const char *folder = ctl_option(db->ctl, "files");
	char password[PASSWORD_LEN_MAX + 2] = "";
	char error[512];
	int code;

	if ((user != NULL) != has_password)
		return ctl_fail(db->ctl, CTL_USAGE,
		    "--user and --password-stdin belong together");
	if (migrations_load(folder != NULL ? folder : FOLDER, &db->migrations,
		error, sizeof(error)) != 0)
		return ctl_fail(db->ctl, CTL_FAILED, "%s", error);
	db->notes = xcalloc(db->migrations.count, sizeof(*db->notes));
	if (has_password)
		ctl_read_secret(password, sizeof(password));
	code = connect_as(db, user, password);
	mem_wipe(password, sizeof(password));
	return code == CTL_OK ? check_rights(db) : code;
}

static void
close_db(struct db *db)
{
	tds_close(&db->conn);
	tds_server_free(&db->server);
	tds_stop();
	migrations_free(&db->migrations);
	free(db->notes);
}

/* ---- what was run ---- */

static int
read_note(struct db *db)
{
	struct note note = {.is_there = true};
	const char *checksum;
	int64_t number = 0;
	size_t len;
	int rc = tds_get_i64(db->conn, "Number", &number);

	if (rc == 0)
		rc = tds_get_text(db->conn, "Checksum", &checksum, &len);
	if (rc == 0)
		rc = tds_get_time_ms(db->conn, "AppliedAt", &note.applied_ms);
	if (rc != 0)
		return rc;
	if (len > MIGRATION_CHECKSUM_LEN)
		len = MIGRATION_CHECKSUM_LEN;
	memcpy(note.checksum, checksum, len);
	if (number > db->newest)
		db->newest = number;
	if (number >= 1 && number <= (int64_t)db->migrations.count)
		db->notes[number - 1] = note;
	return 0;
}

static int
read_notes(struct db *db)
{
	size_t count = 0;
	int rc;

	/* Without the table there is no result set. */
	rc = tds_batch(db->conn,
	    "IF OBJECT_ID(N'dbo.ParleyVersion', N'U') IS NOT NULL "
	    "SELECT Number, Checksum, AppliedAt FROM dbo.ParleyVersion "
	    "ORDER BY Number",
	    clock_mono_ms() + ANSWER_MS);
	while (rc == 0 && count++ <= NOTES_MAX) {
		rc = tds_next_row(db->conn);
		if (rc == 0)
			rc = read_note(db);
	}
	rc = tds_finish(db->conn, rc == ERR_NOT_FOUND ? 0 : rc);
	return rc == 0 ? CTL_OK
		       : fail_on_server(db, "cannot read dbo.ParleyVersion");
}

static bool
is_changed(const struct db *db, size_t i)
{
	return db->notes[i].is_there &&
	       strcmp(db->notes[i].checksum,
		   db->migrations.files[i].checksum) != 0;
}

static const char *
state_name(const struct db *db, size_t i)
{
	return is_changed(db, i)       ? "changed"
	       : db->notes[i].is_there ? "applied"
				       : "to do";
}

static bool
is_newer(const struct db *db)
{
	return db->newest > (int64_t)db->migrations.count;
}

/* ---- telling ---- */

static void
format_time(int64_t ms, char out[32])
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm utc;

	gmtime_r(&seconds, &utc);
	strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static void
tell_json(const struct db *db, size_t ran)
{
	struct buf json = {0};

	json_object_begin(&json);
	json_put_bool(&json, "ok", true);
	json_put_text(&json, "database", db->ctl->conf->mssql_database);
	json_put_i64(&json, "version", db->newest);
	json_put_u64(&json, "ran", ran);
	json_key(&json, "files");
	json_array_begin(&json);
	for (size_t i = 0; i < db->migrations.count; i++) {
		const struct migration *file = &db->migrations.files[i];
		char at[32];

		json_object_begin(&json);
		json_put_u64(&json, "number", file->number);
		json_put_text(&json, "name", file->name);
		json_put_text(&json, "state", state_name(db, i));
		if (db->notes[i].is_there) {
			format_time(db->notes[i].applied_ms, at);
			json_put_text(&json, "applied", at);
		}
		json_object_end(&json);
	}
	json_array_end(&json);
	json_object_end(&json);
	printf("%.*s\n", (int)json.len, json.data);
	buf_fini(&json);
}

static void
tell_text(const struct db *db)
{
	printf("database %s: version %" PRId64 "\n",
	    db->ctl->conf->mssql_database, db->newest);
	for (size_t i = 0; i < db->migrations.count; i++) {
		char at[32] = "";

		if (db->notes[i].is_there)
			format_time(db->notes[i].applied_ms, at);
		printf("  %-32s %-8s %s\n", db->migrations.files[i].name,
		    state_name(db, i), at);
	}
	if (is_newer(db))
		printf("the database is newer than these files: %" PRId64
		       " is not among them\n",
		    db->newest);
}

int
ctl_db_status(struct ctl *ctl)
{
	struct db db = {.ctl = ctl};
	int code = open_db(&db);

	if (code == CTL_OK)
		code = read_notes(&db);
	if (code == CTL_OK) {
		if (ctl->wants_json)
			tell_json(&db, 0);
		else
			tell_text(&db);
		if (is_newer(&db))
			code = CTL_FAILED;
		for (size_t i = 0; i < db.migrations.count; i++) {
			if (!db.notes[i].is_there || is_changed(&db, i))
				code = CTL_FAILED;
		}
	}
	close_db(&db);
	return code;
}

/* ---- running ---- */

/* For this connection; it goes with it. */
static int
lock(struct db *db)
{
	int64_t result = -1;

	if (ask(db,
		"DECLARE @Answer INT; "
		"EXEC @Answer = sp_getapplock @Resource = N'parleyctl db', "
		"@LockMode = N'Exclusive', @LockOwner = N'Session', "
		"@LockTimeout = 0; "
		"SELECT @Answer AS Answer",
		&result) != 0)
		return fail_on_server(db, "cannot lock the database");
	if (result >= 0)
		return CTL_OK;
	return ctl_fail(db->ctl, CTL_FAILED,
	    "somebody else is migrating %s now", db->ctl->conf->mssql_database);
}

/* Where in the file is it, and what stands there? */
static int
fail_in_file(const struct db *db, const struct migration *file,
    const struct migration_batch *batch)
{
	const struct tds_error *trouble = tds_error(db->conn);
	unsigned within = trouble->line > 0 ? (unsigned)trouble->line - 1 : 0;
	char words[MIGRATION_WORDS_MAX];

	if (trouble->number == 0)
		return ctl_fail(db->ctl, CTL_FAILED, "%s:%u: %s, at: %s",
		    file->name, batch->line, trouble->what,
		    migration_words(batch, words));
	return ctl_fail(db->ctl, CTL_FAILED,
	    "%s:%u: error %" PRId32 " (%s), severity %" PRId32
	    ", in the batch at line %u: %s",
	    file->name, batch->line + within, trouble->number,
	    tds_class_name(trouble->class), trouble->severity, batch->line,
	    migration_words(batch, words));
}

/* @return CTL_OK or said */
static int
run_batches(struct db *db, const struct migration *file)
{
	struct migration_batch batch = {0};
	int code = CTL_OK;

	while (code == CTL_OK && migration_next(file, &batch)) {
		if (run(db, batch.sql.data, STATEMENT_MS) != 0)
			code = fail_in_file(db, file, &batch);
	}
	migration_batch_fini(&batch);
	return code;
}

/* All of it and its note, or nothing: who fails leaves, and the server rolls
 * back what was not committed. */
static int
run_file(struct db *db, const struct migration *file)
{
	char sql[512];
	int code;

	if (run(db, "SET XACT_ABORT ON; BEGIN TRANSACTION", ANSWER_MS) != 0)
		return fail_on_server(db, "cannot begin a transaction");
	code = run_batches(db, file);
	if (code != CTL_OK)
		return code;
	/* Name and checksum hold letters, digits, "-" and "." only. */
	snprintf(sql, sizeof(sql),
	    "DELETE dbo.ParleyVersion WHERE Number = %u; "
	    "INSERT dbo.ParleyVersion (Number, Name, Checksum) "
	    "VALUES (%u, N'%s', '%s'); COMMIT TRANSACTION",
	    file->number, file->number, file->name, file->checksum);
	if (run(db, sql, ANSWER_MS) != 0)
		return fail_on_server(db,
		    "whether it was committed is not known; look at "
		    "parleyctl db status");
	return CTL_OK;
}

/* May these files be run there? @return CTL_OK or said */
static int
check_notes(const struct db *db)
{
	bool again = ctl_option(db->ctl, "again") != NULL;

	if (is_newer(db))
		return ctl_fail(db->ctl, CTL_FAILED,
		    "the database is newer than these files: %" PRId64
		    " is not among them",
		    db->newest);
	for (size_t i = 0; i < db->migrations.count && !again; i++) {
		if (is_changed(db, i))
			return ctl_fail(db->ctl, CTL_FAILED,
			    "%s was changed since it was run; --again runs all "
			    "files once more",
			    db->migrations.files[i].name);
	}
	return CTL_OK;
}

static int
run_missing(struct db *db, size_t *ran_out)
{
	bool again = ctl_option(db->ctl, "again") != NULL;
	int code = CTL_OK;

	for (size_t i = 0; i < db->migrations.count && code == CTL_OK; i++) {
		const struct migration *file = &db->migrations.files[i];

		if (db->notes[i].is_there && !again)
			continue;
		code = run_file(db, file);
		if (code != CTL_OK)
			break;
		(*ran_out)++;
		if (!db->ctl->wants_json)
			printf("%s: done\n", file->name);
	}
	return code;
}

int
ctl_db_migrate(struct ctl *ctl)
{
	struct db db = {.ctl = ctl};
	size_t ran = 0;
	int code = open_db(&db);

	if (code == CTL_OK)
		code = lock(&db);
	if (code == CTL_OK)
		code = read_notes(&db);
	if (code == CTL_OK)
		code = check_notes(&db);
	if (code == CTL_OK)
		code = run_missing(&db, &ran);
	if (code == CTL_OK)
		code = read_notes(&db);
	if (code == CTL_OK && ctl->wants_json)
		tell_json(&db, ran);
	else if (code == CTL_OK && ran == 0)
		puts("nothing to do");
	close_db(&db);
	return code;
}

/* Whoever fills dbo.Users has no other program that makes them. */
int
ctl_db_hash(struct ctl *ctl)
{
	char hash[PASSWORD_HASH_MAX];
	struct buf json = {0};
	int code = ctl_read_password(ctl, hash);

	if (code != CTL_OK)
		return code;
	if (!ctl->wants_json) {
		puts(hash);
		return CTL_OK;
	}
	json_object_begin(&json);
	json_put_bool(&json, "ok", true);
	json_put_text(&json, "hash", hash);
	json_object_end(&json);
	printf("%.*s\n", (int)json.len, json.data);
	buf_fini(&json);
	return CTL_OK;
}
