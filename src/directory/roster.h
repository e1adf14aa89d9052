/*
 * roster.h - the store's users and lists as a remote back end has them.
 *
 * Everything here decides by the store: who may log in, who is written to, who
 * sees whom; and it must not wait for a database. So what the back end says of
 * users is put into the store by the keeper, as it comes by: pages of lists,
 * single users. And of whom the store knows nothing, the back end is asked
 * (DIR_LEARN) before anybody is told that there is no such user.
 *
 * One thread compares what was said with the store; the keeper gets what
 * differs, in rounds: what one round has put is there before the next one is
 * compared, so that what was said last is what stays.
 */
#ifndef DIRECTORY_ROSTER_H
#define DIRECTORY_ROSTER_H

#include "directory/cache.h"
#include "directory/dir.h"

struct roster;

/**
 * @param host     with a store; must live longer, as the others
 * @param ops      is_remote
 * @param out      has the back end's cache in it
 * @return         0, ERR_IO: no thread
 */
NODISCARD int roster_new(const struct dir_host *host, const struct dir_ops *ops,
    struct dir_backend *backend, struct roster **out);
/** As ops->run: through the cache to the back end; LEARN is answered here. */
void roster_run(
    struct roster *roster, struct dir_request *request, dir_done_fn done);
/** Two people's contact has changed by what was done here. */
void roster_contact_changed(
    struct roster *roster, const struct record_contact_news *news);
/** dir_host's changed. @param ctx  the roster */
void roster_user_changed(void *ctx, uint64_t user);
/** @return true: it was for the roster */
bool roster_reply(struct roster *roster, const struct record_reply *reply);
/** Once per turn of the loop. @return true: it waits for room in a ring */
bool roster_turn(struct roster *roster);
/**
 * Before the back end is closed: nothing more is put, who waits for it is
 * told ERR_UNAVAILABLE (who waits for the back end: by its close).
 *
 * @return  false: the thread is stuck and keeps the roster
 */
bool roster_stop(struct roster *roster, int64_t until_ms);
/** After the back end has given everything back. */
void roster_free(struct roster **roster);

#endif
