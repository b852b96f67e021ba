/* sd_notify and socket activation. */
#include "agent/io/service.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/io/loop.h"

/* A line break would begin an assignment of its own. */
static int first_line(const char *s)
{
	return (int)strcspn(s, "\n");
}

void service_ready(const char *status)
{
	if (status)
		(void)sd_notifyf(0, "READY=1\nSTATUS=%.*s", first_line(status), status);
	else
		(void)sd_notify(0, "READY=1");
}

/* The time tells the manager which reload this is; it goes by CLOCK_MONOTONIC alone. */
void service_reloading(void)
{
	struct timespec ts = { 0 };
	uint64_t usec;

	if (clock_gettime(CLOCK_MONOTONIC, &ts) < 0)
		return;
	usec = (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
	(void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, usec);
}

void service_stopping(void)
{
	(void)sd_notify(0, "STOPPING=1");
}

void service_status(const char *status)
{
	(void)sd_notifyf(0, "STATUS=%.*s", first_line(status), status);
}

int service_watchdog(struct loop *loop, struct error *err)
{
	uint64_t usec;
	int r = sd_watchdog_enabled(0, &usec);

	if (r > 0)
		r = sd_event_set_watchdog(loop_sd_event(loop), 1);
	return r < 0 ? error_errno(err, r, "cannot serve the service manager's watchdog") : 0;
}

int service_socket(const char *name)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(0, &names), fd = -ENOENT;

	for (int i = 0; i < n && fd < 0; i++)
		if (str_equal(names[i], name))
			fd = SD_LISTEN_FDS_START + i;
	if (n > 0)
		strv_free(names);
	return n < 0 ? n : fd;
}

/* ---- sockets kept over a restart ---- */

#define BARRIER_USEC USEC_PER_SEC

void service_keep_socket(const char *name, int fd)
{
	_cleanup_free_ char *text = str_format("FDSTORE=1\nFDNAME=%s", name);

	if (text)
		(void)sd_pid_notify_with_fds(0, 0, text, &fd, 1);
}

void service_forget_socket(const char *name)
{
	if (sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name) > 0)
		(void)sd_notify_barrier(0, BARRIER_USEC);
}

/* The number stays taken: libsystemd looks at all of them each time it is asked for one. */
static int take_number(int number)
{
	_cleanup_close_ int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int fd = fcntl(number, F_DUPFD_CLOEXEC, SD_LISTEN_FDS_START);

	if (fd >= 0 && (nothing < 0 || dup3(nothing, number, O_CLOEXEC) < 0))
		(void)close(number);
	return fd < 0 ? -errno : fd;
}

void service_take_kept(service_kept_fn take, void *userdata)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(0, &names);

	for (int i = 0; i < n; i++) {
		int fd;

		if (!str_starts(names[i], SERVICE_KEPT))
			continue;
		fd = take_number(SD_LISTEN_FDS_START + i);
		if (fd >= 0)
			take(names[i], fd, userdata);
		else
			service_forget_socket(names[i]);
	}
	if (n > 0)
		strv_free(names);
}
