/*
 * mssql_pool_fake.h - mssql_pool.h without threads and servers.
 */
#ifndef T_UNIT_MSSQL_POOL_FAKE_H
#define T_UNIT_MSSQL_POOL_FAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "directory/mssql_pool.h"

struct fake_pool {
	bool is_away;                     /* refuses all */
	unsigned places[MSSQL_PLACE_END]; /* jobs that were run, by place */
};

extern struct fake_pool fake_pool;

/** Run what waits. @param conn  NULL: nobody is reached. @return how many */
size_t fake_pool_run(struct tds_conn *conn);

#endif
