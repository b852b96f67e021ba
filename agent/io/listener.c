/*
 * libmicrohttpd without threads: its epoll descriptor is one source of the loop, its time limit one timer. One
 * daemon for each socket, so that a unix socket and a TCP port are told apart by construction.
 */
#include "agent/io/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/io/loop.h"

#define CONNECTION_MEMORY 16384UL
#define BACKLOG		  64
#define CONTENT_TOO_LARGE 413 /* its name in the library changed */
#define LAST_USEC	  (200 * USEC_PER_MSEC)
#define LAST_LOOK_MS	  10

struct listener {
	struct MHD_Daemon *daemon;
	struct loop_io *io;
	struct loop_timer *timer;
	listener_fn fn;
	void *userdata;
	bool local;
};

/* One request between its first and its last byte. */
struct exchange {
	struct buf body;
	char *query;
	bool too_large;
};

/* ---- the loop ---- */

static unsigned connections(const struct listener *l)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

	return info ? info->num_connections : 0;
}

static void turn(struct listener *l)
{
	MHD_UNSIGNED_LONG_LONG ms;
	unsigned before = connections(l);

	(void)MHD_run(l->daemon);
	/* At its limit the library lets go of the socket, and takes it up again at the beginning of a run. When the last
	 * connections have ended nothing else would bring one about, and nobody would be answered any more. */
	if (connections(l) < before)
		(void)MHD_run(l->daemon);
	if (MHD_get_timeout(l->daemon, &ms) == MHD_YES)
		loop_timer_after(l->timer, (usec_t)ms * USEC_PER_MSEC);
	else
		loop_timer_stop(l->timer);
}

static void on_io(int fd, uint32_t events, void *userdata)
{
	(void)fd;
	(void)events;
	turn(userdata);
}

static void on_timer(void *userdata)
{
	turn(userdata);
}

/* ---- requests ---- */

static enum MHD_Result send_reply(struct MHD_Connection *c, struct listener_reply *reply)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(reply->body.len, reply->body.data, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result result = MHD_NO;

	if (!r)
		return MHD_NO;
	if (MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE,
				    reply->content_type ? reply->content_type : "application/json") == MHD_YES &&
	    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") == MHD_YES)
		result = MHD_queue_response(c, reply->status, r);
	MHD_destroy_response(r);
	return result;
}

static enum MHD_Result send_error(struct MHD_Connection *c, unsigned status, const char *text)
{
	struct listener_reply reply = { .status = status, .body = BUF_INIT(256) };
	enum MHD_Result result;

	(void)buf_printf(&reply.body, "{\"error\":\"%s\"}\n", text);
	result = send_reply(c, &reply);
	buf_done(&reply.body);
	return result;
}

static uid_t peer_of(const struct listener *l, struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (!l->local || !info || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return (uid_t)-1;
	return cred.uid;
}

static enum MHD_Result answer(struct listener *l, struct MHD_Connection *c, const char *method, const char *path,
			      struct exchange *x)
{
	struct listener_reply reply = { .status = MHD_HTTP_NOT_FOUND, .body = BUF_INIT(LIMIT_API_REPLY) };
	const char *accept = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
	struct listener_request req = {
		.method = method,
		.path = path,
		.query = x->query ? x->query : "",
		.accept = accept ? accept : "",
		.body = buf_str(&x->body),
		.body_len = x->body.len,
		.local = l->local,
		.peer_uid = peer_of(l, c),
	};
	enum MHD_Result result;

	l->fn(&req, &reply, l->userdata);
	if (buf_ok(&reply.body) < 0)
		result = send_error(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "the answer is too large");
	else
		result = send_reply(c, &reply);
	buf_done(&reply.body);
	return result;
}

/* Called with the header, then with each piece of the body, then once more at its end. */
static enum MHD_Result on_request(void *userdata, struct MHD_Connection *c, const char *path, const char *method,
				  const char *version, const char *data, size_t *len, void **state)
{
	struct listener *l = userdata;
	struct exchange *x = *state;

	(void)version;
	if (!x) /* on_uri could not make one */
		return MHD_NO;
	if (*len) {
		if (!x->too_large && buf_append(&x->body, data, *len) < 0)
			x->too_large = true;
		*len = 0;
		return MHD_YES;
	}
	/* The first call has no data either; answering it would leave the body unread. */
	if (!x->body.max) {
		x->body.max = LIMIT_LISTENER_REQUEST;
		return MHD_YES;
	}
	if (x->too_large)
		return send_error(c, CONTENT_TOO_LARGE, "the request is too large");
	return answer(l, c, method, path, x);
}

/* The raw target: MHD itself would hand out the query only in decoded pieces. */
static void *on_uri(void *userdata, const char *uri, struct MHD_Connection *c)
{
	struct exchange *x = calloc(1, sizeof(*x));
	const char *query = strchr(uri, '?');

	(void)userdata;
	(void)c;
	if (x && query) {
		x->query = strdup(query + 1);
		if (!x->query) {
			free(x);
			return NULL;
		}
	}
	return x;
}

static void on_completed(void *userdata, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode code)
{
	struct exchange *x = *state;

	(void)userdata;
	(void)c;
	(void)code;
	if (!x)
		return;
	buf_done(&x->body);
	free(x->query);
	free(x);
	*state = NULL;
}

/* Who talks nonsense to us is not worth a line on our standard error. */
static void ignore_log(void *userdata, const char *fmt, va_list ap)
{
	(void)userdata;
	(void)fmt;
	(void)ap;
}

/* ---- the listener ---- */

int listener_new(struct loop *loop, int fd, listener_fn fn, void *userdata, struct listener **ret, struct error *err)
{
	_cleanup_(listener_freep) struct listener *l = NULL;
	_cleanup_close_ int owned = fd;
	const union MHD_DaemonInfo *info;
	struct sockaddr_storage a = { 0 };
	socklen_t len = sizeof(a);
	int r;

	if (getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return error_errno(err, -errno, "cannot listen");
	/* MHD accepts until there is nothing more, and must not wait for the next one. */
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		return error_errno(err, -errno, "cannot listen");
	l = calloc(1, sizeof(*l));
	if (!l)
		return error_oom(err);
	l->fn = fn;
	l->userdata = userdata;
	l->local = a.ss_family == AF_UNIX;
	r = loop_timer_new(loop, "listener", on_timer, l, &l->timer);
	if (r < 0)
		return error_errno(err, r, "cannot listen");
	l->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, l,
				     MHD_OPTION_EXTERNAL_LOGGER, ignore_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
				     MHD_OPTION_CONNECTION_LIMIT, (unsigned)LIMIT_LISTENER_CONNECTIONS,
				     MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
				     MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)LIMIT_LISTENER_SECONDS,
				     MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
				     NULL, MHD_OPTION_END);
	if (!l->daemon)
		return error_set(err, ERROR_SYSTEM, -EIO, "cannot listen: the HTTP library refuses the socket");
	(void)TAKE_FD(owned); /* MHD closes it from now on */
	info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	r = info ? loop_io_new(loop, "listener", info->epoll_fd, EPOLLIN, on_io, l, &l->io) : -EIO;
	if (r < 0)
		return error_errno(err, r, "cannot listen");
	*ret = TAKE_PTR(l);
	return 0;
}

/* A connection that is kept open between two requests is waited for in vain. */
void listener_finish(struct listener *l)
{
	const union MHD_DaemonInfo *info = l ? MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	usec_t deadline = usec_add(time_boot(), LAST_USEC);
	_cleanup_close_ int fd = l ? MHD_quiesce_daemon(l->daemon) : -1;

	while (fd >= 0 && info && connections(l) > 0 && time_boot() < deadline) {
		struct pollfd p = { .fd = info->epoll_fd, .events = POLLIN };

		(void)poll(&p, 1, LAST_LOOK_MS);
		(void)MHD_run(l->daemon);
	}
}

void listener_free(struct listener *l)
{
	if (!l)
		return;
	loop_io_free(l->io);
	loop_timer_free(l->timer);
	if (l->daemon)
		MHD_stop_daemon(l->daemon);
	free(l);
}

/* ---- sockets ---- */

/* "HOST:PORT", the host in brackets if it has colons itself. */
static int split_endpoint(const char *endpoint, char host[static 64], char port[static 8])
{
	const char *colon = strrchr(endpoint, ':');
	const char *from = endpoint;
	uint64_t number;
	size_t n;

	if (!colon || !str_to_u64(colon + 1, 65535, &number))
		return -EINVAL;
	n = (size_t)(colon - endpoint);
	if (n >= 2 && from[0] == '[' && from[n - 1] == ']') {
		from++;
		n -= 2;
	} else if (memchr(from, ':', n)) {
		return -EINVAL;
	}
	if (!n || n >= 64)
		return -EINVAL;
	memcpy(host, from, n);
	host[n] = '\0';
	(void)snprintf(port, 8, "%u", (unsigned)number);
	return 0;
}

static int bind_and_listen(int fd, const struct sockaddr *a, socklen_t len)
{
	return bind(fd, a, len) < 0 || listen(fd, BACKLOG) < 0 ? -errno : 0;
}

/* No name service: a name here is this machine's own, and is answered without asking anybody. */
static int find_address(const char *endpoint, char port[static 8], struct addrinfo **ret)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
	char host[64];

	if (split_endpoint(endpoint, host, port) < 0 ||
	    getaddrinfo(str_equal_nocase(host, "localhost") ? "127.0.0.1" : host, port, &hints, ret) != 0)
		return -EINVAL;
	return 0;
}

static bool same_address(const struct sockaddr_storage *a, const struct addrinfo *wanted)
{
	if (a->ss_family != wanted->ai_family)
		return false;
	if (a->ss_family == AF_INET) {
		const struct sockaddr_in *x = (const void *)a, *y = (const void *)wanted->ai_addr;

		return x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
	} else {
		const struct sockaddr_in6 *x = (const void *)a, *y = (const void *)wanted->ai_addr;

		return x->sin6_port == y->sin6_port && memcmp(&x->sin6_addr, &y->sin6_addr, sizeof(x->sin6_addr)) == 0 &&
		       x->sin6_scope_id == y->sin6_scope_id;
	}
}

bool listener_is_bound(int fd, const char *endpoint)
{
	struct sockaddr_storage a = { 0 };
	struct addrinfo *list = NULL;
	socklen_t alen = sizeof(a), len = sizeof(int);
	int listens = 0, type = 0;
	char port[8];
	bool same;

	/* What is no socket, or of another family, fails or differs in one of these. */
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM ||
	    getsockname(fd, (struct sockaddr *)&a, &alen) < 0 || find_address(endpoint, port, &list) < 0)
		return false;
	same = same_address(&a, list);
	freeaddrinfo(list);
	return same;
}

int listener_bind_tcp(const char *endpoint, int *ret_fd, struct error *err)
{
	struct addrinfo *list = NULL;
	_cleanup_close_ int fd = -1;
	char port[8];
	int one = 1, r;

	if (find_address(endpoint, port, &list) < 0)
		return error_set(err, ERROR_USER, -EINVAL,
				 "\"%s\" is not an address to listen on: write 127.0.0.1:8008, [::1]:8008 or 0.0.0.0:8008",
				 endpoint);
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : 0;
	/* After a restart the old connections may linger; they do not stand in the way. */
	if (r == 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
		r = -errno;
	if (r == 0)
		r = bind_and_listen(fd, list->ai_addr, list->ai_addrlen);
	freeaddrinfo(list);
	if (r == -EADDRINUSE)
		return error_set(err, ERROR_USER, r,
				 "cannot listen on %s: another program does (\"ss -ltnp 'sport = :%s'\" names it); stop it or "
				 "choose another port",
				 endpoint, port);
	if (r == -EADDRNOTAVAIL)
		return error_set(err, ERROR_USER, r, "cannot listen on %s: this machine does not have that address", endpoint);
	if (r < 0)
		return error_errno(err, r, "cannot listen on %s", endpoint);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int listener_bind_unix(const char *path, mode_t mode, int *ret_fd, struct error *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -1;
	struct stat st;
	mode_t old;
	int r;

	if (strlen(path) >= sizeof(a.sun_path))
		return error_set(err, ERROR_SYSTEM, -ENAMETOOLONG, "cannot listen on %s: the path is longer than %zu bytes",
				 path, sizeof(a.sun_path) - 1);
	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_errno(err, -errno, "cannot listen on %s", path);
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && unlink(path) < 0)
		return error_errno(err, -errno, "cannot replace the socket %s", path);
	/* Nobody may connect in the moment before the mode is set. */
	old = umask(0777);
	r = bind_and_listen(fd, (const struct sockaddr *)&a, sizeof(a));
	(void)umask(old);
	if (r == 0 && chmod(path, mode) < 0)
		r = -errno;
	if (r < 0)
		return error_errno(err, r, "cannot listen on %s", path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

const char *listener_library(void)
{
	return MHD_get_version();
}
