/* The reboot that a script has asked for. */
#include <stdlib.h>

#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"
#include "handlers/custom_script/script_private.h"

#define REBOOT_AGAIN (60 * USEC_PER_SEC)

static void not_now(struct handler *h)
{
	h->reboot_at = usec_add(loop_now_boot(h->host->loop), REBOOT_AGAIN);
	script_look_again(h, h->reboot_at);
}

static void on_reboot_result(const struct job_result *r, void *userdata)
{
	struct handler *h = userdata;
	char phrase[128];

	if (r->end != JOB_SUCCEEDED)
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "the machine could not be rebooted: %s; it is tried again",
			job_result_why(r, phrase));
	jobs_forget(h->host->jobs, r->id ? r->id : "", true);
	jobs_handle_free(h->reboot);
	h->reboot = NULL;
	not_now(h);
}

bool script_rebooting(struct handler *h)
{
	char *argv[] = { (char[]){ "systemctl" }, (char[]){ "reboot" } };
	_cleanup_free_ char *id = NULL;
	struct error e = ERROR_INIT;
	struct job job;
	const struct jobs_request request = { .job = &job };

	if (!h->memory.reboot_boot_id)
		return false;
	if (!str_equal(h->memory.reboot_boot_id, h->host->boot_id)) {
		free(h->memory.reboot_boot_id);
		h->memory.reboot_boot_id = NULL;
		script_record_save_or_log(h);
		return false;
	}
	if (handler_paused(h->host))
		return true;
	if (h->reboot)
		return true;
	if (h->reboot_at > loop_now_boot(h->host->loop)) {
		script_look_again(h, h->reboot_at);
		return true;
	}
	/* Where no manager answers this is a container, a test or a rehearsal: the machine is not ours to reboot. */
	if (!h->host->bus) {
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "a script asked for a reboot, but no systemd manager answers");
		not_now(h);
		return true;
	}
	id = script_job_id("reboot", ++h->memory.jobs);
	job_init(&job);
	job.id = id;
	job.handler = (char[]){ SCRIPT_HANDLER };
	job.title = (char[]){ "reboot" };
	job.kind = JOB_COMMAND;
	job.argv = (struct jd_list){ argv, ARRAY_SIZE(argv) };
	log_for(LOG_LEVEL_INFO, (.handler = SCRIPT_HANDLER, .sequence = h->sequence, .milestone = true),
		"rebooting: a script asked for it");
	if (!id || jobs_start(h->host->jobs, &request, on_reboot_result, h, &h->reboot, &e) < 0) {
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "the machine could not be rebooted: %s", e.msg);
		not_now(h);
	}
	return true;
}
