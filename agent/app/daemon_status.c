/* What is told: components into the status model, the model into record and N.status, the same to the local API. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/app/daemon_private.h"
#include "agent/azure/status_file.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/core/exit_codes.h"
#include "agent/io/loop.h"
#include "agent/io/service.h"
#include "generated/version.h"

/* Changes are gathered for a moment; handlers tell mere progress every 5 s at most (settings.md 3.2). */
#define APART_USEC    (5 * USEC_PER_MSEC) /* what changes meanwhile is told together */
#define AGAIN_USEC    (5 * USEC_PER_SEC)

static int status_add(void *userdata, const struct component *c)
{
	return status_round_add(userdata, c);
}

static int add(void *userdata, const struct component *c)
{
	struct daemon *d = userdata;

	notifier_component(d->notifier, c);
	return status_round_add(d->model, c);
}

/* The deployment of a sequence number depends on its own doors only (settings.md 3.1). */
static int add_without_duty(void *userdata, const struct component *c)
{
	struct component told = *c;

	told.duty = DUTY_NONE;
	return add(userdata, &told);
}

static bool is_of_user_data(const struct daemon *d, enum settings_section section)
{
	return section == SECTION_USER_DATA || (d->have_settings && d->settings.door_of[section] == DOOR_USER_DATA);
}

static int one_round(struct daemon *d)
{
	int r = 0;

	status_round_begin(d->model);
	notifier_round_begin(d->notifier);
	if (d->settings_component.name)
		r = add(d, &d->settings_component);
	for (size_t i = 0; r >= 0 && i < HANDLERS; i++)
		r = d->slots[i].class->report(d->slots[i].handler,
					       is_of_user_data(d, handler_classes[i]->section) ? add_without_duty : add, d);
	if (r >= 0)
		r = health_report(d->health, is_of_user_data(d, SECTION_HEALTH) ? add_without_duty : add, d);
	if (r >= 0)
		r = pause_report(d->pause, add, d);
	if (r >= 0)
		notifier_round_end(d->notifier);
	/* Webhooks are not told about webhooks. */
	if (r >= 0)
		r = notifier_report(d->notifier, status_add, d->model);
	status_round_end(d->model);
	return r;
}

/* The record is the truth and comes first; what it latched to survives everything. */
static void record_top(struct daemon *d)
{
	struct deployment *dep = deployment_of(d->deployments);
	const char *top = status_level_name(status_top(d->model)), *text = status_top_message(d->model);
	/* A script's output is in the script's own record, and is told again from there. */
	_cleanup_free_ char *message = strndup(text, utf8_cut(text, strlen(text), LIMIT_STATUS_MESSAGE));
	struct error e = ERROR_INIT;

	if (!message || (str_equal(dep->top, top) && (!status_terminal(d->model) || str_equal(dep->message, message))))
		return;
	if (!str_equal(dep->top, top) && status_terminal(d->model))
		log_for(status_top(d->model) == STATUS_SUCCESS ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR,
			(.handler = "extension", .sequence = d->goal.sequence, .milestone = true), "sequence %s: %s",
			str_empty(d->goal.sequence) ? "-" : d->goal.sequence, top);
	if (str_set(&dep->top, top) < 0 || str_set(&dep->message, message) < 0)
		return;
	if (deployment_save(d->deployments, &e) < 0)
		log_error("%s; a restart would not know how far this deployment is", e.msg);
}

static void note_as_left(struct daemon *d)
{
	struct stat st = { 0 };

	(void)stat(d->status_file, &st);
	d->status_left.ino = st.st_ino;
	d->status_left.mtime = st.st_mtim;
}

static bool is_as_left(const struct daemon *d)
{
	struct stat st;

	return stat(d->status_file, &st) == 0 && st.st_ino == d->status_left.ino &&
	       st.st_mtim.tv_sec == d->status_left.mtime.tv_sec && st.st_mtim.tv_nsec == d->status_left.mtime.tv_nsec;
}

static bool folder_is_new(struct daemon *d)
{
	_cleanup_free_ char *file = str_format("%s/%s.status", d->goal.status_folder, d->goal.sequence);

	if (!file)
		return false;
	if (str_equal(file, d->status_file) && is_as_left(d))
		return false;
	free(d->status_file);
	d->status_file = TAKE_PTR(file);
	return true;
}

static void write_file(struct daemon *d)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_FILE);
	char digest[65];
	struct error e = ERROR_INIT;
	bool changed = status_changed(d->model, d->status_digest, digest);
	int r;

	if (!d->have_goal || !d->goal.status_folder)
		return;
	if (!folder_is_new(d) && !changed)
		return;
	r = status_document(d->model, d->goal.handler ? d->goal.handler : EK_HANDLER, loop_now_wall(d->loop), &text);
	if (r >= 0)
		r = status_file_write(d->goal.status_folder, d->goal.sequence, text.data, text.len, &e);
	if (r == -ENOENT)
		return; /* the agent has taken the directory away; the next enable brings another */
	if (r < 0) {
		/* Once: a disk may stay full for days. */
		if (!d->status_trouble)
			log_warning("%s; the status is tried again", e.msg[0] ? e.msg : "cannot make the status");
		d->status_trouble = true;
		loop_timer_after(d->status_timer, AGAIN_USEC);
		return;
	}
	d->status_trouble = false;
	memcpy(d->status_digest, digest, sizeof(digest));
	note_as_left(d);
}

void daemon_write_status(struct daemon *d)
{
	char line[256];

	loop_timer_stop(d->status_timer);
	d->status_due = false;
	d->status_told = loop_now_boot(d->loop);
	if (one_round(d) < 0) {
		log_error("out of memory while making the status");
		return;
	}
	record_top(d);
	write_file(d);
	(void)snprintf(line, sizeof(line), "%s", status_top_message(d->model));
	line[strcspn(line, "\n")] = '\0';
	service_status(line);
	if (d->options.until_idle && daemon_idle(d))
		loop_exit(d->loop, status_top(d->model) == STATUS_ERROR ? EXIT_FAILED : EXIT_OK);
}

void daemon_changed(struct daemon *d)
{
	if (d->status_due)
		return;
	d->status_due = true;
	loop_timer_at(d->status_timer, usec_max(loop_now_boot(d->loop), usec_add(d->status_told, APART_USEC)));
}

static int note_open(void *userdata, const struct component *c)
{
	bool *open = userdata;

	if (c->duty == DUTY_OPEN || c->duty == DUTY_FAILED)
		*open = true;
	return 0;
}

bool daemon_component_open(const struct daemon *d, size_t handler)
{
	bool open = false;

	return d->slots[handler].class->report(d->slots[handler].handler, note_open, &open) < 0 || open;
}

bool daemon_idle(const struct daemon *d)
{
	if (!status_terminal(d->model))
		return false;
	for (size_t i = 0; i < HANDLERS; i++)
		if (d->slots[i].class->busy(d->slots[i].handler))
			return false;
	return true;
}

int daemon_describe(struct daemon *d, struct buf *out)
{
	_cleanup_buf_ struct buf status = BUF_INIT(LIMIT_STATUS_FILE);
	int r;

	if (one_round(d) < 0)
		return -ENOMEM;
	r = status_document(d->model, d->goal.handler ? d->goal.handler : EK_HANDLER, loop_now_wall(d->loop), &status);
	if (r < 0)
		return r;
	(void)buf_puts(out, "{\"version\":");
	(void)jd_quote(out, EK_VERSION, strlen(EK_VERSION));
	(void)buf_printf(out, ",\"serving\":%s,", d->serving ? "true" : "false");
	health_describe(d->health, out);
	if (pause_is_on(d->pause)) {
		(void)buf_puts(out, ",\"pause\":");
		(void)pause_describe(d->pause, out);
	}
	(void)buf_puts(out, ",\"sequence\":");
	(void)jd_quote(out, d->goal.sequence ? d->goal.sequence : "", strlen(d->goal.sequence ? d->goal.sequence : ""));
	(void)buf_puts(out, ",\"status\":");
	(void)buf_append(out, status.data, status.len);
	(void)buf_puts(out, "}\n");
	return buf_ok(out);
}
