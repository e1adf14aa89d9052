/*
 * options.h - the command line of parleyload as one struct.
 */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define OPTION_TYPE_COUNT uint64_t
#define OPTION_TYPE_FLAG  bool
#define OPTION_TYPE_RATE  double
#define OPTION_TYPE_TEXT  const char *
#define OPTION_TYPE_TIME  int64_t

/* Unanswered sends a device may have; protocol.md, Retries. */
#define OPTIONS_WINDOW_MAX 64

enum options_scenario {
	SCENARIO_CONNECT,
	SCENARIO_GROUPS,
	SCENARIO_HANDSHAKES,
	SCENARIO_OFFLINE,
	SCENARIO_PAIRS,
	SCENARIO_PRESENCE,
};

struct options {
	enum options_scenario scenario;
#define OPTION(field, name, type, scenarios, def, min, max, arg, help)         \
	OPTION_TYPE_##type field;
#include "load/options.def"
#undef OPTION
	char host[256]; /* from url */
	char port[8];
	char path[512];
	char *secret_text; /* owned: from secret or secret_file */
};

/**
 * @param error  one line for people; never the secret
 * @return       0, or ERR_BAD_REQUEST (usage), ERR_IO (secret file)
 */
NODISCARD int options_parse(struct options *options, int argc, char **argv,
    char *error, size_t error_len);
void options_fini(struct options *options);
/** Users for each of --count. */
uint64_t options_users_per(const struct options *options);
/** Senders and receivers, as opposed to single connections. */
bool options_is_paired(const struct options *options);
const char *options_scenario_name(enum options_scenario scenario);
void options_print_help(FILE *out);

#endif
