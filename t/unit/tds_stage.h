/*
 * tds_stage.h - a server that speaks as much TDS 7.4 as a client needs to log
 * in and call, and misbehaves when told to. In threads of the test.
 *
 * The procedure's name says what happens:
 *     Number      one row: Id BIGINT 7, Gone INT NULL, Name NVARCHAR "äb",
 *                 Spid INT (number of the connection); status 3
 *     Two         two result sets, of one row each: A INT 1, then B INT 2
 *     Echo        first parameter, NVARCHAR(MAX), as column Text
 *     Hang        no answer
 *     Drip        a byte every 20 ms, for ever
 *     Reset       half a row, then the connection is reset
 *     Error<n>    error n, severity 16, with a text that quotes data
 *     Once<n>     the same, the first time; then Number
 */
#ifndef TDS_STAGE_H
#define TDS_STAGE_H

#include <stdatomic.h>

enum tds_mood {
	TDS_MOOD_GOOD,
	TDS_MOOD_SILENT,   /* accepts, says nothing */
	TDS_MOOD_TLS_HANG, /* agrees to TLS, says nothing then */
	TDS_MOOD_TLS,      /* with a certificate for localhost of its own */
	TDS_MOOD_TLS_DROP, /* says that only the login is to be encrypted, and
			    * goes on in the clear after it */
	TDS_MOOD_REFUSE    /* 18456 */
};

struct tds_stage;

/** Listens on a port of 127.0.0.1 that the system has chosen. */
struct tds_stage *tds_stage_new(void);
/** Ends all its connections and threads. */
void tds_stage_free(struct tds_stage **stage);
int tds_stage_port(const struct tds_stage *stage);
/** PEM file of the authority of its certificate. */
const char *tds_stage_ca(const struct tds_stage *stage);
/** For connections from now on. */
void tds_stage_set(struct tds_stage *stage, enum tds_mood mood);
/** Cut all connections, as a restart of the server does. */
void tds_stage_cut(struct tds_stage *stage);
/** So far: connections accepted, LOGIN7 (in clear text, unless
 * its mood is TLS), calls. */
unsigned tds_stage_connections(const struct tds_stage *stage);
unsigned tds_stage_logins(const struct tds_stage *stage);
unsigned tds_stage_calls(const struct tds_stage *stage);

#endif
