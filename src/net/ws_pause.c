/*
 * ws_pause.c - connections that are not read for a while.
 *
 * Role:    why one is not read (its owner says so, it has inflated much, it
 *          sends many frames that are no message), and when it is again.
 * Process: worker.
 * Blocks:  never.
 * Trust:   none in the peer: what it sends meanwhile stays in the kernel.
 * See:     net_priv.h, net.c (rests), base/bucket.h, t/unit/net_pace.c.
 *
 * Pings, pongs and fragments cost as much as messages and reach nobody who
 * could count them. One read holds at most CONN_READ_MAX / 6 of them; what
 * that is above the limit the peer waits for.
 */
#include "base/clock.h"
#include "base/count.h"
#include "net/net_priv.h"

bool
ws_is_listening(const struct ws_conn *ws)
{
	return !ws->is_paused && !ws->is_paced && ws->rest_turns == 0;
}

/* What was in its way is gone, unless something else still is. */
static void
listen_again(struct ws_conn *ws)
{
	if (!ws_is_listening(ws))
		return;
	ws->heard_at_ms = clock_mono_ms(); /* silence was ours */
	conn_set_input(&ws->conn, true);
	ws_set_timer(ws);
}

void
ws_conn_rested(struct ws_conn *ws)
{
	listen_again(ws);
}

void
ws_conn_pause(struct ws_conn *conn)
{
	if (conn->state != WS_STATE_OPEN || conn->is_paused)
		return;
	conn->is_paused = true;
	conn_set_input(&conn->conn, false);
}

void
ws_conn_resume(struct ws_conn *conn)
{
	if (!conn->is_paused)
		return;
	conn->is_paused = false;
	conn_moved(&conn->conn);
	listen_again(conn);
}

/* ---- frames ---- */

static struct bucket_rate
frame_rate(const struct ws_conn *ws)
{
	const struct net_conf *conf = &ws->net->conf;

	return bucket_rate(
	    conf->frames_per_second, 1000000, conf->burst_ms * 1000);
}

/* us until it may go on */
static int64_t
frame_wait(const struct ws_conn *ws)
{
	struct bucket_rate rate = frame_rate(ws);

	return bucket_wait(&ws->frames, &rate, clock_mono_us());
}

void
ws_pace(struct ws_conn *ws)
{
	struct bucket_rate rate = frame_rate(ws);
	uint16_t count = ws->decoder.loose_frames;

	ws->decoder.loose_frames = 0;
	if (count == 0 || ws->state != WS_STATE_OPEN)
		return;
	bucket_take(&ws->frames, &rate, count, clock_mono_us());
	if (frame_wait(ws) == 0)
		return;
	COUNT(frames_delayed);
	ws->is_paced = true;
	conn_set_input(&ws->conn, false);
	ws_set_timer(ws);
}

int64_t
ws_pace_until_ms(const struct ws_conn *ws)
{
	if (!ws->is_paced)
		return INT64_MAX;
	return clock_mono_ms() + frame_wait(ws) / 1000 + 1;
}

void
ws_pace_look(struct ws_conn *ws)
{
	if (!ws->is_paced || frame_wait(ws) > 0)
		return;
	ws->is_paced = false;
	conn_moved(&ws->conn);
	listen_again(ws);
}
