/*
 * network.c - units of src/net/network.c: which texts are networks, and who
 * belongs to them.
 */
#include "net/network.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "net/conn_peer.h"

static struct conn_peer
peer_of(const char *text)
{
	struct conn_peer peer = {0};
	uint8_t address[16];

	if (inet_pton(AF_INET, text, address) == 1)
		conn_peer_set_v4(&peer, address, 1);
	else if (inet_pton(AF_INET6, text, address) == 1)
		conn_peer_set_v6(&peer, address, 1);
	else
		fail_msg("%s", text);
	return peer;
}

static void
what_is_a_network(void **state)
{
	static const char *const good[] = {"0.0.0.0/0", "10.0.0.0/8",
	    "192.0.2.1", "192.0.2.1/32", "192.0.2.128/25", "::/0", "::1",
	    "2001:db8::/32", "2001:DB8::1/128", "::ffff:10.0.0.0/104",
	    "2001:db8:8000::/33"};
	static const char *const bad[] = {"", "/", "/8", "10.0.0.0/",
	    "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/08",
	    "10.0.0.0/8 ", " 10.0.0.0/8", "10.0.0.0/8/8", "10.0.0.0/8x",
	    "10.0.0.1/8", "192.0.2.129/25", "10.0.0/8", "10/8", "010.0.0.1",
	    "0x0a.0.0.1", "10.0.0.256", "example.org", "::1/129", "::1/127",
	    "2001:db8::/16", "::1%lo", "[::1]", "[::1]/128",
	    "::ffff:0.0.0.0/95", "::ffff:10.0.0.1/104", "1.2.3.4:80",
	    "10.0.0.0/255.0.0.0", "any", "10.0.0.0/4294967304",
	    "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb"};
	struct network network;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		const char *wrong = network_parse(good[i], &network);

		if (wrong != NULL)
			fail_msg("\"%s\" %s", good[i], wrong);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (network_parse(bad[i], &network) == NULL)
			fail_msg("\"%s\" is taken for a network", bad[i]);
	}
}

static void
who_belongs_to_it(void **state)
{
	static const struct {
		const char *network;
		const char *in;
		const char *out;
	} cases[] = {
	    {"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
	    {"10.0.0.0/8", "10.0.0.0", "9.255.255.255"},
	    {"192.0.2.128/25", "192.0.2.128", "192.0.2.127"},
	    {"192.0.2.1", "192.0.2.1", "192.0.2.0"},
	    {"128.0.0.0/1", "255.0.0.1", "127.0.0.1"},
	    {"0.0.0.0/0", "255.255.255.255", "::2"},
	    {"::/0", "2001:db8::1", "10.0.0.1"},
	    {"::ffff:10.0.0.0/104", "10.1.2.3", "::a01:203"},
	    {"10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"},
	    {"2001:db8::/32", "2001:db8:ffff::", "2001:db9::"},
	    {"2001:db8:8000::/33", "2001:db8:8000::1", "2001:db8:7fff::1"},
	    {"::1", "::1", "::2"},
	    {"fe80::/10", "febf::1", "fec0::1"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct conn_peer in = peer_of(cases[i].in);
		struct conn_peer out = peer_of(cases[i].out);
		struct networks networks;

		networks_init(&networks, &cases[i].network, 1);
		if (!networks_have(&networks, &in))
			fail_msg("%s has no %s", cases[i].network, cases[i].in);
		if (networks_have(&networks, &out))
			fail_msg("%s has %s", cases[i].network, cases[i].out);
		networks_fini(&networks);
	}
}

static void
of_several_any_counts(void **state)
{
	static const char *const texts[] = {"192.0.2.0/24", "::1"};
	struct conn_peer first = peer_of("192.0.2.77");
	struct conn_peer second = peer_of("::1");
	struct conn_peer nobody = {0};
	struct networks networks;

	(void)state;
	networks_init(&networks, texts, 2);
	assert_true(networks_have(&networks, &first));
	assert_true(networks_have(&networks, &second));
	assert_false(networks_have(&networks, &nobody));
	networks_fini(&networks);
	assert_false(networks_have(&networks, &first));
	assert_false(networks_have(NULL, &first));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_a_network),
	    cmocka_unit_test(who_belongs_to_it),
	    cmocka_unit_test(of_several_any_counts),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
