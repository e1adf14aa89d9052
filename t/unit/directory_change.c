/*
 * directory_change.c - unit test of the directory's P_UPDATE_USER, by way of
 * the keeper, and of records that make no sense.
 */
#include "config.h"

#include "directory_stage.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>

#include "base/count.h"

#define TIMEOUT_MS 150

/* ---- changes ---- */

/* As the keeper: one USER_PUT. @return its number */
static uint64_t
keeper_take(struct stage *stage, uint64_t user, uint32_t flags,
    const char *name, const char *profile)
{
	const struct record_user_put *put;
	struct ring_record record;
	const char *tail;
	uint64_t req;

	stage_next(stage, SLOT_DIRECTORY, &record);
	assert_int_equal(record.type, RECORD_USER_PUT);
	put = (const void *)record.data;
	tail = (const char *)(put + 1);
	assert_int_equal(
	    record.len, sizeof(*put) + strlen(name) + strlen(profile));
	assert_int_equal(put->user, user);
	assert_int_equal(put->flags, flags);
	assert_int_equal(put->name_len, strlen(name));
	assert_int_equal(put->password_len, 0);
	assert_int_equal(put->role_len, 0);
	assert_int_equal(put->profile_len, strlen(profile));
	assert_memory_equal(tail, name, strlen(name));
	assert_memory_equal(tail + strlen(name), profile, strlen(profile));
	req = put->req;
	assert_true(req != 0);
	ring_release(bus_reader(stage->bus, SLOT_DIRECTORY));
	return req;
}

static void
keeper_reply(struct stage *stage, uint64_t req, int rc, uint32_t to_gen)
{
	const struct record_reply reply = {.req = req, .rc = rc};
	struct ring_writer *writer = bus_writer(stage->bus, SLOT_DIRECTORY);

	writer->peer_gen = to_gen;
	assert_int_equal(
	    ring_put(writer, RECORD_REPLY, &reply, sizeof(reply)), 0);
	bus_publish(stage->bus, SLOT_DIRECTORY);
}

static void
the_keeper_makes_the_changes(void **state)
{
	struct stage stage;
	uint64_t numbers[3];

	(void)state;
	stage_open(&stage);
	stage_fill_end(&stage);
	stage_start(&stage, NULL);
	send_update(&stage, 1, 7, "Änne", NULL);
	send_update(&stage, 2, 7, NULL, "{\"City\":\"Ulm\"}");
	send_update(&stage, 3, 8, "Bert", "{}");
	bus_become(stage.bus, SLOT_KEEPER);
	numbers[0] = keeper_take(&stage, 7, USER_PUT_NAME, "Änne", "");
	numbers[1] =
	    keeper_take(&stage, 7, USER_PUT_PROFILE, "", "{\"City\":\"Ulm\"}");
	numbers[2] = keeper_take(
	    &stage, 8, USER_PUT_NAME | USER_PUT_PROFILE, "Bert", "{}");
	keeper_reply(&stage, numbers[0], ERR_IO, 99);    /* to a predecessor */
	keeper_reply(&stage, numbers[2] + 1, ERR_IO, 1); /* nobody asked */
	keeper_reply(&stage, numbers[2], ERR_NOT_FOUND, 1);
	keeper_reply(&stage, numbers[0], 0, 1);
	keeper_reply(&stage, numbers[0], ERR_IO, 1); /* answered already */
	keeper_reply(&stage, numbers[1], ERR_STORAGE_FULL, 1);
	bus_become(stage.bus, WORKER_A);
	assert_int_equal(stage_hear_rc(&stage, 3), ERR_NOT_FOUND);
	assert_int_equal(stage_hear_rc(&stage, 1), 0);
	assert_int_equal(stage_hear_rc(&stage, 2), ERR_STORAGE_FULL);
	assert_int_equal(stage_counter(&stage, COUNTER_errors_logged), 0);
	stage_close(&stage);
}

static void
changes_wait_for_room_at_the_keeper(void **state)
{
	enum { CHANGES = 128 }; /* 122 of them fit in the ring */
	char profile[PROFILE_MAX + 1];
	struct stage stage;

	(void)state;
	memset(profile, ' ', PROFILE_MAX);
	profile[0] = '{';
	profile[PROFILE_MAX - 1] = '}';
	profile[PROFILE_MAX] = '\0';
	stage_open(&stage);
	stage_fill_end(&stage);
	stage_start(&stage, NULL);
	for (uint64_t req = 1; req <= CHANGES / 2; req++)
		send_update(&stage, req, req, "Anna", profile);
	bus_become(stage.bus, WORKER_B);
	for (uint64_t req = CHANGES / 2 + 1; req <= CHANGES; req++)
		send_update(&stage, req, req, "Anna", profile);
	bus_become(stage.bus, SLOT_KEEPER);
	for (int i = 0; i < CHANGES; i++) {
		struct ring_record record;
		const struct record_user_put *put;

		stage_next(&stage, SLOT_DIRECTORY, &record);
		put = (const void *)record.data;
		keeper_reply(&stage, put->req, 0, 1);
	}
	ring_release(bus_reader(stage.bus, SLOT_DIRECTORY));
	bus_become(stage.bus, WORKER_A);
	for (uint64_t req = 1; req <= CHANGES / 2; req++)
		assert_int_equal(stage_hear_rc(&stage, req), 0);
	bus_become(stage.bus, WORKER_B);
	for (uint64_t req = CHANGES / 2 + 1; req <= CHANGES; req++)
		assert_int_equal(stage_hear_rc(&stage, req), 0);
	stage_close(&stage);
}

static void
a_silent_keeper_is_not_waited_for(void **state)
{
	struct stage stage;
	uint64_t number;

	(void)state;
	stage_open(&stage);
	stage_fill_end(&stage);
	stage.conf->directory_request_timeout = TIMEOUT_MS;
	stage_start(&stage, NULL);
	send_update(&stage, 1, 7, "Anna", NULL);
	assert_int_equal(stage_hear_rc(&stage, 1), ERR_UNAVAILABLE);
	bus_become(stage.bus, SLOT_KEEPER);
	number = keeper_take(&stage, 7, USER_PUT_NAME, "Anna", "");
	keeper_reply(&stage, number, 0, 1);
	bus_become(stage.bus, WORKER_A);
	send_update(&stage, 2, 7, "Anna", NULL);
	assert_int_equal(stage_hear_rc(&stage, 2), ERR_UNAVAILABLE);
	stage_close(&stage);
}

/* ---- nonsense ---- */

static void
send_nonsense_update(struct stage *stage)
{
	static const struct {
		uint64_t user;
		uint32_t flags;
		const char *name;
		const char *profile;
	} rows[] = {
	    {0, USER_PUT_NAME, "Anna", ""},
	    {USER_ID_MAX + 1, USER_PUT_NAME, "Anna", ""},
	    {7, 0, "", ""},
	    {7, USER_PUT_NAME, "", ""},
	    {7, USER_PUT_NAME, "Anna", "{}"},
	    {7, USER_PUT_PROFILE, "Anna", "{}"},
	    {7, USER_PUT_PROFILE, "", "[]"},
	    {7, USER_PUT_PROFILE, "", "{"},
	    {7, USER_PUT_PROFILE, "", "{\"a\":\"\xff\"}"},
	    {7, USER_PUT_NAME, "\xc3", ""},
	    {7, USER_PUT_NAME | USER_PUT_ROLE, "Anna", ""},
	    {7, USER_PUT_REMOVE, "", ""},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct record_dir_update head = {
		    .req = 500 + i,
		    .user = rows[i].user,
		    .flags = rows[i].flags,
		    .name_len = (uint16_t)strlen(rows[i].name),
		    .profile_len = (uint16_t)strlen(rows[i].profile),
		};
		char data[128];

		memcpy(data, &head, sizeof(head));
		memcpy(data + sizeof(head), rows[i].name, head.name_len);
		memcpy(data + sizeof(head) + head.name_len, rows[i].profile,
		    head.profile_len);
		stage_send(stage, RECORD_DIR_UPDATE, data,
		    sizeof(head) + head.name_len + head.profile_len);
		assert_int_equal(
		    stage_hear_rc(stage, 500 + i), ERR_BAD_REQUEST);
	}
}

static void
nonsense_is_refused_and_no_more(void **state)
{
	static const uint16_t types[] = {RECORD_DIR_HISTORY,
	    RECORD_DIR_PASSWORD, RECORD_DIR_UPDATE, RECORD_DIR_USER,
	    RECORD_DIR_USERS, RECORD_TYPING, RECORD_SEND, 999};
	struct record_dir_password password = {
	    .req = 300, .name_len = 1, .password_len = UINT32_MAX};
	struct record_dir_history history = {.req = 301, .limit = 50};
	struct stage stage;
	uint64_t req = 1;

	(void)state;
	stage_open(&stage);
	stage_add_user(&stage, 7, "Anna", NULL, NULL);
	stage_fill_end(&stage);
	stage_start(&stage, NULL);
	/* Each type at each length short of whole. */
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		size_t whole = record_min_len(types[i]);

		for (size_t len = 0; len < whole && len < 80; len++) {
			uint8_t data[80] = {0};

			memcpy(data, &req, sizeof(req));
			stage_send(&stage, types[i], data, len);
			if (len < sizeof(req))
				continue; /* nobody to be told */
			assert_int_equal(
			    stage_hear_rc(&stage, req++), ERR_BAD_REQUEST);
		}
	}
	send_user(&stage, 200, 7, 0);
	assert_int_equal(stage_hear_rc(&stage, 200), ERR_BAD_REQUEST);
	send_user(&stage, 201, 0, 7);
	assert_int_equal(stage_hear_rc(&stage, 201), ERR_BAD_REQUEST);
	send_user(&stage, 202, 7, UINT64_MAX);
	assert_int_equal(stage_hear_rc(&stage, 202), ERR_BAD_REQUEST);
	send_users(&stage, 203, 7, UINT64_MAX, 10);
	assert_int_equal(stage_hear_rc(&stage, 203), ERR_BAD_REQUEST);
	send_users(&stage, 204, 7, 0, 0);
	assert_int_equal(stage_hear_rc(&stage, 204), ERR_BAD_REQUEST);
	send_users(&stage, 205, 7, 0, DIR_LIST_MAX + 1);
	assert_int_equal(stage_hear_rc(&stage, 205), ERR_BAD_REQUEST);
	stage_send(&stage, RECORD_DIR_PASSWORD, &password, sizeof(password));
	assert_int_equal(stage_hear_rc(&stage, 300), ERR_AUTH_FAILED);
	password.password_len = 1;
	stage_send(&stage, RECORD_DIR_PASSWORD, &password, sizeof(password));
	assert_int_equal(stage_hear_rc(&stage, 300), ERR_BAD_REQUEST);
	stage_send(&stage, RECORD_DIR_HISTORY, &history, sizeof(history));
	assert_int_equal(stage_hear_rc(&stage, 301), ERR_BAD_REQUEST);
	send_nonsense_update(&stage);
	assert_true(stage_counter(&stage, COUNTER_errors_logged) > 0);
	/* It still knows what makes sense. */
	send_user(&stage, 999, 7, 7);
	assert_int_equal(stage_hear_rc(&stage, 999), 0);
	assert_true(stage_is_silent(&stage));
	stage_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_keeper_makes_the_changes),
	    cmocka_unit_test(changes_wait_for_room_at_the_keeper),
	    cmocka_unit_test(a_silent_keeper_is_not_waited_for),
	    cmocka_unit_test(nonsense_is_refused_and_no_more),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
