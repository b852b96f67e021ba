/* Which scripts run, and what follows from how they ended. */
#include "agent/core/script_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/digest.h"
#include "agent/core/exit_codes.h"

/* ---- the record ---- */

#define RUNS_MAX 64

static const char *const state_names[] = { "pending", "running", "done", "failed", "notRun", NULL };
static const struct jd_type text_type = { .kind = JD_TEXT };
static const struct jd_type integer_type = { .kind = JD_INTEGER };
static const struct jd_type boolean_type = { .kind = JD_BOOLEAN };
static const struct jd_type state_type = { .kind = JD_CHOICE, .names = state_names };

/* clang-format off */
static const struct jd_field run_fields[] = {
	{ "name",         &text_type,    offsetof(struct script_run, name),  JD_REQUIRED },
	{ "key",          &text_type,    offsetof(struct script_run, key) },
	{ "sequence",     &text_type,    offsetof(struct script_run, sequence) },
	{ "content",      &text_type,    offsetof(struct script_run, content) },
	{ "bootId",       &text_type,    offsetof(struct script_run, boot_id) },
	{ "job",          &text_type,    offsetof(struct script_run, job) },
	{ "state",        &state_type,   offsetof(struct script_run, state), JD_REQUIRED },
	{ "asynchronous", &boolean_type, offsetof(struct script_run, asynchronous), JD_OMIT_EMPTY },
	{ "fleeting",     &boolean_type, offsetof(struct script_run, fleeting), JD_OMIT_EMPTY },
	{ "attempts",     &integer_type, offsetof(struct script_run, attempts) },
	{ "reruns",       &integer_type, offsetof(struct script_run, reruns), JD_OMIT_EMPTY },
	{ "code",         &integer_type, offsetof(struct script_run, code) },
	{ "message",      &text_type,    offsetof(struct script_run, message) },
	{ "output",       &text_type,    offsetof(struct script_run, output) },
	{ "stderrAt",     &integer_type, offsetof(struct script_run, stderr_at), JD_OMIT_EMPTY },
	{ NULL },
};
static const struct jd_type run_type = { .kind = JD_OBJECT, .fields = run_fields, .size = sizeof(struct script_run) };
static const struct jd_type runs_type = { .kind = JD_LIST, .max = RUNS_MAX, .element = &run_type };

static const struct jd_field by_hand_fields[] = {
	{ "name", &text_type, offsetof(struct script_by_hand, name), JD_REQUIRED },
	{ "job",  &text_type, offsetof(struct script_by_hand, job),  JD_REQUIRED },
	{ NULL },
};
static const struct jd_type by_hand_type = { .kind = JD_OBJECT, .fields = by_hand_fields, .size = sizeof(struct script_by_hand) };
static const struct jd_type by_hands_type = { .kind = JD_LIST, .max = LIMIT_RUNS_BY_HAND, .element = &by_hand_type };

static const struct jd_field memory_fields[] = {
	{ "key",           &text_type,    offsetof(struct script_memory, key) },
	{ "beganBootId",   &text_type,    offsetof(struct script_memory, began_boot_id) },
	{ "beganBootUsec", &integer_type, offsetof(struct script_memory, began_boot_usec) },
	{ "reboots",       &integer_type, offsetof(struct script_memory, reboots) },
	{ "rebootBootId",  &text_type,    offsetof(struct script_memory, reboot_boot_id) },
	{ "jobs",          &integer_type, offsetof(struct script_memory, jobs) },
	{ "runs",          &runs_type,    offsetof(struct script_memory, runs) },
	{ "byHand",        &by_hands_type, offsetof(struct script_memory, by_hand), JD_OMIT_EMPTY },
	{ NULL },
};
/* clang-format on */
const struct jd_type script_memory_type = { .kind = JD_OBJECT,
					    .fields = memory_fields,
					    .size = sizeof(struct script_memory) };

struct script_run *script_memory_find(const struct script_memory *m, const char *name)
{
	struct script_run *runs = m->runs.items;

	for (size_t i = 0; i < m->runs.n; i++)
		if (str_equal(runs[i].name, name))
			return &runs[i];
	return NULL;
}

struct script_run *script_memory_get(struct script_memory *m, const char *name)
{
	struct script_run *run = script_memory_find(m, name), *grown;
	char *copy;

	if (run)
		return run;
	if (m->runs.n >= RUNS_MAX)
		return NULL;
	copy = strdup(name);
	grown = copy ? reallocarray(m->runs.items, m->runs.n + 1, sizeof(*grown)) : NULL;
	if (!grown) {
		free(copy);
		return NULL;
	}
	m->runs.items = grown;
	grown[m->runs.n] = (struct script_run){ .name = copy, .state = SCRIPT_PENDING };
	return &grown[m->runs.n++];
}

static bool has_script(const struct custom_script_settings *s, const char *name)
{
	const struct script_settings *scripts = s ? s->scripts.items : NULL;

	for (size_t i = 0; s && i < s->scripts.n; i++)
		if (str_equal(scripts[i].name, name))
			return true;
	return false;
}

void script_memory_prune(struct script_memory *m, const struct custom_script_settings *s)
{
	struct script_run *runs = m->runs.items;
	size_t kept = 0;

	for (size_t i = 0; i < m->runs.n; i++) {
		if (runs[i].state != SCRIPT_RUNNING && !has_script(s, runs[i].name))
			jd_free(&run_type, &runs[i]);
		else
			runs[kept++] = runs[i];
	}
	m->runs.n = kept;
}

struct script_by_hand *script_memory_by_hand(const struct script_memory *m, const char *job)
{
	struct script_by_hand *all = m->by_hand.items;

	for (size_t i = 0; i < m->by_hand.n; i++)
		if (str_equal(all[i].job, job))
			return &all[i];
	return NULL;
}

int script_memory_add_by_hand(struct script_memory *m, const char *name, const char *job)
{
	struct script_by_hand one = { strdup(name), strdup(job) }, *grown;

	grown = m->by_hand.n >= LIMIT_RUNS_BY_HAND ? NULL : reallocarray(m->by_hand.items, m->by_hand.n + 1, sizeof(*grown));
	if (grown)
		m->by_hand.items = grown;
	if (!grown || !one.name || !one.job) {
		jd_free(&by_hand_type, &one);
		return m->by_hand.n >= LIMIT_RUNS_BY_HAND ? -EBUSY : -ENOMEM;
	}
	grown[m->by_hand.n++] = one;
	return 0;
}

void script_memory_drop_by_hand(struct script_memory *m, const char *job)
{
	struct script_by_hand *all = m->by_hand.items, *one = script_memory_by_hand(m, job);

	if (!one)
		return;
	jd_free(&by_hand_type, one);
	*one = all[--m->by_hand.n];
}

/* ---- decisions ---- */

enum script_action script_decide(const struct script_settings *s, const struct script_run *run, const char *key,
				 const char *content, const char *boot_id)
{
	bool same_key, same_content, same_boot;

	if (!run)
		return SCRIPT_RUN;
	same_key = str_equal(run->key, key);
	same_content = str_equal(run->content, content);
	same_boot = str_equal(run->boot_id, boot_id);
	switch ((enum script_state)run->state) {
	case SCRIPT_RUNNING:
		/* Whatever it is for: first it must be known what has become of it. */
		return SCRIPT_ATTACH;
	case SCRIPT_PENDING:
		return SCRIPT_RUN;
	case SCRIPT_DONE:
	case SCRIPT_FAILED:
	case SCRIPT_NOT_RUN:
		break;
	}
	if (s->run_policy == RUN_EVERY_BOOT)
		return same_key && same_boot ? SCRIPT_KEEP : SCRIPT_RUN;
	if (same_key)
		return SCRIPT_KEEP;
	if (s->run_policy == RUN_ONCE_PER_CONTENT && same_content && run->state == SCRIPT_DONE)
		return SCRIPT_SKIP;
	return SCRIPT_RUN;
}

/* A right that does not count yet, a server that is not there yet: of what keeps a script from beginning only this passes. */
static bool is_about_files(int64_t code)
{
	switch (code) {
	case CODE_STORAGE_BAD_REQUEST:
	case CODE_IMDS_ERROR:
	case CODE_INTERNAL:
	case CODE_ACCESS_DENIED:
	case CODE_NOT_FOUND:
	case CODE_DOWNLOAD_FAILED:
	case CODE_BODY_FAILED:
	case CODE_TIMEOUT:
	case CODE_IDENTITY_NOT_FOUND:
	case CODE_IDENTITY_DENIED:
	case CODE_IDENTITY_FAILED:
		return true;
	default:
		return false;
	}
}

static bool retries(const struct script_settings *s, const struct script_run *run, const struct job_result *r)
{
	const int64_t *codes = s->retry.on_exit_codes.items;

	if (run->attempts > s->retry.times)
		return false;
	if (r->end == JOB_NOT_STARTED && !(s->files.n && r->started_at && is_about_files(r->code)))
		return false;
	if (r->end != JOB_EXITED && r->end != JOB_SIGNALED && r->end != JOB_TIMED_OUT && r->end != JOB_NOT_STARTED)
		return false;
	for (size_t i = 0; i < s->retry.on_exit_codes.n; i++)
		if (r->end == JOB_EXITED && codes[i] == r->exit_code)
			return true;
	return s->retry.on_exit_codes.n == 0;
}

bool script_interrupted(const struct script_run *run, const struct job_result *r, const char *boot_id)
{
	bool lost = r->end == JOB_NOT_STARTED && !r->started_at && run->fleeting;

	return (r->end == JOB_INTERRUPTED || r->end == JOB_STOPPED || lost) && !str_equal(run->boot_id, boot_id);
}

enum script_next script_after(const struct script_settings *s, const struct script_run *run, const struct job_result *r,
			      bool attached, int64_t reboots, const char *boot_id)
{
	bool rebooted = !str_equal(run->boot_id, boot_id);

	if (!s)
		return r->end == JOB_SUCCEEDED ? SCRIPT_ENDED_WELL : SCRIPT_ENDED_BADLY;
	/* What it asks for may have happened before anybody could read that it does. */
	if (r->end == JOB_EXITED && s->reboot_exit_code && r->exit_code == s->reboot_exit_code)
		return rebooted ? SCRIPT_ENDED_WELL : reboots < SCRIPT_REBOOTS_MAX ? SCRIPT_REBOOT : SCRIPT_ENDED_BADLY;
	if (r->end == JOB_SUCCEEDED)
		return SCRIPT_ENDED_WELL;
	/* The process that began it was killed before the job was: nothing of it has run. */
	if (r->end == JOB_NOT_STARTED && attached && !r->started_at && !(rebooted && run->fleeting))
		return SCRIPT_BEGIN_AGAIN;
	if (script_interrupted(run, r, boot_id) && s->run_policy == RUN_EVERY_BOOT)
		return SCRIPT_BEGIN_AGAIN;
	if (script_interrupted(run, r, boot_id))
		return s->on_reboot == ON_REBOOT_RERUN && run->reruns < SCRIPT_RERUNS_MAX ? SCRIPT_BEGIN_AGAIN : SCRIPT_ENDED_BADLY;
	return retries(s, run, r) ? SCRIPT_TRY_AGAIN : SCRIPT_ENDED_BADLY;
}

/* ---- content ---- */

/* Each part with its length, so that no two lists of parts look alike. */
static int add(struct sha256 *h, const char *text, size_t len)
{
	unsigned char head[9] = { text ? 1 : 0 };
	int r;

	for (size_t i = 0; i < 8; i++)
		head[1 + i] = (unsigned char)((uint64_t)len >> (8 * i));
	r = sha256_update(h, head, sizeof(head));
	return r < 0 || !text ? r : sha256_update(h, text, len);
}

static int add_text(struct sha256 *h, const char *text)
{
	return add(h, text, text ? strlen(text) : 0);
}

/* A file is its checksum, or where it comes from without the signature, which changes with every deployment. */
static int add_file(struct sha256 *h, const struct settings *s, const struct script_file *f)
{
	const char *uri = settings_value(s, SECTION_CUSTOM_SCRIPT, &f->uri);
	int r = add_text(h, f->name);

	if (r >= 0 && f->sha256)
		return add_text(h, f->sha256);
	return r < 0 ? r : add(h, uri, uri ? strcspn(uri, "?") : 0);
}

static int add_script(struct sha256 *h, const struct settings *s, const struct script_settings *script)
{
	char *const *arguments = script->arguments.items;
	const struct script_variable *environment = script->environment.items;
	const struct script_file *files = script->files.items;
	int r = add_text(h, settings_value(s, SECTION_CUSTOM_SCRIPT, &script->command_to_execute));

	if (r >= 0)
		r = add_text(h, settings_value(s, SECTION_CUSTOM_SCRIPT, &script->script));
	for (size_t i = 0; r >= 0 && i < script->arguments.n; i++)
		r = add_text(h, arguments[i]);
	if (r >= 0)
		r = add_text(h, NULL);
	for (size_t i = 0; r >= 0 && i < script->environment.n; i++) {
		r = add_text(h, environment[i].name);
		if (r >= 0)
			r = add_text(h, settings_value(s, SECTION_CUSTOM_SCRIPT, &environment[i].value));
	}
	if (r >= 0)
		r = add_text(h, NULL);
	for (size_t i = 0; r >= 0 && i < script->files.n; i++)
		r = add_file(h, s, &files[i]);
	return r;
}

int script_content_hash(const struct settings *s, const struct script_settings *script, char ret[static 65],
			struct error *err)
{
	_cleanup_(sha256_freep) struct sha256 *h = NULL;
	int r = sha256_new(&h);

	if (r >= 0)
		r = add_script(h, s, script);
	if (r >= 0)
		r = sha256_final_hex(h, ret);
	return r < 0 ? error_errno(err, r, "script %s: cannot make its checksum", script->name) : 0;
}
