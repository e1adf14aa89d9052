/*
 * ctl_reload.c - verbs for the configuration that is in force.
 *
 * Role:    orders a reload and says what it did; shows what is in force.
 * Process: parleyctl.
 * Blocks:  until the processes that go on have noticed.
 * Trust:   the supervisor's answer is only printed.
 * See:     supervisor/command.h (the answer's form).
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "ctl/ctl_priv.h"
#include "shm/settings.h"

#define LOOK_EVERY_MS    20
#define FOLLOW_WITHIN_MS 5000 /* processes beat each second */

/* What the supervisor says of a reload, and how it is told to people. */
static const struct {
	const char *word; /* as in command.h */
	const char *json;
	const char *text;
} reload_lines[] = {
    {"now", "applied", "applied"},
    {"successors", "by_new_processes", "applied by new processes"},
    {"restart", "needs_restart", "needs a restart, the old value stays"},
};

/* The rest of the line that begins with word; NULL: none. */
static const char *
line_of(const char *reply, const char *word, size_t *len_out)
{
	size_t len = strlen(word);

	for (const char *at = strchr(reply, '\n'); at != NULL;
	     at = strchr(at, '\n')) {
		at++;
		if (strncmp(at, word, len) != 0 ||
		    strchr(" \n", at[len]) == NULL)
			continue;
		at += len + (at[len] == ' ' ? 1 : 0);
		*len_out = strcspn(at, "\n");
		return at;
	}
	return NULL;
}

static void
put_names(struct buf *json, const char *names, size_t len)
{
	json_array_begin(json);
	while (len > 0) {
		size_t word = 0;

		while (word < len && names[word] != ' ')
			word++;
		json_string(json, names, word);
		word += word < len ? 1 : 0;
		names += word;
		len -= word;
	}
	json_array_end(json);
}

static void
say_reloaded(const struct ctl *ctl, const char *reply)
{
	struct buf json = {0};
	bool is_rolling;
	size_t len = 0;

	is_rolling = line_of(reply, "rolling", &len) != NULL;
	json_object_begin(&json);
	json_put_bool(&json, "ok", true);
	for (size_t i = 0; i < sizeof(reload_lines) / sizeof(reload_lines[0]);
	     i++) {
		const char *names = line_of(reply, reload_lines[i].word, &len);

		json_key(&json, reload_lines[i].json);
		put_names(&json, names, names != NULL ? len : 0);
		if (names != NULL && !ctl->wants_json)
			printf("%s: %.*s\n", reload_lines[i].text, (int)len,
			    names);
	}
	json_put_bool(&json, "replacing", is_rolling);
	json_object_end(&json);
	if (ctl->wants_json)
		printf("%.*s\n", (int)json.len, json.data);
	else if (is_rolling)
		puts("processes are being replaced, one at a time");
	else if (strchr(reply, '\n') == NULL)
		puts("nothing has changed");
	buf_fini(&json);
}

/* Those that go on take a second to notice. */
static void
await_followers(struct ctl *ctl)
{
	int64_t deadline_ms = clock_mono_ms() + FOLLOW_WITHIN_MS;
	struct board *board = NULL;

	if (board_open(ctl->conf->server_run_dir, &board) != 0)
		return;
	while (!settings_are_everywhere(board) && clock_mono_ms() < deadline_ms)
		ctl_sleep_ms(LOOK_EVERY_MS);
	board_close(&board);
}

int
ctl_reload(struct ctl *ctl)
{
	char reply[CTL_REPLY_MAX];
	int code = ctl_order(ctl, "reload", reply);

	if (code != CTL_OK)
		return code;
	await_followers(ctl);
	say_reloaded(ctl, reply);
	return CTL_OK;
}

/* ---- what is in force ---- */

/* "[section]" and "key = value" lines into "section.key": "value". */
static void
put_settings(struct buf *json, const char *text)
{
	char name[96];
	char section[48] = "";

	while (*text != '\0') {
		size_t len = strcspn(text, "\n");
		const char *value = memchr(text, '=', len);

		if (*text == '[') {
			snprintf(section, sizeof(section), "%.*s",
			    (int)strcspn(text + 1, "]"), text + 1);
		} else if (value != NULL) {
			bool is_hidden = strncmp(text, "; ", 2) == 0;
			const char *key = text + (is_hidden ? 2 : 0);
			size_t key_len = (size_t)(value - key);

			while (key_len > 0 && key[key_len - 1] == ' ')
				key_len--;
			snprintf(name, sizeof(name), "%s.%.*s", section,
			    (int)key_len, key);
			value++;
			value += *value == ' ' ? 1 : 0;
			json_key(json, name);
			json_string(json, value, len - (size_t)(value - text));
		}
		text += len;
		text += *text == '\n' ? 1 : 0;
	}
}

int
ctl_settings(struct ctl *ctl)
{
	char reply[CTL_REPLY_MAX];
	struct buf json = {0};
	const char *text;
	int code = ctl_order(ctl, "settings", reply);

	if (code != CTL_OK)
		return code;
	text = strchr(reply, '\n');
	text = text != NULL ? text + 1 : "";
	if (!ctl->wants_json) {
		fputs(text, stdout);
		return CTL_OK;
	}
	json_object_begin(&json);
	json_put_bool(&json, "ok", true);
	json_key(&json, "settings");
	json_object_begin(&json);
	put_settings(&json, text);
	json_object_end(&json);
	json_object_end(&json);
	printf("%.*s\n", (int)json.len, json.data);
	buf_fini(&json);
	return CTL_OK;
}
