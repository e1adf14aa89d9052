/*
 * buf.h - bytes that grow; exists only while it holds something.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	char *data; /* NULL while empty and never used */
	size_t len; /* bytes held */
	size_t cap; /* bytes allocated */
};

/** Make room for extra more bytes and return where they go (len unchanged). */
char *buf_reserve(struct buf *buf, size_t extra);
void buf_add(struct buf *buf, const void *data, size_t len);
void buf_add_str(struct buf *buf, const char *text);
void buf_add_char(struct buf *buf, char c);
void buf_add_u64(struct buf *buf, uint64_t n);
void buf_add_i64(struct buf *buf, int64_t n);
void buf_printf(struct buf *buf, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/** Remove n bytes at the front. */
void buf_drop(struct buf *buf, size_t n);
/** Empty it and keep the memory. */
void buf_clear(struct buf *buf);
/** Empty it and give the memory back. */
void buf_fini(struct buf *buf);

#endif
