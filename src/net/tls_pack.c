/*
 * tls_pack.c - certificate, key and OCSP files as one run of bytes.
 *
 * Role:    reads them where there are rights to; the pack goes to those who
 *          have none. Each item: kind, lengths, path, content.
 * Process: supervisor and parleyd -t read, workers walk.
 * Blocks:  on the file system, in tls_pack_read only.
 * Trust:   the files are the operator's; a pack is checked all the same.
 * See:     tls_context.c (what is made of it), doc/decisions/004-tls-keys.md.
 */
#include "net/tls_pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/mem.h"

struct item_head {
	uint32_t kind;
	uint32_t path_len; /* with its NUL */
	uint32_t data_len;
};

/* @return bytes read, or -1 with errno; EFBIG: more than fits */
static ssize_t
read_file(const char *path, char *data, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	size_t total = 0;
	ssize_t n = -1;

	if (fd == -1)
		return -1;
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
		close(fd);
		errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
		return -1;
	}
	while (total < len) {
		n = read(fd, data + total, len - total);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		total += (size_t)n;
	}
	int cause = errno;
	close(fd);
	errno = total == len ? EFBIG : cause;
	return n < 0 || total == len ? -1 : (ssize_t)total;
}

/* buf_reserve moves what is there and leaves a copy behind: never again. */
static void
reserve_all(struct buf *pack)
{
	(void)buf_reserve(pack, TLS_PACK_MAX + TLS_FILE_MAX);
}

static int
add_file(struct buf *pack, enum tls_pack_kind kind, const char *path,
    char *error, size_t error_len)
{
	struct item_head head = {
	    .kind = (uint32_t)kind,
	    .path_len = (uint32_t)strlen(path) + 1,
	};
	char *data = pack->data + pack->len + sizeof(head) + head.path_len;
	ssize_t n;

	if (pack->len + sizeof(head) + head.path_len + TLS_FILE_MAX >
	    TLS_PACK_MAX + TLS_FILE_MAX) {
		snprintf(error, error_len,
		    "%s: too many or too large files for TLS", path);
		return ERR_BAD_REQUEST;
	}
	n = read_file(path, data, TLS_FILE_MAX);
	if (n < 0) {
		snprintf(error, error_len, "%s: cannot be read: %s", path,
		    errno == EFBIG ? "it is larger than 64 KiB"
				   : strerror(errno));
		return ERR_IO;
	}
	head.data_len = (uint32_t)n;
	memcpy(pack->data + pack->len, &head, sizeof(head));
	memcpy(pack->data + pack->len + sizeof(head), path, head.path_len);
	pack->len += sizeof(head) + head.path_len + head.data_len;
	return 0;
}

static int
check_counts(const struct conf_list *certs, const struct conf_list *keys,
    char *error, size_t error_len)
{
	if (certs->count == 0) {
		snprintf(error, error_len,
		    "[server] listen_tls needs tls_cert and tls_key");
		return ERR_BAD_REQUEST;
	}
	if (certs->count != keys->count || certs->count > TLS_PAIRS_MAX) {
		snprintf(error, error_len,
		    "[server] tls_cert names %zu files and tls_key %zu: each "
		    "certificate needs its key, in the same order, at most %d",
		    certs->count, keys->count, TLS_PAIRS_MAX);
		return ERR_BAD_REQUEST;
	}
	return 0;
}

int
tls_pack_read(const struct conf_list *certs, const struct conf_list *keys,
    const struct conf_list *ocsps, struct buf *pack_out, char *error,
    size_t error_len)
{
	int rc = check_counts(certs, keys, error, error_len);

	if (rc != 0)
		return rc;
	reserve_all(pack_out);
	for (size_t i = 0; rc == 0 && i < certs->count; i++) {
		rc = add_file(
		    pack_out, TLS_PACK_CERT, certs->items[i], error, error_len);
		if (rc == 0)
			rc = add_file(pack_out, TLS_PACK_KEY, keys->items[i],
			    error, error_len);
	}
	for (size_t i = 0; rc == 0 && i < ocsps->count; i++)
		rc = add_file(
		    pack_out, TLS_PACK_OCSP, ocsps->items[i], error, error_len);
	if (rc != 0)
		tls_pack_fini(pack_out);
	return rc;
}

void
tls_pack_fini(struct buf *pack)
{
	if (pack->cap > 0)
		mem_wipe(pack->data, pack->cap);
	buf_fini(pack);
}

int
tls_pack_next(
    const void *pack, size_t len, size_t *at_io, struct tls_pack_item *item_out)
{
	const char *at = (const char *)pack + *at_io;
	size_t left = len - *at_io;
	struct item_head head;

	if (left == 0)
		return 0;
	if (left < sizeof(head))
		return ERR_CORRUPT;
	memcpy(&head, at, sizeof(head));
	left -= sizeof(head);
	at += sizeof(head);
	if (head.kind < TLS_PACK_CERT || head.kind > TLS_PACK_OCSP ||
	    head.path_len == 0 || head.path_len > left ||
	    head.data_len > left - head.path_len ||
	    at[head.path_len - 1] != '\0')
		return ERR_CORRUPT;
	item_out->kind = (enum tls_pack_kind)head.kind;
	item_out->path = at;
	item_out->data = at + head.path_len;
	item_out->len = head.data_len;
	*at_io += sizeof(head) + head.path_len + head.data_len;
	return 1;
}
