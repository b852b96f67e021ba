/*
 * `evenkeel support-bundle`: what a person who helps needs to see, in one archive. Two fences keep secrets out: only what is
 * listed here goes in, and every text passes a filter that knows the settings' secrets and what tokens, keys and signatures
 * look like.
 */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/app/api_client.h"
#include "agent/app/arguments.h"
#include "agent/app/cli_client.h"
#include "agent/app/doctor.h"
#include "agent/app/documents.h"
#include "agent/app/support_bundle.h"
#include "agent/app/support_filter.h"
#include "agent/app/verbs.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/codec/gzip.h"
#include "agent/codec/tar.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/io/bus.h"
#include "agent/io/journal.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"

#define BUNDLE_MAX    (64UL * 1024 * 1024) /* before it is packed */
#define ROOM	      (1024UL * 1024)	   /* for what comes last: lists and the contents */
#define JOURNAL_LINES 5000

static const char left_out[] =
	"\nLeft out, always:\n"
	"- values of secrets.json and of protected settings, and every value that may be a secret\n"
	"- commands, arguments, inline scripts, bodies and the paths of URIs in the settings\n"
	"- the settings as received (goal.json), the content of user data\n"
	"- certificates, keys and plain secrets that were installed: only names, owners, modes and sizes are listed\n"
	"- what scripts printed, but for the end of it that the status shows, and what they downloaded\n"
	"- tokens are never written anywhere, so there are none to leave out\n"
	"Every text has passed a filter that replaces the settings' secrets, tokens, keys and signatures by [left out].\n";

/* ---- adding ---- */

int bundle_miss(struct bundle *b, const char *name, const char *why)
{
	(void)buf_printf(&b->contents, "%-32s missing: %s\n", name, why);
	return 0;
}

static int add(struct bundle *b, const char *name, const char *what, const char *data, size_t len)
{
	_cleanup_buf_ struct buf clean = BUF_INIT(3 * BUNDLE_FILE_MAX); /* what is replaced grows, by no more than this */
	_cleanup_free_ char *path = str_format(BUNDLE_TOP "%s", name);
	int r = path ? filter_apply(b->filter, data, len, &clean) : -ENOMEM;

	if (r == -EFBIG || (r >= 0 && clean.len + ROOM > b->tar.max - b->tar.len))
		return bundle_miss(b, name, "there is no room left for it");
	if (r >= 0)
		r = tar_add(&b->tar, path, 0600, b->now / USEC_PER_SEC, buf_str(&clean), clean.len);
	if (r >= 0 && what)
		(void)buf_printf(&b->contents, "%-32s %s\n", name, what);
	return r < 0 ? error_errno(&b->err, r, "cannot add %s to the archive", name) : 0;
}

int bundle_add(struct bundle *b, const char *name, const char *what, const struct buf *text)
{
	return add(b, name, what, buf_str(text), text->len);
}

/* ---- what the commands say ---- */

static int add_version(struct bundle *b)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_MESSAGE);

	return version_json(&text) < 0 ? bundle_miss(b, "version.json", "out of memory")
				       : bundle_add(b, "version.json", "evenkeel version --json", &text);
}

static int add_doctor(struct bundle *b)
{
	_cleanup_(doctor_report_done) struct doctor_report report = { 0 };
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	struct error e = ERROR_INIT;

	if (doctor_examine(&b->paths, &report, &e) < 0)
		return bundle_miss(b, "doctor.json", e.msg);
	return doctor_encode(&report, &text) < 0 ? bundle_miss(b, "doctor.json", "it is too large")
						 : bundle_add(b, "doctor.json", "evenkeel doctor --json", &text);
}

static int add_answers(struct bundle *b)
{
	static const struct {
		const char *path, *name, *what;
	} questions[] = {
		{ "/v1/status", "status.json", "evenkeel status --json" },
		{ "/v1/events", "events.json", "evenkeel events --json" },
		{ "/v1/scripts", "scripts.json", "evenkeel scripts --json" },
	};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(questions); i++) {
		_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
		struct error e = ERROR_INIT;

		if (!api_daemon_running(&b->paths))
			r = bundle_miss(b, questions[i].name, "the service is not running");
		else if (api_call(&b->paths, "GET", questions[i].path, NULL, CLI_ANSWER_USEC, &text, &e) != 200)
			r = bundle_miss(b, questions[i].name, e.msg[0] ? e.msg : "the service refuses");
		else
			r = bundle_add(b, questions[i].name, questions[i].what, &text);
	}
	return r;
}

/* ---- settings ---- */

/* Also of documents that cannot be read whole, and of those that were in force before. */
static int learn(struct bundle *b, const struct goal_request *g, struct documents *docs, struct error *err)
{
	int r = documents_read(&b->paths, g, docs, err);

	if (user_settings_read(&b->paths, &docs->user, NULL) < 0)
		docs->user = (struct user_settings){ 0 };
	return filter_learn(b->filter, docs) < 0 ? error_oom(&b->err) : r;
}

static int add_settings(struct bundle *b)
{
	_cleanup_(documents_done) struct documents docs = { 0 }, older = { 0 };
	_cleanup_(goal_request_done) struct goal_request former = { 0 };
	_cleanup_(settings_done) struct settings s = { 0 };
	_cleanup_(jd_report_done) struct jd_report report = { 0 };
	_cleanup_buf_ struct buf text = BUF_INIT(2 * LIMIT_SETTINGS);
	struct error e = ERROR_INIT, refused;
	int r;

	if (goal_in_force_read(&b->paths, &former, NULL) == 0)
		(void)learn(b, &former, &older, NULL);
	r = learn(b, &b->goal, &docs, &e);
	if (b->err.code)
		return b->err.code;
	if (r >= 0)
		r = documents_load(&docs, &s, &report, &refused, &e);
	if (r >= 0)
		r = settings_redact(&s, &text);
	return r < 0 ? bundle_miss(b, "settings.json", e.msg[0] ? e.msg : strerror(-r))
		     : bundle_add(b, "settings.json", "the newest settings, redacted", &text);
}

/* ---- journal ---- */

static int add_journal(struct bundle *b)
{
	_cleanup_buf_ struct buf text = BUF_INIT(BUNDLE_FILE_MAX);

	if (b->paths.root[0])
		return bundle_miss(b, "logs/journal.txt", "not this machine's: EVENKEEL_ROOT is set");
	if (journal_tail("evenkeel.service", JOURNAL_LINES, &text) < 0)
		return bundle_miss(b, "logs/journal.txt", "the journal has nothing about evenkeel.service");
	return bundle_add(b, "logs/journal.txt", "the end of evenkeel.service's journal", &text);
}

/* ---- units ---- */

static int add_unit_states(struct bundle *b)
{
	static const char *const units[] = { "evenkeel.service",	"evenkeel.socket",	"evenkeel-jobs.slice",
					     "evenkeel-drained.target", "walinuxagent.service", "waagent.service",
					     "systemd-logind.service" };
	_cleanup_buf_ struct buf text = BUF_INIT(BUNDLE_LIST_MAX);
	_cleanup_(loop_freep) struct loop *loop = NULL;
	_cleanup_(bus_closep) struct bus *bus = NULL;
	struct error e = ERROR_INIT;

	if (loop_new(&loop, &e) < 0 || bus_open(&bus, loop, &e) < 0)
		return bundle_miss(b, "units.txt", e.msg);
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		char load[64], active[64], sub[64];

		if (bus_unit_state(bus, units[i], load, active, sub, &e) < 0)
			(void)buf_printf(&text, "%-28s %s\n", units[i], e.msg);
		else
			(void)buf_printf(&text, "%-28s %s %s %s\n", units[i], load, active, sub);
	}
	return bundle_add(b, "units.txt", "units: load, active and sub state", &text);
}

/* ---- the whole ---- */

static int add_contents(struct bundle *b)
{
	char when[TIMEFMT_MAX];
	_cleanup_buf_ struct buf text = BUF_INIT(BUNDLE_LIST_MAX);

	(void)buf_printf(&text, "Made by evenkeel support-bundle at %s.\n\n%s%s", timefmt_utc(b->now, when),
			 buf_str(&b->contents), left_out);
	b->tar.max += ROOM;
	return bundle_add(b, "CONTENTS.txt", NULL, &text);
}

static int collect(struct bundle *b, struct buf *packed)
{
	/* Settings first: from them the filter learns what must not be seen. */
	static int (*const parts[])(struct bundle *) = { add_settings,	  add_version,	 add_doctor,	  add_answers,
							 bundle_add_logs,	  add_journal,	 add_unit_states, bundle_add_records,
							 bundle_add_key_records, bundle_add_file_list, add_contents };
	int r = filter_new(&b->filter);

	if (r < 0)
		return error_oom(&b->err);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(parts); i++)
		r = parts[i](b);
	if (r >= 0)
		r = tar_end(&b->tar);
	return r < 0 ? r : gzip_deflate(buf_str(&b->tar), b->tar.len, packed, &b->err);
}

static int make(const struct paths *p, const char *file, struct error *err)
{
	struct bundle b = {
		.paths = *p, .tar = BUF_INIT(BUNDLE_MAX - ROOM), .contents = BUF_INIT(BUNDLE_LIST_MAX), .now = time_wall()
	};
	_cleanup_buf_ struct buf packed = BUF_INIT(BUNDLE_MAX);
	int r;

	if (goal_request_read(p, &b.goal, NULL) < 0)
		b.goal = (struct goal_request){ 0 };
	r = collect(&b, &packed);
	if (r < 0)
		*err = b.err;
	else
		r = fs_write(file, packed.data, packed.len, 0600, FS_KEEP, err);
	goal_request_done(&b.goal);
	filter_free(b.filter);
	buf_done(&b.tar);
	buf_done(&b.contents);
	return r;
}

static char *default_name(void)
{
	char when[TIMEFMT_MAX], *name = str_format("evenkeel-support-%s.tar.gz", timefmt_utc(time_wall(), when));

	/* No colons: tar takes what stands before one for a machine. */
	for (char *c = name; c && *c; c++)
		if (*c == ':')
			*c = '-';
	return name;
}

int verb_support_bundle(int argc, char **argv)
{
	_cleanup_free_ char *file = argc == 2 ? strdup(argv[1]) : default_name();
	_cleanup_(paths_done) struct paths p = { 0 };
	struct error e = ERROR_INIT;
	int r;

	if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
		return cli_usage("support-bundle");
	r = file ? paths_init(&p, NULL, &e) : error_oom(&e);
	if (r >= 0 && geteuid() != 0 && !p.root[0]) {
		fprintf(stderr,
			"evenkeel support-bundle: only root can read what belongs into it; run: sudo evenkeel support-bundle\n");
		return EXIT_NOT_PERMITTED;
	}
	if (r >= 0 && fs_exists(file))
		r = error_set(&e, ERROR_USER, -EEXIST, "%s is there already; give another name", file);
	if (r >= 0 && isatty(STDERR_FILENO))
		fprintf(stderr, "collecting, at most a minute ...\n");
	if (r >= 0)
		r = make(&p, file, &e);
	if (r < 0) {
		fprintf(stderr, "evenkeel support-bundle: %s\n", e.msg[0] ? e.msg : strerror(-r));
		return EXIT_FAILED;
	}
	printf("%s\n", file);
	return EXIT_OK;
}
