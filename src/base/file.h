/*
 * file.h - files and folders of the server, opened with care and made to stay.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>

/**
 * Open, or make, a plain file of one name for reading and writing; the folder
 * may belong to somebody else, so links are not followed.
 *
 * @return descriptor, or -1 with errno (EINVAL: it is something else)
 */
int file_open_plain(const char *path);
/** Could this process open so many files more? */
bool file_may_open(int count);
/** Names in a folder survive a power cut. @return 0, or -1 with errno */
int file_sync_folder(const char *path);

#endif
