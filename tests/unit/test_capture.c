/* What is kept of captured output can be read again by its place in the stream, until it is left out. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/app/runner.h"
#include "agent/io/loop.h"

#define MAX 40000

struct world {
	struct loop *loop;
	struct capture c;
	int feed;
	char path[40];
};

/* Byte i of the stream. */
static char byte_of(uint64_t i)
{
	return (char)('a' + i * 7 % 26 + (i >> 9) % 3);
}

static void open_world(struct world *w, const char *path)
{
	*w = (struct world){ .c = { .read_fd = -1, .write_fd = -1, .file_fd = -1 } };
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	assert_int_equal(capture_open(&w->c, w->loop, path, MAX, NULL), 0);
	w->feed = dup(w->c.write_fd);
	assert_true(w->feed >= 0);
}

static void close_world(struct world *w)
{
	close(w->feed);
	capture_close(&w->c);
	loop_free(w->loop);
}

static void feed(struct world *w, size_t n)
{
	char bytes[8000];

	while (n) {
		size_t k = n < sizeof(bytes) ? n : sizeof(bytes);

		for (size_t i = 0; i < k; i++)
			bytes[i] = byte_of(w->c.produced + i);
		assert_int_equal(write(w->feed, bytes, k), k);
		assert_int_equal(capture_drain(&w->c), -EAGAIN);
		n -= k;
	}
}

/* Reads on from `offset` in pieces until nothing comes; every byte must be that of its place. How many there were, and how
 * many were left out. */
static uint64_t read_on(struct world *w, uint64_t offset, uint64_t *ret_left_out)
{
	uint64_t n = 0, left_out = 0;
	char bytes[3000];

	for (;;) {
		uint64_t at = offset;
		ssize_t k = capture_read(&w->c, &at, bytes, sizeof(bytes));

		assert_true(k >= 0 && at >= offset);
		left_out += at - offset;
		for (ssize_t i = 0; i < k; i++)
			assert_int_equal(bytes[i], byte_of(at + (uint64_t)i));
		offset = at + (uint64_t)k;
		n += (uint64_t)k;
		if (!k)
			break;
	}
	assert_int_equal(offset, w->c.produced);
	*ret_left_out = left_out;
	return n;
}

static void test_in_a_file(void **state)
{
	char path[] = "/tmp/ek-capture-XXXXXX";
	struct world w;
	uint64_t left_out;

	(void)state;
	close(mkstemp(path));
	open_world(&w, path);
	assert_int_equal(read_on(&w, 0, &left_out), 0);
	feed(&w, MAX);
	assert_int_equal(read_on(&w, 0, &left_out), MAX);
	assert_int_equal(left_out, 0);
	/* The middle goes; the first half and the end stay, however often. */
	for (int i = 0; i < 30; i++) {
		uint64_t there;

		feed(&w, 7777);
		there = read_on(&w, 0, &left_out);
		assert_int_equal(there + left_out, w.c.produced);
		assert_true(left_out > 0 && there >= MAX / 2 + MAX / 4 && there <= MAX);
		assert_true(read_on(&w, w.c.produced - MAX / 4, &left_out) == MAX / 4 && left_out == 0);
	}
	close_world(&w);
	unlink(path);
}

/* On a full disk there are still the last bytes in memory. */
static void test_without_a_file(void **state)
{
	struct world w;
	uint64_t left_out;

	(void)state;
	open_world(&w, "/dev/full");
	feed(&w, 1000);
	assert_int_equal(read_on(&w, 0, &left_out), 1000);
	feed(&w, 3 * CAPTURE_RING);
	assert_int_equal(read_on(&w, 0, &left_out), CAPTURE_RING);
	assert_int_equal(left_out, 1000 + 2 * CAPTURE_RING);
	assert_int_equal(read_on(&w, w.c.produced - 10, &left_out), 10);
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_in_a_file), cmocka_unit_test(test_without_a_file) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
