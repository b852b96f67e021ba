/* The sinks. None of them may fail loudly or wait: a message lost is better than a program that stands still. */
#include "agent/io/log_sinks.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/base/time.h"

#define LINE_MAX_BYTES	(LIMIT_LOG_LINE + 1024)
#define RETRY_USEC	(10 * USEC_PER_SEC)
#define CONSOLE_MAX	200
#define JOURNAL_SOCKET	"/run/systemd/journal/socket"
#define JOURNAL_MAX	(LIMIT_LOG_LINE + 4096)

/* ---- file ---- */

struct log_file {
	struct log_sink sink;
	char *path;
	int fd;
	size_t max_size;
	unsigned max_files;
	usec_t retry_at; /* boot time; before it a file that could not be opened is left alone */
};

static void close_file(struct log_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

static int open_file(struct log_file *f)
{
	int fd = open(f->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0640);

	if (fd < 0)
		return -errno;
	close_file(f);
	f->fd = fd;
	return 0;
}

/* Somebody else's rotation, an administrator's rm, or another of our processes may have taken the name away. */
static bool is_current(const struct log_file *f)
{
	struct stat here, there;

	return f->fd >= 0 && fstat(f->fd, &here) == 0 && lstat(f->path, &there) == 0 && here.st_dev == there.st_dev &&
	       here.st_ino == there.st_ino;
}

static bool is_full(const struct log_file *f, size_t more)
{
	struct stat st;

	return fstat(f->fd, &st) == 0 && st.st_size > 0 && (size_t)st.st_size + more > f->max_size;
}

static void shift_files(const struct log_file *f)
{
	for (unsigned i = f->max_files - 1; i > 0; i--) {
		_cleanup_free_ char *from = i > 1 ? str_format("%s.%u", f->path, i - 1) : strdup(f->path);
		_cleanup_free_ char *to = str_format("%s.%u", f->path, i);

		if (from && to)
			(void)rename(from, to);
	}
	if (f->max_files <= 1)
		(void)unlink(f->path);
}

/* Several of our processes write to one file: under the lock, and only if the file that is full still has the name. */
static void rotate(struct log_file *f, size_t more)
{
	if (flock(f->fd, LOCK_EX | LOCK_NB) < 0)
		return; /* another one is at it; this line may make the old file a little longer */
	if (is_current(f) && is_full(f, more))
		shift_files(f);
	if (!is_current(f))
		(void)open_file(f);
	else
		(void)flock(f->fd, LOCK_UN);
}

static void add_field(struct buf *b, const char *name, const char *value)
{
	if (value)
		(void)buf_printf(b, " %s=%s", name, value);
}

static void format_line(const struct log_record *rec, struct buf *b)
{
	usec_t now = time_wall();
	time_t seconds = (time_t)(now / USEC_PER_SEC);
	char when[32] = "";
	struct tm tm;

	if (gmtime_r(&seconds, &tm))
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)buf_printf(b, "%s.%03uZ %s ", when, (unsigned)(now % USEC_PER_SEC / USEC_PER_MSEC),
			 log_level_name(rec->level));
	if (rec->fields.handler)
		(void)buf_printf(b, "%s: ", rec->fields.handler);
	(void)buf_puts(b, rec->message);
	add_field(b, "event", rec->fields.event_id);
	add_field(b, "sequence", rec->fields.sequence);
	add_field(b, "job", rec->fields.job);
	add_field(b, "unit", rec->fields.unit);
	b->failed = 0; /* fields that do not fit are left out, the line still ends */
	(void)buf_putc(b, '\n');
}

static void write_file(struct log_sink *sink, const struct log_record *rec)
{
	struct log_file *f = (struct log_file *)(void *)sink; /* its first member */
	_cleanup_buf_ struct buf b = BUF_INIT(LINE_MAX_BYTES);
	usec_t now = time_boot();

	if (now < f->retry_at)
		return;
	if (!is_current(f) && open_file(f) < 0)
		goto trouble;
	format_line(rec, &b);
	if (is_full(f, b.len))
		rotate(f, b.len);
	if (fs_write_all(f->fd, buf_str(&b), b.len) == 0) {
		f->retry_at = 0;
		return;
	}
trouble:
	close_file(f);
	f->retry_at = usec_add(now, RETRY_USEC);
}

int log_file_open(const char *path, size_t max_size_bytes, unsigned max_files, enum log_level level,
		  struct log_file **ret, struct error *err)
{
	struct log_file *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return error_oom(err);
	*f = (struct log_file){
		.sink = { .write = write_file, .max_level = level },
		.fd = -1,
		.path = strdup(path),
		.max_size = max_size_bytes,
		.max_files = max_files,
	};
	if (!f->path) {
		free(f);
		return error_oom(err);
	}
	r = open_file(f);
	if (r < 0) {
		(void)error_errno(err, r, "cannot open the log file %s", path);
		free(f->path);
		free(f);
		return r;
	}
	log_add_sink(&f->sink);
	*ret = f;
	return 0;
}

void log_file_close(struct log_file *f)
{
	if (!f)
		return;
	log_remove_sink(&f->sink);
	close_file(f);
	free(f->path);
	free(f);
}

/* ---- journal ---- */

static struct {
	struct log_sink sink;
	int fd;
} journal = { .fd = -1 };

/* A value of several lines has its length before it, in the order of bytes that all our machines have. */
static void add_journal_field(struct buf *b, const char *name, const char *value)
{
	uint64_t len;

	if (!value)
		return;
	len = strlen(value);
	(void)buf_puts(b, name);
	if (memchr(value, '\n', len)) {
		(void)buf_putc(b, '\n');
		for (unsigned i = 0; i < sizeof(len); i++)
			(void)buf_putc(b, (char)(len >> 8 * i & 0xff));
	} else {
		(void)buf_putc(b, '=');
	}
	(void)buf_append(b, value, len);
	(void)buf_putc(b, '\n');
}

/* Not by sd_journal_send(): that waits for a journal which does not read, and our watchdog, or the Azure agent, for us. */
static void write_journal(struct log_sink *sink, const struct log_record *rec)
{
	static const int priority[] = {
		[LOG_LEVEL_ERROR] = LOG_ERR,
		[LOG_LEVEL_WARNING] = LOG_WARNING,
		[LOG_LEVEL_INFO] = LOG_INFO,
		[LOG_LEVEL_DEBUG] = LOG_DEBUG,
	};
	static const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET };
	_cleanup_buf_ struct buf b = BUF_INIT(JOURNAL_MAX);
	char level[2] = { 0 };
	ssize_t n;

	(void)sink;
	level[0] = (char)('0' + priority[rec->level]);
	add_journal_field(&b, "MESSAGE", rec->message);
	add_journal_field(&b, "PRIORITY", level);
	add_journal_field(&b, "SYSLOG_IDENTIFIER", "evenkeel");
	add_journal_field(&b, "EVENKEEL_HANDLER", rec->fields.handler);
	add_journal_field(&b, "EVENKEEL_EVENT_ID", rec->fields.event_id);
	add_journal_field(&b, "EVENKEEL_SEQUENCE", rec->fields.sequence);
	add_journal_field(&b, "EVENKEEL_JOB", rec->fields.job);
	add_journal_field(&b, "EVENKEEL_UNIT", rec->fields.unit);
	if (buf_ok(&b) < 0)
		return;
	n = sendto(journal.fd, b.data, b.len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&address, sizeof(address));
	(void)n; /* the file has it, too */
}

void log_journal_add(enum log_level level)
{
	log_journal_remove();
	journal.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (journal.fd < 0)
		return;
	journal.sink.write = write_journal;
	journal.sink.max_level = level;
	log_add_sink(&journal.sink);
}

void log_journal_remove(void)
{
	if (journal.fd < 0)
		return;
	log_remove_sink(&journal.sink);
	close(journal.fd);
	journal.fd = -1;
}

/* ---- console ---- */

static struct {
	struct log_sink sink;
	char device[PATH_MAX];
} console;

static void write_console(struct log_sink *sink, const struct log_record *rec)
{
	_cleanup_close_ int fd = open(console.device, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC | O_APPEND);
	static const char prefix[] = "evenkeel: ";
	char line[CONSOLE_MAX];
	ssize_t n;
	int len;

	(void)sink;
	if (fd < 0)
		return;
	len = (int)utf8_cut(rec->message, strlen(rec->message), sizeof(line) - sizeof(prefix) - 1);
	len = snprintf(line, sizeof(line), "%s%.*s\n", prefix, len, rec->message);
	n = write(fd, line, (size_t)len); /* once: a console that does not take it is not waited for */
	(void)n;
}

void log_console_add(const char *device)
{
	(void)snprintf(console.device, sizeof(console.device), "%s", device);
	console.sink.write = write_console;
	console.sink.max_level = LOG_LEVEL_DEBUG;
	console.sink.milestones_only = true;
	log_add_sink(&console.sink);
}

void log_console_remove(void)
{
	log_remove_sink(&console.sink);
}

/* ---- stderr ---- */

static struct {
	struct log_sink sink;
	bool plain;
} standard_error;

static void write_stderr(struct log_sink *sink, const struct log_record *rec)
{
	(void)sink;
	if (standard_error.plain)
		(void)fprintf(stderr, "%s\n", rec->message);
	else
		(void)fprintf(stderr, "%s: %s\n", log_level_name(rec->level), rec->message);
}

void log_stderr_add(enum log_level level, bool plain)
{
	standard_error.plain = plain;
	standard_error.sink.write = write_stderr;
	standard_error.sink.max_level = level;
	log_add_sink(&standard_error.sink);
}

void log_stderr_remove(void)
{
	log_remove_sink(&standard_error.sink);
}
