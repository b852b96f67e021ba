/*
 * Gathering for `evenkeel status`: what only the service knows is asked of it, what stands in files is read from them, so that
 * a service that is not running hides little. What cannot be read is left out: a screen with a gap is better than none.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/app/api_client.h"
#include "agent/app/beside.h"
#include "agent/app/cli_certs.h"
#include "agent/app/cli_client.h"
#include "agent/app/cli_scripts.h"
#include "agent/app/daemon_machine.h"
#include "agent/app/daemon_pause.h"
#include "agent/app/goal_request.h"
#include "agent/app/installation.h"
#include "agent/app/record_files.h"
#include "agent/app/status_view.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/script_view.h"
#include "agent/core/userdata_plan.h"
#include "agent/io/paths.h"
#include "generated/version.h"

#define MACHINE_WAIT_USEC USEC_PER_SEC
#define MACHINE_LOOK_MSEC 20
#define HOST_NAME_LENGTH  256

static int set_time(char **dst, int64_t usec)
{
	char when[TIMEFMT_MAX];

	return usec <= 0 ? 0 : str_set(dst, timefmt_utc((usec_t)usec, when));
}

/* ---- the service ---- */

static int ask(const struct paths *p, const char *path, const struct jd_type *type, void *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);

	return api_look(p, path, CLI_ANSWER_USEC, type, &text, ret, err);
}

/* The metadata service answers in milliseconds, or not at all. */
static void ask_machine(const struct paths *p, struct view_machine *ret)
{
	usec_t patience = usec_add(time_boot(), MACHINE_WAIT_USEC);
	struct error ignored;

	for (;;) {
		jd_free(&view_machine_type, ret);
		if (ask(p, "/v1/machine", &view_machine_type, ret, &ignored) < 0 || !ret->asking ||
		    time_boot() >= patience)
			return;
		(void)poll(NULL, 0, MACHINE_LOOK_MSEC);
	}
}

/* Lines and steps of a drain that is not under way have a verb of their own: events. */
static void shorten(struct drain_view *v)
{
	struct view_line *lines = v->lines.items;

	for (size_t i = 0; i < v->lines.n; i++) {
		free(lines[i].time);
		free(lines[i].level);
		free(lines[i].text);
	}
	free(lines);
	v->lines = (struct jd_list){ 0 };
}

static int ask_service(const struct paths *p, struct status_view *v, struct error *err)
{
	struct error ignored;
	int r = ask(p, "/v1/status", &status_view_type, v, err);

	if (r < 0)
		return r;
	v->running = true;
	/* Before the first settings there is nothing to tell of draining. */
	if (ask(p, "/v1/events", &drain_view_type, &v->drain, &ignored) == 0)
		shorten(&v->drain);
	ask_machine(p, &v->machine);
	return 0;
}

/* ---- instead of the service ---- */

static void read_drain(const struct paths *p, struct status_view *v)
{
	if (record_files_drain(p, &v->drain) >= 0)
		v->serving = v->drain.serving;
}

static void read_deployment(const struct paths *p, struct status_view *v)
{
	struct goal_request goal = { 0 };
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_FILE);
	_cleanup_free_ char *path = NULL;
	struct error ignored;

	if (goal_request_read(p, &goal, &ignored) < 0)
		return;
	if (goal.sequence) {
		free(v->sequence);
		v->sequence = TAKE_PTR(goal.sequence);
	}
	if (goal.status_folder)
		path = str_format("%s/%s.status", goal.status_folder, v->sequence);
	/* The file is the agent's as much as ours: what is no JSON is not shown. */
	if (path && fs_read_nofollow(path, LIMIT_STATUS_FILE, &text, &ignored) >= 0) {
		_cleanup_buf_ struct buf canonical = BUF_INIT(LIMIT_STATUS_FILE);

		if (jd_canonical(buf_str(&text), text.len, LIMIT_STATUS_FILE, &canonical, &ignored) >= 0)
			v->status = buf_take(&canonical);
	}
	goal_request_done(&goal);
}

static void read_pause(const struct paths *p, struct status_view *v)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_JOB_FILE);
	struct view_pause *pause = calloc(1, sizeof(*pause));
	struct error ignored;

	if (pause && pause_describe_file(p, &text) &&
	    jd_decode_document(buf_str(&text), text.len, "the pause", LIMIT_JOB_FILE, &view_pause_type, pause,
			       &ignored) >= 0)
		v->pause = pause;
	else
		free(pause);
}

static void read_machine(const struct paths *p, struct view_machine *m)
{
	_cleanup_buf_ struct buf text = BUF_INIT(MACHINE_FACTS_MAX);
	_cleanup_free_ char *path = path_join(p->run, MACHINE_FACTS_FILE);
	struct error ignored;

	if (path && fs_read_nofollow(path, MACHINE_FACTS_MAX, &text, &ignored) >= 0 &&
	    jd_decode_document(buf_str(&text), text.len, path, MACHINE_FACTS_MAX, &view_machine_type, m, &ignored) < 0)
		*m = (struct view_machine){ 0 };
}

static int read_files(const struct paths *p, struct status_view *v)
{
	if (str_set(&v->version, EK_VERSION) < 0)
		return -ENOMEM;
	if (str_set(&v->sequence, "") < 0)
		return -ENOMEM;
	v->serving = true;
	read_deployment(p, v);
	read_drain(p, v);
	read_pause(p, v);
	read_machine(p, &v->machine);
	return 0;
}

/* ---- in files in any case ---- */

static int read_owner(const struct paths *p, struct view_owner *ret)
{
	_cleanup_(installed_done) struct installed i = { 0 };
	struct error ignored;
	int r = installed_find(p, &i, &ignored);
	bool extension, package;

	/* A package brings its own units and leaves no mark. */
	if (r >= 0 && !i.owner)
		r = str_set(&i.owner, "package");
	if (r < 0)
		return r;
	extension = i.extension && !str_equal(i.owner, "extension");
	package = i.package && !str_equal(i.owner, "package");
	if ((extension || package) &&
	    str_set(&ret->beside, extension && package ? "extension, package" : extension ? "extension" : "package") < 0)
		return -ENOMEM;
	ret->kind = TAKE_PTR(i.owner);
	ret->version = TAKE_PTR(i.version);
	return 0;
}

static int add_certificate(struct jd_list *to, const struct view_key *k)
{
	struct view_certificate *items = to->items, *c = &items[to->n++];
	int r = str_set(&c->name, k->name);

	r = r < 0 ? r : str_set(&c->state, k->state);
	r = r < 0 ? r : str_set(&c->version, k->version);
	r = r < 0 ? r : str_set(&c->thumbprint, str_empty(k->thumbprint) ? NULL : k->thumbprint);
	r = r < 0 ? r : str_set(&c->error, k->error ? k->error : k->problem);
	r = r < 0 ? r : str_set(&c->not_after, k->not_after);
	return r < 0 ? r : str_set(&c->installed_at, k->installed_at);
}

/* Times of one form sort as texts; what never expires comes last. */
static int by_expiry(const void *a, const void *b)
{
	const struct view_certificate *x = a, *y = b;

	if (!x->not_after || !y->not_after)
		return !x->not_after - !y->not_after;
	return strcmp(x->not_after, y->not_after);
}

static int look_at_keys(const struct paths *p, bool running, struct key_view *ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	struct error ignored;

	if (!running)
		return certs_load_records(p, ret, &ignored);
	if (api_call(p, "GET", "/v1/certificates", NULL, CLI_ANSWER_USEC, &text, &ignored) != 200)
		return -EAGAIN;
	return key_view_decode(buf_str(&text), text.len, ret, &ignored);
}

static int read_certificates(const struct paths *p, bool running, struct jd_list *to)
{
	struct key_view view = { 0 };
	const struct view_key *k;
	int r = 0;

	if (look_at_keys(p, running, &view) >= 0) {
		k = view.items.items;
		to->items = calloc(view.items.n + 1, sizeof(struct view_certificate));
		r = to->items ? 0 : -ENOMEM;
		for (size_t i = 0; r >= 0 && i < view.items.n; i++)
			r = add_certificate(to, &k[i]);
		if (r >= 0 && to->n > 1)
			qsort(to->items, to->n, sizeof(struct view_certificate), by_expiry);
	}
	jd_free(&key_view_type, &view);
	return r;
}

static int newest_first(const void *a, const void *b)
{
	const struct view_last *x = a, *y = b;

	if (!x->started_at || !y->started_at)
		return !y->started_at - !x->started_at;
	return strcmp(y->started_at, x->started_at);
}

static int add_script(struct jd_list *to, const struct view_script *s)
{
	struct view_last *items = to->items, *l = &items[to->n++];
	const struct view_run *run = s->runs.n > 0 ? s->runs.items : NULL;
	int r = str_set(&l->name, s->name);

	l->duration_msec = run ? run->duration_msec : -1;
	r = r < 0 ? r : str_set(&l->origin, s->origin);
	r = r < 0 ? r : str_set(&l->state, s->state);
	r = r < 0 || !run ? r : str_set(&l->result, run->result);
	r = r < 0 || !run ? r : str_set(&l->job, run->job);
	r = r < 0 || !run ? r : str_set(&l->started_at, run->started_at);
	return r < 0 || !run ? r : str_set(&l->ended_at, run->ended_at);
}

static int read_scripts(const struct paths *p, struct jd_list *to)
{
	struct script_view view = { 0 };
	const struct view_script *s;
	struct error ignored;
	int r = 0;

	if (scripts_gather(p, &view, &ignored) >= 0) {
		s = view.scripts.items;
		to->items = calloc(view.scripts.n + 1, sizeof(struct view_last));
		r = to->items ? 0 : -ENOMEM;
		for (size_t i = 0; r >= 0 && i < view.scripts.n; i++)
			r = add_script(to, &s[i]);
		if (r >= 0 && to->n > 1)
			qsort(to->items, to->n, sizeof(struct view_last), newest_first);
	}
	jd_free(&script_view_type, &view);
	return r;
}

static int read_user_data(const struct paths *p, struct view_user_data **ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	struct userdata_record record = { 0 };
	struct view_user_data *u;
	struct error ignored;
	int r;

	if (record_files_read(p, "user-data.record", LIMIT_USER_DATA_RECORD, USERDATA_RECORD_VERSION, &text) < 0 ||
	    userdata_record_decode(buf_str(&text), text.len, &record, &ignored) < 0)
		return 0;
	u = record.sha256 ? calloc(1, sizeof(*u)) : NULL;
	r = record.sha256 && !u ? -ENOMEM : 0;
	if (u) {
		*ret = u;
		u->size_bytes = record.size;
		u->revision = TAKE_PTR(record.sha256);
		r = set_time(&u->seen_at, record.seen_usec);
		r = r < 0 ? r : set_time(&u->confirmed_at, record.confirmed_usec);
		r = r < 0 ? r : set_time(&u->removed_at, record.removed_usec);
	}
	userdata_record_done(&record);
	return r;
}

int status_gather(const struct paths *p, bool running, struct status_view *ret, struct error *err)
{
	struct status_view v = { 0 };
	char host[HOST_NAME_LENGTH] = "";
	int r = running ? ask_service(p, &v, err) : read_files(p, &v);

	if (r < 0 && running) {
		jd_free(&status_view_type, &v);
		return r;
	}
	if (gethostname(host, sizeof(host) - 1) == 0)
		r = r < 0 ? r : str_set(&v.machine.host_name, host);
	r = r < 0 ? r : read_owner(p, &v.owner);
	r = r < 0 ? r : read_certificates(p, running, &v.certificates);
	r = r < 0 ? r : read_scripts(p, &v.scripts);
	r = r < 0 ? r : read_user_data(p, &v.user_data);
	if (r < 0) {
		jd_free(&status_view_type, &v);
		return error_oom(err);
	}
	*ret = v;
	return 0;
}
