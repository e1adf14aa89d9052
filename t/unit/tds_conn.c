/*
 * tds_conn.c - unit test of tds/ against a server that misbehaves: what comes
 * back is whole or an error, in time, and never the server's text.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tds/tds.h"
#include "tds_stage.h"

#define PATIENCE_MS 10000
#define SHORT_MS    300
#define LATE_MS     2000 /* a busy machine */

static struct tds_stage *stage;

static int
stage_up(void **state)
{
	(void)state;
	stage = tds_stage_new();
	return 0;
}

static int
stage_down(void **state)
{
	(void)state;
	tds_stage_free(&stage);
	return 0;
}

static int
connect_to(const char *host, enum tds_encryption encryption,
    const char *ca_file, struct tds_conn **conn, struct tds_error *error)
{
	const struct tds_target target = {
	    .host = host,
	    .port = tds_stage_port(stage),
	    .database = "chat",
	    .user = "parley",
	    .password = "not in the clear",
	    .encryption = encryption,
	    .ca_file = ca_file,
	    .connect_timeout_ms = 1000,
	};
	struct tds_server *server;
	char text[200];
	int rc;

	assert_int_equal(
	    tds_server_new(&target, &server, text, sizeof(text)), 0);
	rc = tds_connect(server, conn, error);
	tds_server_free(&server);
	return rc;
}

static int
connect_as(enum tds_encryption encryption, struct tds_conn **conn,
    struct tds_error *error)
{
	return connect_to("127.0.0.1", encryption, NULL, conn, error);
}

static struct tds_conn *
connected(void)
{
	struct tds_conn *conn = NULL;
	struct tds_error error;

	assert_int_equal(connect_as(TDS_ENCRYPT_OFF, &conn, &error), 0);
	return conn;
}

static int
call_for(struct tds_conn *conn, const char *procedure, int64_t ms)
{
	return tds_call(conn, &(struct tds_call){.procedure = procedure,
				  .deadline_ms = clock_mono_ms() + ms});
}

static void
a_row_is_read_by_names_and_types(void **state)
{
	struct tds_conn *conn = connected();
	const char *text;
	size_t len;
	int64_t id;
	bool is_null;

	(void)state;
	assert_int_equal(call_for(conn, "Number", PATIENCE_MS), 0);
	assert_int_equal(tds_next_row(conn), 0);
	assert_int_equal(tds_get_i64(conn, "iD", &id), 0);
	assert_int_equal(id, 7);
	assert_int_equal(tds_get_text(conn, "Name", &text, &len), 0);
	assert_int_equal(len, 3);
	assert_memory_equal(text,
	    "\xc3\xa4"
	    "b",
	    3);
	assert_int_equal(tds_get_is_null(conn, "Gone", &is_null), 0);
	assert_true(is_null);
	assert_true(tds_has_column(conn, "Gone"));
	assert_false(tds_has_column(conn, "Nowhere"));
	assert_int_equal(tds_next_row(conn), ERR_NOT_FOUND);
	assert_int_equal(tds_finish(conn, 0), 0);
	assert_int_equal(tds_status(conn), 3);
	assert_true(tds_is_usable(conn));
	tds_close(&conn);
}

static void
missing_null_and_wrong_are_errors_that_name_the_column(void **state)
{
	static const struct {
		const char *column;
		const char *what;
	} wrong[] = {
	    {"Nowhere", "Nowhere is missing in the result"},
	    {"Gone", "Gone is NULL"},
	    {"Name", "Name is no whole number"},
	};
	struct tds_conn *conn = connected();
	int64_t id;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int rc = call_for(conn, "Number", PATIENCE_MS);

		assert_int_equal(rc, 0);
		assert_int_equal(tds_next_row(conn), 0);
		rc = tds_get_i64(conn, wrong[i].column, &id);
		assert_int_equal(tds_finish(conn, rc), ERR_SERVER_ERROR);
		assert_string_equal(tds_error(conn)->what, wrong[i].what);
		assert_string_equal(tds_error(conn)->procedure, "Number");
		assert_true(tds_is_usable(conn));
	}
	tds_close(&conn);
}

static void
result_sets_come_one_after_the_other(void **state)
{
	struct tds_conn *conn = connected();
	int64_t number;

	(void)state;
	assert_int_equal(call_for(conn, "Two", PATIENCE_MS), 0);
	assert_int_equal(tds_next_row(conn), 0);
	assert_int_equal(tds_get_i64(conn, "A", &number), 0);
	assert_int_equal(tds_next_result(conn), 0);
	assert_int_equal(tds_next_row(conn), 0);
	assert_int_equal(tds_get_i64(conn, "B", &number), 0);
	assert_int_equal(number, 2);
	assert_int_equal(tds_next_result(conn), ERR_NOT_FOUND);
	assert_int_equal(tds_finish(conn, 0), 0);
	/* Unread ones are dropped, not met by the next call. */
	assert_int_equal(call_for(conn, "Two", PATIENCE_MS), 0);
	assert_int_equal(call_for(conn, "Number", PATIENCE_MS), 0);
	assert_int_equal(tds_next_row(conn), 0);
	assert_int_equal(tds_get_i64(conn, "Id", &number), 0);
	assert_int_equal(tds_finish(conn, 0), 0);
	tds_close(&conn);
}

static int
echo(struct tds_conn *conn, const char *text, size_t len)
{
	const struct tds_param param = tds_text("Text", text, len);
	const char *back;
	size_t back_len;
	int rc;

	rc = tds_call(conn, &(struct tds_call){"Echo", &param, 1,
				clock_mono_ms() + PATIENCE_MS});
	if (rc == 0)
		rc = tds_next_row(conn);
	if (rc == 0)
		rc = tds_get_text(conn, "Text", &back, &back_len);
	if (rc == 0) {
		assert_int_equal(back_len, len);
		assert_memory_equal(back, text, len);
	}
	return tds_finish(conn, rc);
}

static void
text_arrives_byte_for_byte(void **state)
{
	static const char *const texts[] = {"'; DROP TABLE Users; --",
	    "\"]})\\\r\n\t%s%n@Text", "\xd9\x85\xd8\xb1\xd8\xad",
	    "\xf0\x9f\x98\x80\xe2\x80\x8d", "\xef\xbf\xbf\xef\xbb\xbf",
	    "\x01\x7f\xc2\x80", " "};
	static const size_t lengths[] = {
	    3996, 4000, 4004, 7996, 8000, 8004, 65536, 3000000};
	struct tds_conn *conn = connected();

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(echo(conn, texts[i], strlen(texts[i])), 0);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		char *text = xcalloc(lengths[i], 1);

		for (size_t at = 0; at < lengths[i]; at += 4)
			memcpy(text + at, "\xf0\x9f\x98\x80", 4);
		assert_int_equal(echo(conn, text, lengths[i]), 0);
		free(text);
	}
	tds_close(&conn);
}

static void
what_is_no_text_is_refused_before_it_is_sent(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		const char *what;
	} bad[] = {
	    {"\xed\xa0\x80", 3, "Text is no UTF-8"}, /* lone surrogate */
	    {"\xc0\xaf", 2, "Text is no UTF-8"},     /* overlong */
	    {"a\xe2\x82", 3, "Text is no UTF-8"},    /* torn */
	    {"a\0b", 3, "Text has a NUL character"},
	};
	struct tds_conn *conn = connected();
	unsigned calls = tds_stage_calls(stage);

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(
		    echo(conn, bad[i].text, bad[i].len), ERR_BAD_REQUEST);
		assert_string_equal(tds_error(conn)->what, bad[i].what);
	}
	assert_int_equal(tds_stage_calls(stage), calls);
	assert_int_equal(echo(conn, "well", 4), 0);
	tds_close(&conn);
}

static void
errors_are_numbers_without_text(void **state)
{
	struct tds_conn *conn = connected();
	char text[512];

	(void)state;
	assert_int_equal(call_for(conn, "Error1205", PATIENCE_MS), ERR_AGAIN);
	assert_int_equal(tds_error(conn)->class, TDS_CLASS_RETRY_NOW);
	assert_int_equal(tds_error(conn)->number, 1205);
	assert_int_equal(tds_error(conn)->line, 12);
	assert_string_equal(tds_error(conn)->procedure, "Inner");
	tds_error_text(tds_error(conn), text, sizeof(text));
	assert_null(strstr(text, "patient"));
	assert_true(tds_is_usable(conn));
	assert_int_equal(
	    call_for(conn, "Error547", PATIENCE_MS), ERR_BAD_REQUEST);
	assert_int_equal(call_for(conn, "Number", PATIENCE_MS), 0);
	assert_int_equal(tds_finish(conn, 0), 0);
	assert_int_equal(tds_error(conn)->class, TDS_CLASS_NONE);
	tds_close(&conn);
}

static void
a_call_ends_at_its_deadline(void **state)
{
	static const char *const procedures[] = {"Hang", "Drip"};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct tds_conn *conn = connected();
		int64_t began_ms = clock_mono_ms();
		int64_t took_ms;

		assert_int_equal(
		    call_for(conn, procedures[i], SHORT_MS), ERR_TIMEOUT);
		took_ms = clock_mono_ms() - began_ms;
		assert_in_range(took_ms, SHORT_MS, LATE_MS);
		assert_int_equal(tds_error(conn)->class, TDS_CLASS_LOST);
		assert_string_equal(tds_error(conn)->what, "no answer in time");
		assert_false(tds_is_usable(conn));
		assert_int_not_equal(call_for(conn, "Number", SHORT_MS), 0);
		tds_close(&conn);
	}
}

static void
a_reset_in_a_row_is_lost_and_not_a_short_row(void **state)
{
	struct tds_conn *conn = connected();
	int rc;

	(void)state;
	rc = call_for(conn, "Reset", PATIENCE_MS);
	while (rc == 0)
		rc = tds_next_row(conn);
	rc = tds_finish(conn, rc == ERR_NOT_FOUND ? 0 : rc);
	assert_int_equal(rc, ERR_TIMEOUT);
	assert_int_equal(tds_error(conn)->class, TDS_CLASS_LOST);
	assert_false(tds_is_usable(conn));
	tds_close(&conn);
}

static void
a_connection_that_was_cut_is_seen_without_a_call(void **state)
{
	struct tds_conn *conn = connected();

	(void)state;
	assert_true(tds_is_usable(conn));
	tds_stage_cut(stage);
	for (int64_t until = clock_mono_ms() + PATIENCE_MS;
	     tds_is_usable(conn) && clock_mono_ms() < until;)
		;
	assert_false(tds_is_usable(conn));
	tds_close(&conn);
}

static void
no_password_goes_out_in_the_clear_against_our_will(void **state)
{
	static const enum tds_encryption wanted[] = {
	    TDS_ENCRYPT_REQUIRE, TDS_ENCRYPT_VERIFY};
	struct tds_conn *conn = NULL;
	struct tds_error error;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		assert_int_not_equal(connect_as(wanted[i], &conn, &error), 0);
		assert_null(conn);
		assert_int_equal(error.class, TDS_CLASS_RETRY);
	}
	assert_int_equal(tds_stage_connections(stage), 2);
	assert_int_equal(tds_stage_logins(stage), 0);
}

static void
a_certificate_is_good_for_one_name_and_one_authority(void **state)
{
	struct tds_stage *other = tds_stage_new();
	struct tds_conn *conn = NULL;
	struct tds_error error;

	(void)state;
	tds_stage_set(stage, TDS_MOOD_TLS);
	assert_int_equal(connect_to("localhost", TDS_ENCRYPT_VERIFY,
			     tds_stage_ca(stage), &conn, &error),
	    0);
	assert_int_equal(echo(conn, "through TLS", 11), 0);
	tds_close(&conn);
	assert_int_equal(tds_stage_logins(stage), 1);
	assert_int_not_equal(connect_to("127.0.0.1", TDS_ENCRYPT_VERIFY,
				 tds_stage_ca(stage), &conn, &error),
	    0);
	assert_int_not_equal(connect_to("localhost", TDS_ENCRYPT_VERIFY,
				 tds_stage_ca(other), &conn, &error),
	    0);
	assert_int_not_equal(
	    connect_to("localhost", TDS_ENCRYPT_VERIFY, NULL, &conn, &error),
	    0);
	assert_int_equal(tds_stage_logins(stage), 1);
	assert_int_equal(connect_as(TDS_ENCRYPT_REQUIRE, &conn, &error), 0);
	tds_close(&conn);
	tds_stage_free(&other);
}

static void
who_ends_the_encryption_after_the_login_is_not_talked_to(void **state)
{
	struct tds_conn *conn = NULL;
	struct tds_error error;

	(void)state;
	tds_stage_set(stage, TDS_MOOD_TLS_DROP);
	assert_int_equal(connect_to("localhost", TDS_ENCRYPT_VERIFY,
			     tds_stage_ca(stage), &conn, &error),
	    ERR_SERVER_ERROR);
	assert_null(conn);
	assert_int_equal(tds_stage_logins(stage), 1);
	assert_int_equal(error.class, TDS_CLASS_BAD_SETUP);
	assert_string_equal(
	    error.what, "the server has ended the encryption after the login");
}

static void
a_server_that_says_nothing_is_left_in_time(void **state)
{
	static const enum tds_mood moods[] = {
	    TDS_MOOD_SILENT, TDS_MOOD_TLS_HANG};
	struct tds_conn *conn = NULL;
	struct tds_error error;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		int64_t began_ms = clock_mono_ms();

		tds_stage_set(stage, moods[i]);
		assert_int_not_equal(
		    connect_as(TDS_ENCRYPT_REQUIRE, &conn, &error), 0);
		assert_null(conn);
		assert_in_range(
		    clock_mono_ms() - began_ms, 900, 1000 + LATE_MS);
	}
}

static void
a_refused_login_is_told_from_an_outage(void **state)
{
	struct tds_conn *conn = NULL;
	struct tds_error error;

	(void)state;
	tds_stage_set(stage, TDS_MOOD_REFUSE);
	assert_int_equal(
	    connect_as(TDS_ENCRYPT_OFF, &conn, &error), ERR_FORBIDDEN);
	assert_int_equal(error.class, TDS_CLASS_LOGIN);
	assert_int_equal(error.number, 18456);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_up, stage_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_row_is_read_by_names_and_types),
	    TEST(missing_null_and_wrong_are_errors_that_name_the_column),
	    TEST(result_sets_come_one_after_the_other),
	    TEST(text_arrives_byte_for_byte),
	    TEST(what_is_no_text_is_refused_before_it_is_sent),
	    TEST(errors_are_numbers_without_text),
	    TEST(a_call_ends_at_its_deadline),
	    TEST(a_reset_in_a_row_is_lost_and_not_a_short_row),
	    TEST(a_connection_that_was_cut_is_seen_without_a_call),
	    TEST(no_password_goes_out_in_the_clear_against_our_will),
	    TEST(a_certificate_is_good_for_one_name_and_one_authority),
	    TEST(who_ends_the_encryption_after_the_login_is_not_talked_to),
	    TEST(a_server_that_says_nothing_is_left_in_time),
	    TEST(a_refused_login_is_told_from_an_outage),
	};
	int failed;

	/* Neither may have a say in where we connect to. */
	setenv("TDSHOST", "192.0.2.1", 1);
	setenv("TDSPORT", "1", 1);
	if (tds_start() != 0)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	tds_stop();
	return failed;
}
