/* The command `enable`: what the agent wants is written down, and the service, started where it does not run, is told to look. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/api_client.h"
#include "agent/app/daemon.h"
#include "agent/app/extension.h"
#include "agent/app/goal_request.h"
#include "agent/app/installation.h"
#include "agent/azure/goal_state.h"
#include "agent/azure/status_file.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/core/exit_codes.h"
#include "agent/core/status.h"
#include "agent/io/bus.h"
#include "agent/io/journal.h"
#include "agent/io/log_sinks.h"
#include "agent/io/loop.h"
#include "generated/version.h"

static int read_settings(struct goal_request *g, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_SETTINGS_FILE);
	_cleanup_free_ char *path = str_format("%s/%s.settings", g->config_folder, g->sequence);
	struct error e = ERROR_INIT;
	int r;

	if (!path)
		return error_oom(err);
	r = fs_read(path, LIMIT_SETTINGS_FILE, &text, &e);
	if (r == -ENOENT)
		return 0;
	if (r == 0 && memchr(buf_str(&text), '\0', text.len))
		r = error_set(&e, ERROR_PLATFORM, -EBADMSG, "%s: contains NUL bytes; the file is damaged", path);
	if (r < 0)
		return str_set(&g->problem, e.msg) < 0 ? error_oom(err) : 0;
	g->settings = buf_take(&text);
	return 0;
}

static int describe_goal(const struct extension *x, const char *sequence, struct goal_request *g, struct error *err)
{
	_cleanup_(owner_done) struct owner owner = { 0 };
	const struct {
		char **to;
		const char *from;
	} texts[] = {
		{ &g->handler, x->environment.name ? x->environment.name : EK_HANDLER },
		{ &g->version, x->version },
		{ &g->sequence, sequence },
		{ &g->config_folder, x->environment.config_folder },
		{ &g->log_folder, x->environment.log_folder },
		{ &g->status_folder, x->environment.status_folder },
	};
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (str_set(texts[i].to, texts[i].from) < 0)
			return error_oom(err);
	r = owner_read(&x->paths, &owner, err);
	if (r < 0)
		return r;
	if (str_set(&g->installation, owner.installation) < 0)
		return error_oom(err);
	return read_settings(g, err);
}

/* The daemon did not come up: the one status that is not its own to write. */
static void write_failure_status(const struct goal_request *g, const char *sentence)
{
	_cleanup_(status_model_freep) struct status_model *m = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_FILE);
	const struct component c = {
		.name = "settings", .level = STATUS_ERROR, .duty = DUTY_FAILED, .code = CODE_INTERNAL, .message = sentence
	};
	struct error e = ERROR_INIT;

	/* What was done stays done, and who depends on it goes on. */
	if (status_file_succeeded(g->status_folder, g->sequence))
		return;
	if (status_model_new(&m) < 0 || status_model_begin(m, g->sequence, "") < 0)
		return;
	status_round_begin(m);
	if (status_round_add(m, &c) < 0)
		return;
	status_round_end(m);
	if (status_document(m, g->handler, time_wall(), &text) < 0)
		return;
	if (status_file_write(g->status_folder, g->sequence, text.data, text.len, &e) < 0)
		log_error("%s; the agent cannot be told what went wrong", e.msg);
}

/* With socket activation one question serves a running and a stopped daemon alike. */
static int hand_over(const struct paths *p, struct error *err)
{
	_cleanup_buf_ struct buf reply = BUF_INIT(LIMIT_API_REPLY);
	int r;

	r = api_call(p, "POST", "/v1/goal", "", EXTENSION_ANSWER_USEC, &reply, err);
	if (r < 0 || r == 200)
		return r < 0 ? r : 0;
	return api_refused(err, -EIO, "POST", "/v1/goal", r, &reply);
}

static bool nobody_listens(int r)
{
	return r == -ENOENT || r == -ECONNREFUSED;
}

/* The units are put in order and started; where there is no manager, the service's work is done here until its jobs end. Not
 * where there is one that does not answer: the agent would end the scripts with its patience, and the service could not start. */
static int start_and_hand_over(struct extension *x, struct error *err)
{
	_cleanup_(loop_freep) struct loop *loop = NULL;
	_cleanup_(bus_closep) struct bus *bus = NULL;
	int r = extension_open_manager(x, &loop, &bus, err);

	if (r == -ENOENT) {
		log_file_close(TAKE_PTR(x->log)); /* the daemon opens it as the settings say */
		r = daemon_main(&(struct daemon_options){ .until_idle = true }, err);
		extension_open_log(x);
		return r < 0 ? r : 0; /* what came of the jobs stands in the status */
	}
	if (r >= 0)
		r = installation_put(&x->paths, bus, "extension", false, err);
	return r < 0 ? r : hand_over(&x->paths, err);
}

static int report_failure(const struct goal_request *g, struct error *err)
{
	_cleanup_buf_ struct buf line = BUF_INIT(LIMIT_LOG_LINE);

	if (journal_last_line("evenkeel.service", &line) == 0)
		(void)error_set(err, err->cls, err->code, "%.300s; its last words: %.160s", err->msg, buf_str(&line));
	write_failure_status(g, err->msg);
	return err->code;
}

int extension_enable(struct extension *x, struct error *err)
{
	_cleanup_(goal_request_done) struct goal_request g = { 0 };
	char sequence[SEQUENCE_MAX];
	int r;

	r = goal_state_sequence(getenv("ConfigSequenceNumber"), x->environment.config_folder, sequence, err);
	if (r < 0)
		return r;
	/* An upgrade that was given up leaves its mark, and an agent that skips install leaves no service. */
	r = upgrade_mark_clear(&x->paths, err);
	if (r < 0)
		return r;
	if (!installation_is_current(&x->paths)) {
		_cleanup_(loop_freep) struct loop *loop = NULL;
		_cleanup_(bus_closep) struct bus *bus = extension_manager_if_any(x, &loop);

		r = installation_put(&x->paths, bus, "extension", false, err);
		if (r < 0)
			return r;
	}
	r = describe_goal(x, sequence, &g, err);
	if (r < 0)
		return r;
	r = goal_request_write(&x->paths, &g, err);
	if (r < 0)
		return r;
	r = hand_over(&x->paths, err);
	if (nobody_listens(r))
		r = start_and_hand_over(x, err);
	return r < 0 ? report_failure(&g, err) : 0;
}
