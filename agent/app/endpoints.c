/* Sockets by their address, and the listeners on them: each has its own descriptor of the socket, so that either may go first. */
#include "agent/app/endpoints.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/service.h"

#define PROBLEM_MAX 600

struct kept {
	char *name; /* of the address, as the manager knows it; NULL: free */
	int fd;
};

struct endpoints {
	struct loop *loop;
	struct {
		listener_fn fn;
		void *userdata;
		char *address;
		struct listener *listener;
		char problem[PROBLEM_MAX];
	} of[_ENDPOINT_MAX];
	struct kept kept[LIMIT_KEPT_SOCKETS];
	bool looked; /* at what the process before has left */
};

/* Where no ":" may be; heap. */
static char *name_of(const char *address)
{
	char *name = str_format(SERVICE_KEPT "%s", address);

	for (char *c = name; c && *c; c++)
		if (*c == ':')
			*c = '_';
	return name;
}

/* NULL: a free place. */
static struct kept *find(struct endpoints *e, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(e->kept); i++)
		if (str_equal(e->kept[i].name, name))
			return &e->kept[i];
	return NULL;
}

static void drop(struct kept *k)
{
	close(k->fd);
	service_forget_socket(k->name);
	free(TAKE_PTR(k->name));
}

/* Which of these addresses has that name, or NULL. */
static const char *wanted_as(const char *const *addresses, const char *name)
{
	for (size_t i = 0; i < _ENDPOINT_MAX; i++) {
		_cleanup_free_ char *one = addresses[i] ? name_of(addresses[i]) : NULL;

		if (one && str_equal(one, name))
			return addresses[i];
	}
	return NULL;
}

/* ---- what the process before has left ---- */

struct taking {
	struct endpoints *endpoints;
	const char *const *addresses;
	bool forgot;
};

static void on_left(const char *name, int fd, void *userdata)
{
	struct taking *t = userdata;
	struct kept *k = find(t->endpoints, NULL);
	const char *address = wanted_as(t->addresses, name);
	_cleanup_free_ char *copy = strdup(name);

	if (address && listener_is_bound(fd, address) && !find(t->endpoints, name) && k && copy) {
		*k = (struct kept){ .name = TAKE_PTR(copy), .fd = fd };
		return;
	}
	log_debug("the socket %s of the process before is closed: %s", name,
		  address ? "it does not listen there" : "nothing is to listen there");
	(void)close(fd);
	service_forget_socket(name);
	t->forgot = true;
}

static void take_left(struct endpoints *e, const char *const *addresses)
{
	struct taking t = { .endpoints = e, .addresses = addresses };

	if (e->looked)
		return;
	e->looked = true;
	service_take_kept(on_left, &t);
	/* All of one name are forgotten at once, the good one, too. What the manager has already, it does not take twice. */
	for (size_t i = 0; t.forgot && i < ARRAY_SIZE(e->kept); i++)
		if (e->kept[i].name)
			service_keep_socket(e->kept[i].name, e->kept[i].fd);
}

/* ---- going over ---- */

static int open_socket(struct endpoints *e, const char *address, int *ret_fd, struct error *err)
{
	_cleanup_free_ char *name = name_of(address);
	struct kept *k = name ? find(e, name) : NULL;
	int r;

	if (!name)
		return error_oom(err);
	if (!k) {
		k = find(e, NULL);
		if (!k)
			return error_set(err, ERROR_SYSTEM, -EMFILE, "cannot listen on %s: too many sockets", address);
		r = listener_bind_tcp(address, &k->fd, err);
		if (r < 0)
			return r;
		k->name = TAKE_PTR(name);
		service_keep_socket(k->name, k->fd);
	}
	*ret_fd = fcntl(k->fd, F_DUPFD_CLOEXEC, 0);
	return *ret_fd < 0 ? error_errno(err, -errno, "cannot listen on %s", address) : 0;
}

static void listen_on(struct endpoints *e, size_t i, const char *address)
{
	struct error why = ERROR_INIT;
	int fd = -1, r = 0;

	e->of[i].problem[0] = '\0';
	if (str_set(&e->of[i].address, address) < 0)
		r = error_oom(&why);
	if (r >= 0 && address)
		r = open_socket(e, address, &fd, &why);
	if (r >= 0 && address)
		r = listener_new(e->loop, fd, e->of[i].fn, e->of[i].userdata, &e->of[i].listener, &why);
	if (r < 0)
		(void)snprintf(e->of[i].problem, sizeof(e->of[i].problem), "%s", why.msg);
}

void endpoints_apply(struct endpoints *e, const char *const addresses[static _ENDPOINT_MAX])
{
	take_left(e, addresses);
	for (size_t i = 0; i < _ENDPOINT_MAX; i++)
		if (!str_equal(e->of[i].address, addresses[i]))
			listener_free(TAKE_PTR(e->of[i].listener));
	for (size_t i = 0; i < ARRAY_SIZE(e->kept); i++)
		if (e->kept[i].name && !wanted_as(addresses, e->kept[i].name))
			drop(&e->kept[i]);
	for (size_t i = 0; i < _ENDPOINT_MAX; i++)
		if (!e->of[i].listener)
			listen_on(e, i, addresses[i]);
}

/* ---- in and out ---- */

void endpoints_answer(struct endpoints *e, enum endpoint which, listener_fn fn, void *userdata)
{
	e->of[which].fn = fn;
	e->of[which].userdata = userdata;
}

const char *endpoints_address(const struct endpoints *e, enum endpoint which)
{
	return e->of[which].address;
}

const char *endpoints_problem(const struct endpoints *e, enum endpoint which)
{
	return e->of[which].problem[0] ? e->of[which].problem : NULL;
}

int endpoints_new(struct loop *loop, struct endpoints **ret, struct error *err)
{
	struct endpoints *e = calloc(1, sizeof(*e));

	if (!e)
		return error_oom(err);
	e->loop = loop;
	*ret = e;
	return 0;
}

void endpoints_finish(struct endpoints *e)
{
	for (size_t i = 0; e && i < _ENDPOINT_MAX; i++)
		listener_finish(e->of[i].listener);
}

void endpoints_free(struct endpoints *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < _ENDPOINT_MAX; i++) {
		listener_free(e->of[i].listener);
		free(e->of[i].address);
	}
	for (size_t i = 0; i < ARRAY_SIZE(e->kept); i++)
		if (e->kept[i].name) {
			close(e->kept[i].fd);
			free(e->kept[i].name);
		}
	free(e);
}
