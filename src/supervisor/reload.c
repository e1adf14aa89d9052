/*
 * reload.c - a new configuration without a stop.
 *
 * Role:    SIGHUP. Compares by conf.def, replaces process by process, so that
 *          all but one always serve.
 * Process: supervisor.
 * Blocks:  on reading the file.
 * Trust:   a bad file changes nothing.
 * See:     base/conf.def (column reload).
 */
#include "config.h"

#include "supervisor/reload.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/crypto.h"
#include "base/log.h"
#include "supervisor/check.h"

#define DIGEST_FILE_MAX ((size_t)64 * 1024)

static bool
text_same(const char *a, const char *b)
{
	return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

static bool
list_same(const struct conf_list *a, const struct conf_list *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	}
	return true;
}

#define SAME_BOOL(a, b)     (*(a) == *(b))
#define SAME_INT(a, b)      (*(a) == *(b))
#define SAME_DURATION(a, b) (*(a) == *(b))
#define SAME_SIZE(a, b)     (*(a) == *(b))
#define SAME_STRING(a, b)   text_same(*(a), *(b))
#define SAME_CHOICE(a, b)   text_same(*(a), *(b))
#define SAME_LIST(a, b)     list_same((a), (b))
#define SAME_SECRETS(a, b)  list_same((a), (b))

/* Values are never logged: some are secrets. */
static void
note_change(struct reload_names *names, const char *key, int reload)
{
	struct buf *list = reload == 0   ? &names->restart
			   : reload == 1 ? &names->successors
					 : &names->in_place;

	buf_printf(list, "%s%s", list->len > 0 ? " " : "", key);
	if (reload != 0)
		log_info(NULL, "setting-changed", "key=%s", key);
	else
		log_warn(NULL, "setting-needs-restart",
		    "key=%s hint=\"the old value stays until parleyd is "
		    "started again\"",
		    key);
}

static enum reload_kind
kind_of(int reload)
{
	if (reload == 0)
		return RELOAD_NOTHING; /* the old value stays */
	return reload == 1 ? RELOAD_SUCCESSORS : RELOAD_IN_PLACE;
}

enum reload_kind
reload_adopt(struct conf *old, struct conf *next, struct reload_names *names)
{
	enum reload_kind most = RELOAD_NOTHING;

#define CONF(section, key, type, def, min, max, reload, help)                  \
	if (!SAME_##type(&old->section##_##key, &next->section##_##key)) {     \
		note_change(names, #section "." #key, (reload));               \
		if (kind_of(reload) > most)                                    \
			most = kind_of(reload);                                \
		if (!(reload)) {                                               \
			CONF_TYPE_##type kept = old->section##_##key;          \
                                                                               \
			old->section##_##key = next->section##_##key;          \
			next->section##_##key = kept;                          \
		}                                                              \
	}
#include "base/conf.def"
#undef CONF
	return most;
}

void
reload_names_fini(struct reload_names *names)
{
	buf_fini(&names->in_place);
	buf_fini(&names->successors);
	buf_fini(&names->restart);
}

void
reload_answer(const struct reload_names *names, bool is_rolling,
    char *reply_out, size_t reply_len)
{
	struct buf all = {0};

	buf_add_str(&all, "ok");
	if (names->in_place.len > 0)
		buf_printf(&all, "\nnow %.*s", (int)names->in_place.len,
		    names->in_place.data);
	if (names->successors.len > 0)
		buf_printf(&all, "\nsuccessors %.*s",
		    (int)names->successors.len, names->successors.data);
	if (names->restart.len > 0)
		buf_printf(&all, "\nrestart %.*s", (int)names->restart.len,
		    names->restart.data);
	if (is_rolling)
		buf_add_str(&all, "\nrolling");
	snprintf(reply_out, reply_len, "%.*s", (int)all.len, all.data);
	buf_fini(&all);
}

void
reload_print(const struct conf *conf, char *reply_out, size_t reply_len)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	snprintf(reply_out, reply_len, "error: out of memory");
	if (out == NULL)
		return;
	conf_print(conf, out);
	if (fclose(out) == 0)
		snprintf(reply_out, reply_len, "ok\n%s", text);
	free(text);
}

/* What cannot be read has been refused before, or will be by a successor. */
static void
add_file(struct buf *all, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t n;

	if (fd == -1)
		return;
	n = read(fd, buf_reserve(all, DIGEST_FILE_MAX), DIGEST_FILE_MAX);
	if (n > 0)
		all->len += (size_t)n;
	buf_add_char(all, '\0');
	close(fd);
}

void
reload_digest(const struct conf *conf, uint8_t digest_out[16])
{
	struct buf all = {0};

	for (size_t i = 0; i < conf->auth_jwt_public_key.count; i++)
		add_file(&all, conf->auth_jwt_public_key.items[i]);
	if (conf->ops_demo_users != NULL && *conf->ops_demo_users != '\0')
		add_file(&all, conf->ops_demo_users);
	crypto_sha256_128(all.len > 0 ? all.data : "", all.len, digest_out);
	buf_fini(&all);
}

struct conf *
reload_read(const char *path, bool is_background, struct certs_next *certs_out,
    char *error, size_t error_len)
{
	struct conf *next = NULL;
	int rc = conf_load(path, &next, error, error_len);

	if (rc == 0)
		rc = check_conf(next, is_background, error, error_len);
	if (rc == 0 && certs_out != NULL)
		rc = certs_read(next, true, certs_out, error, error_len);
	if (rc != 0) {
		log_error(NULL, "reload-refused",
		    "error=\"%s\" hint=\"the old configuration stays\"", error);
		conf_free(&next);
		return NULL;
	}
	return next;
}

/* Workers, then what clients see less of; the keeper last. */
static int
rank(const struct child *child)
{
	if (slot_is_worker(child->slot))
		return 0;
	return child->slot == SLOT_KEEPER ? 2 : 1;
}

static struct child *
next_old(struct crew *crew)
{
	struct child *best = NULL;

	for (int i = 0; i < crew->child_count; i++) {
		struct child *child = &crew->children[i];

		if (child->state == PROCESS_RUNNING &&
		    child->conf_serial != crew->conf_serial &&
		    (best == NULL || rank(child) < rank(best)))
			best = child;
	}
	return best;
}

/* A successor that does not come up: better to keep the others. */
static bool
is_failing(const struct crew *crew)
{
	for (int i = 0; i < crew->child_count; i++) {
		const struct child *child = &crew->children[i];

		if (child->conf_serial == crew->conf_serial &&
		    (child->state == PROCESS_BACKOFF ||
			child->state == PROCESS_ERRORED))
			return true;
	}
	return false;
}

bool
reload_step(struct crew *crew, int64_t now_ms)
{
	struct child *child;

	if (is_failing(crew)) {
		log_error(NULL, "reload-halted",
		    "hint=\"a process does not start with the new "
		    "configuration; the others keep the old one\"");
		return false;
	}
	if (crew_is_moving(crew))
		return true;
	child = next_old(crew);
	if (child == NULL) {
		log_info(NULL, "reload-done", "serial=%u", crew->conf_serial);
		return false;
	}
	crew_stop(crew, child, now_ms);
	return true;
}
