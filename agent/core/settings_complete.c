/* What a document leaves to us: empty texts are absent, names and timeouts have their defaults, so does the drain. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/codec/uri.h"
#include "agent/core/drain_plan.h"
#include "agent/core/settings_tables.h"

/* "workingDirectory": "" says the same as leaving it out. Elements of lists and maps keep their empty texts. */
static void forget_empty(const struct jd_type *type, const struct jd_field *field, void *value, const char *path,
			 void *userdata)
{
	char **text = type->kind == JD_TEXT         ? value
		      : type->kind == JD_SECRETABLE ? &((struct jd_secretable *)value)->text
						    : NULL;

	(void)path;
	(void)userdata;
	if (!text || !field || type->min > 0 || !*text || **text)
		return;
	free(TAKE_PTR(*text));
}

/* customScript */

static bool is_usable_name(const char *name)
{
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return *name && strlen(name) <= 255 && !str_equal(name, ".") && !str_equal(name, "..");
}

/* The last segment of the path, decoded first, as the Custom Script extension does: "a%2Fb.sh" is b.sh. */
static int name_from_uri(const char *uri, char **ret)
{
	_cleanup_buf_ struct buf path = BUF_INIT(LIMIT_SECRET);
	struct uri u = {0};
	const char *slash;
	int r;

	r = uri_parse(uri, &u, NULL);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return 0;
	r = uri_decode(u.path, strlen(u.path), &path);
	uri_done(&u);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	slash = strrchr(buf_str(&path), '/');
	return slash && is_usable_name(slash + 1) ? str_set(ret, slash + 1) : 0;
}

static int complete_script(const struct settings *s, struct script_settings *script)
{
	struct script_file *files = script->files.items;

	for (size_t i = 0; i < script->files.n; i++) {
		const char *uri = settings_value(s, SECTION_CUSTOM_SCRIPT, &files[i].uri);
		int r = files[i].name || !uri ? 0 : name_from_uri(uri, &files[i].name);

		if (r < 0)
			return r;
	}
	return 0;
}

/* keyRefresh */

int settings_split_vault_url(const char *url, char **ret_vault, char **ret_suffix, char **ret_secret)
{
	_cleanup_free_ char *vault = NULL, *suffix = NULL, *secret = NULL;
	struct uri u = {0};
	const char *name, *dot;
	int r = uri_parse(url, &u, NULL);

	if (r < 0)
		return -ENOMEM;
	dot = u.host + strcspn(u.host, ".");
	name = str_starts(u.path, "/secrets/") ? u.path + strlen("/secrets/") : "";
	vault = strndup(u.host, (size_t)(dot - u.host));
	suffix = strdup(dot);
	secret = strndup(name, strcspn(name, "/"));
	uri_done(&u);
	if (!vault || !suffix || !secret)
		return -ENOMEM;
	*ret_vault = TAKE_PTR(vault);
	*ret_suffix = TAKE_PTR(suffix);
	*ret_secret = TAKE_PTR(secret);
	return 0;
}

static int name_from_vault_url(const char *url, char **ret)
{
	_cleanup_free_ char *vault = NULL, *suffix = NULL, *secret = NULL;
	int r;

	if (*ret)
		return 0;
	r = settings_split_vault_url(url, &vault, &suffix, &secret);
	if (r < 0)
		return r;
	*ret = str_format("%s.%s", vault, secret);
	return *ret ? 0 : -ENOMEM;
}

static int complete_keys(struct key_refresh_settings *k)
{
	struct certificate_settings *c = k->certificates.items;
	struct key_secret_settings *secrets = k->secrets.items;
	int r = 0;

	for (size_t i = 0; r == 0 && i < k->certificates.n; i++)
		r = name_from_vault_url(c[i].url, &c[i].name);
	for (size_t i = 0; r == 0 && i < k->secrets.n; i++)
		r = name_from_vault_url(secrets[i].url, &secrets[i].name);
	return r;
}

/* drain */

/* settings.md 1.3; stopUnits: of each unit, hooks: of each file. */
static const struct {
	int64_t timeout_seconds, reserve_seconds;
} step_times[] = {
	[STEP_PROBE_DOWN] = {0, 0},  [STEP_REFUSE_PROBE] = {5, 1}, [STEP_RUN] = {30, 5},
	[STEP_HOOKS] = {30, 5},      [STEP_HTTP] = {10, 2},        [STEP_WAIT_FOR_CONNECTIONS] = {60, 0},
	[STEP_WAIT_UNTIL] = {60, 0}, [STEP_STOP_UNITS] = {30, 2},  [STEP_PARALLEL] = {0, 0},
};

static int64_t at_least(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* The longest of the steps, each taken as a whole. */
static void longest(const struct step_settings *parallel, int64_t *ret_timeout, int64_t *ret_reserve)
{
	const struct step_settings *s = parallel->steps.items;

	*ret_timeout = 0;
	*ret_reserve = 0;
	for (size_t i = 0; i < parallel->steps.n; i++) {
		int64_t times = s[i].type == STEP_STOP_UNITS ? (int64_t)s[i].units.n : 1;
		int64_t timeout = s[i].type == STEP_PROBE_DOWN ? s[i].wait_seconds : s[i].timeout_seconds;

		*ret_timeout = at_least(*ret_timeout, timeout * times);
		*ret_reserve = at_least(*ret_reserve, s[i].reserve_seconds * times);
	}
}

/* Before so much time is over the load balancer still sends new connections; a shorter wait is in vain. */
static int64_t until_noticed(const struct settings *s, const struct step_settings *probe_down)
{
	const struct health_settings *h = s->health;
	int64_t seconds = h ? h->probe.interval_seconds * h->probe.unhealthy_threshold + 1 : 0;

	return seconds < probe_down->wait_seconds ? seconds : probe_down->wait_seconds;
}

static int complete_http(struct http_step *http)
{
	if (http->method)
		return 0;
	return str_set(&http->method, http->body ? "POST" : "GET");
}

static void complete_times(const struct settings *s, struct step_settings *step)
{
	int64_t timeout = step_times[step->type].timeout_seconds;
	int64_t reserve = step_times[step->type].reserve_seconds;

	if (step->type == STEP_PARALLEL)
		longest(step, &timeout, &reserve);
	if (step->type == STEP_PROBE_DOWN && step->wait_seconds < 0) {
		step->wait_seconds =
			s->health ? s->health->probe.interval_seconds * (s->health->probe.unhealthy_threshold + 1) : 0;
		if (step->timeout_seconds > 0 && step->wait_seconds > step->timeout_seconds)
			step->wait_seconds = step->timeout_seconds;
	}
	if (step->type == STEP_PROBE_DOWN)
		reserve = until_noticed(s, step);
	if (step->timeout_seconds == 0)
		step->timeout_seconds = timeout;
	/* A default reserve gives way to a shorter timeout; one that was asked for is judged. */
	if (step->reserve_seconds < 0)
		step->reserve_seconds =
			step->timeout_seconds > 0 && reserve > step->timeout_seconds ? step->timeout_seconds : reserve;
}

static int complete_steps(const struct settings *s, struct jd_list *steps, const char *prefix)
{
	struct step_settings *step = steps->items;

	for (size_t i = 0; i < steps->n; i++, step++) {
		char position[32];
		int r = 0;

		(void)snprintf(position, sizeof(position), "%s%zu", prefix, i + 1);
		if (!step->name) {
			step->name = str_format("%s-%s", step_type_names[step->type], position);
			r = step->name ? 0 : -ENOMEM;
		}
		if (r == 0 && step->type == STEP_HTTP)
			r = complete_http(&step->http);
		if (r == 0 && step->http_undo)
			r = complete_http(step->http_undo);
		if (r == 0 && step->type == STEP_PARALLEL) {
			(void)snprintf(position, sizeof(position), "%s%zu.", prefix, i + 1);
			r = complete_steps(s, &step->steps, position);
		}
		if (r < 0)
			return r;
		step->ports_from_load_balancer = step->type == STEP_WAIT_FOR_CONNECTIONS && step->ports_word == 0;
		complete_times(s, step);
	}
	return 0;
}

static int default_steps(const struct settings *s, struct drain_settings *drain)
{
	static const struct jd_type list = {.kind = JD_LIST, .element = &st_step};
	const char *text = s->health && s->health->listen ? "[{\"type\":\"probeDown\"},{\"type\":\"hooks\"}]"
							  : "[{\"type\":\"hooks\"}]";

	return settings_decode(text, strlen(text), "default steps", &list, &drain->steps, NULL, NULL);
}

static int complete_drain(const struct settings *s, struct drain_settings *drain)
{
	struct policy_rule *rule = drain->policy.items;
	int r = 0;

	for (size_t i = 0; i < drain->policy.n; i++)
		if (rule[i].acknowledge == ACKNOWLEDGE_DEFAULT)
			rule[i].acknowledge =
				rule[i].action == POLICY_DRAIN ? ACKNOWLEDGE_WHEN_DRAINED : ACKNOWLEDGE_NEVER;
	/* An empty list is a wish, an absent one is not. */
	if (!drain->steps.items)
		r = default_steps(s, drain);
	return r < 0 ? r : complete_steps(s, &drain->steps, "");
}

int settings_complete(struct settings_loader *l)
{
	struct settings *s = l->settings;
	int r = 0;

	for (int i = 0; i < _SECTION_MAX; i++)
		jd_walk(settings_section_type((enum settings_section)i),
			settings_section_pointer(s, (enum settings_section)i),
			settings_section_name((enum settings_section)i), forget_empty, NULL);
	if (s->custom_script) {
		struct script_settings *script = s->custom_script->scripts.items;

		for (size_t i = 0; r == 0 && i < s->custom_script->scripts.n; i++)
			r = complete_script(s, &script[i]);
	}
	if (r == 0 && s->key_refresh)
		r = complete_keys(s->key_refresh);
	if (r == 0 && s->drain)
		r = complete_drain(s, s->drain);
	return r;
}
