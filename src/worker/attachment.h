/*
 * attachment.h - what a message refers to beside its text: a file that lies
 * somewhere else. Nothing is uploaded through this server, or fetched by it.
 */
#ifndef WORKER_ATTACHMENT_H
#define WORKER_ATTACHMENT_H

#include <stddef.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/json.h"

#define ATTACHMENT_URL_MAX  2048
#define ATTACHMENT_NAME_MAX 255
#define ATTACHMENT_TYPE_MAX 255

/**
 * Check an Attachment and write it anew: Url, Name, Size, MimeType, checked,
 * and nothing else of it.
 *
 * @param out  its JSON, at most ATTACHMENT_MAX bytes; empty on a fault
 * @return     NULL, or what is wrong with which member: "Url: expected ..."
 */
const char *attachment_read(
    const struct json_object *object, const struct conf *conf, struct buf *out);

#endif
