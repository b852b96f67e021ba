/*
 * The captured output of a job, printed as it grows. The file of a stream is capped by leaving out its middle
 * (runner_output.c): its first half stays, then comes a line that says how much is left out, then what came last. So each
 * byte has a place in what was produced, whatever the file looks like, and nothing is printed twice or missed unseen.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/app/cli_scripts.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/job.h"
#include "agent/io/paths.h"

#define PIECE	 65536
#define MARK_MAX 96 /* as runner_output.c makes it */

struct stream {
	const char *mark;
	FILE *to;
	char *path;
	int fd;	     /* -1: not there yet */
	uint64_t at; /* in what was produced */
};

struct output {
	struct stream streams[2];
	size_t n;
	bool marked;
	uint64_t half; /* where the middle begins */
	const struct stream *last;
	bool inside_line;
};

/* What stands in the file's middle. */
struct gap {
	uint64_t left_out;
	size_t len; /* of the line that says so; 0: nothing is left out */
};

static int read_half(const char *directory, uint64_t *ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_JOB_FILE);
	_cleanup_free_ char *path = path_join(directory, "job.json");
	struct error e = ERROR_INIT;
	struct job job;
	int r = path ? fs_read_nofollow(path, LIMIT_JOB_FILE, &text, &e) : -ENOMEM;

	if (r >= 0)
		r = job_decode(buf_str(&text), text.len, &job, &e);
	if (r < 0)
		return r;
	*ret = (uint64_t)job.output_max_bytes / 2;
	jd_free(&job_type, &job);
	return 0;
}

int output_new(struct output **ret, const char *directory, enum logs_form form)
{
	_cleanup_(output_freep) struct output *o = calloc(1, sizeof(*o));
	int r = o ? read_half(directory, &o->half) : -ENOMEM;

	if (!o || r < 0)
		return r;
	o->streams[0] = (struct stream){ .mark = "[stdout]", .to = stdout, .fd = -1 };
	o->streams[1] = (struct stream){ .mark = "[stderr]", .to = form == LOGS_LIVE ? stderr : stdout, .fd = -1 };
	o->n = form == LOGS_STDERR ? 1 : 2;
	o->marked = form == LOGS_MARKED;
	for (size_t i = 0; i < o->n; i++) {
		o->streams[i].path = path_join(directory, i > 0 || form == LOGS_STDERR ? "stderr" : "stdout");
		if (!o->streams[i].path)
			return -ENOMEM;
	}
	*ret = TAKE_PTR(o);
	return 0;
}

void output_free(struct output *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < o->n; i++) {
		free(o->streams[i].path);
		closep(&o->streams[i].fd);
	}
	free(o);
}

static int put(struct output *o, const struct stream *s, const char *data, size_t len)
{
	if (o->marked && o->last != s && fprintf(s->to, "%s%s\n", o->inside_line ? "\n" : "", s->mark) < 0)
		return -EIO;
	o->last = s;
	o->inside_line = data[len - 1] != '\n';
	return fwrite(data, 1, len, s->to) == len ? 0 : -EIO;
}

static struct gap read_gap(const struct output *o, const struct stream *s, char text[static MARK_MAX + 1])
{
	ssize_t n = pread(s->fd, text, MARK_MAX, (off_t)o->half);
	struct gap gap = { 0 };
	int end = 0;

	text[n > 0 ? n : 0] = '\0';
	if (sscanf(text, "\n[evenkeel: %" SCNu64 " bytes left out here]%n", &gap.left_out, &end) != 1 || end == 0 || text[end] != '\n')
		return (struct gap){ 0 };
	gap.len = (size_t)end + 1;
	return gap;
}

/* One piece: > 0 printed, 0 nothing new, -EAGAIN: the file was changed meanwhile. */
static int print_piece(struct output *o, struct stream *s)
{
	char mark[MARK_MAX + 1], again[MARK_MAX + 1], piece[PIECE];
	struct gap gap = read_gap(o, s, mark), after;
	uint64_t resumes = o->half + gap.left_out, from = s->at;
	size_t want = sizeof(piece);
	ssize_t n;

	if (gap.len && s->at >= o->half && s->at < resumes)
		from = resumes;
	if (gap.len && from < o->half && o->half - from < want)
		want = (size_t)(o->half - from);
	n = pread(s->fd, piece, want, (off_t)(gap.len && from >= resumes ? from - gap.left_out + gap.len : from));
	if (n < 0)
		return -errno;
	after = read_gap(o, s, again);
	if (after.len != gap.len || after.left_out != gap.left_out)
		return -EAGAIN;
	if (n == 0)
		return 0;
	if (from != s->at) {
		char line[MARK_MAX];
		int len = snprintf(line, sizeof(line), "\n[evenkeel: %" PRIu64 " bytes left out here]\n", from - s->at);
		int r = put(o, s, line, (size_t)len);

		if (r < 0)
			return r;
	}
	s->at = from + (uint64_t)n;
	return put(o, s, piece, (size_t)n) < 0 ? -EIO : 1;
}

static int print_stream(struct output *o, struct stream *s)
{
	int r;

	if (s->fd < 0)
		s->fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (s->fd < 0)
		return errno == ENOENT ? 0 : -errno;
	do
		r = print_piece(o, s);
	while (r > 0 || r == -EAGAIN);
	return r;
}

int output_print(struct output *o)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < o->n; i++)
		r = print_stream(o, &o->streams[i]);
	if (r >= 0 && (fflush(stdout) != 0 || fflush(stderr) != 0))
		r = -EIO;
	return r;
}
