/* Asks the machine's policy before a script begins (core/script_policy.h). */
#include <errno.h>
#include <stdlib.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"
#include "handlers/custom_script/script_private.h"

#define POLICY_FILE "waagent_runtime_policy.json"

static int read_policy(struct handler *h, struct error *err)
{
	const char *folder = h->host->config_folder ? h->host->config_folder(h->host) : NULL;
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_POLICY);
	_cleanup_free_ char *path = str_empty(folder) ? NULL : path_join(folder, POLICY_FILE);
	struct error e = ERROR_INIT;
	int r;

	jd_free(&script_policy_type, &h->policy);
	h->policy = (struct script_policy){ 0 };
	if (str_empty(folder))
		return 0;
	if (!path)
		return error_oom(err);
	r = fs_read(path, LIMIT_POLICY, &text, &e);
	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = script_policy_decode(buf_str(&text), text.len, path, &h->policy, &e);
	return r < 0 ? error_set(err, e.cls, r, "the policy of this machine cannot be read, so nothing is run: %s",
				 e.msg)
		     : 0;
}

int script_allow(struct handler *h, const struct script_settings *s, struct error *err)
{
	int r = read_policy(h, err);

	return r < 0 ? r
		     : script_policy_check(&h->policy,
					   settings_value(h->settings, SECTION_CUSTOM_SCRIPT, &s->command_to_execute),
					   err);
}
