/*
 * tls_handover.c - from OpenSSL's handshake to the keys of tls_record.c.
 *
 * Role:    gathers, while OpenSSL works, the traffic secrets (key log
 *          callback) and how many records the final keys have been used for
 *          (message callback); makes struct tls_keys of it.
 * Process: worker.
 * Blocks:  never.
 * Trust:   what OpenSSL has accepted. A version or suite that is not ours, or
 *          a missing secret, ends the connection.
 * See:     tls_record.h; RFC 8446 7, SSL_CTX_set_keylog_callback(3).
 */
#include "net/tls_priv.h"

#include <string.h>

#include <openssl/ssl.h>

#include "base/mem.h"

#define RANDOM_LEN   32
#define MASTER_LEN   48
#define MESSAGE_DONE 20 /* Finished, RFC 8446 4 */

static const struct {
	uint16_t id; /* IANA, TLS Cipher Suites */
	uint8_t aead;
	bool uses_sha384;
} suites[] = {
    {0x1301, TLS_AES_128_GCM, false},
    {0x1302, TLS_AES_256_GCM, true},
    {0x1303, TLS_CHACHA20_POLY1305, false},
    {0xc02b, TLS_AES_128_GCM, false}, /* ECDHE-ECDSA */
    {0xc02f, TLS_AES_128_GCM, false}, /* ECDHE-RSA */
    {0xc02c, TLS_AES_256_GCM, true},
    {0xc030, TLS_AES_256_GCM, true},
    {0xcca9, TLS_CHACHA20_POLY1305, false},
    {0xcca8, TLS_CHACHA20_POLY1305, false},
    {0x009e, TLS_AES_128_GCM, false}, /* DHE-RSA */
    {0x009f, TLS_AES_256_GCM, true},
    {0xccaa, TLS_CHACHA20_POLY1305, false},
};

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* @return bytes, 0: not hexadecimal or too long */
static size_t
read_hex(const char *text, uint8_t out[TLS_SECRET_MAX])
{
	size_t len = strlen(text);

	if (len % 2 != 0 || len > 2 * TLS_SECRET_MAX)
		return 0;
	for (size_t i = 0; i < len / 2; i++) {
		int high = hex_digit(text[2 * i]);
		int low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return 0;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return len / 2;
}

/* "LABEL <client random> <secret>" in hexadecimal. */
static void
keylog_cb(const SSL *ssl, const char *line)
{
	static const char in_label[] = "CLIENT_TRAFFIC_SECRET_0 ";
	static const char out_label[] = "SERVER_TRAFFIC_SECRET_0 ";
	struct tls_capture *capture = SSL_get_app_data(ssl);
	const char *secret = strrchr(line, ' ');
	size_t len;

	if (capture == NULL || secret == NULL)
		return;
	secret++;
	if (strncmp(line, in_label, sizeof(in_label) - 1) == 0) {
		len = read_hex(secret, capture->in_secret);
		capture->has_in = len > 0;
	} else if (strncmp(line, out_label, sizeof(out_label) - 1) == 0) {
		len = read_hex(secret, capture->out_secret);
		capture->has_out = len > 0;
	} else {
		return;
	}
	capture->secret_len = (uint8_t)len;
}

/*
 * OpenSSL reports the header of each record when it is made or read, and a
 * handshake message once it is written or read whole. From the moment on that
 * ends the use of older keys, headers are records under the keys that stay:
 * in 1.3 that is Finished, reported behind the header of its own record; in
 * 1.2 ChangeCipherSpec, a record of its own.
 */
static void
message_cb(int is_write, int version, int type, const void *data, size_t len,
    SSL *ssl, void *arg)
{
	struct tls_capture *capture = SSL_get_app_data(ssl);
	bool is_13 = SSL_version(ssl) == TLS1_3_VERSION;
	const uint8_t *first = data;
	uint64_t *records;

	(void)version;
	(void)arg;
	if (capture == NULL || len == 0)
		return;
	records = is_write ? &capture->out_records : &capture->in_records;
	if (type == SSL3_RT_HEADER)
		*records = !is_13 && *first == SSL3_RT_CHANGE_CIPHER_SPEC
			       ? 0
			       : *records + 1;
	else if (is_13 && type == SSL3_RT_HANDSHAKE && *first == MESSAGE_DONE)
		*records = 0;
}

void
tls_handover_prepare(SSL_CTX *ctx)
{
	SSL_CTX_set_keylog_callback(ctx, keylog_cb);
	SSL_CTX_set_msg_callback(ctx, message_cb);
}

void
tls_handover_begin(SSL *ssl, struct tls_capture *capture)
{
	SSL_set_app_data(ssl, capture);
}

static int
take_suite(const SSL *ssl, struct tls_keys *keys)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
	uint16_t id = cipher == NULL ? 0 : SSL_CIPHER_get_protocol_id(cipher);

	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
		if (suites[i].id != id)
			continue;
		keys->aead = suites[i].aead;
		keys->uses_sha384 = suites[i].uses_sha384;
		return 0;
	}
	return ERR_SERVER_ERROR;
}

static int
take_secrets_13(struct tls_crypto *crypto, const struct tls_capture *capture,
    struct tls_keys *keys)
{
	size_t wanted = keys->uses_sha384 ? 48 : 32;
	int rc;

	if (!capture->has_in || !capture->has_out ||
	    capture->secret_len != wanted)
		return ERR_SERVER_ERROR;
	memcpy(keys->in.secret, capture->in_secret, wanted);
	memcpy(keys->out.secret, capture->out_secret, wanted);
	rc = tls_keys_derive(crypto, keys, &keys->in);
	if (rc == 0)
		rc = tls_keys_derive(crypto, keys, &keys->out);
	return rc;
}

static int
take_secrets_12(struct tls_crypto *crypto, SSL *ssl, struct tls_keys *keys)
{
	uint8_t client_random[RANDOM_LEN];
	uint8_t server_random[RANDOM_LEN];
	uint8_t master[MASTER_LEN];
	size_t len = SSL_SESSION_get_master_key(
	    SSL_get_session(ssl), master, sizeof(master));
	int rc = ERR_SERVER_ERROR;

	if (len == MASTER_LEN &&
	    SSL_get_client_random(ssl, client_random, RANDOM_LEN) ==
		RANDOM_LEN &&
	    SSL_get_server_random(ssl, server_random, RANDOM_LEN) == RANDOM_LEN)
		rc = tls_keys_derive_12(
		    crypto, keys, master, len, client_random, server_random);
	mem_wipe(master, sizeof(master));
	return rc;
}

/* RFC 6066 4: a client may have asked for smaller records. */
static uint16_t
plain_max(const SSL *ssl)
{
	const SSL_SESSION *session = SSL_get_session(ssl);
	uint8_t code = SSL_SESSION_get_max_fragment_length(session);

	if (code < 1 || code > 4)
		return TLS_RECORD_PLAIN_MAX;
	return (uint16_t)(256u << code); /* 1: 2^9 ... 4: 2^12 */
}

int
tls_handover(struct tls_crypto *crypto, SSL *ssl,
    const struct tls_capture *capture, struct tls_keys *keys_out)
{
	int version = SSL_version(ssl);
	int rc;

	memset(keys_out, 0, sizeof(*keys_out));
	/* without read-ahead OpenSSL reads what it needs and no byte more */
	if (SSL_has_pending(ssl) || SSL_get_session(ssl) == NULL ||
	    (version != TLS1_2_VERSION && version != TLS1_3_VERSION))
		return ERR_SERVER_ERROR;
	keys_out->is_13 = version == TLS1_3_VERSION;
	keys_out->plain_max = plain_max(ssl);
	rc = take_suite(ssl, keys_out);
	if (rc != 0)
		return rc;
	rc = keys_out->is_13 ? take_secrets_13(crypto, capture, keys_out)
			     : take_secrets_12(crypto, ssl, keys_out);
	if (rc != 0)
		return rc;
	keys_out->in.seq = capture->in_records;
	keys_out->out.seq = capture->out_records;
	return 0;
}
