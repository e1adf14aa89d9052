/*
 * tds_library.c - the state that FreeTDS keeps for the whole process.
 *
 * Role:    starts db-lib, takes its errors, holds its settings file. The file
 *          is anonymous memory and has no password in it: TLS can be asked
 *          for in no other way (DBSETLENCRYPT does nothing, and says so only
 *          by its result).
 * Process: directory, parleyctl.
 * Blocks:  never.
 * Trust:   the server's texts are dropped here: they may quote data.
 * See:     tds_priv.h, doc/decisions/028-freetds.md.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "tds/tds_priv.h"

#define SEVERITY_INFO 10 /* up to it a message is no error */
/* "Check messages from the SQL Server": it came as a message already. */
#define DBLIB_SEE_MESSAGE 20018

static struct {
	int fd; /* memfd */
	char path[64];
} library = {.fd = -1};

static __thread struct tds_error *caught;

void
tds_catch(struct tds_error *error)
{
	caught = error;
}

int
tds_fail(struct tds_error *error, enum tds_class class, const char *name,
    const char *what)
{
	if (error->class == TDS_CLASS_NONE) {
		error->class = class;
		snprintf(error->what, sizeof(error->what), "%.64s%s%s", name,
		    name[0] != '\0' ? " " : "", what);
	}
	return tds_class_rc(error->class);
}

/* The first error is the cause; what comes after it is its consequence. */
static void
error_put(int number, int severity, int state)
{
	if (caught == NULL || caught->class != TDS_CLASS_NONE)
		return;
	caught->class = tds_classify(number, severity);
	caught->number = number;
	caught->severity = severity;
	caught->state = state;
}

static int
on_error(DBPROCESS *db, int severity, int number, int os_error, char *text,
    char *os_text)
{
	(void)db;
	(void)os_error;
	(void)text;
	(void)os_text;
	if (number != DBLIB_SEE_MESSAGE)
		error_put(number, severity, 0);
	return INT_CANCEL;
}

/* The procedure's name is printed into logs: nothing but a name. */
static void
procedure_copy(char out[TDS_NAME_MAX], const char *name)
{
	size_t len = 0;

	for (; name != NULL && *name != '\0' && len < TDS_NAME_MAX - 1;
	     name++) {
		unsigned char c = (unsigned char)*name;

		out[len++] = c > 0x20 && c < 0x7f && c != '"' ? (char)c : '?';
	}
	out[len] = '\0';
}

static int
on_message(DBPROCESS *db, DBINT number, int state, int severity, char *text,
    char *server, char *procedure, int line)
{
	bool is_first = caught != NULL && caught->class == TDS_CLASS_NONE;

	(void)db;
	(void)text;
	(void)server;
	if (severity <= SEVERITY_INFO)
		return 0;
	error_put(number, severity, state);
	if (is_first) {
		caught->line = line;
		if (procedure != NULL && procedure[0] != '\0')
			procedure_copy(caught->procedure, procedure);
	}
	return 0;
}

int
tds_library_add(const char *section)
{
	size_t len = strlen(section);
	ssize_t n = write(library.fd, section, len);

	return n == (ssize_t)len ? 0 : ERR_IO;
}

bool
tds_library_is_readable(void)
{
	int fd = open(library.path, O_RDONLY | O_CLOEXEC);

	if (fd == -1)
		return false;
	close(fd);
	return true;
}

int
tds_start(void)
{
	/* They would win over our settings, or write what we say to disk. */
	static const char *const variables[] = {"FREETDS", "FREETDSCONF",
	    "SYBASE", "TDSDUMP", "TDSDUMPCONFIG", "TDSHOST", "TDSPORT",
	    "TDSQUERY", "TDSVER", "DSQUERY"};

	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
		unsetenv(variables[i]);
	library.fd = memfd_create("parley-freetds", MFD_CLOEXEC);
	if (library.fd == -1)
		return ERR_IO;
	snprintf(
	    library.path, sizeof(library.path), "/proc/self/fd/%d", library.fd);
	if (fchmod(library.fd, 0600) != 0 || !tds_library_is_readable() ||
	    dbinit() == FAIL || tds_watch_start() != 0) {
		close(library.fd);
		library.fd = -1;
		return ERR_IO;
	}
	dberrhandle(on_error);
	dbmsghandle(on_message);
	dbsetifile(library.path);
	return 0;
}

void
tds_stop(void)
{
	if (library.fd == -1)
		return;
	tds_watch_stop();
	dbexit();
	close(library.fd);
	library.fd = -1;
}
