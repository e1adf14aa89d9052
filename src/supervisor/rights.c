/*
 * rights.c - who the processes run as, and the folders they need.
 *
 * Role:    everything a root supervisor does with its rights, in one file.
 * Process: supervisor; rights_drop in its children before their entry.
 * Blocks:  on the file system and the user database, at start only.
 * Trust:   folders may belong to the unprivileged user: links in them are
 *          never followed.
 * See:     spawn.c.
 */
#include "config.h"

#include "supervisor/rights.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

/* Default of [server] user, conf.def. */
#define DEFAULT_USER "parley"

#define FOLDER_MODE 0750
#define PARENT_MODE 0755

int
rights_find(const struct conf *conf, struct rights *rights, char *error,
    size_t error_len)
{
	const char *name = conf->server_user;
	const struct passwd *pw;

	memset(rights, 0, sizeof(*rights));
	rights->uid = geteuid();
	rights->gid = getegid();
	if (rights->uid != 0)
		return 0;
	if (name == NULL || *name == '\0') {
		log_warn(NULL, "runs-as-root",
		    "hint=\"[server] user is empty: every process keeps the "
		    "rights of root\"");
		return 0;
	}
	pw = getpwnam(name);
	if (pw == NULL && strcmp(name, DEFAULT_USER) == 0) {
		/* Nobody chose it: a first try must not end here. */
		log_warn(NULL, "runs-as-root",
		    "hint=\"there is no user %s, every process keeps the "
		    "rights "
		    "of root; make it: adduser --system --group %s\"",
		    name, name);
		return 0;
	}
	if (pw == NULL || strlen(name) >= sizeof(rights->name)) {
		snprintf(error, error_len,
		    "[server] user: there is no user \"%s\"; create it, name "
		    "another one or leave it empty to keep root",
		    name);
		return ERR_BAD_REQUEST;
	}
	snprintf(rights->name, sizeof(rights->name), "%s", name);
	rights->uid = pw->pw_uid;
	rights->gid = pw->pw_gid;
	rights->is_dropping = pw->pw_uid != 0;
	return 0;
}

int
rights_drop(const struct rights *rights)
{
	if (!rights->is_dropping)
		return 0;
	if (initgroups(rights->name, rights->gid) == -1 ||
	    setresgid(rights->gid, rights->gid, rights->gid) == -1 ||
	    setresuid(rights->uid, rights->uid, rights->uid) == -1)
		return ERR_IO;
	if (setuid(0) == 0) {
		errno = EPERM; /* it must not come back */
		return ERR_IO;
	}
	return 0;
}

void
rights_give(const struct rights *rights, const char *path)
{
	if (!rights->is_dropping)
		return;
	if (lchown(path, rights->uid, rights->gid) == -1)
		log_warn(NULL, "chown-failed", "path=%s user=%s error=\"%s\"",
		    path, rights->name, strerror(errno));
}

/* Parents as mkdir -p makes them; the last part is ours. */
static int
make_parents(const char *path)
{
	char part[PATH_MAX];
	char *slash;

	if (strlen(path) >= sizeof(part)) {
		errno = ENAMETOOLONG;
		return ERR_IO;
	}
	snprintf(part, sizeof(part), "%s", path);
	for (slash = strchr(part + 1, '/'); slash != NULL;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(part, PARENT_MODE) == 0)
			chmod(part, PARENT_MODE); /* whatever the umask */
		else if (errno != EEXIST)
			return ERR_IO;
		*slash = '/';
	}
	return 0;
}

/* Owner or group of the folder, and the bits that let them write. */
static bool
may_write(const struct rights *rights, const struct stat *st)
{
	if (rights->uid == 0)
		return true;
	if (st->st_uid == rights->uid)
		return (st->st_mode & S_IRWXU) == S_IRWXU;
	if (st->st_gid == rights->gid)
		return (st->st_mode & S_IRWXG) == S_IRWXG;
	return (st->st_mode & S_IRWXO) == S_IRWXO;
}

int
rights_make_folder(const struct rights *rights, const char *path, char *error,
    size_t error_len)
{
	struct stat st;
	bool is_new;
	int rc = make_parents(path);

	if (rc == 0) {
		is_new = mkdir(path, FOLDER_MODE) == 0;
		if (!is_new && errno != EEXIST)
			rc = ERR_IO;
	}
	if (rc != 0) {
		snprintf(error, error_len, "cannot make the folder %s: %s",
		    path, strerror(errno));
		return rc;
	}
	if (is_new)
		rights_give(rights, path);
	if (stat(path, &st) == -1 || !S_ISDIR(st.st_mode)) {
		snprintf(error, error_len, "%s is not a folder", path);
		return ERR_IO;
	}
	if (!may_write(rights, &st)) {
		snprintf(error, error_len,
		    "the folder %s belongs to user %u and user %u cannot write "
		    "to it; change its owner",
		    path, (unsigned)st.st_uid, (unsigned)rights->uid);
		return ERR_IO;
	}
	return 0;
}

void
rights_raise_files(int64_t wanted)
{
	struct rlimit limit;
	struct rlimit more;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
		return;
	more = limit;
	if (more.rlim_max != RLIM_INFINITY && (rlim_t)wanted > more.rlim_max)
		more.rlim_max = (rlim_t)wanted;
	more.rlim_cur = more.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &more) == 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) == -1)
		log_warn(
		    NULL, "descriptor-limit", "error=\"%s\"", strerror(errno));
}
