/* What the service manager hears, and the sockets it hands over. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"
#include "agent/io/service.h"

struct world {
	char dir[40];
	char path[80];
	int fd;
	char got[500];
};

static int setup(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	strcpy(w->dir, "/tmp/ek-service-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	(void)snprintf(w->path, sizeof(w->path), "%s/notify", w->dir);
	memcpy(a.sun_path, w->path, strlen(w->path));
	w->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(w->fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -1;
	*state = w;
	return setenv("NOTIFY_SOCKET", w->path, 1);
}

static int teardown(void **state)
{
	struct world *w = *state;

	close(w->fd);
	(void)unlink(w->path);
	(void)rmdir(w->dir);
	free(w);
	return unsetenv("NOTIFY_SOCKET");
}

static const char *heard(struct world *w)
{
	ssize_t n = recv(w->fd, w->got, sizeof(w->got) - 1, MSG_DONTWAIT);

	w->got[n > 0 ? n : 0] = '\0';
	return w->got;
}

static void test_notify(void **state)
{
	struct world *w = *state;

	service_ready("watching");
	assert_string_equal(heard(w), "READY=1\nSTATUS=watching");
	service_ready(NULL);
	assert_string_equal(heard(w), "READY=1");
	service_status("one line\nREADY=0");
	assert_string_equal(heard(w), "STATUS=one line");
	service_reloading();
	assert_true(str_starts(heard(w), "RELOADING=1\nMONOTONIC_USEC="));
	service_stopping();
	assert_string_equal(heard(w), "STOPPING=1");
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	service_stopping(); /* without a manager: nothing */
	assert_string_equal(heard(w), "");
}

static void on_end(void *userdata)
{
	loop_exit(userdata, 0);
}

static void test_watchdog(void **state)
{
	_cleanup_(loop_freep) struct loop *loop = NULL;
	struct world *w = *state;
	struct loop_timer *end = NULL;
	unsigned pings = 0;

	assert_int_equal(loop_new(&loop, NULL), 0);
	assert_int_equal(service_watchdog(loop, NULL), 0); /* none asked for */
	assert_string_equal(heard(w), "");

	assert_int_equal(setenv("WATCHDOG_USEC", "200000", 1), 0);
	assert_int_equal(service_watchdog(loop, NULL), 0);
	assert_int_equal(loop_timer_new(loop, "end", on_end, loop, &end), 0);
	loop_timer_after(end, 500 * USEC_PER_MSEC);
	assert_int_equal(loop_run(loop), 0);
	while (str_equal(heard(w), "WATCHDOG=1"))
		pings++;
	assert_true(pings >= 2);
	loop_timer_free(end);
	assert_int_equal(unsetenv("WATCHDOG_USEC"), 0);
}

static int child(void)
{
	char pid[20];
	int fd = open("/dev/null", O_RDONLY);

	(void)snprintf(pid, sizeof(pid), "%d", getpid());
	if (dup2(fd, 3) < 0 || dup2(fd, 4) < 0 || setenv("LISTEN_PID", pid, 1) < 0 || setenv("LISTEN_FDS", "2", 1) < 0 ||
	    setenv("LISTEN_FDNAMES", "api:ready", 1) < 0)
		return 1;
	if (service_socket("ready") != 4 || service_socket("api") != 3 || service_socket("other") != -ENOENT)
		return 2;
	return fcntl(4, F_GETFD) & FD_CLOEXEC ? 0 : 3;
}

static bool same_file(int one, int other)
{
	struct stat a, b;

	return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static void on_kept(const char *name, int fd, void *userdata)
{
	int *taken = userdata;

	if (str_equal(name, "listen-127.0.0.1_8008")) {
		*taken = fd;
		return;
	}
	close(fd);
	service_forget_socket(name);
}

/* 3 and 5 are listening sockets that the process before has left, 4 is the API's. */
static int child_after_restart(void)
{
	char pid[20];
	int fd = open("/proc/self/status", O_RDONLY), taken = -1;

	fd = fcntl(fd, F_DUPFD, 20);
	(void)snprintf(pid, sizeof(pid), "%d", getpid());
	for (int i = 3; i < 6; i++)
		if (dup2(fd, i) < 0)
			return 1;
	if (setenv("LISTEN_PID", pid, 1) < 0 || setenv("LISTEN_FDS", "3", 1) < 0 ||
	    setenv("LISTEN_FDNAMES", "listen-[__1]_80:api:listen-127.0.0.1_8008", 1) < 0)
		return 1;
	service_take_kept(on_kept, &taken);
	if (taken < 0 || !same_file(taken, fd))
		return 2;
	/* What is closed is closed, and still the API's socket is found. */
	if (same_file(3, fd) || !same_file(4, fd) || same_file(5, fd))
		return 3;
	return service_socket("api") == 4 ? 0 : 4;
}

static void test_kept_sockets(void **state)
{
	struct world *w = *state;
	int status, taken = -1;
	pid_t pid;

	service_keep_socket("listen-127.0.0.1_8008", 0);
	assert_string_equal(heard(w), "FDSTORE=1\nFDNAME=listen-127.0.0.1_8008");
	service_take_kept(on_kept, &taken); /* there was no process before */
	assert_int_equal(taken, -1);
	pid = fork();
	if (pid == 0)
		_exit(child_after_restart());
	/* Who forgets waits until it is heard. */
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_string_equal(heard(w), "FDSTOREREMOVE=1\nFDNAME=listen-[__1]_80");
	while (*heard(w))
		;
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	service_forget_socket("listen-x"); /* without a manager: nothing */
	assert_string_equal(heard(w), "");
}

static void test_sockets(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(service_socket("api"), -ENOENT);
	pid = fork();
	if (pid == 0)
		_exit(child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_notify, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watchdog, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sockets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kept_sockets, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
