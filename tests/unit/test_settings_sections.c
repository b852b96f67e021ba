/* Section by section: every default, every limit, the rules across members. */
#include "tests/support/settings.h"

#include "agent/base/log.h"

#define VAULT                "https://v.vault.azure.net/secrets/"
#define SCRIPT(members)      "{\"customScript\":{\"scripts\":[{\"name\":\"a\"" members "}]}}"
#define COMMAND              ",\"commandToExecute\":\"true\""
#define CERTIFICATE(members) "{\"keyRefresh\":{\"certificates\":[{\"url\":\"" VAULT "a\"" members "}]}}"
#define DRAIN(members)       "{\"drain\":{" members "}}"
#define STEP(members)        DRAIN("\"steps\":[{" members "}]")
#define HEALTH(members)      "{\"health\":{" members "}}"

static int64_t number(const struct jd_list *list, size_t i)
{
	assert_true(i < list->n);
	return ((int64_t *)list->items)[i];
}

static int choice(const struct jd_list *list, size_t i)
{
	assert_true(i < list->n);
	return ((int *)list->items)[i];
}

static const char *text(const struct jd_list *list, size_t i)
{
	assert_true(i < list->n);
	return ((char **)list->items)[i];
}

/* Defaults, member by member as in settings.md 1.2. */

static void test_script_defaults(void **state)
{
	_cleanup_loading_ struct loading l;
	const struct custom_script_settings *c;
	const struct script_settings *s;
	const struct script_file *f;

	(void)state;
	load(&l, SCRIPT(COMMAND ",\"files\":[\"https://h/d/x.sh?a=b\",{\"uri\":\"https://h/a%2Fb%20c.sh\"}]"), NULL);
	assert_int_equal(l.r, 0);
	c = l.settings.custom_script;
	assert_int_equal(c->wait_for.n, 0);
	assert_int_equal(c->wait_timeout_seconds, 900);
	assert_int_equal(c->deadline_seconds, 5100);
	assert_int_equal(c->when_busy, WHEN_BUSY_WAIT);
	assert_int_equal(c->parallel_downloads, 4);
	assert_int_equal(c->keep_runs, 5);
	s = c->scripts.items;
	assert_string_equal(s->command_to_execute.text, "true");
	assert_null(s->script.text);
	assert_int_equal(s->arguments.n, 0);
	assert_int_equal(s->environment.n, 0);
	assert_null(s->identity);
	assert_null(s->storage_account_name);
	assert_true(s->convert_line_endings);
	assert_string_equal(s->run_as, "root");
	assert_null(s->working_directory);
	assert_int_equal(s->timeout_seconds, 0);
	assert_int_equal(s->run_policy, RUN_ONCE_PER_SEQUENCE);
	assert_int_equal(s->retry.times, 0);
	assert_int_equal(s->retry.delay_seconds, 30);
	assert_int_equal(s->retry.on_exit_codes.n, 0);
	assert_int_equal(s->on_reboot, ON_REBOOT_FAIL);
	assert_int_equal(s->reboot_exit_code, 0);
	assert_false(s->continue_on_failure);
	assert_true(s->treat_failure_as_deployment_failure);
	assert_false(s->asynchronous);
	assert_int_equal(s->limits.memory_bytes, 0);
	assert_int_equal(s->limits.cpu_percent, 0);
	assert_int_equal(s->limits.nice, 0);
	assert_int_equal(s->output.max_bytes, 16777216);
	assert_int_equal(s->output.tail_bytes, 4096);
	assert_null(s->output.stdout_uri.text);
	assert_false(s->wipe);
	f = s->files.items;
	assert_string_equal(f[0].name, "x.sh");
	assert_string_equal(f[0].mode, "0500");
	assert_string_equal(f[0].owner, "root:root");
	assert_int_equal(f[0].max_size_bytes, 4294967296);
	assert_null(f[0].sha256);
	assert_string_equal(f[1].name, "b c.sh");
}

static void test_key_defaults(void **state)
{
	_cleanup_loading_ struct loading l;
	const struct key_refresh_settings *k;
	const struct certificate_settings *c;
	const struct key_secret_settings *s;

	(void)state;
	load(&l,
	     "{\"keyRefresh\":{\"certificates\":[{\"url\":\"" VAULT "web\",\"activate\":{\"verify\":{\"endpoint\":"
	     "\"[::1]:443\"}}}],\"secrets\":[{\"url\":\"" VAULT "pw\",\"path\":\"/etc/pw\"}]}}",
	     NULL);
	assert_int_equal(l.r, 0);
	k = l.settings.key_refresh;
	assert_int_equal(k->polling_interval_seconds, 3600);
	assert_int_equal(k->initial_sync_timeout_seconds, 1800);
	assert_null(k->identity);
	assert_string_equal(k->identity_endpoint, "http://169.254.169.254/metadata/identity");
	assert_int_equal(k->vault_suffixes.n, 0);
	assert_int_equal(k->expiry_warning_days.n, 4);
	assert_int_equal(number(&k->expiry_warning_days, 0), 30);
	assert_int_equal(number(&k->expiry_warning_days, 3), 1);
	assert_false(k->remove_on_uninstall);
	c = k->certificates.items;
	assert_string_equal(c->name, "v.web");
	assert_null(c->directory);
	assert_string_equal(c->files.fullchain, "fullchain.pem");
	assert_string_equal(c->files.key, "privkey.pem");
	assert_null(c->files.certificate);
	assert_null(c->files.chain);
	assert_null(c->files.combined);
	assert_null(c->files.pkcs12);
	assert_string_equal(c->owner, "root");
	assert_string_equal(c->group, "root");
	assert_string_equal(c->mode, "0600");
	assert_int_equal(c->keep_versions, 2);
	assert_int_equal(c->acls.n, 0);
	assert_int_equal(c->activate.check.n, 0);
	assert_int_equal(c->activate.timeout_seconds, 60);
	assert_int_equal(c->activate.verify.timeout_seconds, 30);
	s = k->secrets.items;
	assert_string_equal(s->name, "v.pw");
	assert_string_equal(s->mode, "0600");
	assert_null(s->activate.verify.endpoint);
}

static void test_drain_defaults(void **state)
{
	_cleanup_loading_ struct loading l, listening, nothing;
	const struct drain_settings *d;
	const struct policy_rule *p;
	const struct step_settings *s;

	(void)state;
	load(&l, DRAIN(""), NULL);
	assert_int_equal(l.r, 0);
	d = l.settings.drain;
	assert_int_equal(d->polling_interval_seconds, 1);
	assert_string_equal(d->api_version, "2020-07-01");
	assert_int_equal(d->lead_seconds, 1200);
	assert_int_equal(d->margin_seconds, 3);
	assert_int_equal(d->restore_timeout_seconds, 120);
	assert_true(d->restore_when_rebooted);
	assert_int_equal(d->shared_events.acknowledge, SHARED_NEVER);
	assert_null(d->shared_events.peer_url);
	assert_null(d->shutdown);
	p = d->policy.items;
	assert_int_equal(d->policy.n, 2);
	assert_string_equal(text(&p[0].types, 0), "Freeze");
	assert_int_equal(p[0].max_duration_seconds, 9);
	assert_int_equal(p[0].action, POLICY_NOTIFY);
	assert_int_equal(p[0].acknowledge, ACKNOWLEDGE_IMMEDIATELY);
	assert_int_equal(p[1].types.n, 5);
	assert_string_equal(text(&p[1].types, 4), "Terminate");
	assert_int_equal(p[1].action, POLICY_DRAIN);
	assert_int_equal(p[1].acknowledge, ACKNOWLEDGE_WHEN_DRAINED);
	assert_int_equal(p[1].max_duration_seconds, -1);
	assert_int_equal(p[1].min_notice_seconds, -1);
	assert_int_equal(p[1].max_notice_seconds, -1);
	assert_null(p[1].source);
	s = d->steps.items;
	assert_int_equal(d->steps.n, 1);
	assert_int_equal(s->type, STEP_HOOKS);
	assert_string_equal(s->name, "hooks-1");

	load(&listening,
	     "{\"drain\":{\"shutdown\":{}},\"health\":{\"listen\":\"0.0.0.0:80\",\"loadBalancerProbe\":"
	     "{\"intervalInSeconds\":7,\"unhealthyThreshold\":3}}}",
	     NULL);
	assert_int_equal(listening.settings.drain->shutdown->max_delay_seconds, 60);
	s = listening.settings.drain->steps.items;
	assert_int_equal(listening.settings.drain->steps.n, 2);
	assert_int_equal(s[0].type, STEP_PROBE_DOWN);
	assert_int_equal(s[0].wait_seconds, 28);
	assert_int_equal(s[0].reserve_seconds, 22);
	assert_int_equal(s[1].type, STEP_HOOKS);
	assert_string_equal(s[1].directory, "/etc/evenkeel/hooks/drain.d");
	assert_string_equal(s[1].undo_directory, "/etc/evenkeel/hooks/restore.d");

	/* An empty list is a wish. */
	load(&nothing, DRAIN("\"steps\":[],\"policy\":[]"), NULL);
	assert_int_equal(nothing.r, 0);
	assert_int_equal(nothing.settings.drain->steps.n, 0);
	assert_int_equal(nothing.settings.drain->policy.n, 0);
}

static void test_step_defaults(void **state)
{
	static const struct {
		int type;
		int64_t timeout, reserve;
		const char *name;
	} expected[] = {
		{STEP_PROBE_DOWN, 0, 11, "probeDown-1"},
		{STEP_REFUSE_PROBE, 5, 1, "refuseProbe-2"},
		{STEP_RUN, 30, 5, "run-3"},
		{STEP_HOOKS, 30, 5, "hooks-4"},
		{STEP_HTTP, 10, 2, "http-5"},
		{STEP_WAIT_FOR_CONNECTIONS, 60, 0, "waitForConnections-6"},
		{STEP_WAIT_UNTIL, 60, 0, "waitUntil-7"},
		{STEP_STOP_UNITS, 30, 2, "stopUnits-8"},
		{STEP_PARALLEL, 90, 6, "parallel-9"},
	};
	_cleanup_loading_ struct loading l;
	const struct step_settings *s;

	(void)state;
	load(&l,
	     "{\"health\":{\"listen\":\"127.0.0.1:1\"},\"drain\":{\"steps\":[{\"type\":\"probeDown\"},"
	     "{\"type\":\"refuseProbe\",\"ports\":[80]},{\"type\":\"run\",\"command\":[\"a\"]},{\"type\":\"hooks\"},"
	     "{\"type\":\"http\",\"url\":\"http://h/\",\"undo\":{\"url\":\"http://h/u\",\"body\":\"x\"}},"
	     "{\"type\":\"waitForConnections\",\"ports\":\"fromLoadBalancer\"},"
	     "{\"type\":\"waitUntil\",\"command\":[\"/bin/true\"]},{\"type\":\"stopUnits\",\"units\":[\"a.service\"]},"
	     "{\"type\":\"parallel\",\"steps\":[{\"type\":\"run\",\"command\":[\"a\"]},"
	     "{\"type\":\"stopUnits\",\"units\":[\"a.service\",\"b.service\",\"c.socket\"]}]}]}}",
	     NULL);
	assert_int_equal(l.r, 0);
	s = l.settings.drain->steps.items;
	assert_int_equal(l.settings.drain->steps.n, ARRAY_SIZE(expected));
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		assert_int_equal(s[i].type, expected[i].type);
		assert_int_equal(s[i].timeout_seconds, expected[i].timeout);
		assert_int_equal(s[i].reserve_seconds, expected[i].reserve);
		assert_string_equal(s[i].name, expected[i].name);
		assert_int_equal(s[i].on_failure, ON_FAILURE_CONTINUE);
		assert_int_equal(s[i].retry.times, 0);
	}
	assert_int_equal(s[0].wait_seconds, 15);
	assert_string_equal(s[2].user, "root");
	assert_string_equal(s[4].http.method, "GET");
	assert_string_equal(s[4].http_undo->method, "POST");
	assert_int_equal(number(&s[4].http_undo->expect, 0), 200);
	assert_true(s[5].ports_from_load_balancer);
	assert_int_equal(s[5].at_most, 0);
	assert_int_equal(s[6].interval_seconds, 2);
	assert_string_equal(((struct step_settings *)s[8].steps.items)[1].name, "stopUnits-9.2");
}

static void test_other_defaults(void **state)
{
	_cleanup_loading_ struct loading l;

	(void)state;
	load(&l,
	     "{\"userData\":{},\"health\":{\"application\":{\"unit\":\"a.service\"}},\"notify\":{\"webhooks\":["
	     "{\"name\":\"a\",\"url\":\"https://h/\"}]},\"network\":{\"proxy\":\"\",\"caFile\":\"\"},\"log\":{}}",
	     NULL);
	assert_int_equal(l.r, 0);
	assert_int_equal(l.settings.user_data->action, USERDATA_REPORT);
	assert_int_equal(l.settings.user_data->source, USERDATA_IMDS);
	assert_int_equal(l.settings.user_data->polling_interval_seconds, 60);
	assert_int_equal(l.settings.user_data->parts.n, 1);
	assert_int_equal(choice(&l.settings.user_data->parts, 0), USERDATA_SHELLSCRIPT);
	assert_int_equal(l.settings.user_data->settings_sections.n, 0);
	assert_int_equal(l.settings.user_data->baseline, USERDATA_ADOPT);
	assert_int_equal(l.settings.user_data->run_policy, USERDATA_ONCE_PER_CONTENT);
	assert_int_equal(l.settings.user_data->when_busy, WHEN_BUSY_WAIT);
	assert_int_equal(l.settings.user_data->timeout_seconds, 3600);
	assert_int_equal(l.settings.user_data->retry.times, 0);
	assert_int_equal(l.settings.user_data->retry.delay_seconds, 30);
	assert_null(l.settings.health->listen);
	assert_int_equal(l.settings.health->application->interval_seconds, 5);
	assert_int_equal(l.settings.health->application->timeout_seconds, 2);
	assert_int_equal(l.settings.health->application->unhealthy_threshold, 2);
	assert_int_equal(l.settings.health->probe.interval_seconds, 5);
	assert_int_equal(l.settings.health->probe.unhealthy_threshold, 2);
	assert_int_equal(l.settings.health->ready_after.n, 0);
	assert_null(l.settings.health->metrics_listen);
	assert_null(l.settings.health->metrics_file);
	{
		const struct webhook_settings *w = l.settings.notify->webhooks.items;

		assert_int_equal(w->format, WEBHOOK_JSON);
		assert_int_equal(w->on.n, 3);
		assert_int_equal(choice(&w->on, 0), 1); /* drain */
		assert_int_equal(choice(&w->on, 1), 3); /* restore */
		assert_int_equal(choice(&w->on, 2), 7); /* problem */
		assert_null(w->hmac_key.ref);
	}
	assert_null(l.settings.network->proxy.text);
	assert_null(l.settings.network->ca_file);
	assert_int_equal(l.settings.network->no_proxy.n, 0);
	assert_int_equal(l.settings.log->level, LOG_LEVEL_INFO);
	assert_int_equal(l.settings.log->max_size_bytes, settings_log_defaults.max_size_bytes);
	assert_int_equal(l.settings.log->max_files, settings_log_defaults.max_files);
	assert_true(l.settings.log->console);
}

/* Limits of numbers and lists: the last that is taken, the first that is not. */

static void bounds(const char *before, long long lo, long long hi, const char *after)
{
	const long long good[] = {lo, hi}, bad[] = {lo - 1, hi + 1};

	for (size_t i = 0; i < 2; i++) {
		char *document_text = str_format("%s%lld%s", before, good[i], after);
		struct loading l;

		load(&l, document_text, NULL);
		if (l.r < 0)
			fail_msg("%s: %s", document_text, l.err.msg);
		loading_done(&l);
		free(document_text);
		document_text = str_format("%s%lld%s", before, bad[i], after);
		load(&l, document_text, NULL);
		if (l.r == 0 || !strstr(l.err.msg, "expected an integer from "))
			fail_msg("%s is accepted", document_text);
		loading_done(&l);
		free(document_text);
	}
}

static void test_bounds(void **state)
{
#define ONE_SCRIPT ",\"scripts\":[{\"name\":\"a\",\"commandToExecute\":\"b\",\"asynchronous\":true}]}}"
#define MEMBER_OF_SCRIPT(name)                                                                                         \
	"{\"customScript\":{\"scripts\":[{\"name\":\"a\"" COMMAND ",\"asynchronous\":true,\"" name "\":"
#define END_OF_SCRIPT "}]}}"
#define RUN           "{\"drain\":{\"steps\":[{\"type\":\"run\",\"command\":[\"a\"],\""
	(void)state;
	bounds("{\"customScript\":{\"waitTimeoutInSeconds\":", 0, 5100, ONE_SCRIPT);
	bounds("{\"customScript\":{\"deadlineInSeconds\":", 60, 604800, ONE_SCRIPT);
	bounds("{\"customScript\":{\"parallelDownloads\":", 1, 16, ONE_SCRIPT);
	bounds("{\"customScript\":{\"keepRuns\":", 1, 50, ONE_SCRIPT);
	bounds(MEMBER_OF_SCRIPT("timeoutInSeconds"), 0, 604800, END_OF_SCRIPT);
	bounds(MEMBER_OF_SCRIPT("retry") "{\"times\":", 0, 10, "}" END_OF_SCRIPT);
	bounds(MEMBER_OF_SCRIPT("rebootExitCode"), 0, 255, END_OF_SCRIPT);
	bounds("{\"keyRefresh\":{\"pollingIntervalInSeconds\":", 60, 86400, "}}");
	bounds("{\"keyRefresh\":{\"initialSyncTimeoutInSeconds\":", 60, 5100, "}}");
	bounds("{\"keyRefresh\":{\"certificates\":[{\"url\":\"" VAULT "a\",\"keepVersions\":", 1, 10, "}]}}");
	bounds("{\"keyRefresh\":{\"certificates\":[{\"url\":\"" VAULT "a\",\"activate\":{\"timeoutInSeconds\":", 1, 900,
	       "}}]}}");
	bounds("{\"drain\":{\"pollingIntervalInSeconds\":", 1, 60, "}}");
	bounds("{\"drain\":{\"leadInSeconds\":", 0, 86400, "}}");
	bounds("{\"drain\":{\"marginInSeconds\":", 0, 60, "}}");
	bounds("{\"drain\":{\"restoreTimeoutInSeconds\":", 1, 3600, "}}");
	bounds("{\"drain\":{\"shutdown\":{\"maxDelayInSeconds\":", 5, 600, "}}}");
	bounds(RUN "timeoutInSeconds\":", 1, 3600, "}]}}");
	bounds("{\"userData\":{\"pollingIntervalInSeconds\":", 10, 3600, "}}");
	bounds("{\"userData\":{\"timeoutInSeconds\":", 1, 86400, "}}");
	bounds("{\"log\":{\"maxFiles\":", 1, 20, "}}");
}

/* A list of n times `item`, # the number of each. */
static char *list_of(const char *before, const char *item, size_t n, const char *after)
{
	struct buf b = BUF_INIT(1024UL * 1024);

	buf_puts(&b, before);
	for (size_t i = 0; i < n; i++) {
		buf_puts(&b, i ? "," : "");
		for (const char *p = item; *p; p++)
			if (*p == '#')
				buf_printf(&b, "%zu", i);
			else
				buf_putc(&b, *p);
	}
	assert_int_equal(buf_puts(&b, after), 0);
	return buf_take(&b);
}

static void most(const char *before, const char *item, size_t max, const char *after)
{
	char *good = list_of(before, item, max, after), *bad = list_of(before, item, max + 1, after);
	char *sentence = str_format("at most %zu items, got %zu", max, max + 1);
	struct loading l;

	load(&l, good, NULL);
	if (l.r < 0)
		fail_msg("%s", l.err.msg);
	loading_done(&l);
	load(&l, bad, NULL);
	assert_int_equal(l.r, -EINVAL);
	assert_non_null(strstr(l.err.msg, sentence));
	loading_done(&l);
	free(good);
	free(bad);
	free(sentence);
}

static void test_lists(void **state)
{
	(void)state;
	most("{\"customScript\":{\"scripts\":[", "{\"name\":\"s#\"" COMMAND "}", 32, "]}}");
	most(MEMBER_OF_SCRIPT("files") "[", "\"https://h/f#\"", 64, "]" END_OF_SCRIPT);
	most(MEMBER_OF_SCRIPT("environment") "{", "\"V#\":\"x\"", 64, "}" END_OF_SCRIPT);
	most("{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"script\":\"eA==\",\"arguments\":[", "\"a\"", 64,
	     "]}]}}");
	most("{\"keyRefresh\":{\"certificates\":[", "{\"url\":\"" VAULT "c#\"}", 500, "]}}");
	most("{\"keyRefresh\":{\"secrets\":[", "{\"url\":\"" VAULT "c#\",\"path\":\"/etc/s#\"}", 100, "]}}");
	most("{\"keyRefresh\":{\"vaultSuffixes\":[", "\".vault.test\"", 8, "]}}");
}

static void test_more_lists(void **state)
{
	(void)state;
	most("{\"drain\":{\"policy\":[", "{\"action\":\"drain\"}", 32, "]}}");
	most("{\"drain\":{\"steps\":[", "{\"type\":\"hooks\"}", 64, "]}}");
	most("{\"drain\":{\"steps\":[{\"type\":\"refuseProbe\",\"ports\":[", "1#", 16, "]}]}}");
	most("{\"drain\":{\"steps\":[{\"type\":\"waitForConnections\",\"ports\":[", "1#", 64, "]}]}}");
	most("{\"drain\":{\"steps\":[{\"type\":\"stopUnits\",\"units\":[", "\"a#.service\"", 64, "]}]}}");
	most("{\"drain\":{\"steps\":[{\"type\":\"run\",\"command\":[", "\"a\"", 64, "]}]}}");
	most("{\"drain\":{\"steps\":[{\"type\":\"parallel\",\"steps\":[", "{\"type\":\"hooks\"}", 8, "]}]}}");
	most("{\"notify\":{\"webhooks\":[", "{\"name\":\"w#\",\"url\":\"https://h/\"}", 8, "]}}");
	{
		char *nested = list_of("{\"drain\":{\"steps\":[",
				       "{\"type\":\"parallel\",\"steps\":[{\"type\":\"hooks\"},{\"type\":\"hooks\"}]}",
				       33, "]}}");

		refused(nested, NULL, "settings: drain.steps: at most 64 steps, those of parallel included, got 66");
		free(nested);
	}
	refused("{\"customScript\":{\"scripts\":[]}}", NULL, "settings: customScript.scripts: at least 1 item, got 0");
	refused("{\"customScript\":{}}", NULL, "settings: customScript: \"scripts\" is required");
	refused(STEP("\"type\":\"parallel\",\"steps\":[{\"type\":\"hooks\"}]"), NULL,
		"settings: drain.steps[0].steps: at least 2 items, got 1");
}

/* Forms. */

static void test_texts(void **state)
{
	(void)state;
	refused("{\"customScript\":{\"scripts\":[{\"name\":\"-a\"" COMMAND "}]}}", NULL,
		"settings: customScript.scripts[0].name: expected a name of 1 to 63 letters, digits, \".\", \"_\" and "
		"\"-\" "
		"that begins with a letter or digit, got \"-a\"");
	refused(STEP("\"type\":\"stopUnits\",\"units\":[\"nginx\"]"), NULL,
		"settings: drain.steps[0].units[0]: expected a systemd unit name with its suffix, e.g. "
		"\"nginx.service\", got "
		"\"nginx\"");
	refused(STEP("\"type\":\"stopUnits\",\"units\":[\"a@.service\"]"), NULL,
		"settings: drain.steps[0].units[0]: expected a unit, not a template: give the instance, e.g. "
		"\"worker@1.service\", got \"a@.service\"");
	refused(HEALTH("\"listen\":\"localhost\""), NULL,
		"settings: health.listen: expected ADDRESS:PORT with an IPv4 address, an IPv6 address in brackets or "
		"\"localhost\", got \"localhost\"");
	for (const char *const *bad = (const char *const[]){"::1:80", "h:80", "1.2.3.4:0", "1.2.3.4:65536",
							    "[1.2.3.4]:80", "1.2.3:80", NULL};
	     *bad; bad++) {
		char *t = str_format(HEALTH("\"listen\":\"%s\""), *bad);
		struct loading l;

		load(&l, t, NULL);
		assert_int_equal(l.r, -EINVAL);
		loading_done(&l);
		free(t);
	}
	accepted(HEALTH("\"listen\":\"[::]:80\",\"metricsListen\":\"localhost:9100\""), NULL);
	refused(DRAIN("\"apiVersion\":\"latest\""), NULL,
		"settings: drain.apiVersion: expected an API version, e.g. \"2020-07-01\", got \"latest\"");
	refused(SCRIPT(COMMAND ",\"runAs\":\"a b\""), NULL,
		"settings: customScript.scripts[0].runAs: expected USER or USER:GROUP, got \"a b\"");
	accepted(SCRIPT(COMMAND ",\"runAs\":\"www-data:1000\""), NULL);
	refused(SCRIPT(COMMAND ",\"environment\":{\"1A\":\"\"}"), NULL,
		"settings: customScript.scripts[0].environment.1A: expected the name of an environment variable "
		"(letters, "
		"digits, \"_\"), got \"1A\"");
	refused(SCRIPT(COMMAND ",\"files\":[{\"uri\":\"https://h/a\",\"mode\":\"4755\"}]"), NULL,
		"settings: customScript.scripts[0].files[0].mode: expected a mode of three octal digits, e.g. "
		"\"0640\", got "
		"\"4755\"");
	refused(SCRIPT(COMMAND ",\"files\":[{\"uri\":\"https://h/a\",\"sha256\":\"abc\"}]"), NULL,
		"settings: customScript.scripts[0].files[0].sha256: expected SHA-256 as 64 hexadecimal digits, got "
		"\"abc\"");
	refused(SCRIPT(COMMAND ",\"files\":[\"ftp://h/a\"]"), NULL,
		"settings: customScript.scripts[0].files[0]: expected an http or https URL: not a usable URI: it does "
		"not "
		"begin with \"https://\" or \"http://\"");
	refused(STEP("\"type\":\"http\",\"url\":\"http://h/\",\"method\":\"get\""), NULL,
		"settings: drain.steps[0].method: expected an HTTP method in capitals, got \"get\"");
	refused(STEP("\"type\":\"http\",\"url\":\"http://h/\",\"headers\":{\"A\":\"b\\nC: d\"}"), NULL,
		"settings: drain.steps[0].headers.A: expected a text without control characters");
	refused(DRAIN("\"policy\":[{\"types\":[\"Rebot\"],\"action\":\"drain\"}]"), NULL,
		"settings: drain.policy[0].types[0]: expected one of \"Freeze\", \"Reboot\", \"Redeploy\", "
		"\"Preempt\", "
		"\"Terminate\", got \"Rebot\"; did you mean \"Reboot\"?");
	refused(DRAIN("\"sharedEvents\":{\"peerUrl\":\"http://h/\"}"), NULL,
		"settings: drain.sharedEvents.peerUrl: expected an http URL in which {name} stands for the other VM, "
		"got "
		"\"http://h/\"");
	accepted(DRAIN("\"sharedEvents\":{\"acknowledge\":\"leader\",\"peerUrl\":\"http://{name}:8008/ready\"}"), NULL);
	refused(STEP("\"type\":\"stopUnit\",\"units\":[\"a.service\"]"), NULL,
		"settings: drain.steps[0].type: expected \"probeDown\", \"refuseProbe\", \"run\", \"hooks\", \"http\", "
		"\"waitForConnections\", \"waitUntil\", \"stopUnits\" or \"parallel\", got \"stopUnit\"; did you mean "
		"\"stopUnits\"?");
	refused(STEP("\"units\":[\"a.service\"]"), NULL, "settings: drain.steps[0]: \"type\" is required");
}

static void directory(const char *path, const char *what)
{
	char *t = str_format(CERTIFICATE(",\"directory\":\"%s\""), path);
	char *sentence = what ? str_format("settings: keyRefresh.certificates[0].directory: %s", what) : NULL;

	if (sentence)
		refused(t, NULL, sentence);
	else
		accepted(t, NULL);
	free(t);
	free(sentence);
}

static void test_paths(void **state)
{
	(void)state;
	directory("/etc/tls", NULL);
	directory("/device/x", NULL);
	directory("/var/lib/waagent/Microsoft.Azure.KeyVault.Store", NULL);
	directory("/var/lib/waagent/a.b/c-d", NULL);
	directory("etc", "expected an absolute path, got \"etc\"");
	directory("/etc/../x", "expected a path without \"..\", got \"/etc/../x\"");
	directory("/dev/shm/x", "\"/dev/shm/x\" cannot be used; choose a path that is not below /dev");
	directory("//proc/1", "\"//proc/1\" cannot be used; choose a path that is not below /proc");
	directory("/sys", "\"/sys\" cannot be used; choose a path that is not below /sys");
	directory("/run/./evenkeel/x",
		  "\"/run/./evenkeel/x\" cannot be used; choose a path that is not below /run/evenkeel");
	directory("//var/lib/waagent/Vendor.App-1.0/tls",
		  "the Azure agent deletes \"/var/lib/waagent/Vendor.App-1.0\"; choose a directory outside "
		  "/var/lib/waagent");
}

static void vault_url(const char *url, const char *what)
{
	char *t = str_format(
		"{\"keyRefresh\":{\"vaultSuffixes\":[\".vault.test\"],\"certificates\":[{\"url\":\"%s\"}]}}", url);
	char *sentence = what ? str_format("settings: keyRefresh.certificates[0].url: %s", what) : NULL;

	if (sentence)
		refused(t, NULL, sentence);
	else
		accepted(t, NULL);
	free(t);
	free(sentence);
}

static void test_vault_urls(void **state)
{
	(void)state;
	vault_url("https://v.vault.azure.net/secrets/a", NULL);
	vault_url("https://v.vault.azure.net:443/secrets/a/", NULL);
	vault_url("https://V.Vault.azure.cn/secrets/a-1/0123456789abcdef0123456789ABCDEF", NULL);
	vault_url("https://v.vault.usgovcloudapi.net/secrets/a", NULL);
	vault_url("https://v.vault.test/secrets/a", NULL);
	vault_url("http://v.vault.azure.net/secrets/a", "expected an https URL on port 443 of a vault");
	vault_url("https://v.vault.azure.net:8443/secrets/a", "expected an https URL on port 443 of a vault");
	vault_url("https://v.vault.azure.net/secrets/a?x=1", "expected the URL of a secret without a query");
	vault_url("https://v.evil.example/secrets/a",
		  "\"v.evil.example\" is no known vault host; if it is one, add \".evil.example\" to "
		  "keyRefresh.vaultSuffixes");
	vault_url("https://v.vault.azure.net.evil.example/secrets/a",
		  "\"v.vault.azure.net.evil.example\" is no known vault host; if it is one, add "
		  "\".vault.azure.net.evil.example\" to keyRefresh.vaultSuffixes");
	vault_url("https://10.0.0.1/secrets/a", "expected the host name of a vault, got \"10.0.0.1\"");
	vault_url("https://h.managedhsm.azure.net/secrets/a",
		  "a managed HSM has keys only; certificates and secrets need a vault");
	vault_url("https://v.vault.azure.net/certificates/a",
		  "expected https://VAULT/secrets/NAME, got \"/certificates/a\"; a certificate is read as the secret "
		  "of its "
		  "name, only that has the private key");
	vault_url("https://v.vault.azure.net/secrets/",
		  "expected https://VAULT/secrets/NAME or …/NAME/VERSION (32 characters), "
		  "got the path \"/secrets/\"");
	vault_url("https://v.vault.azure.net/secrets/a/1", "expected https://VAULT/secrets/NAME or …/NAME/VERSION (32 "
							   "characters), got the path \"/secrets/a/1\"");
	refused("{\"keyRefresh\":{\"identityEndpoint\":\"http://10.0.0.1/x\"}}", NULL,
		"settings: keyRefresh.identityEndpoint: expected an address of this machine or 169.254.0.0/16 (tokens "
		"come from "
		"nowhere else), got the host \"10.0.0.1\"");
	accepted("{\"keyRefresh\":{\"identityEndpoint\":\"http://localhost:40342/metadata/identity\"}}", NULL);
}

/* Rules. */

static void test_script_rules(void **state)
{
	(void)state;
	refused(SCRIPT(""), NULL,
		"settings: customScript.scripts[0]: one of \"commandToExecute\" and \"script\" is required, got none");
	refused(SCRIPT(COMMAND ",\"arguments\":[\"a\"]"), NULL,
		"settings: customScript.scripts[0].arguments: belong to \"script\"; write them into "
		"\"commandToExecute\"");
	accepted(SCRIPT(",\"script\":\"eA==\",\"arguments\":[\"\"]"), NULL);
	refused(SCRIPT(",\"script\":\"e\""), NULL,
		"settings: customScript.scripts[0].script: expected base64: the text ends within a group, at offset 1");
	refused(SCRIPT(",\"script\":\"H4sIAAAA\""), NULL,
		"settings: customScript.scripts[0].script: expected a whole gzip; this one is cut off or damaged");
	refused(SCRIPT(COMMAND ",\"storageAccountName\":\"abc\""), NULL,
		"settings: customScript.scripts[0]: both \"storageAccountName\" and \"storageAccountKey\" are "
		"required, got one");
	refused(SCRIPT(COMMAND
		       ",\"storageAccountName\":\"abc\",\"storageAccountKey\":{\"secretRef\":\"k\"},\"identity\":{}"),
		"{\"secrets\":{\"k\":\"a2V5\"}}",
		"settings: customScript.scripts[0]: either \"identity\" or the storage account's name and key, got "
		"both");
	accepted(SCRIPT(COMMAND ",\"storageAccountName\":\"abc\",\"storageAccountKey\":{\"secretRef\":\"k\"}"),
		 "{\"secrets\":{\"k\":\"a2V5\"}}");
	refused(SCRIPT(COMMAND ",\"identity\":{\"clientId\":\"11112222-bbbb-3333-cccc-4444dddd5555\",\"objectId\":"
			       "\"11112222-bbbb-3333-cccc-4444dddd5555\"}"),
		NULL,
		"settings: customScript.scripts[0].identity: one of \"clientId\", \"objectId\" and \"resourceId\" may "
		"be given, "
		"got two");
	refused(SCRIPT(COMMAND ",\"timeoutInSeconds\":5101"), NULL,
		"settings: customScript.scripts[0].timeoutInSeconds: 5101 is more than 5100 (the platform gives up at "
		"5400); "
		"make the long script asynchronous");
	accepted(SCRIPT(COMMAND ",\"timeoutInSeconds\":86400,\"asynchronous\":true"), NULL);
	refused(SCRIPT(COMMAND ",\"files\":[\"https://h/d/\"]"), NULL,
		"settings: customScript.scripts[0].files[0]: the URI ends in no file name; give \"name\"");
	refused(SCRIPT(COMMAND ",\"files\":[\"https://h/stdout\"]"), NULL,
		"settings: customScript.scripts[0].files[0]: name from the URI: \"stdout\" is where the script's "
		"output goes; "
		"give another name");
	refused(SCRIPT(COMMAND ",\"files\":[\"https://h/a\",\"https://h/b/a\"]"), NULL,
		"settings: customScript.scripts[0].files[1]: \"a\" is already the name of files[0]");
	refused(SCRIPT(COMMAND ",\"files\":[{\"uri\":\"https://h/a\",\"name\":\"a/../b\"}]"), NULL,
		"settings: customScript.scripts[0].files[0].name: expected a file name relative to the run's "
		"directory, without "
		"\".\" and \"..\", got \"a/../b\"");
	accepted(SCRIPT(COMMAND ",\"files\":[{\"uri\":\"https://h/a\",\"name\":\"lib/a.sh\"},\"https://h/a\"]"), NULL);
}

/* Nobody waits for a file's scripts: the platform's patience is no limit there. */
static void test_deadline_of_files(void **state)
{
	struct settings_source file =
		source_of(DOOR_FILES, "evenkeel.json",
			  "{\"customScript\":{\"deadlineInSeconds\":604800,\"scripts\":[{\"name\":\"a\"" COMMAND
			  ",\"timeoutInSeconds\":86400}]}}",
			  NULL);
	_cleanup_loading_ struct loading l;

	(void)state;
	load_sources(&l, &file, 1);
	assert_int_equal(l.r, 0);
}

static void test_key_rules(void **state)
{
	(void)state;
	refused(CERTIFICATE(",\"files\":{}"), NULL,
		"settings: keyRefresh.certificates[0].files: at least one file is required");
	refused(CERTIFICATE(",\"files\":{\"key\":\"a.pem\",\"chain\":\"a.pem\"}"), NULL,
		"settings: keyRefresh.certificates[0].files: \"a.pem\" is the name of two files");
	refused(CERTIFICATE(",\"files\":{\"key\":\"../a\"}"), NULL,
		"settings: keyRefresh.certificates[0].files.key: expected a plain file name, got \"../a\"");
	refused(CERTIFICATE(",\"acls\":[{}]"), NULL,
		"settings: keyRefresh.certificates[0].acls[0]: \"user\", \"group\" or both are required, got none");
	refused(CERTIFICATE(",\"activate\":{\"verify\":{}}"), NULL,
		"settings: keyRefresh.certificates[0].activate.verify: \"endpoint\" is required");
	refused(CERTIFICATE(",\"activate\":{\"check\":[\"./a\"]}"), NULL,
		"settings: keyRefresh.certificates[0].activate.check: expected an absolute path or a plain name as the "
		"first "
		"element, got \"./a\"");
	refused(CERTIFICATE(",\"activate\":{\"commands\":[[\"a\"],[\"\"]]}"), NULL,
		"settings: keyRefresh.certificates[0].activate.commands[1]: expected an absolute path or a plain name "
		"as the "
		"first element, got \"\"");
	refused(CERTIFICATE(",\"directory\":\"/var/lib/evenkeel/certificates/v.b\"},{\"url\":\"" VAULT "b\""), NULL,
		"settings: keyRefresh.certificates[1].directory: \"/var/lib/evenkeel/certificates/v.b\" is already "
		"written by "
		"certificates[0]");
	refused("{\"keyRefresh\":{\"certificates\":[{\"url\":\"" VAULT "a\",\"directory\":\"/etc/t\"}],"
		"\"secrets\":[{\"url\":\"" VAULT "b\",\"path\":\"/etc/t/privkey.pem\"}]}}",
		NULL,
		"settings: keyRefresh.secrets[0].path: \"/etc/t/privkey.pem\" is already written by certificates[0]");
	refused("{\"keyRefresh\":{\"secrets\":[{\"url\":\"" VAULT "b\",\"path\":\"/etc/s\"},{\"url\":\"" VAULT
		"c\",\"path\":\"/etc/s\"}]}}",
		NULL, "settings: keyRefresh.secrets[1].path: \"/etc/s\" is already written by secrets[0]");
	refused("{\"keyRefresh\":{\"secrets\":[{\"url\":\"" VAULT
		"b\",\"path\":\"/etc/s\",\"activate\":{\"verify\":{\"endpoint\":\"127.0.0.1:443\"}}}]}}",
		NULL,
		"settings: keyRefresh.secrets[0].activate.verify: no endpoint serves a secret; remove it, or let activate.check or "
		"a command look");
	refused(CERTIFICATE("},{\"name\":\"v.a\",\"url\":\"" VAULT "b\",\"directory\":\"/etc/x\""), NULL,
		"settings: keyRefresh.certificates[1].name: \"v.a\" is already the name of certificates[0]");
	refused(CERTIFICATE(",\"pkcs12Password\":\"open\""), NULL,
		"settings: keyRefresh.certificates[0].pkcs12Password: must be {\"secretRef\": \"NAME\"}; the value "
		"belongs in the "
		"protected settings under \"secrets\"");
}

static void test_drain_rules(void **state)
{
	(void)state;
	refused(STEP("\"type\":\"run\",\"command\":\"a b\""), NULL,
		"settings: drain.steps[0].command: expected a command as a list, e.g. [\"nginx\", \"-t\"], or with a "
		"shell "
		"[\"sh\", \"-c\", \"TEXT\"], got \"a b\"");
	refused(STEP("\"type\":\"parallel\",\"steps\":[{\"type\":\"hooks\"},{\"type\":\"parallel\",\"steps\":[]}]"),
		NULL,
		"settings: drain.steps[0].steps[1].type: expected \"probeDown\", \"refuseProbe\", \"run\", \"hooks\", "
		"\"http\", "
		"\"waitForConnections\", \"waitUntil\" or \"stopUnits\", got \"parallel\"");
	refused(DRAIN("\"steps\":[{\"type\":\"hooks\",\"name\":\"a\"},{\"type\":\"parallel\",\"steps\":[{\"type\":"
		      "\"hooks\"},"
		      "{\"type\":\"hooks\",\"name\":\"a\"}]}]"),
		NULL, "settings: drain.steps[1].steps[1].name: \"a\" is already the name of steps[0]");
	refused(DRAIN("\"steps\":[{\"type\":\"hooks\",\"name\":\"hooks-2\"},{\"type\":\"hooks\"}]"), NULL,
		"settings: drain.steps[1].name: \"hooks-2\" is already the name of steps[0]");
	refused(DRAIN("\"steps\":[{\"type\":\"parallel\",\"steps\":[{\"type\":\"hooks\"},{\"type\":\"hooks\",\"name\":"
		      "\"x\"}]},"
		      "{\"type\":\"hooks\",\"name\":\"x\"}]"),
		NULL, "settings: drain.steps[1].name: \"x\" is already the name of steps[0].steps[1]");
	refused(STEP("\"type\":\"run\",\"command\":[\"a\"],\"timeoutInSeconds\":5,\"reserveInSeconds\":6"), NULL,
		"settings: drain.steps[0].reserveInSeconds: 6 is more than the step's timeout of 5 s");
	accepted(STEP("\"type\":\"run\",\"command\":[\"a\"],\"timeoutInSeconds\":2"), NULL);
	refused(STEP("\"type\":\"parallel\",\"steps\":[{\"type\":\"probeDown\"},{\"type\":\"hooks\"}]"), NULL,
		"settings: drain.steps[0].steps[0]: probeDown needs health.listen, which no door sets");
	refused(STEP("\"type\":\"waitForConnections\",\"ports\":\"all\""), NULL,
		"settings: drain.steps[0].ports: expected a list of ports or \"fromLoadBalancer\", got \"all\"");
	refused(STEP("\"type\":\"run\",\"command\":[\"bin/a\"]"), NULL,
		"settings: drain.steps[0].command: expected an absolute path or a plain name as the first element, got "
		"\"bin/a\"");
	refused(DRAIN("\"policy\":[{\"action\":\"drain\",\"minNoticeInSeconds\":9,\"maxNoticeInSeconds\":8}]"), NULL,
		"settings: drain.policy[0].maxNoticeInSeconds: 8 is less than minNoticeInSeconds 9; no event matches");
	warned(DRAIN("\"policy\":[{\"types\":[\"Freeze\"],\"action\":\"notify\",\"acknowledge\":\"immediately\"},"
		     "{\"source\":\"Platform\",\"action\":\"drain\"}]"),
	       NULL,
	       "settings: drain.policy: acknowledges no event of source User; restarts from the portal then wait up to "
	       "15 "
	       "minutes");
	warned(DRAIN("\"leadInSeconds\":3"), NULL,
	       "settings: drain.leadInSeconds: is not more than marginInSeconds, so waits are skipped and steps have no more than "
	       "their reserve");
	warned(DRAIN("\"leadInSeconds\":4"), NULL, NULL);
	/* A rule that takes every event hides those after it; one that takes some does not. */
	warned(DRAIN("\"policy\":[{\"action\":\"notify\"},{\"action\":\"drain\"}]"), NULL,
	       "settings: drain.policy: acknowledges no event of source User; restarts from the portal then wait up to "
	       "15 "
	       "minutes");
	warned(DRAIN("\"policy\":[{\"maxNoticeInSeconds\":60,\"action\":\"notify\"},{\"action\":\"drain\"}]"), NULL, NULL);
	warned(DRAIN("\"policy\":[{\"source\":\"Platform\",\"action\":\"notify\"},{\"action\":\"drain\"}]"), NULL, NULL);
	warned(DRAIN("\"policy\":[{\"types\":[\"Freeze\",\"Preempt\"],\"action\":\"drain\",\"acknowledge\":"
		     "\"immediately\"},"
		     "{\"action\":\"drain\"}]"),
	       NULL,
	       "settings: drain.policy[0]: a Preempt is acknowledged before the VM is drained; the eviction then comes "
	       "at once");
	warned(DRAIN("\"policy\":[{\"types\":[\"Preempt\"],\"action\":\"drain\"},{\"action\":\"drain\",\"acknowledge\":"
		     "\"immediately\"}]"),
	       NULL, NULL);
	warned(DRAIN("\"policy\":[{\"action\":\"drain\"},{\"types\":[\"Freeze\"],\"action\":\"notify\",\"acknowledge\":"
		     "\"whenDrained\"}]"),
	       NULL,
	       "settings: drain.policy[1].acknowledge: \"whenDrained\" goes with action \"drain\"; events of this rule "
	       "are "
	       "never acknowledged");
}

static void test_health_rules(void **state)
{
	(void)state;
	refused(HEALTH("\"application\":{}"), NULL,
		"settings: health.application: one of \"http\", \"tcp\" and \"unit\" is required, got none");
	refused(HEALTH("\"application\":{\"http\":\"http://h/\",\"tcp\":\"127.0.0.1:1\"}"), NULL,
		"settings: health.application: one of \"http\", \"tcp\" and \"unit\" is required, got two");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_script_defaults),
		cmocka_unit_test(test_key_defaults),
		cmocka_unit_test(test_drain_defaults),
		cmocka_unit_test(test_step_defaults),
		cmocka_unit_test(test_other_defaults),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_more_lists),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_vault_urls),
		cmocka_unit_test(test_script_rules),
		cmocka_unit_test(test_deadline_of_files),
		cmocka_unit_test(test_key_rules),
		cmocka_unit_test(test_drain_rules),
		cmocka_unit_test(test_health_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
