/*
 * buf.c - bytes that grow.
 *
 * Role:    output of every kind: JSON, HTTP, frames, store values.
 * Process: all.
 * Blocks:  never.
 * Trust:   callers cap what peers can make it hold; running out ends us.
 * See:     json_write.c, t/unit/err_buf_text.c.
 */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define BUF_FIRST 64

char *
buf_reserve(struct buf *buf, size_t extra)
{
	size_t wanted;
	size_t cap;

	if (__builtin_add_overflow(buf->len, extra, &wanted) ||
	    wanted > SIZE_MAX / 4)
		panic("buffer of %zu bytes cannot take %zu more", buf->len,
		    extra);
	if (wanted > buf->cap || buf->data == NULL) {
		cap = buf->cap == 0 ? BUF_FIRST : buf->cap;
		while (cap < wanted)
			cap *= 2;
		buf->data = xrealloc(buf->data, cap);
		buf->cap = cap;
	}
	return buf->data + buf->len;
}

void
buf_add(struct buf *buf, const void *data, size_t len)
{
	if (len == 0)
		return;
	memcpy(buf_reserve(buf, len), data, len);
	buf->len += len;
}

void
buf_add_str(struct buf *buf, const char *text)
{
	buf_add(buf, text, strlen(text));
}

void
buf_add_char(struct buf *buf, char c)
{
	*buf_reserve(buf, 1) = c;
	buf->len++;
}

void
buf_add_u64(struct buf *buf, uint64_t n)
{
	char digits[20]; /* UINT64_MAX has 20 */
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	buf_add(buf, digits + at, sizeof(digits) - at);
}

void
buf_add_i64(struct buf *buf, int64_t n)
{
	if (n >= 0) {
		buf_add_u64(buf, (uint64_t)n);
		return;
	}
	buf_add_char(buf, '-');
	/* Negated as unsigned: -INT64_MIN does not exist as int64_t. */
	buf_add_u64(buf, 0 - (uint64_t)n);
}

__attribute__((format(printf, 2, 0))) static void
    __attribute__((format(printf, 2, 0)))
    buf_vprintf(struct buf *buf, const char *fmt, va_list args)
{
	va_list again;
	size_t room;
	int len;

	va_copy(again, args);
	buf_reserve(buf, 1);
	room = buf->cap - buf->len;
	len = vsnprintf(buf->data + buf->len, room, fmt, args);
	if (len < 0)
		panic("format \"%s\" failed", fmt);
	if ((size_t)len >= room) {
		buf_reserve(buf, (size_t)len + 1);
		vsnprintf(buf->data + buf->len, (size_t)len + 1, fmt, again);
	}
	buf->len += (size_t)len;
	va_end(again);
}

void
buf_printf(struct buf *buf, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	buf_vprintf(buf, fmt, args);
	va_end(args);
}

void
buf_drop(struct buf *buf, size_t n)
{
	if (n > buf->len)
		panic("cannot drop %zu of %zu bytes", n, buf->len);
	if (n == 0)
		return;
	memmove(buf->data, buf->data + n, buf->len - n);
	buf->len -= n;
}

void
buf_clear(struct buf *buf)
{
	buf->len = 0;
}

void
buf_fini(struct buf *buf)
{
	free(buf->data);
	*buf = (struct buf){0};
}
