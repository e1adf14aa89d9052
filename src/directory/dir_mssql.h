/*
 * dir_mssql.h - the back end whose users and records are in SQL Server.
 */
#ifndef DIRECTORY_DIR_MSSQL_H
#define DIRECTORY_DIR_MSSQL_H

#include "directory/dir.h"

extern const struct dir_ops dir_mssql_ops;

#endif
