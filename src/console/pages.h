/*
 * pages.h - files of the pages folder.
 */
#ifndef CONSOLE_PAGES_H
#define CONSOLE_PAGES_H

#include "base/buf.h"
#include "base/err.h"

/**
 * Read one file below folder.
 *
 * @param path      decoded path of the URL, "/" is /index.html
 * @param out       the file's bytes are appended
 * @param type_out  its Content-Type, static
 * @return          0, ERR_NOT_FOUND (also: hidden, a link, no file, unknown
 *                  type), ERR_TOO_LARGE, ERR_IO
 */
NODISCARD int pages_read(const char *folder, const char *path, struct buf *out,
    const char **type_out);

#endif
