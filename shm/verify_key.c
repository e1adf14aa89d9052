/*
 * verify_key.c - keys of the store's rows, for people.
 *
 * Role:    one form for each kind of row.
 * Process: parleyctl check.
 * Blocks:  never.
 * Trust:   a key of another length is shown as it is, in hex.
 * See:     store_schema.h (the keys), verify.c.
 */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "shm/verify.h"

/* Of what a key consists, in the words of store_schema.h: i native u64, u u64,
 * n u32, b u8, c conversation or hash, t text. */
#define FORM_ages       "i"
#define FORM_behind     "i"
#define FORM_calldue    "uu"
#define FORM_callhist   "uu"
#define FORM_callkey    "uc"
#define FORM_calls      "i"
#define FORM_contact    "uu"
#define FORM_conv       "c"
#define FORM_convindex  "cn"
#define FORM_device     "un"
#define FORM_grace      "uu"
#define FORM_groupcount "i"
#define FORM_groupmade  "uc"
#define FORM_groups     "i"
#define FORM_inbox      "uu"
#define FORM_leaving    "i"
#define FORM_log        "i"
#define FORM_member     "uu"
#define FORM_meta       "t"
#define FORM_outbox     "bbu"
#define FORM_sent       "unb"
#define FORM_unsaid     "i"
#define FORM_usercall   "uu"
#define FORM_userconv   "uc"
#define FORM_userhead   "i"
#define FORM_users      "i"

static const char *const forms[] = {
#define DBI(name, flags, check) [DBI_##name] = FORM_##name,
    STORE_MAIN_DBIS(DBI)
#undef DBI
};

static int
put_hex(char *out, size_t room, const uint8_t *bytes, size_t len)
{
	int n = 0;

	for (size_t i = 0; i < len && (size_t)n + 2 < room; i++)
		n += snprintf(out + n, room - (size_t)n, "%02x", bytes[i]);
	return n;
}

static const size_t part_len[128] = {
    ['i'] = sizeof(uint64_t),
    ['u'] = sizeof(uint64_t),
    ['n'] = sizeof(uint32_t),
    ['b'] = 1,
    ['c'] = sizeof(struct conv_key),
};

static uint64_t
part_number(char form, const uint8_t *at)
{
	uint64_t native;

	switch (form) {
	case 'u':
		return key_get_u64(at);
	case 'n':
		return key_get_u32(at);
	case 'b':
		return *at;
	}
	memcpy(&native, at, sizeof(native));
	return native;
}

/* One part of a key. @return bytes of it, 0: not as it should be */
static size_t
put_part(char form, const uint8_t *at, size_t len, struct buf *out)
{
	size_t used = part_len[(unsigned char)form & 127];
	char text[2 * VERIFY_KEY_MAX + 1] = "";

	if (used == 0 || used > len)
		return 0;
	if (form == 'c')
		put_hex(text, sizeof(text), at, used);
	else
		snprintf(text, sizeof(text), "%llu",
		    (unsigned long long)part_number(form, at));
	buf_add(out, text, strlen(text));
	return used;
}

static const char *
form_of(enum store_dbi dbi)
{
	return (size_t)dbi < sizeof(forms) / sizeof(forms[0]) ? forms[dbi] : "";
}

void
verify_key_text(
    enum store_dbi dbi, struct blob key, char out[VERIFY_KEY_TEXT_MAX])
{
	const uint8_t *at = key.data;
	size_t left = key.len;
	struct buf text = {0};
	char rest[2 * VERIFY_KEY_MAX + 1];

	for (const char *form = form_of(dbi); *form != '\0' && left > 0;
	     form++) {
		size_t used = put_part(*form, at, left, &text);

		if (used == 0)
			break;
		at += used;
		left -= used;
		if (left > 0)
			buf_add_char(&text, '/');
	}
	if (left > 0) {
		put_hex(rest, sizeof(rest), at, left);
		buf_add(&text, rest, strlen(rest));
	}
	snprintf(out, VERIFY_KEY_TEXT_MAX, "%.*s", (int)text.len,
	    text.len > 0 ? (const char *)text.data : "");
	buf_fini(&text);
}
