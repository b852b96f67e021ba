/* The durable record: every torn write, damage of either slot, full and read-only disks, other versions' files. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/record.h"

#define MAX 5000
#define SLOT 8192 /* MAX and its header, rounded up */

struct world {
	char dir[40];
	char *path, *fallback, *aside;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	strcpy(w->dir, "/tmp/ek-record-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	w->path = str_format("%s/state/r", w->dir);
	w->fallback = str_format("%s/run/r", w->dir);
	w->aside = str_format("%s/state/r.damaged", w->dir);
	*state = w;
	{
		_cleanup_free_ char *a = str_format("%s/state", w->dir), *b = str_format("%s/run", w->dir);

		return fs_mkdirs(a, 0700, NULL) < 0 || fs_mkdirs(b, 0700, NULL) < 0 ? -1 : 0;
	}
}

static int teardown(void **state)
{
	struct world *w = *state;
	int r = fs_remove_tree(w->dir, NULL);

	free(w->path);
	free(w->fallback);
	free(w->aside);
	free(w);
	return r;
}

static struct record *open_of(struct world *w, uint32_t version)
{
	struct record *r = NULL;

	assert_int_equal(record_open(w->path, w->fallback, MAX, version, &r, NULL), 0);
	return r;
}

/* Saves with a fresh handle, as after a restart. */
static int save(struct world *w, const char *text)
{
	_cleanup_(record_closep) struct record *r = open_of(w, 1);

	return record_save(r, text, strlen(text), NULL);
}

static int load_with(struct world *w, uint32_t version, struct buf *b)
{
	_cleanup_(record_closep) struct record *r = open_of(w, version);

	buf_reset(b);
	return record_load(r, b, NULL, NULL);
}

#define assert_loads(w, text)                                    \
	do {                                                     \
		_cleanup_buf_ struct buf _b = BUF_INIT(MAX);     \
		assert_int_equal(load_with((w), 1, &_b), 0);     \
		assert_string_equal(buf_str(&_b), (text));       \
	} while (0)

#define assert_load_fails(w, code)                               \
	do {                                                     \
		_cleanup_buf_ struct buf _b = BUF_INIT(MAX);     \
		assert_int_equal(load_with((w), 1, &_b), (code)); \
		assert_int_equal(_b.len, 0);                     \
	} while (0)

static void read_file(const char *path, struct buf *b)
{
	buf_reset(b);
	assert_int_equal(fs_read(path, b->max, b, NULL), 0);
}

static void write_file(const char *path, const void *data, size_t len)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, data, len), 0);
}

static void test_save_load(void **state)
{
	struct world *w = *state;
	_cleanup_(record_closep) struct record *r = open_of(w, 3);
	_cleanup_buf_ struct buf b = BUF_INIT(MAX);
	_cleanup_free_ char *big = malloc(MAX + 1);
	struct error err;
	uint32_t version = 0;
	struct stat st;

	assert_int_equal(record_load(r, &b, &version, &err), -ENOENT);
	for (int i = 0; i < 5; i++) {
		char text[20];

		(void)snprintf(text, sizeof(text), "document %d", i);
		assert_int_equal(record_save(r, text, strlen(text), NULL), 0);
		buf_reset(&b);
		assert_int_equal(record_load(r, &b, &version, &err), 0);
		assert_string_equal(buf_str(&b), text);
		assert_int_equal(version, 3);
	}
	assert_int_equal(stat(w->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 2 * SLOT);
	assert_true(st.st_blocks * 512 >= 2 * SLOT); /* the blocks are there */
	assert_false(fs_exists(w->fallback));

	memset(big, 'x', MAX + 1);
	assert_int_equal(record_save(r, big, MAX, NULL), 0);
	assert_int_equal(record_save(r, big, MAX + 1, &err), -EFBIG);
	assert_int_equal(record_save(r, "", 0, NULL), 0);
	buf_reset(&b);
	assert_int_equal(record_load(r, &b, NULL, NULL), 0);
	assert_int_equal(b.len, 0);

	/* A buffer that is too small is the caller's mistake; nothing is left in it. */
	assert_int_equal(record_save(r, big, MAX, NULL), 0);
	{
		_cleanup_buf_ struct buf small = BUF_INIT(10);

		assert_int_equal(record_load(r, &small, NULL, NULL), -EFBIG);
		assert_int_equal(small.len, 0);
	}
}

/* Replays a save cut off after every byte: before it was whole the old document counts, then the new one. */
static void torn(struct world *w, const struct buf *before, const struct buf *after, const char *old, const char *now)
{
	_cleanup_free_ char *image = malloc(before->len);
	size_t first = SIZE_MAX, last = 0;
	bool whole = false;

	assert_int_equal(before->len, after->len);
	for (size_t i = 0; i < before->len; i++)
		if (before->data[i] != after->data[i]) {
			first = first == SIZE_MAX ? i : first;
			last = i;
		}
	assert_true(first != SIZE_MAX);
	for (size_t cut = first; cut <= last + 1; cut++) {
		_cleanup_buf_ struct buf b = BUF_INIT(MAX);
		int r;

		memcpy(image, before->data, before->len);
		memcpy(image, after->data, cut);
		write_file(w->path, image, before->len);
		r = load_with(w, 1, &b);
		if (r == 0 && str_equal(buf_str(&b), now)) {
			whole = true;
			continue;
		}
		assert_false(whole);
		if (!old)
			assert_int_equal(r, -ENOENT);
		else
			assert_string_equal(buf_str(&b), old);
		assert_false(fs_exists(w->aside));
	}
	assert_true(whole);
}

static void test_torn_writes(void **state)
{
	struct buf files[5];
	static const char *const texts[] = { NULL, "the first", "the second document", "third", "and the fourth of them" };
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		files[i] = BUF_INIT(2 * SLOT);
		if (texts[i])
			assert_int_equal(save(w, texts[i]), 0);
		else
			record_close(open_of(w, 1));
		read_file(w->path, &files[i]);
	}
	/* The first save writes both slots; cut within the first of them nothing was saved yet. */
	for (size_t i = 1; i < ARRAY_SIZE(files); i++)
		torn(w, &files[i - 1], &files[i], texts[i - 1], texts[i]);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		buf_done(&files[i]);
}

/* Any single byte of a slot may rot: the other slot then counts, and never a document that was not saved. */
static void test_rot(void **state)
{
	_cleanup_buf_ struct buf file = BUF_INIT(2 * SLOT);
	struct world *w = *state;

	assert_int_equal(save(w, "older"), 0);
	assert_int_equal(save(w, "newer"), 0);
	read_file(w->path, &file);
	for (size_t i = 0; i < 40 + 5; i++)
		for (size_t slot = 0; slot < 2; slot++) {
			_cleanup_buf_ struct buf b = BUF_INIT(MAX);
			size_t at = slot * SLOT + i;

			file.data[at] = (char)(file.data[at] ^ 0x10);
			write_file(w->path, file.data, file.len);
			assert_int_equal(load_with(w, 1, &b), 0);
			assert_true(str_equal(buf_str(&b), "older") || str_equal(buf_str(&b), "newer"));
			file.data[at] = (char)(file.data[at] ^ 0x10);
		}
	/* A truncated file: one slot is left, then none; the next save makes it whole again. */
	write_file(w->path, file.data, SLOT + 20);
	{
		_cleanup_buf_ struct buf b = BUF_INIT(MAX);

		assert_int_equal(load_with(w, 1, &b), 0);
		assert_true(b.len == 5);
	}
	assert_int_equal(save(w, "after"), 0);
	assert_int_equal(save(w, "wards"), 0);
	assert_loads(w, "wards");
	write_file(w->path, "", 0);
	assert_load_fails(w, -ENOENT);
	assert_int_equal(save(w, "anew"), 0);
	assert_loads(w, "anew");
}

static void test_damaged(void **state)
{
	_cleanup_free_ char *noise = malloc(2 * SLOT);
	struct world *w = *state;

	for (size_t i = 0; i < 2 * SLOT; i++)
		noise[i] = (char)(i * 7 + i / 251 + 1);
	assert_int_equal(save(w, "lost"), 0);
	write_file(w->path, noise, 2 * SLOT);
	assert_load_fails(w, -EBADMSG);
	assert_true(fs_exists(w->aside));
	assert_load_fails(w, -ENOENT);
	assert_int_equal(save(w, "new life"), 0);
	assert_loads(w, "new life");
}

/* The handle is open while the file is deleted or replaced: what is saved must be found by the next process. */
static void test_replaced_while_open(void **state)
{
	struct world *w = *state;
	_cleanup_(record_closep) struct record *r = open_of(w, 1);

	assert_int_equal(record_save(r, "one", 3, NULL), 0);
	assert_int_equal(unlink(w->path), 0);
	assert_int_equal(record_save(r, "two", 3, NULL), 0);
	assert_loads(w, "two");
	assert_int_equal(unlink(w->path), 0);
	write_file(w->path, "garbage", 7);
	assert_int_equal(record_save(r, "three", 5, NULL), 0);
	assert_loads(w, "three");
}

static void test_versions(void **state)
{
	_cleanup_buf_ struct buf before = BUF_INIT(2 * SLOT), after = BUF_INIT(2 * SLOT), b = BUF_INIT(MAX);
	struct world *w = *state;
	struct error err = ERROR_INIT;
	uint32_t version = 0;

	{
		_cleanup_(record_closep) struct record *r = open_of(w, 2);

		assert_int_equal(record_save(r, "of version 2", 12, NULL), 0);
	}
	read_file(w->path, &before);
	{
		_cleanup_(record_closep) struct record *r = open_of(w, 1);

		assert_int_equal(record_load(r, &b, NULL, &err), -EPROTO);
		assert_non_null(strstr(err.msg, "newer"));
		assert_int_equal(record_save(r, "of version 1", 12, &err), -EPROTO);
	}
	read_file(w->path, &after);
	assert_memory_equal(before.data, after.data, before.len);
	{
		_cleanup_(record_closep) struct record *r = open_of(w, 3);

		assert_int_equal(record_load(r, &b, &version, &err), 0);
		assert_int_equal(version, 2);
		assert_int_equal(record_save(r, "of version 3", 12, NULL), 0);
	}
	assert_int_equal(load_with(w, 3, &b), 0);
	assert_string_equal(buf_str(&b), "of version 3");
}

/* A later program makes room for larger documents, an earlier one lives with the room it finds. */
static void test_sizes(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(100000);
	_cleanup_free_ char *big = calloc(1, 50000);
	struct world *w = *state;
	struct record *r = NULL;
	struct stat st;

	memset(big, 'y', 50000);
	assert_int_equal(save(w, "small"), 0);
	assert_int_equal(record_open(w->path, NULL, 50000, 1, &r, NULL), 0);
	assert_int_equal(stat(w->path, &st), 0);
	assert_true(st.st_size >= 100000);
	assert_int_equal(record_load(r, &b, NULL, NULL), 0);
	assert_string_equal(buf_str(&b), "small");
	assert_int_equal(record_save(r, big, 50000, NULL), 0);
	assert_int_equal(record_save(r, "small again", 11, NULL), 0);
	record_close(r);
	assert_loads(w, "small again");
	assert_int_equal(save(w, "by the small one"), 0);
	assert_int_equal(save(w, "and again"), 0);
	assert_loads(w, "and again");
	{
		_cleanup_free_ char *leftover = str_format("%s.new", w->path);

		assert_false(fs_exists(leftover));
	}
}

/* A directory in the file's place cannot be written even by root. */
static void test_fallback(void **state)
{
	struct world *w = *state;
	struct error err = ERROR_INIT;
	_cleanup_free_ char *moved = str_format("%s/moved", w->dir);

	assert_int_equal(save(w, "durable"), 0);
	assert_int_equal(rename(w->path, moved), 0);
	assert_int_equal(mkdir(w->path, 0700), 0);
	assert_int_equal(save(w, "volatile"), 1);
	assert_loads(w, "volatile");
	assert_int_equal(save(w, "volatile too"), 1);

	/* Back again: of both the newer counts, and the next save is durable. */
	assert_int_equal(rmdir(w->path), 0);
	assert_int_equal(rename(moved, w->path), 0);
	assert_loads(w, "volatile too");
	assert_int_equal(save(w, "durable again"), 0);
	assert_loads(w, "durable again");
	assert_int_equal(unlink(w->fallback), 0);
	assert_loads(w, "durable again");

	/* Neither. */
	assert_int_equal(unlink(w->path), 0);
	assert_int_equal(mkdir(w->path, 0700), 0);
	assert_int_equal(mkdir(w->fallback, 0700), 0);
	{
		_cleanup_(record_closep) struct record *r = open_of(w, 1);

		assert_true(record_save(r, "x", 1, &err) < 0);
		assert_non_null(strstr(err.msg, w->path));
		assert_non_null(strstr(err.msg, w->fallback));
	}
	assert_load_fails(w, -ENOENT);
}

/* A process is killed again and again while it saves; each time the record is whole and never older than what was
 * told to be saved. */
static void test_killed(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(MAX);
	struct world *w = *state;

	for (int round = 0; round < 15; round++) {
		int told[2];
		unsigned last = 0, n;
		pid_t pid;

		assert_int_equal(pipe(told), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct record *r = NULL;

			if (record_open(w->path, w->fallback, MAX, 1, &r, NULL) < 0)
				_exit(1);
			for (n = 1;; n++) {
				char text[4000];

				memset(text, (int)('a' + n % 26), sizeof(text));
				memcpy(text, &n, sizeof(n));
				if (record_save(r, text, sizeof(text), NULL) != 0 || write(told[1], &n, sizeof(n)) != sizeof(n))
					_exit(1);
			}
		}
		close(told[1]);
		for (int i = 0; i < 5 + round; i++)
			assert_int_equal(read(told[0], &last, sizeof(last)), sizeof(last));
		usleep((useconds_t)(37 * round));
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		while (read(told[0], &n, sizeof(n)) == sizeof(n))
			last = n;
		close(told[0]);

		assert_int_equal(load_with(w, 1, &b), 0);
		assert_int_equal(b.len, 4000);
		memcpy(&n, b.data, sizeof(n));
		assert_true(n >= last && n <= last + 1);
		for (size_t i = sizeof(n); i < b.len; i++)
			assert_int_equal(b.data[i], 'a' + (int)(n % 26));
	}
}

/* A full and then a read-only file system, when we may mount one: in a mount namespace of its own. */
static void test_full_disk(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *state_dir = str_format("%s/state", w->dir), *filler = str_format("%s/state/filler", w->dir);
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		static char noise[65536];
		_cleanup_buf_ struct buf b = BUF_INIT(MAX);
		struct record *r = NULL;
		int fd;

		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("none", state_dir, "tmpfs", 0, "size=256k") < 0)
			_exit(77);
		r = open_of(w, 1);
		fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		while (write(fd, noise, sizeof(noise)) > 0)
			;
		while (write(fd, noise, 1) > 0)
			;
		if (errno != ENOSPC)
			_exit(2);
		/* Full: the record has its blocks already. */
		for (int i = 0; i < 4; i++)
			if (record_save(r, noise, MAX, NULL) != 0)
				_exit(3);
		/* Full before the record was made: the fallback takes it, and once there is room, the disk again. */
		record_close(r);
		if (unlink(w->path) < 0)
			_exit(4);
		while (write(fd, noise, 1) > 0)
			;
		r = open_of(w, 1);
		if (record_save(r, "volatile", 8, NULL) != 1 || fs_exists(w->path))
			_exit(5);
		close(fd);
		if (unlink(filler) < 0 || record_save(r, "durable", 7, NULL) != 0)
			_exit(6);
		record_close(r);
		if (mount(NULL, state_dir, NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
			_exit(7);
		r = open_of(w, 1);
		if (record_load(r, &b, NULL, NULL) != 0 || !str_equal(buf_str(&b), "durable"))
			_exit(8);
		if (record_save(r, "read-only", 9, NULL) != 1)
			_exit(9);
		buf_reset(&b);
		if (record_load(r, &b, NULL, NULL) != 0 || !str_equal(buf_str(&b), "read-only"))
			_exit(10);
		record_close(r);
		buf_done(&b);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_save_load),	     TEST(test_torn_writes), TEST(test_rot),   TEST(test_damaged),
		TEST(test_replaced_while_open), TEST(test_versions),    TEST(test_sizes), TEST(test_fallback),
		TEST(test_killed),	     TEST(test_full_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
