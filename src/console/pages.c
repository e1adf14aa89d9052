/*
 * pages.c - files of the pages folder.
 *
 * Role:    from a URL's path to bytes and their type.
 * Process: console.
 * Blocks:  on the disk, for small files.
 * Trust:   the path is a stranger's: each part is checked and opened by itself
 *          below its folder, never through a link.
 * See:     http.c, t/unit/pages.c.
 */
#include "config.h"

#include "console/pages.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES (4 * 1024 * 1024)
#define PART_MAX       64
#define DEPTH_MAX      4

static const struct {
	const char *ending;
	const char *type;
} types[] = {
    {".css", "text/css; charset=utf-8"},
    {".html", "text/html; charset=utf-8"},
    {".ico", "image/x-icon"},
    {".js", "text/javascript; charset=utf-8"},
    {".json", "application/json"},
    {".mjs", "text/javascript; charset=utf-8"},
    {".png", "image/png"},
    {".svg", "image/svg+xml"},
    {".txt", "text/plain; charset=utf-8"},
    {".webmanifest", "application/manifest+json"},
    {".woff2", "font/woff2"},
};

static const char *
type_of(const char *path)
{
	const char *dot = strrchr(path, '.');

	for (size_t i = 0; dot != NULL && i < sizeof(types) / sizeof(types[0]);
	     i++) {
		if (strcmp(dot, types[i].ending) == 0)
			return types[i].type;
	}
	return NULL;
}

/* Letters, digits and -_. inside; never hidden, never "..". */
static bool
is_part(const char *part, size_t len)
{
	if (len == 0 || len > PART_MAX || *part == '.')
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)part[i]) &&
		    strchr("-_.", part[i]) == NULL)
			return false;
	}
	return true;
}

/* Takes folder_fd. @return descriptor or -1 */
static int
open_below(int folder_fd, const char *path)
{
	char part[PART_MAX + 1];

	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		size_t len = strcspn(path, "/");
		bool is_last = path[len] == '\0';
		int fd;

		if (!is_part(path, len))
			break;
		memcpy(part, path, len);
		part[len] = '\0';
		/* O_NONBLOCK: a pipe must not stop us */
		fd = openat(folder_fd, part,
		    O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK |
			(is_last ? 0 : O_DIRECTORY));
		close(folder_fd);
		if (fd == -1 || is_last)
			return fd;
		folder_fd = fd;
		path += len + 1;
	}
	close(folder_fd);
	return -1;
}

static int
read_file(int fd, struct buf *out)
{
	struct stat st;
	size_t left;
	ssize_t n;

	if (fstat(fd, &st) == -1)
		return ERR_IO;
	if (!S_ISREG(st.st_mode))
		return ERR_NOT_FOUND;
	if (st.st_size > FILE_MAX_BYTES)
		return ERR_TOO_LARGE;
	left = (size_t)st.st_size;
	while (left > 0) {
		n = read(fd, buf_reserve(out, left), left);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return ERR_IO;
		if (n == 0)
			break; /* it was cut short meanwhile */
		out->len += (size_t)n;
		left -= (size_t)n;
	}
	return 0;
}

int
pages_read(const char *folder, const char *path, struct buf *out,
    const char **type_out)
{
	int folder_fd;
	int fd;
	int rc;

	if (strcmp(path, "/") == 0)
		path = "/index.html";
	*type_out = type_of(path);
	if (*path != '/' || *type_out == NULL)
		return ERR_NOT_FOUND;
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder_fd == -1)
		return ERR_NOT_FOUND;
	fd = open_below(folder_fd, path + 1);
	if (fd == -1)
		return ERR_NOT_FOUND;
	rc = read_file(fd, out);
	close(fd);
	return rc;
}
