/* The durable record: the newest of two places, of which the durable one is preferred. */
#include "agent/io/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/record_internal.h"

struct record {
	struct place main, fallback; /* fallback.path may be NULL */
	size_t slot_size;	   /* what this program wants */
	size_t max;
	uint32_t version;
	uint64_t generation;	   /* the newest seen or written */
	const struct place *newer; /* written by a newer program, so not ours to write; else NULL */
};

static int place_save(struct record *r, struct place *p, const void *data, size_t len)
{
	int q = 0;

	if (!p->writable || !place_is_still_there(p))
		q = place_open(p, r->slot_size, true);
	return q < 0 ? q : place_write(p, r->generation, r->version, data, len);
}

/* Of equal generations the durable one counts. */
static struct place *newest_place(struct record *r)
{
	int a = place_newest(&r->main), b = place_newest(&r->fallback);

	if (a < 0)
		return b < 0 ? NULL : &r->fallback;
	if (b < 0 || r->main.slots[a].generation >= r->fallback.slots[b].generation)
		return &r->main;
	return &r->fallback;
}

static void take_stock(struct record *r)
{
	const struct place *p = newest_place(r);
	const struct slot *last;

	r->newer = NULL;
	if (!p)
		return;
	last = &p->slots[place_newest(p)];
	if (last->generation > r->generation)
		r->generation = last->generation;
	if (last->version > r->version)
		r->newer = p;
}

static int refuse_newer(const struct record *r, struct error *err)
{
	return error_set(err, ERROR_SYSTEM, -EPROTO,
			 "%s was written by a newer version of this program (format %u, this one knows %u): install that "
			 "version again, or remove the file to begin anew",
			 r->newer->path, r->newer->slots[place_newest(r->newer)].version, r->version);
}

int record_open(const char *path, const char *fallback, size_t max, uint32_t version, struct record **ret,
		struct error *err)
{
	_cleanup_(record_closep) struct record *r = NULL;

	if (!max || max > RECORD_SLOT_MAX / 2)
		return error_set(err, ERROR_SYSTEM, -EINVAL, "cannot make a record of %zu bytes in %s", max, path);
	r = calloc(1, sizeof(*r));
	if (!r)
		return error_oom(err);
	r->main.fd = r->fallback.fd = -1;
	r->max = max;
	r->version = version;
	r->slot_size = (RECORD_HEADER_BYTES + max + RECORD_BLOCK - 1) / RECORD_BLOCK * RECORD_BLOCK;
	if (str_set(&r->main.path, path) < 0 || str_set(&r->fallback.path, fallback) < 0)
		return error_oom(err);

	(void)place_open(&r->main, r->slot_size, true);
	if (r->fallback.path)
		(void)place_open(&r->fallback, r->slot_size, false);
	take_stock(r);
	if (!r->newer)
		place_grow(&r->main, r->slot_size);
	*ret = TAKE_PTR(r);
	return 0;
}

void record_close(struct record *r)
{
	if (!r)
		return;
	place_close(&r->main);
	place_close(&r->fallback);
	free(r->main.path);
	free(r->fallback.path);
	free(r);
}

int record_load(struct record *r, struct buf *ret, uint32_t *ret_version, struct error *err)
{
	bool damaged;
	struct place *p;
	struct slot s;
	size_t before = ret->len;

	(void)place_open(&r->main, r->slot_size, true);
	if (r->fallback.path)
		(void)place_open(&r->fallback, r->slot_size, false);
	take_stock(r);
	p = newest_place(r);
	damaged = place_is_damaged(&r->main) || place_is_damaged(&r->fallback);
	place_keep_aside(&r->main);
	if (r->fallback.path)
		place_keep_aside(&r->fallback);
	if (!p && damaged)
		return error_set(err, ERROR_SYSTEM, -EBADMSG, "%s is damaged and was kept as %s.damaged", r->main.path,
				 r->main.path);
	if (!p)
		return error_set(err, ERROR_SYSTEM, -ENOENT, "nothing was saved in %s yet", r->main.path);
	if (r->newer)
		return refuse_newer(r, err);

	s = place_read(p, ret);
	if (s.state != SLOT_GOOD) {
		ret->len = before;
		buf_terminate(ret);
		return error_set(err, ERROR_SYSTEM, buf_ok(ret) < 0 ? buf_ok(ret) : -EIO, "cannot read %s", p->path);
	}
	if (ret_version)
		*ret_version = s.version;
	return 0;
}

int record_save(struct record *r, const void *data, size_t len, struct error *err)
{
	struct error first, second;
	int q, f;

	if (r->newer)
		return refuse_newer(r, err);
	if (len > r->max)
		return error_set(err, ERROR_SYSTEM, -EFBIG, "cannot save %s: %zu bytes, at most %zu fit", r->main.path, len,
				 r->max);
	r->generation++;
	q = place_save(r, &r->main, data, len);
	if (q == 0)
		return 0;
	(void)error_errno(&first, q, "cannot save %s", r->main.path);
	if (!r->fallback.path)
		return error_set(err, ERROR_SYSTEM, q, "%s", first.msg);
	f = place_save(r, &r->fallback, data, len);
	if (f == 0)
		return 1;
	(void)error_errno(&second, f, "nor %s", r->fallback.path);
	return error_set(err, ERROR_SYSTEM, q, "%s; %s", first.msg, second.msg);
}

int record_peek(const char *path, struct buf *ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct place p = { .fd = fd };
	struct slot s;

	if (fd < 0)
		return -errno;
	place_scan(&p, RECORD_BLOCK);
	if (place_newest(&p) < 0)
		return place_is_damaged(&p) ? -EBADMSG : -ENOENT;
	s = place_read(&p, ret);
	return s.state == SLOT_GOOD ? 0 : -EBADMSG; /* written again meanwhile, or it does not fit */
}
