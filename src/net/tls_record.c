/*
 * tls_record.c - records of TLS 1.2 and 1.3, AEAD suites only.
 *
 * Role:    seals and opens application data, KeyUpdate and alerts after the
 *          handshake; nonces, limits and padding.
 * Process: worker; pure: memory to memory.
 * Blocks:  never.
 * Trust:   none in the peer. Lengths are checked before anything is read, and
 *          plaintext counts only once its tag has been checked. Nonces: one
 *          counter per key, raised with every record and never set back.
 * See:     RFC 8446 5, RFC 5246 6.2.3.3, RFC 5288, RFC 7905; tls_schedule.c
 *          (keys), tls_io.c (sockets), t/unit/tls_record.c.
 */
#include "net/tls_record_priv.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "base/mem.h"

#define TAG_LEN      16
#define EXPLICIT_LEN 8 /* TLS 1.2 with GCM: RFC 5288 3 */
#define FIXED_LEN    4

/*
 * RFC 8446 5.5: 2^24.5 records of full size under one AES-GCM key; we renew
 * ours long before. TLS 1.2 cannot; its counter ends after 2^64 records, and
 * such a connection is closed rather than wrapped.
 */
#define RECORDS_PER_KEY ((uint64_t)1 << 22)
#define SEQ_END         UINT64_MAX

enum { TYPE_ALERT = 21, TYPE_HANDSHAKE = 22, TYPE_DATA = 23 };
enum { ALERT_WARNING = 1, ALERT_FATAL = 2 };
enum { MESSAGE_KEY_UPDATE = 24, KEY_UPDATE_LEN = 5 };

struct piece {
	uint8_t type;
	const void *data;
	size_t len;
};

static bool
has_explicit_nonce(const struct tls_keys *keys)
{
	return !keys->is_13 && keys->aead != TLS_CHACHA20_POLY1305;
}

static void
put_u64(uint8_t out[8], uint64_t n)
{
	for (int i = 7; i >= 0; i--) {
		out[i] = (uint8_t)n;
		n >>= 8;
	}
}

/* RFC 8446 5.3, RFC 7905 2; with GCM in 1.2 the explicit part is the counter
 * as well (RFC 5288 3). */
static void
make_nonce(const struct tls_keys *keys, const struct tls_half *half,
    uint8_t nonce[TLS_NONCE_LEN])
{
	uint8_t seq[8];

	put_u64(seq, half->seq);
	memcpy(nonce, half->iv, TLS_NONCE_LEN);
	if (has_explicit_nonce(keys)) {
		memcpy(nonce + FIXED_LEN, seq, sizeof(seq));
		return;
	}
	for (int i = 0; i < 8; i++)
		nonce[FIXED_LEN + i] ^= seq[i];
}

/* @return bytes of out: 5 for 1.3 (the header), 13 for 1.2 */
static int
make_aad(const struct tls_keys *keys, uint64_t seq, uint8_t type, size_t len,
    uint8_t out[13])
{
	int at = 0;

	if (!keys->is_13) {
		put_u64(out, seq);
		at = 8;
	}
	out[at++] = type;
	out[at++] = 3;
	out[at++] = 3;
	out[at++] = (uint8_t)(len >> 8);
	out[at++] = (uint8_t)len;
	return at;
}

/* ---- sealing ---- */

static bool
encrypt(struct tls_crypto *crypto, const struct tls_keys *keys,
    const struct piece *piece, const uint8_t *aad, int aad_len, uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = crypto->seal[keys->aead];
	uint8_t nonce[TLS_NONCE_LEN];
	int n = 0;
	int m = 0;
	int tail = 0;

	make_nonce(keys, &keys->out, nonce);
	if (EVP_EncryptInit_ex(ctx, NULL, NULL, keys->out.key, nonce) != 1 ||
	    EVP_EncryptUpdate(ctx, NULL, &n, aad, aad_len) != 1 ||
	    EVP_EncryptUpdate(ctx, out, &n, piece->data, (int)piece->len) != 1)
		return false;
	/* RFC 8446 5.2: the true type stands behind the content */
	if (keys->is_13 &&
	    EVP_EncryptUpdate(ctx, out + n, &m, &piece->type, 1) != 1)
		return false;
	n += m;
	return EVP_EncryptFinal_ex(ctx, out + n, &tail) == 1 && tail == 0 &&
	       (size_t)n == piece->len + (keys->is_13 ? 1 : 0) &&
	       EVP_CIPHER_CTX_ctrl(
		   ctx, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, out + n) == 1;
}

/* @return bytes of the record, 0: failed */
static size_t
seal_one(struct tls_crypto *crypto, struct tls_keys *keys,
    const struct piece *piece, uint8_t *out)
{
	uint8_t outer = keys->is_13 ? TYPE_DATA : piece->type;
	size_t explicit_len = has_explicit_nonce(keys) ? EXPLICIT_LEN : 0;
	size_t body =
	    explicit_len + piece->len + (keys->is_13 ? 1 : 0) + TAG_LEN;
	uint8_t aad[13];
	int aad_len;

	if (keys->out.seq == SEQ_END)
		return 0;
	aad_len = make_aad(
	    keys, keys->out.seq, outer, keys->is_13 ? body : piece->len, aad);
	out[0] = outer;
	out[1] = 3;
	out[2] = 3;
	out[3] = (uint8_t)(body >> 8);
	out[4] = (uint8_t)body;
	if (explicit_len > 0)
		put_u64(out + TLS_RECORD_HEAD, keys->out.seq);
	if (!encrypt(crypto, keys, piece, aad, aad_len,
		out + TLS_RECORD_HEAD + explicit_len)) {
		ERR_clear_error();
		/* what was half made must not go out under this number */
		keys->out.seq = SEQ_END;
		return 0;
	}
	keys->out.seq++;
	return TLS_RECORD_HEAD + body;
}

/* RFC 8446 4.6.3 */
static size_t
seal_key_update(struct tls_crypto *crypto, struct tls_keys *keys, uint8_t *out)
{
	static const uint8_t text[KEY_UPDATE_LEN] = {
	    MESSAGE_KEY_UPDATE, 0, 0, 1, 0};
	struct piece piece = {TYPE_HANDSHAKE, text, sizeof(text)};
	size_t len = seal_one(crypto, keys, &piece, out);

	if (len == 0 || tls_keys_next(crypto, keys, &keys->out) != 0) {
		keys->out.seq = SEQ_END;
		return 0;
	}
	keys->owes_key_update = false;
	return len;
}

size_t
tls_seal_bound(const struct tls_keys *keys, size_t len)
{
	size_t records = len / keys->plain_max + 2; /* and a KeyUpdate */

	return len + KEY_UPDATE_LEN + records * TLS_RECORD_EXTRA_MAX;
}

size_t
tls_seal(struct tls_crypto *crypto, struct tls_keys *keys, const void *data,
    size_t len, uint8_t *out)
{
	const uint8_t *at = data;
	size_t total = 0;

	while (len > 0) {
		struct piece piece = {TYPE_DATA, at,
		    len < keys->plain_max ? len : keys->plain_max};
		size_t n;

		if (keys->is_13 && (keys->owes_key_update ||
				       keys->out.seq >= RECORDS_PER_KEY)) {
			n = seal_key_update(crypto, keys, out + total);
			if (n == 0)
				return 0;
			total += n;
		}
		n = seal_one(crypto, keys, &piece, out + total);
		if (n == 0)
			return 0;
		total += n;
		at += piece.len;
		len -= piece.len;
	}
	return total;
}

size_t
tls_seal_alert(struct tls_crypto *crypto, struct tls_keys *keys,
    enum tls_alert alert, uint8_t *out)
{
	uint8_t text[2] = {
	    alert == TLS_ALERT_CLOSE_NOTIFY ? ALERT_WARNING : ALERT_FATAL,
	    (uint8_t)alert};
	struct piece piece = {TYPE_ALERT, text, sizeof(text)};

	return seal_one(crypto, keys, &piece, out);
}

/* ---- opening ---- */

struct record {
	uint8_t type;
	size_t body_len; /* behind the header */
	const uint8_t *body;
	uint8_t *plain;
	size_t plain_len;
};

static enum tls_opened
broken(struct tls_open *open, enum tls_alert alert)
{
	open->alert = alert;
	open->out_len = 0;
	return TLS_OPENED_BROKEN;
}

static bool
decrypt(struct tls_crypto *crypto, const struct tls_keys *keys,
    struct record *record)
{
	EVP_CIPHER_CTX *ctx = crypto->open[keys->aead];
	size_t skip = has_explicit_nonce(keys) ? EXPLICIT_LEN : 0;
	size_t len = record->body_len - skip - TAG_LEN;
	const uint8_t *cipher = record->body + skip;
	uint8_t nonce[TLS_NONCE_LEN];
	uint8_t aad[13];
	int aad_len;
	int n = 0;
	int tail = 0;

	make_nonce(keys, &keys->in, nonce);
	if (skip > 0)
		memcpy(nonce + FIXED_LEN, record->body, EXPLICIT_LEN);
	aad_len = make_aad(keys, keys->in.seq, record->type,
	    keys->is_13 ? record->body_len : len, aad);
	if (EVP_DecryptInit_ex(ctx, NULL, NULL, keys->in.key, nonce) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG_LEN,
		(void *)(uintptr_t)(cipher + len)) != 1 ||
	    EVP_DecryptUpdate(ctx, NULL, &n, aad, aad_len) != 1 ||
	    EVP_DecryptUpdate(ctx, record->plain, &n, cipher, (int)len) != 1 ||
	    (size_t)n != len ||
	    EVP_DecryptFinal_ex(ctx, record->plain + n, &tail) != 1) {
		mem_wipe(record->plain, len);
		ERR_clear_error();
		return false;
	}
	record->plain_len = len;
	return true;
}

/* RFC 8446 5.4: zeros behind the type are padding; all zeros are an error. */
static bool
strip_padding(struct record *record)
{
	size_t len = record->plain_len;

	while (len > 0 && record->plain[len - 1] == 0)
		len--;
	if (len == 0)
		return false;
	record->type = record->plain[len - 1];
	record->plain_len = len - 1;
	return true;
}

static enum tls_opened
take_alert(const struct tls_keys *keys, const struct record *record,
    struct tls_open *open)
{
	if (record->plain_len != 2)
		return broken(open, TLS_ALERT_DECODE_ERROR);
	switch (record->plain[1]) {
	case TLS_ALERT_CLOSE_NOTIFY:
		return TLS_OPENED_CLOSED;
	case TLS_ALERT_USER_CANCELED:
		return TLS_OPENED_DATA; /* close_notify follows */
	default:
		/* 1.3 knows no warnings; those of 1.2 ask for nothing */
		return keys->is_13 || record->plain[0] != ALERT_WARNING
			   ? TLS_OPENED_LOST
			   : TLS_OPENED_DATA;
	}
}

/*
 * After a handshake with a server that asks for no certificates a client may
 * send KeyUpdate and nothing else. It ends its record, since what follows
 * comes under new keys (RFC 8446 5.1). In 1.2 it can only be a renegotiation.
 */
static enum tls_opened
take_handshake(struct tls_crypto *crypto, struct tls_keys *keys,
    const struct record *record, struct tls_open *open)
{
	static const uint8_t head[4] = {MESSAGE_KEY_UPDATE, 0, 0, 1};

	if (!keys->is_13)
		return broken(open, TLS_ALERT_HANDSHAKE_FAILURE);
	if (record->plain_len != KEY_UPDATE_LEN ||
	    memcmp(record->plain, head, sizeof(head)) != 0)
		return broken(open, TLS_ALERT_UNEXPECTED_MESSAGE);
	if (record->plain[4] > 1)
		return broken(open, TLS_ALERT_ILLEGAL_PARAMETER);
	if (tls_keys_next(crypto, keys, &keys->in) != 0)
		return broken(open, TLS_ALERT_INTERNAL_ERROR);
	/* however many were asked for, one answer does */
	if (record->plain[4] == 1)
		keys->owes_key_update = true;
	return TLS_OPENED_DATA;
}

static enum tls_opened
take_plain(struct tls_crypto *crypto, struct tls_keys *keys,
    struct record *record, struct tls_open *open)
{
	enum tls_opened opened;

	if (keys->is_13 && record->plain_len > TLS_RECORD_PLAIN_MAX + 1)
		return broken(open, TLS_ALERT_RECORD_OVERFLOW);
	if (keys->is_13 && !strip_padding(record))
		return broken(open, TLS_ALERT_UNEXPECTED_MESSAGE);
	if (record->plain_len > TLS_RECORD_PLAIN_MAX)
		return broken(open, TLS_ALERT_RECORD_OVERFLOW);
	switch (record->type) {
	case TYPE_DATA:
		open->out_len = record->plain_len;
		return TLS_OPENED_DATA;
	case TYPE_ALERT:
		return take_alert(keys, record, open);
	case TYPE_HANDSHAKE:
		opened = take_handshake(crypto, keys, record, open);
		return opened;
	default:
		return broken(open, TLS_ALERT_UNEXPECTED_MESSAGE);
	}
}

static bool
is_known_type(const struct tls_keys *keys, uint8_t type)
{
	if (keys->is_13)
		return type == TYPE_DATA;
	return type == TYPE_DATA || type == TYPE_ALERT ||
	       type == TYPE_HANDSHAKE;
}

enum tls_opened
tls_open(struct tls_crypto *crypto, struct tls_keys *keys, const uint8_t *data,
    size_t len, uint8_t *out, struct tls_open *open_out)
{
	struct record record = {.plain = out};
	size_t least = TAG_LEN + (has_explicit_nonce(keys) ? EXPLICIT_LEN : 0) +
		       (keys->is_13 ? 1 : 0);

	*open_out = (struct tls_open){.alert = TLS_ALERT_NONE};
	if (len < TLS_RECORD_HEAD)
		return TLS_OPENED_MORE;
	record.type = data[0];
	record.body = data + TLS_RECORD_HEAD;
	record.body_len = (size_t)data[3] << 8 | data[4];
	if (!is_known_type(keys, record.type) || data[1] != 3)
		return broken(open_out, TLS_ALERT_UNEXPECTED_MESSAGE);
	if (record.body_len > TLS_RECORD_CIPHER_MAX(keys->is_13))
		return broken(open_out, TLS_ALERT_RECORD_OVERFLOW);
	if (record.body_len < least)
		return broken(open_out, TLS_ALERT_DECODE_ERROR);
	if (len - TLS_RECORD_HEAD < record.body_len)
		return TLS_OPENED_MORE;
	open_out->used = TLS_RECORD_HEAD + record.body_len;
	if (keys->in.seq == SEQ_END || !decrypt(crypto, keys, &record))
		return broken(open_out, TLS_ALERT_BAD_RECORD_MAC);
	keys->in.seq++;
	return take_plain(crypto, keys, &record, open_out);
}
