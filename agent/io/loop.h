/*
 * The event loop: sd-event behind the few calls the program needs. One loop per process, one thread.
 * Callbacks run from loop_run() only, never from inside the call that armed them. A callback may free its
 * own source. Everything made on a loop is freed before it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/error.h"
#include "agent/base/time.h"

struct sd_event;
struct loop;
struct loop_timer;
struct loop_io;

_nodiscard_ int loop_new(struct loop **ret, struct error *err);
void loop_free(struct loop *l);

/* Until loop_exit(); returns its code, or a negative errno when the loop itself failed. May be called again
 * afterwards, never from a callback. */
int loop_run(struct loop *l);
/* Takes effect when the callback returns. The first code given stays. */
void loop_exit(struct loop *l, int code);

/* The times of this dispatch; outside of loop_run(), the clocks themselves. */
usec_t loop_now_boot(const struct loop *l);
usec_t loop_now_wall(const struct loop *l);

typedef void (*loop_timer_fn)(void *userdata);
/* A stopped one-shot timer on CLOCK_BOOTTIME. `name` is a literal. */
_nodiscard_ int loop_timer_new(struct loop *l, const char *name, loop_timer_fn fn, void *userdata, struct loop_timer **ret);
void loop_timer_free(struct loop_timer *t);
void loop_timer_at(struct loop_timer *t, usec_t boot); /* re-arms; USEC_INFINITY stops */
void loop_timer_after(struct loop_timer *t, usec_t span);
void loop_timer_stop(struct loop_timer *t);
usec_t loop_timer_due(const struct loop_timer *t); /* USEC_INFINITY when stopped */

typedef void (*loop_signal_fn)(int signo, void *userdata);
/* Blocks the signal for the process and delivers it here, until the loop is freed. */
_nodiscard_ int loop_signal(struct loop *l, int signo, loop_signal_fn fn, void *userdata);

typedef void (*loop_io_fn)(int fd, uint32_t epoll_events, void *userdata);
/* Does not own the file descriptor. */
_nodiscard_ int loop_io_new(struct loop *l, const char *name, int fd, uint32_t epoll_events, loop_io_fn fn,
			    void *userdata, struct loop_io **ret);
void loop_io_free(struct loop_io *io);

/* For agent/io only. */
struct sd_event *loop_sd_event(struct loop *l);

DEFINE_CLEANUP(struct loop *, loop_free)
DEFINE_CLEANUP(struct loop_timer *, loop_timer_free)
DEFINE_CLEANUP(struct loop_io *, loop_io_free)
