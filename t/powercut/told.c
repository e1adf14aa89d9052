/*
 * told.c - what clients were told: the frames that workers handed to the
 * kernel, taken apart.
 *
 * A message is told from the entry on that stands before the call of send.
 *
 * See: recorder.c, src/load/payload.c (what the messages say).
 */
#include "config.h"

#include "t/powercut/told.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "load/frame.h"
#include "load/payload.h"
#include "load/scan.h"

#define FRAME_MAX     (16U << 20)
#define UPGRADED      "HTTP/1.1 101 "
#define HEADERS_END   "\r\n\r\n"
#define STREAMS_FIRST 64

struct stream {
	uint32_t pid;
	int32_t fd;
	bool is_upgraded;
	struct buf data;
};

struct collector {
	const struct record *record;
	struct told_list *list;
	size_t cap;
	struct stream *streams;
	size_t stream_count;
	size_t stream_cap;
};

static struct stream *
stream_of(struct collector *collector, const struct journal_entry *entry)
{
	struct stream *stream;

	for (size_t i = 0; i < collector->stream_count; i++) {
		stream = &collector->streams[i];
		if (stream->pid == entry->pid && stream->fd == entry->fd)
			return stream;
	}
	if (collector->stream_count == collector->stream_cap) {
		collector->stream_cap = collector->stream_cap == 0
					    ? STREAMS_FIRST
					    : collector->stream_cap * 2;
		collector->streams = xrealloc(collector->streams,
		    collector->stream_cap * sizeof(*collector->streams));
	}
	stream = &collector->streams[collector->stream_count++];
	*stream = (struct stream){.pid = entry->pid, .fd = entry->fd};
	return stream;
}

/* How many bytes of a send the kernel took: the next entry of the process
 * says when it was not all of them. */
static size_t
taken_len(const struct record *record, size_t index)
{
	const struct journal_entry *sent = &record->items[index].entry;

	for (size_t i = index + 1; i < record->count; i++) {
		const struct journal_entry *entry = &record->items[i].entry;

		if (entry->pid != sent->pid)
			continue;
		if (entry->kind == JOURNAL_SENT_PART)
			return (size_t)entry->offset;
		break;
	}
	return (size_t)sent->len;
}

static void
add(struct collector *collector, const struct told *told)
{
	struct told_list *list = collector->list;

	if (list->count == collector->cap) {
		collector->cap =
		    collector->cap == 0 ? 1024 : collector->cap * 2;
		list->messages = xrealloc(
		    list->messages, collector->cap * sizeof(*list->messages));
	}
	list->messages[list->count++] = *told;
}

static void
take_text(struct collector *collector, const struct frame *frame, size_t index)
{
	struct told told = {.answered = TOLD_NEVER, .delivered = TOLD_NEVER};
	struct payload payload;
	struct scan scan;

	if (frame->opcode != FRAME_TEXT)
		return;
	if (scan_parse(frame->data, frame->len, &scan) != 0)
		fatal("entry %zu is no JSON", index);
	told.id = scan.message_id;
	if (scan_text_is(scan.command, "P_SEND_MESSAGE") &&
	    (scan_text_is(scan.reason, "OK") ||
		scan_text_is(scan.reason, "DUPLICATE"))) {
		told.number = scan.request_id;
		told.answered = index;
		collector->list->answers++;
		add(collector, &told);
	} else if (scan_text_is(scan.command, "P_MESSAGE")) {
		if (!payload_parse(
			scan.message.data, scan.message.len, &payload))
			fatal("entry %zu is no message of the load", index);
		told.number = payload.number;
		told.seq = scan.seq;
		told.delivered = index;
		add(collector, &told);
	}
}

static void
take_frames(struct collector *collector, struct stream *stream, size_t index)
{
	struct frame frame;
	size_t at = 0;
	int rc;

	for (;;) {
		rc = frame_parse(stream->data.data + at, stream->data.len - at,
		    FRAME_MAX, false, &frame);
		if (rc == ERR_AGAIN)
			break;
		if (rc != 0)
			fatal("entry %zu is no frame", index);
		take_text(collector, &frame, index);
		at += frame.total;
	}
	buf_drop(&stream->data, at);
}

static void
take_sent(struct collector *collector, size_t index)
{
	const struct record_item *item = &collector->record->items[index];
	struct stream *stream = stream_of(collector, &item->entry);
	size_t len = taken_len(collector->record, index);
	const char *end;

	if (len >= strlen(UPGRADED) &&
	    memcmp(item->bytes, UPGRADED, strlen(UPGRADED)) == 0) {
		end =
		    memmem(item->bytes, len, HEADERS_END, strlen(HEADERS_END));
		if (end == NULL)
			fatal("entry %zu is no upgrade", index);
		end += strlen(HEADERS_END);
		stream->is_upgraded = true; /* another connection */
		buf_clear(&stream->data);
		buf_add(&stream->data, end,
		    len - (size_t)(end - (const char *)item->bytes));
	} else if (stream->is_upgraded) {
		buf_add(&stream->data, item->bytes, len);
	}
	if (stream->data.len > 0)
		take_frames(collector, stream, index);
}

static int
by_id(const void *left_ptr, const void *right_ptr)
{
	const struct told *left = left_ptr;
	const struct told *right = right_ptr;

	return left->id < right->id ? -1 : left->id > right->id;
}

/* The answer and the delivery of a message are one. */
static void
merge(struct told_list *list)
{
	size_t left = 0;

	qsort(list->messages, list->count, sizeof(*list->messages), by_id);
	for (size_t i = 0; i < list->count; i++) {
		const struct told *told = &list->messages[i];
		struct told *have = left > 0 ? &list->messages[left - 1] : NULL;

		if (have == NULL || have->id != told->id) {
			list->messages[left++] = *told;
			continue;
		}
		if (have->number != told->number ||
		    (have->seq != 0 && told->seq != 0 &&
			have->seq != told->seq))
			fatal("message %llu was told in two ways",
			    (unsigned long long)told->id);
		if (told->seq != 0)
			have->seq = told->seq;
		if (told->answered < have->answered)
			have->answered = told->answered;
		if (told->delivered < have->delivered)
			have->delivered = told->delivered;
	}
	list->count = left;
}

void
told_collect(struct told_list *list, const struct record *record)
{
	struct collector collector = {.record = record, .list = list};

	*list = (struct told_list){0};
	for (size_t i = 0; i < record->count; i++) {
		if (record->items[i].entry.kind == JOURNAL_SENT)
			take_sent(&collector, i);
	}
	for (size_t i = 0; i < collector.stream_count; i++)
		buf_fini(&collector.streams[i].data);
	free(collector.streams);
	merge(list);
}

void
told_fini(struct told_list *list)
{
	free(list->messages);
	*list = (struct told_list){0};
}

size_t
told_since(const struct told *told)
{
	return told->answered < told->delivered ? told->answered
						: told->delivered;
}
