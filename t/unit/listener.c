/*
 * listener.c - units of src/net/listener.c.
 *
 * Role:    addresses, port 0, shared ports, and what errors say.
 * Process: the test.
 * Blocks:  never.
 * Trust:   not applicable.
 * See:     src/net/net.h.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/net.h"

static int
try_bind(const char *address, uint16_t *port)
{
	char error[256] = "";
	int fd = listener_bind(address, port, error, sizeof(error));

	assert_int_equal(fd < 0, error[0] != '\0');
	if (fd < 0)
		assert_non_null(strstr(error, address));
	return fd;
}

static void
test_workers_share_a_chosen_port(void **state)
{
	static const char *const addresses[] = {
	    "127.0.0.1:0", "localhost:0", "0.0.0.0:0", "*:0"};

	(void)state;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		uint16_t port = 0;
		uint16_t same;
		int first = try_bind(addresses[i], &port);

		assert_true(first >= 0);
		assert_true(port != 0);
		same = port;
		int second = try_bind(addresses[i], &same);
		assert_true(second >= 0);
		assert_int_equal(same, port);
		assert_true(fcntl(first, F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(first, F_GETFD) & FD_CLOEXEC);
		close(first);
		close(second);
	}
}

static void
test_v4_and_v6_side_by_side(void **state)
{
	uint16_t port = 0;
	int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	if (probe < 0) {
		print_message("# no IPv6 here\n");
		skip();
	}
	close(probe);
	int v4 = try_bind("0.0.0.0:0", &port);
	assert_true(v4 >= 0);
	int v6 = try_bind("[::]:0", &port);
	assert_true(v6 >= 0);
	close(v4);
	close(v6);
}

static void
test_bad_addresses_are_named(void **state)
{
	static const char *const addresses[] = {"", "3333", "127.0.0.1",
	    "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1",
	    ":3333", "example.org:80", "::1:3333", "[::1:3333", "[127.0.0.1]:1",
	    "[]:1", "1.2.3:4"};

	(void)state;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		uint16_t port = 0;

		print_message("# \"%s\"\n", addresses[i]);
		assert_int_equal(
		    try_bind(addresses[i], &port), ERR_BAD_REQUEST);
	}
}

static void
test_foreign_address_is_an_io_error(void **state)
{
	uint16_t port = 0;

	(void)state;
	/* TEST-NET-3 (RFC 5737): no machine has it. */
	assert_int_equal(try_bind("203.0.113.1:0", &port), ERR_IO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_workers_share_a_chosen_port),
	    cmocka_unit_test(test_v4_and_v6_side_by_side),
	    cmocka_unit_test(test_bad_addresses_are_named),
	    cmocka_unit_test(test_foreign_address_is_an_io_error),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
