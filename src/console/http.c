/*
 * http.c - the ops port.
 *
 * Role:    routes of the table below; everything else is a file of the pages.
 * Process: console.
 * Blocks:  on small files.
 * Trust:   anybody who reaches the port: reads only, bounded heads and bodies,
 *          silence ends a connection; libevent's evhttp does the parsing.
 * See:     metrics.c, pages.c, shm/health.c.
 */
#include "config.h"

#include "console/http.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "console/gzip.h"
#include "console/metrics.h"
#include "console/pages.h"
#include "shm/health.h"

#define HEAD_MAX_BYTES (16 * 1024)
#define BODY_MAX_BYTES 1024
#define SILENCE_S      10
/* That connections to this port leave for parleyctl, files and the log. */
#define SPARE_FILES    32
#define DEMO_MAX_BYTES (64 * 1024)
#define JSON_TYPE      "application/json"
#define TEXT_TYPE      "text/plain; charset=utf-8"
#define POLICY                                                                 \
	"default-src 'none'; script-src 'self'; style-src 'self'; "            \
	"img-src 'self' data:; connect-src 'self' ws: wss:; "                  \
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static const struct timeval pause_time = {.tv_usec = 200 * 1000};

struct http {
	struct console *console;
	struct evhttp *server;
	struct evconnlistener *listener; /* server's; NULL: not yet */
	const char *pages;               /* folder */
};

struct answer {
	int status;
	const char *type;
	struct buf body;
};

typedef void (*route_fn)(struct http *http, struct answer *answer);

static struct board *
board_of(struct http *http)
{
	return bus_board(http->console->process->bus);
}

/* ---- routes ---- */

static void
route_live(struct http *http, struct answer *answer)
{
	(void)http;
	answer->type = TEXT_TYPE;
	buf_add_str(&answer->body, "live\n");
}

static void
route_ready(struct http *http, struct answer *answer)
{
	struct health health = health_read(board_of(http), clock_mono_ms());

	answer->type = TEXT_TYPE;
	answer->status = health.is_ready ? 200 : 503;
	buf_printf(
	    &answer->body, "%s\n", health.is_ready ? "ready" : health.reason);
}

static void
put_part(struct buf *body, struct board *board, int slot, int64_t mono_ms)
{
	const struct board_slot *at = board_slot(board, slot);
	char name[24];

	json_key(body, board_slot_name(board, slot, name));
	json_object_begin(body);
	json_put_text(body, "state", board_state_name(atomic_load(&at->state)));
	json_put_bool(body, "serving", health_is_serving(board, slot));
	json_put_text(
	    body, "waits_for", board_trouble_name(atomic_load(&at->trouble)));
	json_put_u64(body, "restarts", atomic_load(&at->restarts));
	json_put_i64(
	    body, "heartbeat_age_ms", health_beat_age_ms(board, slot, mono_ms));
	json_object_end(body);
}

/* As the keeper says; no process of its own, but a part all the same. */
static void
put_outbox(struct buf *body, struct board *board)
{
	const struct count_block *count =
	    &board_slot(board, SLOT_KEEPER)->count;

	json_key(body, "outbox");
	json_object_begin(body);
	json_put_u64(body, "waiting",
	    atomic_load(&count->counters[COUNTER_outbox_depth]));
	json_put_u64(body, "lag_seconds",
	    atomic_load(&count->counters[COUNTER_outbox_lag_seconds]));
	json_put_u64(
	    body, "dead", atomic_load(&count->counters[COUNTER_outbox_dead]));
	json_object_end(body);
}

static void
put_database(struct buf *body, struct board *board)
{
	struct health_database database = health_database(board);

	json_key(body, "database");
	json_object_begin(body);
	json_put_u64(body, "connections", database.connections);
	json_put_u64(body, "waiting", database.waiting);
	json_put_bool(body, "spared", database.is_spared);
	json_put_bool(body, "setup_wrong", database.is_setup_wrong);
	json_object_end(body);
}

static void
route_health(struct http *http, struct answer *answer)
{
	struct board *board = board_of(http);
	int64_t mono_ms = clock_mono_ms();
	struct health health = health_read(board, mono_ms);

	answer->status = health.status == HEALTH_FAILED ? 503 : 200;
	json_object_begin(&answer->body);
	json_put_text(
	    &answer->body, "status", health_status_name(health.status));
	json_put_text(&answer->body, "reason", health.reason);
	json_put_bool(&answer->body, "ready", health.is_ready);
	put_outbox(&answer->body, board);
	if (strcmp(http->console->process->conf->directory_backend, "mssql") ==
	    0)
		put_database(&answer->body, board);
	json_key(&answer->body, "parts");
	json_object_begin(&answer->body);
	for (int slot = 0; slot < board_slot_end(board); slot++) {
		if (health_is_used(board, slot))
			put_part(&answer->body, board, slot, mono_ms);
	}
	json_object_end(&answer->body);
	json_object_end(&answer->body);
	buf_add_char(&answer->body, '\n');
}

static void
route_metrics(struct http *http, struct answer *answer)
{
	answer->type = METRICS_TYPE;
	metrics_write(&answer->body, board_of(http));
}

/* The file's array as a member; read each time, it is small and rarely asked
 * for. @return false: there is none that can be used */
static bool
put_demo_users(struct buf *body, const char *path)
{
	struct buf text = {0};
	struct json_object *value = NULL;
	const struct json_object *array;
	char error[128] = "cannot be read";
	bool is_good = false;
	size_t count;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	buf_add_str(&text, "{\"Users\":");
	if (fd == -1)
		goto out;
	n = read(fd, buf_reserve(&text, DEMO_MAX_BYTES), DEMO_MAX_BYTES);
	if (n <= 0 || n == DEMO_MAX_BYTES)
		goto out;
	text.len += (size_t)n;
	buf_add_char(&text, '}');
	if (json_parse(text.data, text.len, &value, error, sizeof(error)) != 0)
		goto out;
	if (json_get_array(value, "Users", &array, &count) != 0)
		goto out;
	json_key(body, "Users");
	json_value(body, array);
	is_good = true;
out:
	if (!is_good)
		log_warn(
		    NULL, "demo-users", "path=%s error=\"%s\"", path, error);
	json_free(&value);
	buf_fini(&text);
	if (fd != -1)
		close(fd);
	return is_good;
}

static void
route_demo(struct http *http, struct answer *answer)
{
	const struct conf *conf = http->console->process->conf;
	const struct board_header *header = board_header(board_of(http));
	const char *path = conf->ops_demo_users;
	struct buf *body = &answer->body;
	bool is_demo;

	json_object_begin(body);
	json_put_u64(body, "WebSocketPort", atomic_load(&header->listen_port));
	json_put_text(body, "WebSocketPath", "/ws");
	is_demo = path != NULL && *path != '\0' && put_demo_users(body, path);
	json_put_bool(body, "Demo", is_demo);
	json_object_end(body);
	buf_add_char(body, '\n');
}

static const struct {
	const char *path;
	route_fn fn;
} routes[] = {
    {"/demo.json", route_demo},
    {"/health", route_health},
    {"/live", route_live},
    {"/metrics", route_metrics},
    {"/ready", route_ready},
};

static void
route_page(struct http *http, const char *path, struct answer *answer)
{
	int rc = pages_read(http->pages, path, &answer->body, &answer->type);

	if (rc == 0)
		return;
	buf_clear(&answer->body);
	answer->status = err_http_status(rc);
	answer->type = TEXT_TYPE;
	buf_printf(&answer->body, "%s\n", err_text(rc));
}

static void
answer_path(struct http *http, const char *path, struct answer *answer)
{
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (strcmp(path, routes[i].path) == 0) {
			routes[i].fn(http, answer);
			return;
		}
	}
	route_page(http, path, answer);
}

/* ---- requests ---- */

static void
add_headers(struct evhttp_request *request, const struct answer *answer)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	char len[24];

	snprintf(len, sizeof(len), "%zu", answer->body.len);
	evhttp_add_header(headers, "Content-Type", answer->type);
	/* HEAD: evhttp would not say it */
	evhttp_add_header(headers, "Content-Length", len);
	evhttp_add_header(headers, "Cache-Control", "no-cache");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	evhttp_add_header(headers, "Content-Security-Policy", POLICY);
	evhttp_add_header(headers, "Referrer-Policy", "no-referrer");
	if (answer->status == 405)
		evhttp_add_header(headers, "Allow", "GET, HEAD");
}

static void
pack_answer(struct evhttp_request *request, struct answer *answer)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	const char *accepted = evhttp_find_header(
	    evhttp_request_get_input_headers(request), "Accept-Encoding");

	evhttp_add_header(headers, "Vary", "Accept-Encoding");
	if (strncmp(answer->type, "image/", 6) != 0 &&
	    gzip_is_accepted(accepted) && gzip_pack(&answer->body))
		evhttp_add_header(headers, "Content-Encoding", "gzip");
}

static void
send_answer(struct evhttp_request *request, struct answer *answer)
{
	struct evbuffer *body = evhttp_request_get_output_buffer(request);

	pack_answer(request, answer);
	add_headers(request, answer);
	if (evhttp_request_get_command(request) != EVHTTP_REQ_HEAD)
		evbuffer_add(body, answer->body.data, answer->body.len);
	evhttp_send_reply(request, answer->status, NULL, NULL);
	buf_fini(&answer->body);
}

/* The decoded path, or NULL: malformed. free() it. */
static char *
path_of(struct evhttp_request *request)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
	char *decoded;
	size_t len = 0;

	if (path == NULL)
		return NULL;
	if (*path == '\0')
		path = "/";
	decoded = evhttp_uridecode(path, 0, &len);
	if (decoded != NULL && strlen(decoded) != len) {
		free(decoded);
		decoded = NULL;
	}
	return decoded;
}

static void
request_take(struct http *http, struct evhttp_request *request)
{
	struct answer answer = {.status = 200, .type = JSON_TYPE};
	enum evhttp_cmd_type command = evhttp_request_get_command(request);
	char *path = path_of(request);

	if (command != EVHTTP_REQ_GET && command != EVHTTP_REQ_HEAD) {
		answer.status = 405;
		answer.type = TEXT_TYPE;
		buf_add_str(&answer.body, "only GET and HEAD\n");
	} else if (path == NULL) {
		answer.status = 400;
		answer.type = TEXT_TYPE;
		buf_add_str(&answer.body, "malformed path\n");
	} else {
		answer_path(http, path, &answer);
	}
	send_answer(request, &answer);
	free(path);
}

static void
request_cb(struct evhttp_request *request, void *ctx)
{
	request_take(ctx, request);
}

/* ---- shortage ---- */

static void pause_listener(struct evconnlistener *listener);

static void
pause_over_cb(evutil_socket_t fd, short what, void *ctx)
{
	struct evconnlistener *listener = ctx;

	(void)fd;
	(void)what;
	if (file_may_open(SPARE_FILES))
		evconnlistener_enable(listener);
	else
		pause_listener(listener);
}

/*
 * Without a pause libevent would ask again for ever: the socket stays ready.
 * Room comes at the latest when silent connections end. The listener is freed
 * after the last turn.
 */
static void
pause_listener(struct evconnlistener *listener)
{
	evconnlistener_disable(listener);
	event_base_once(evconnlistener_get_base(listener), -1, EV_TIMEOUT,
	    pause_over_cb, listener, &pause_time);
}

/* The context is evhttp's. */
static void
failed_cb(struct evconnlistener *listener, void *ctx)
{
	(void)ctx;
	log_warn(NULL, "ops-paused", "error=\"%s\"", strerror(errno));
	pause_listener(listener);
}

/* Called for each connection that has been accepted. */
static struct bufferevent *
accepted_cb(struct event_base *base, void *ctx)
{
	struct http *http = ctx;

	if (!file_may_open(SPARE_FILES)) {
		log_warn(NULL, "ops-paused", "error=\"too many connections\"");
		pause_listener(http->listener);
	}
	return bufferevent_socket_new(base, -1, 0);
}

/* ---- life ---- */

static uint16_t
bound_port(int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &len) == -1)
		return 0;
	if (address.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
	return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

static void
configure(struct http *http)
{
	evhttp_set_max_headers_size(http->server, HEAD_MAX_BYTES);
	evhttp_set_max_body_size(http->server, BODY_MAX_BYTES);
	evhttp_set_timeout(http->server, SILENCE_S);
	/* all, so that the others get our 405 and not evhttp's 501 */
	evhttp_set_allowed_methods(http->server,
	    EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST |
		EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
		EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
	evhttp_set_gencb(http->server, request_cb, http);
	evhttp_set_bevcb(http->server, accepted_cb, http);
}

int
http_new(struct console *console, int fd, struct http **http_out)
{
	const struct conf *conf = console->process->conf;
	struct http *http = xcalloc(1, sizeof(*http));
	struct evconnlistener *listener = NULL;
	bool is_own = conf->ops_pages != NULL && *conf->ops_pages != '\0';

	http->console = console;
	http->pages = is_own ? conf->ops_pages : PARLEY_PKGDATADIR "/www";
	http->server = evhttp_new(console->base);
	if (http->server != NULL) {
		configure(http);
		/* listening already, and not ours to close */
		listener = evconnlistener_new(
		    console->base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	}
	if (listener == NULL ||
	    evhttp_bind_listener(http->server, listener) == NULL) {
		log_error(NULL, "ops-failed", "error=\"%s\"", strerror(errno));
		if (listener != NULL)
			evconnlistener_free(listener);
		http_free(&http);
		return ERR_IO;
	}
	http->listener = listener;
	evconnlistener_set_error_cb(listener, failed_cb);
	atomic_store(&board_header(board_of(http))->ops_port, bound_port(fd));
	*http_out = http;
	return 0;
}

void
http_free(struct http **http)
{
	if (*http == NULL)
		return;
	if ((*http)->server != NULL)
		evhttp_free((*http)->server);
	free(*http);
	*http = NULL;
}
