/*
 * store_mark.h - what is known of a store besides the store: small files
 * beside main.mdb.
 *
 *   store-made     there is, or has been, a store in this folder
 *   store-damaged  it was set aside: its new name, and what was found
 *   last-backup    when and where the newest backup was made
 *
 * With one of the first two and without a main.mdb nobody makes an empty one:
 * parleyctl restore does, when somebody says so.
 */
#ifndef SHM_STORE_MARK_H
#define SHM_STORE_MARK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define STORE_MAIN_FILE     "main.mdb"
#define STORE_MARK_TEXT_MAX 512
#define STORE_ASIDE_MAX     64 /* a name in the folder */

/**
 * May the store in folder be opened, or made if there is none?
 *
 * @param why  one line: what is wrong, and what to do
 * @return     0, ERR_CORRUPT: it was set aside, ERR_NOT_FOUND: it has vanished
 */
NODISCARD int store_mark_judge(const char *folder, char *why, size_t why_len);
/** There is a store now. @return 0 or ERR_IO */
NODISCARD int store_mark_made(const char *folder);
/**
 * Give the store another name and leave word of it: first the word, so that at
 * no moment somebody finds neither.
 *
 * @param finding    the first damage, one line without anybody's data
 * @param aside_out  the new name, STORE_ASIDE_MAX bytes
 * @return           0, ERR_IO (errno): it could not be moved, the word is left
 */
NODISCARD int store_mark_set_aside(
    const char *folder, const char *finding, int64_t now_ms, char *aside_out);
/** A sound store is in place. @return 0 or ERR_IO */
NODISCARD int store_mark_restored(const char *folder);
/** Somebody wants an empty one. @return 0 or ERR_IO */
NODISCARD int store_mark_forget(const char *folder);

/** A backup is complete. @return 0 or ERR_IO */
NODISCARD int store_mark_backup(
    const char *folder, const char *place, int64_t now_ms);
/**
 * What to do about a store that is gone, as words for a log.
 *
 * @param text  STORE_MARK_TEXT_MAX bytes
 */
void store_mark_advise(const char *folder, char *text);

#endif
