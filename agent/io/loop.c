/* sd-event behind the loop's few calls. */
#include "agent/io/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <systemd/sd-event.h>
#include <time.h>

#include "agent/base/macros.h"

/* Deadlines here are promises to the platform; sd-event's own default may add 250 ms. */
#define ACCURACY_USEC USEC_PER_MSEC

struct loop_signal {
	struct loop_signal *next;
	sd_event_source *source;
	loop_signal_fn fn;
	void *userdata;
};

struct loop {
	sd_event *event;
	struct loop_signal *signals;
	bool running, exiting;
	int code;
};

struct loop_timer {
	struct loop *loop;
	sd_event_source *source;
	loop_timer_fn fn;
	void *userdata;
	usec_t due;
};

struct loop_io {
	sd_event_source *source;
	loop_io_fn fn;
	void *userdata;
};

int loop_new(struct loop **ret, struct error *err)
{
	_cleanup_(loop_freep) struct loop *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return error_oom(err);
	r = sd_event_new(&l->event);
	if (r < 0)
		return error_errno(err, r, "cannot make an event loop");
	*ret = TAKE_PTR(l);
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	while (l->signals) {
		struct loop_signal *s = l->signals;

		l->signals = s->next;
		sd_event_source_disable_unref(s->source);
		free(s);
	}
	sd_event_unref(l->event);
	free(l);
}

int loop_run(struct loop *l)
{
	int r = 0;

	/* Not sd_event_exit(): a loop that went through it can never run again, and a run after it spins on -ESTALE. */
	l->running = true;
	while (!l->exiting && r >= 0)
		r = sd_event_run(l->event, UINT64_MAX);
	l->running = l->exiting = false;
	return r < 0 ? r : l->code;
}

void loop_exit(struct loop *l, int code)
{
	if (l->exiting)
		return;
	l->exiting = true;
	l->code = code;
}

struct sd_event *loop_sd_event(struct loop *l)
{
	return l->event;
}

static usec_t now_on(const struct loop *l, clockid_t clock)
{
	uint64_t usec;

	/* Between two runs sd-event would still say when the last dispatch was. */
	if (!l->running || sd_event_now(l->event, clock, &usec) < 0)
		return clock == CLOCK_REALTIME ? time_wall() : time_boot();
	return usec;
}

usec_t loop_now_boot(const struct loop *l)
{
	return now_on(l, CLOCK_BOOTTIME);
}

usec_t loop_now_wall(const struct loop *l)
{
	return now_on(l, CLOCK_REALTIME);
}

/* ---- timers ---- */

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct loop_timer *t = userdata;

	(void)s;
	(void)usec;
	t->due = USEC_INFINITY;
	t->fn(t->userdata); /* may free t */
	return 0;
}

int loop_timer_new(struct loop *l, const char *name, loop_timer_fn fn, void *userdata, struct loop_timer **ret)
{
	_cleanup_(loop_timer_freep) struct loop_timer *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	*t = (struct loop_timer){ .loop = l, .fn = fn, .userdata = userdata, .due = USEC_INFINITY };
	r = sd_event_add_time(l->event, &t->source, CLOCK_BOOTTIME, USEC_INFINITY, ACCURACY_USEC, on_timer, t);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(t->source, name);
	r = sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

void loop_timer_free(struct loop_timer *t)
{
	if (!t)
		return;
	sd_event_source_disable_unref(t->source);
	free(t);
}

void loop_timer_at(struct loop_timer *t, usec_t boot)
{
	if (boot == USEC_INFINITY) {
		loop_timer_stop(t);
		return;
	}
	/* Neither call fails but for a loop that has ended, and then no timer matters. */
	/* What is due is not put off to a moment that suits others as well, for which the process would sleep and wake once more. */
	(void)sd_event_source_set_time_accuracy(t->source, boot <= time_boot() ? 1 : ACCURACY_USEC);
	if (sd_event_source_set_time(t->source, boot) < 0 ||
	    sd_event_source_set_enabled(t->source, SD_EVENT_ONESHOT) < 0)
		return;
	t->due = boot;
}

void loop_timer_after(struct loop_timer *t, usec_t span)
{
	loop_timer_at(t, usec_add(loop_now_boot(t->loop), span));
}

void loop_timer_stop(struct loop_timer *t)
{
	(void)sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
	t->due = USEC_INFINITY;
}

usec_t loop_timer_due(const struct loop_timer *t)
{
	return t->due;
}

/* ---- signals ---- */

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata)
{
	struct loop_signal *s = userdata;

	(void)source;
	s->fn((int)si->ssi_signo, s->userdata);
	return 0;
}

int loop_signal(struct loop *l, int signo, loop_signal_fn fn, void *userdata)
{
	struct loop_signal *s;
	sigset_t set;
	int r;

	if (sigemptyset(&set) < 0 || sigaddset(&set, signo) < 0)
		return -errno;
	r = pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (r)
		return -r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->fn = fn;
	s->userdata = userdata;
	r = sd_event_add_signal(l->event, &s->source, signo, on_signal, s);
	if (r < 0) {
		free(s);
		return r;
	}
	(void)sd_event_source_set_description(s->source, "signal");
	s->next = l->signals;
	l->signals = s;
	return 0;
}

/* ---- file descriptors ---- */

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct loop_io *io = userdata;

	(void)s;
	io->fn(fd, revents, io->userdata); /* may free io */
	return 0;
}

int loop_io_new(struct loop *l, const char *name, int fd, uint32_t epoll_events, loop_io_fn fn, void *userdata,
		struct loop_io **ret)
{
	_cleanup_(loop_io_freep) struct loop_io *io = calloc(1, sizeof(*io));
	int r;

	if (!io)
		return -ENOMEM;
	io->fn = fn;
	io->userdata = userdata;
	r = sd_event_add_io(l->event, &io->source, fd, epoll_events, on_io, io);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(io->source, name);
	*ret = TAKE_PTR(io);
	return 0;
}

void loop_io_free(struct loop_io *io)
{
	if (!io)
		return;
	sd_event_source_disable_unref(io->source);
	free(io);
}
