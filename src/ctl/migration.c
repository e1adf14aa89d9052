/*
 * migration.c - files of migrations, and their batches.
 *
 * Role:    reads etc/mssql as it is installed.
 * Process: parleyctl.
 * Blocks:  on the disk.
 * Trust:   the files are the installation's. Names go into statements, so
 *          their letters are checked.
 * See:     migration.h, ctl_db.c, etc/mssql/README, t/unit/migration.c.
 */
#include "config.h"

#include "ctl/migration.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/crypto.h"
#include "base/mem.h"
#include "base/text.h"

#define NUMBER_LEN 3
#define SUFFIX     ".sql"
#define FILE_MAX   ((size_t)4 << 20)
#define CHUNK      65536

/* ---- files ---- */

static int
is_sql(const struct dirent *entry)
{
	return fnmatch("*" SUFFIX, entry->d_name, FNM_PERIOD) == 0;
}

/* "001-tables.sql" */
static bool
is_name(const char *name)
{
	size_t len = strlen(name);
	size_t stem = len - strlen(SUFFIX);

	if (len >= MIGRATION_NAME_MAX || stem <= NUMBER_LEN + 1 ||
	    strspn(name, "0123456789") != NUMBER_LEN || name[NUMBER_LEN] != '-')
		return false;
	return NUMBER_LEN + 1 +
		   strspn(name + NUMBER_LEN + 1,
		       "abcdefghijklmnopqrstuvwxyz0123456789-") ==
	       stem;
}

static int
read_text(const char *path, struct buf *text)
{
	FILE *file = fopen(path, "re");
	size_t got = 1;
	int rc = 0;

	if (file == NULL)
		return ERR_IO;
	while (got > 0 && text->len <= FILE_MAX) {
		got = fread(buf_reserve(text, CHUNK), 1, CHUNK, file);
		text->len += got;
	}
	if (ferror(file))
		rc = ERR_IO;
	fclose(file);
	return rc;
}

static int
load(const char *folder, struct migration *migration, char *error,
    size_t error_len)
{
	uint8_t hash[CRYPTO_HASH128_LEN];
	struct buf path = {0};
	int rc;

	buf_printf(&path, "%s/%s", folder, migration->name);
	rc = read_text(path.data, &migration->text);
	if (rc != 0)
		snprintf(
		    error, error_len, "%s: %s", path.data, strerror(errno));
	buf_fini(&path);
	if (rc != 0)
		return rc;
	if (migration->text.len > FILE_MAX ||
	    !text_utf8_valid(migration->text.data, migration->text.len) ||
	    (migration->text.len > 0 &&
		memchr(migration->text.data, '\0', migration->text.len))) {
		snprintf(error, error_len,
		    "%s: too long, or no UTF-8, or with NUL characters",
		    migration->name);
		return ERR_BAD_REQUEST;
	}
	crypto_sha256_128(migration->text.data, migration->text.len, hash);
	text_hex(hash, sizeof(hash), migration->checksum);
	return 0;
}

static int
add(const char *folder, const char *name, struct migrations *out, char *error,
    size_t error_len)
{
	struct migration *migration = &out->files[out->count];
	char expected[NUMBER_LEN + 2];

	snprintf(expected, sizeof(expected), "%03u",
	    (unsigned)(out->count + 1) % 1000);
	if (!is_name(name) || memcmp(name, expected, NUMBER_LEN) != 0) {
		snprintf(error, error_len,
		    "%s/%.80s: file number %s was expected, named as in "
		    "%s-tables.sql",
		    folder, name, expected, expected);
		return ERR_BAD_REQUEST;
	}
	*migration = (struct migration){.number = (unsigned)out->count + 1};
	snprintf(migration->name, sizeof(migration->name), "%s", name);
	out->count++;
	return load(folder, migration, error, error_len);
}

int
migrations_load(
    const char *folder, struct migrations *out, char *error, size_t error_len)
{
	struct dirent **names = NULL;
	int count = scandir(folder, &names, is_sql, alphasort);
	int rc = 0;

	*out = (struct migrations){0};
	if (count == -1) {
		snprintf(error, error_len, "%s: %s", folder, strerror(errno));
		return ERR_IO;
	}
	if (count == 0) {
		snprintf(error, error_len, "%s: no *.sql there", folder);
		rc = ERR_BAD_REQUEST;
	}
	out->files = xcalloc((size_t)count + 1, sizeof(*out->files));
	for (int i = 0; i < count; i++) {
		if (rc == 0)
			rc = add(
			    folder, names[i]->d_name, out, error, error_len);
		free(names[i]);
	}
	free(names);
	return rc;
}

void
migrations_free(struct migrations *migrations)
{
	for (size_t i = 0; i < migrations->count; i++)
		buf_fini(&migrations->files[i].text);
	free(migrations->files);
	*migrations = (struct migrations){0};
}

/* ---- batches ---- */

static size_t
line_len(const char *at, size_t left)
{
	const char *end = left > 0 ? memchr(at, '\n', left) : NULL;

	return end != NULL ? (size_t)(end - at) + 1 : left;
}

/* White space only? */
static bool
is_blank(const char *at, size_t len)
{
	while (len > 0 && strchr(" \t\r\n", at[len - 1]) != NULL)
		len--;
	return len == 0;
}

/* "GO" alone, as sqlcmd has it. */
static bool
is_go(const char *at, size_t len)
{
	size_t blanks = 0;

	while (blanks < len && (at[blanks] == ' ' || at[blanks] == '\t'))
		blanks++;
	return len - blanks >= 2 && strncasecmp(at + blanks, "GO", 2) == 0 &&
	       is_blank(at + blanks + 2, len - blanks - 2);
}

/* The batch as it stands, up to a GO: the server counts its lines from its
 * first one, as we do. @return false: at the end of the file */
static bool
take(const struct migration *migration, struct migration_batch *batch)
{
	const struct buf *text = &migration->text;

	buf_clear(&batch->sql);
	batch->line = ++batch->next_line;
	if (batch->next >= text->len)
		return false;
	while (batch->next < text->len) {
		const char *at = text->data + batch->next;
		size_t len = line_len(at, text->len - batch->next);

		batch->next += len;
		if (is_go(at, len))
			break;
		buf_add(&batch->sql, at, len);
		batch->next_line++;
	}
	return true;
}

bool
migration_next(const struct migration *migration, struct migration_batch *batch)
{
	while (take(migration, batch)) {
		if (is_blank(batch->sql.data, batch->sql.len))
			continue;
		buf_reserve(&batch->sql, 1)[0] = '\0';
		return true;
	}
	return false;
}

void
migration_batch_fini(struct migration_batch *batch)
{
	buf_fini(&batch->sql);
	*batch = (struct migration_batch){0};
}

const char *
migration_words(
    const struct migration_batch *batch, char out[MIGRATION_WORDS_MAX])
{
	const char *at = batch->sql.data;
	size_t left = batch->sql.len;
	size_t len = 0;

	while (left > 0) {
		len = line_len(at, left);
		if (!is_blank(at, len) && strncmp(at, "--", 2) != 0)
			break;
		at += len;
		left -= len;
		len = 0;
	}
	while (len > 0 && is_blank(at + len - 1, 1))
		len--;
	if (len > MIGRATION_WORDS_MAX - 1)
		len = text_utf8_valid_len(at, MIGRATION_WORDS_MAX - 1);
	memcpy(out, len > 0 ? at : "", len);
	out[len] = '\0';
	return out;
}
