/*
 * crypto.c - randomness, hashes and base64url.
 *
 * Role:    hides OpenSSL from all that only wants a hash or an identifier;
 *          algorithms are fetched once, contexts are kept per thread, since
 *          in OpenSSL 3 both cost more than hashing a short name.
 * Process: all; any thread.
 * Blocks:  never (crypto_random: only until the kernel's pool is first seeded).
 * Trust:   lengths come from our callers; the text given to the decoder is
 *          a peer's and every character of it is checked.
 * See:     jwt.c, password.c; t/unit/crypto.c (published vectors).
 */
#include "base/crypto.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/params.h>

#include "base/log.h"
#include "base/mem.h"

#define SHA1_LEN    20
#define SHA256_LEN  32
#define SIPHASH_KEY 16

/* Contexts of one thread: OpenSSL's are not to be shared. */
struct crypto_thread {
	EVP_MAC_CTX *siphash;
	EVP_MD_CTX *digest;
};

static struct {
	pthread_once_t once;
	pthread_key_t key; /* only so that a thread's end frees its contexts */
	EVP_MAC *siphash;
	EVP_MD *sha1;
	EVP_MD *sha256;
} crypto = {.once = PTHREAD_ONCE_INIT};

static _Thread_local struct crypto_thread *crypto_self;

static const char base64_std[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void
crypto_thread_free(void *arg)
{
	struct crypto_thread *self = arg;

	EVP_MAC_CTX_free(self->siphash);
	EVP_MD_CTX_free(self->digest);
	OPENSSL_free(self);
}

static void
crypto_init(void)
{
	crypto.siphash = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
	crypto.sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
	crypto.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (crypto.siphash == NULL || crypto.sha1 == NULL ||
	    crypto.sha256 == NULL)
		fatal("OpenSSL lacks one of SIPHASH, SHA1, SHA256");
	if (pthread_key_create(&crypto.key, crypto_thread_free) != 0)
		fatal("no thread key left for hash contexts");
}

static struct crypto_thread *
crypto_thread_get(void)
{
	struct crypto_thread *self = crypto_self;

	if (self != NULL)
		return self;
	pthread_once(&crypto.once, crypto_init);
	self = OPENSSL_zalloc(sizeof(*self));
	if (self == NULL)
		fatal("out of memory for hash contexts");
	self->siphash = EVP_MAC_CTX_new(crypto.siphash);
	self->digest = EVP_MD_CTX_new();
	if (self->siphash == NULL || self->digest == NULL ||
	    pthread_setspecific(crypto.key, self) != 0)
		fatal("out of memory for hash contexts");
	crypto_self = self;
	return self;
}

static void
digest(const EVP_MD *md, const void *data, size_t len, uint8_t *out)
{
	EVP_MD_CTX *ctx = crypto_thread_get()->digest;

	if (EVP_DigestInit_ex2(ctx, md, NULL) != 1 ||
	    EVP_DigestUpdate(ctx, data, len) != 1 ||
	    EVP_DigestFinal_ex(ctx, out, NULL) != 1)
		panic("a digest of %zu bytes failed", len);
}

/* @return characters written; padding and NUL are the caller's */
static size_t
base64_encode(const char *alphabet, const uint8_t *in, size_t len, char *out)
{
	char *pos = out;
	size_t i;

	for (i = 0; i + 3 <= len; i += 3) {
		*pos++ = alphabet[in[i] >> 2];
		*pos++ = alphabet[(in[i] & 3) << 4 | in[i + 1] >> 4];
		*pos++ = alphabet[(in[i + 1] & 15) << 2 | in[i + 2] >> 6];
		*pos++ = alphabet[in[i + 2] & 63];
	}
	if (len - i == 1) {
		*pos++ = alphabet[in[i] >> 2];
		*pos++ = alphabet[(in[i] & 3) << 4];
	} else if (len - i == 2) {
		*pos++ = alphabet[in[i] >> 2];
		*pos++ = alphabet[(in[i] & 3) << 4 | in[i + 1] >> 4];
		*pos++ = alphabet[(in[i + 1] & 15) << 2];
	}
	return (size_t)(pos - out);
}

/* @return 0..63, or -1 for what is not in the URL alphabet */
static int
base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '-')
		return 62;
	return c == '_' ? 63 : -1;
}

void
crypto_random(void *out, size_t len)
{
	uint8_t *pos = out;
	ssize_t got;

	/* The kernel's own generator: no state that a fork could double. */
	while (len > 0) {
		got = getrandom(pos, len, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			fatal("getrandom: %s", strerror(errno));
		pos += got;
		len -= (size_t)got;
	}
}

uint64_t
crypto_random_u64(void)
{
	uint64_t value;

	crypto_random(&value, sizeof(value));
	return value;
}

void
crypto_siphash128(const uint8_t key[16], const void *data, size_t len,
    uint8_t out[CRYPTO_HASH128_LEN])
{
	EVP_MAC_CTX *ctx = crypto_thread_get()->siphash;
	size_t out_len = 0;

	/*
	 * The key is set each time, even when it is the same: it is four XORs,
	 * and early OpenSSL 3.0 does not start afresh without it.
	 */
	if (EVP_MAC_init(ctx, key, SIPHASH_KEY, NULL) != 1 ||
	    EVP_MAC_update(ctx, data, len) != 1 ||
	    EVP_MAC_final(ctx, out, &out_len, CRYPTO_HASH128_LEN) != 1 ||
	    out_len != CRYPTO_HASH128_LEN)
		panic("a SipHash of %zu bytes failed", len);
}

void
crypto_sha256_128(const void *data, size_t len, uint8_t out[CRYPTO_HASH128_LEN])
{
	uint8_t full[SHA256_LEN];

	crypto_thread_get();
	digest(crypto.sha256, data, len, full);
	memcpy(out, full, CRYPTO_HASH128_LEN);
}

void
crypto_sha1(const void *data, size_t len, uint8_t out[20])
{
	_Static_assert(SHA1_LEN == 20, "the header promises 20 bytes");

	crypto_thread_get();
	digest(crypto.sha1, data, len, out);
}

void
crypto_hmac_sha1(const void *key, size_t key_len, const void *data, size_t len,
    uint8_t out[20])
{
	unsigned int out_len = 0;

	crypto_thread_get();
	/* NULL would ask for the key of the call before. */
	if (key == NULL || key_len > INT_MAX ||
	    HMAC(crypto.sha1, key, (int)key_len, data, len, out, &out_len) ==
		NULL ||
	    out_len != SHA1_LEN)
		panic("an HMAC of %zu bytes failed", len);
}

void
crypto_base64(const void *data, size_t len, char *out)
{
	size_t count = base64_encode(base64_std, data, len, out);

	while (count % 4 != 0)
		out[count++] = '=';
	out[count] = '\0';
}

size_t
crypto_base64url(const void *data, size_t len, char *out)
{
	size_t count = base64_encode(base64_url, data, len, out);

	out[count] = '\0';
	return count;
}

int
crypto_base64url_decode(
    const char *text, size_t len, uint8_t *out, size_t *len_out)
{
	uint32_t bits = 0; /* not yet written, in the low bit_count bits */
	int bit_count = 0;
	uint8_t *pos = out;
	int value;

	if (len % 4 == 1)
		return ERR_BAD_REQUEST;
	for (size_t i = 0; i < len; i++) {
		value = base64_value(text[i]);
		if (value < 0)
			return ERR_BAD_REQUEST;
		bits = bits << 6 | (uint32_t)value;
		bit_count += 6;
		if (bit_count >= 8) {
			bit_count -= 8;
			*pos++ = (uint8_t)(bits >> bit_count);
			bits &= (1U << bit_count) - 1;
		}
	}
	if (bits != 0)
		return ERR_BAD_REQUEST; /* two texts for the same bytes */
	*len_out = (size_t)(pos - out);
	return 0;
}

int
crypto_equal(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}
