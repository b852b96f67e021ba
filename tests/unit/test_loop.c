/* Timers, signals and file descriptors on the loop: order, freeing from inside a callback, exit codes. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/io/loop.h"

struct world {
	struct loop *loop;
	struct loop_timer *a, *b, *end;
	struct loop_io *io;
	int fired_a, fired_b, reads, signals;
	char order[16];
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	*state = w;
	return w && loop_new(&w->loop, NULL) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	struct world *w = *state;

	loop_timer_free(w->a);
	loop_timer_free(w->b);
	loop_timer_free(w->end);
	loop_io_free(w->io);
	loop_free(w->loop);
	free(w);
	return 0;
}

static void on_end(void *userdata)
{
	struct world *w = userdata;

	loop_exit(w->loop, 7);
	loop_exit(w->loop, 8);
}

static void on_a(void *userdata)
{
	struct world *w = userdata;

	w->fired_a++;
	strcat(w->order, "a");
	assert_true(loop_timer_due(w->a) == USEC_INFINITY);
	if (w->fired_a < 3)
		loop_timer_after(w->a, 2 * USEC_PER_MSEC);
}

static void on_b(void *userdata)
{
	struct world *w = userdata;

	w->fired_b++;
	strcat(w->order, "b");
	loop_timer_free(w->b); /* its own source */
	w->b = NULL;
}

static void test_timers(void **state)
{
	struct world *w = *state;
	usec_t start = time_boot();

	assert_int_equal(loop_timer_new(w->loop, "a", on_a, w, &w->a), 0);
	assert_int_equal(loop_timer_new(w->loop, "b", on_b, w, &w->b), 0);
	assert_int_equal(loop_timer_new(w->loop, "end", on_end, w, &w->end), 0);
	assert_true(loop_timer_due(w->a) == USEC_INFINITY);
	loop_timer_at(w->a, start + 20 * USEC_PER_MSEC);
	assert_true(loop_timer_due(w->a) == start + 20 * USEC_PER_MSEC);
	loop_timer_after(w->b, 5 * USEC_PER_MSEC);
	loop_timer_after(w->end, 80 * USEC_PER_MSEC);
	assert_int_equal(w->fired_a, 0);
	assert_int_equal(loop_run(w->loop), 7); /* the first code stays */
	assert_int_equal(w->fired_a, 3);
	assert_int_equal(w->fired_b, 1);
	assert_string_equal(w->order, "baaa");
	assert_true(time_boot() - start >= 80 * USEC_PER_MSEC);
}

static void test_timer_stop(void **state)
{
	struct world *w = *state;

	assert_int_equal(loop_timer_new(w->loop, "a", on_a, w, &w->a), 0);
	assert_int_equal(loop_timer_new(w->loop, "b", on_b, w, &w->b), 0);
	assert_int_equal(loop_timer_new(w->loop, "end", on_end, w, &w->end), 0);
	loop_timer_after(w->a, 0);
	loop_timer_stop(w->a);
	loop_timer_after(w->b, 0);
	loop_timer_at(w->b, USEC_INFINITY);
	loop_timer_after(w->end, 10 * USEC_PER_MSEC);
	assert_int_equal(loop_run(w->loop), 7);
	assert_int_equal(w->fired_a + w->fired_b, 0);

	/* A loop that ended runs again; an exit before it ends it at once. */
	loop_timer_after(w->b, 0);
	loop_timer_after(w->end, 10 * USEC_PER_MSEC);
	assert_int_equal(loop_run(w->loop), 7);
	assert_int_equal(w->fired_b, 1);
	loop_exit(w->loop, 3);
	assert_int_equal(loop_run(w->loop), 3);
}

static void on_readable(int fd, uint32_t events, void *userdata)
{
	struct world *w = userdata;
	char c;

	assert_true(events & EPOLLIN);
	assert_int_equal(read(fd, &c, 1), 1);
	if (++w->reads == 2) {
		loop_io_free(w->io);
		w->io = NULL;
		loop_timer_after(w->end, 10 * USEC_PER_MSEC);
	}
}

static void test_io(void **state)
{
	struct world *w = *state;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "xyz", 3), 3);
	assert_int_equal(loop_timer_new(w->loop, "end", on_end, w, &w->end), 0);
	assert_int_equal(loop_io_new(w->loop, "pipe", fds[0], EPOLLIN, on_readable, w, &w->io), 0);
	assert_int_equal(loop_run(w->loop), 7);
	assert_int_equal(w->reads, 2); /* nothing after it was freed */
	close(fds[0]);
	close(fds[1]);
}

static void on_usr1(int signo, void *userdata)
{
	struct world *w = userdata;

	assert_int_equal(signo, SIGUSR1);
	w->signals++;
	loop_exit(w->loop, 0);
}

static void test_signal(void **state)
{
	struct world *w = *state;

	assert_int_equal(loop_signal(w->loop, SIGUSR1, on_usr1, w), 0);
	assert_int_equal(raise(SIGUSR1), 0); /* blocked: waits for the loop */
	assert_int_equal(w->signals, 0);
	assert_int_equal(loop_run(w->loop), 0);
	assert_int_equal(w->signals, 1);
	assert_true(loop_signal(w->loop, SIGUSR1, on_usr1, w) < 0);
}

static void test_now(void **state)
{
	struct world *w = *state;
	usec_t boot = time_boot(), wall = time_wall();

	assert_true(loop_now_boot(w->loop) >= boot && loop_now_boot(w->loop) < boot + USEC_PER_MINUTE);
	assert_true(loop_now_wall(w->loop) + USEC_PER_MINUTE > wall);

	/* Between two runs time goes on. */
	assert_int_equal(loop_timer_new(w->loop, "end", on_end, w, &w->end), 0);
	loop_timer_after(w->end, 0);
	assert_int_equal(loop_run(w->loop), 7);
	boot = loop_now_boot(w->loop);
	usleep(20000);
	assert_true(loop_now_boot(w->loop) >= boot + 20 * USEC_PER_MSEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_timers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timer_stop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_io, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_now, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
