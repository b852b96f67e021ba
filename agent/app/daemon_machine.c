/* Asking for what this VM is, and keeping it. */
#include "agent/app/daemon_machine.h"

#include <stdlib.h>
#include <string.h>

#include "agent/app/daemon_private.h"
#include "agent/azure/imds.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/io/loop.h"

#define AGAIN_USEC (10 * USEC_PER_SEC) /* not before, after a failure */

struct machine_facts {
	struct daemon *daemon;
	char *path;
	struct imds_call *call;
	char *facts; /* members of the JSON object; NULL: not known */
	char problem[600];
	usec_t failed_boot; /* 0: not yet */
};

static void add(struct buf *out, const char *name, const char *value)
{
	if (str_empty(value))
		return;
	(void)buf_printf(out, "%s\"%s\":", out->len ? "," : "", name);
	(void)jd_quote(out, value, strlen(value));
}

static void keep(struct machine_facts *m)
{
	_cleanup_free_ char *text = str_format("{%s}\n", m->facts);
	struct error e = ERROR_INIT;

	if (text && fs_write(m->path, text, strlen(text), 0600, FS_NO_SYNC, &e) < 0)
		log_debug("%s", e.msg);
}

static void on_instance(const struct imds_instance *i, const struct imds_failure *failure, void *userdata)
{
	struct machine_facts *m = userdata;
	_cleanup_buf_ struct buf facts = BUF_INIT(MACHINE_FACTS_MAX);
	/* Freed at the end: what is given here may belong to it. */
	_cleanup_(imds_call_freep) _unused_ struct imds_call *call = TAKE_PTR(m->call);

	if (failure) {
		(void)snprintf(m->problem, sizeof(m->problem), "%s", failure->err.msg);
		m->failed_boot = loop_now_boot(m->daemon->loop);
		return;
	}
	add(&facts, "name", i->name);
	add(&facts, "vmId", i->vm_id);
	add(&facts, "size", i->vm_size);
	add(&facts, "scaleSet", i->scale_set);
	add(&facts, "location", i->location);
	add(&facts, "resourceId", i->resource_id);
	if (buf_ok(&facts) < 0)
		return;
	m->facts = buf_take(&facts);
	m->problem[0] = '\0';
	keep(m);
}

static void ask(struct machine_facts *m)
{
	struct error e = ERROR_INIT;

	if (m->call || m->facts ||
	    (m->failed_boot && loop_now_boot(m->daemon->loop) < usec_add(m->failed_boot, AGAIN_USEC)))
		return;
	if (imds_get_instance(m->daemon->http, on_instance, m, &m->call, &e) < 0) {
		(void)snprintf(m->problem, sizeof(m->problem), "%s", e.msg);
		m->failed_boot = loop_now_boot(m->daemon->loop);
	}
}

void machine_facts_look(struct machine_facts *m, struct buf *out)
{
	ask(m);
	(void)buf_printf(out, "{%s%s\"asking\":%s", m->facts ? m->facts : "", m->facts ? "," : "",
			 m->call ? "true" : "false");
	if (m->problem[0]) {
		(void)buf_puts(out, ",\"problem\":");
		(void)jd_quote(out, m->problem, strlen(m->problem));
	}
	(void)buf_puts(out, "}\n");
}

int machine_facts_new(struct daemon *d, struct machine_facts **ret, struct error *err)
{
	_cleanup_(machine_facts_freep) struct machine_facts *m = calloc(1, sizeof(*m));

	if (!m)
		return error_oom(err);
	m->daemon = d;
	m->path = path_join(d->paths.run, MACHINE_FACTS_FILE);
	if (!m->path)
		return error_oom(err);
	*ret = TAKE_PTR(m);
	return 0;
}

void machine_facts_free(struct machine_facts *m)
{
	if (!m)
		return;
	imds_call_free(m->call);
	free(m->facts);
	free(m->path);
	free(m);
}
