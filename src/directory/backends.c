/*
 * backends.c - which back end the process runs with.
 *
 * Role:    the table of backends.def and the choice of the configuration.
 * Process: directory.
 * See:     dir.h (what a back end is), directory.c (the loop).
 */
#include "config.h"

#include <string.h>

#include "base/log.h"
#include "directory/dir.h"
#include "directory/dir_embedded.h"
#include "directory/dir_mssql.h"
#include "directory/directory.h"

static const struct dir_ops *const backends[] = {
#define BACKEND(name, ops) &ops,
#include "directory/backends.def"
#undef BACKEND
};

const struct dir_ops *
directory_backend(const char *name)
{
	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
		if (strcmp(backends[i]->name, name) == 0)
			return backends[i];
	}
	return NULL;
}

int
directory_check(const struct conf *conf, char *error, size_t error_len)
{
	const struct dir_ops *ops = directory_backend(conf->directory_backend);
	const struct conf_check check = {conf, error, error_len};

	if (ops == NULL)
		return conf_refuse(&check, "directory", "backend",
		    "there is no \"%s\"", conf->directory_backend);
	return ops->check != NULL ? ops->check(conf, error, error_len) : 0;
}

int
directory_main(const struct process *process)
{
	const char *name = process->conf->directory_backend;
	const struct dir_ops *ops = directory_backend(name);

	if (ops == NULL)
		fatal("[directory] backend: there is no \"%s\"", name);
	return directory_run(process, ops);
}
