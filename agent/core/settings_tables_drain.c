/* Tables of the section drain (settings.md 1.2 and 1.3). */
#include "agent/core/settings_tables.h"

#define MANY_SECONDS 86400

static const struct jd_field rule_fields[] = {
	MEMBER("types", LIST(0, 5, &st_event_type), policy_rule, types, .doc = "Types of events; absent: all."),
	MEMBER("source", &st_event_source, policy_rule, source, .doc = "Who caused the event; absent: anyone."),
	MEMBER("maxDurationInSeconds", INTEGER(0, MANY_SECONDS), policy_rule, max_duration_seconds,
	       .default_integer = -1, .doc = "Only events that last no longer; an unknown duration does not match."),
	MEMBER("minNoticeInSeconds", INTEGER(0, MANY_SECONDS), policy_rule, min_notice_seconds, .default_integer = -1,
	       .doc = "Only events that are announced at least so early."),
	MEMBER("maxNoticeInSeconds", INTEGER(0, MANY_SECONDS), policy_rule, max_notice_seconds, .default_integer = -1,
	       .doc = "Only events that are announced no earlier."),
	MEMBER("action", CHOICE("drain", "notify", "ignore"), policy_rule, action, .flags = JD_REQUIRED,
	       .doc = "drain: by the steps. notify: only tell about it. ignore: not even that."),
	MEMBER("acknowledge", CHOICE("whenDrained", "immediately", "never"), policy_rule, acknowledge,
	       .default_integer = ACKNOWLEDGE_DEFAULT,
	       .doc = "When to approve the event, which then begins at once; default: whenDrained with drain, else never. "
		      "A Preempt may be better off with never: an approval only shortens its notice."),
	{}};

/* Steps. Their own members, then what all have. */

static const struct jd_field probe_down_fields[] = {
	MEMBER("waitInSeconds", INTEGER(0, 3600), step_settings, wait_seconds, .default_integer = -1,
	       .doc = "How long to wait; default: interval x (threshold + 1) of health.loadBalancerProbe."),
	{}};

static const struct jd_field refuse_probe_fields[] = {MEMBER("ports", LIST(1, 16, &st_port), step_settings, ports,
							     .flags = JD_REQUIRED,
							     .doc = "Ports that refuse the load balancer's probes, by IPv4 and IPv6; needs nft."),
						      {}};

static const struct jd_field run_fields[] = {
	MEMBER("command", &st_command, step_settings, command, .flags = JD_REQUIRED,
	       .doc = "Command and its arguments."),
	MEMBER("undo", &st_command_or_none, step_settings, undo_command, .doc = "Command that undoes it."),
	MEMBER("user", &st_user, step_settings, user, .default_text = "root", .doc = "User who runs them."),
	{}};

static const struct jd_field hooks_fields[] = {
	MEMBER("directory", &st_path, step_settings, directory, .default_text = "/etc/evenkeel/hooks/drain.d",
	       .doc = "Its files are run in order."),
	MEMBER("undoDirectory", &st_path, step_settings, undo_directory,
	       .default_text = "/etc/evenkeel/hooks/restore.d", .doc = "Its files are run in order to undo."),
	{}};

#define HTTP_MEMBERS(strukt, prefix)                                                                                   \
	MEMBER("method", &st_method, strukt, prefix method,                                                            \
	       .doc = "HTTP method; default: POST with a body, else GET."),                                            \
		MEMBER("url", &st_http_secretable, strukt, prefix url, .flags = JD_REQUIRED,                           \
		       .doc = "What to request."),                                                                     \
		MEMBER("headers", &st_headers, strukt, prefix headers, .doc = "Headers of the request."),              \
		MEMBER("body", TEXT(0, 65536), strukt, prefix body, .doc = "Body of the request."),                    \
		MEMBER("expect", LIST(1, 16, INTEGER(100, 599)), strukt, prefix expect, .default_text = "[200]",       \
		       .doc = "Status codes that count as success.")

static const struct jd_field http_undo_fields[] = {HTTP_MEMBERS(http_step, ), {}};
static const struct jd_field http_fields[] = {HTTP_MEMBERS(step_settings, http.),
					      MEMBER("undo", POINTER(http_step, http_undo_fields), step_settings,
						     http_undo, .doc = "Request that undoes it."),
					      {}};

/* "fromLoadBalancer" or a list of ports: two short forms of an object that is never written out. */
static const struct jd_field ports_fields[] = {
	MEMBER("ports", LIST(1, 64, &st_port), step_settings, ports),
	MEMBER("word",
	       (&(const struct jd_type){.kind = JD_CHOICE,
					.names = (const char *const[]){"fromLoadBalancer", NULL},
					.what = "a list of ports or \"fromLoadBalancer\""}),
	       step_settings, ports_word, .default_integer = -1),
	{}};
static const struct jd_field wait_for_connections_fields[] = {
	{.name = "ports",
	 .type = &(const struct jd_type){.kind = JD_OBJECT,
					 .fields = ports_fields,
					 .short_member = "word",
					 .short_list = "ports",
					 .short_only = true,
					 .what = "a list of ports or \"fromLoadBalancer\""},
	 .flags = JD_REQUIRED,
	 .doc = "Local ports whose established connections are counted, without those of the platform's probes."},
	MEMBER("atMost", INTEGER(0, 1000000), step_settings, at_most, .doc = "So many connections may be left."),
	{}};

static const struct jd_field wait_until_fields[] = {
	MEMBER("command", &st_command, step_settings, command, .flags = JD_REQUIRED,
	       .doc = "Asked again and again, for 30 s at most each time; exit code 0 ends the wait."),
	MEMBER("intervalInSeconds", INTEGER(1, 3600), step_settings, interval_seconds, .default_integer = 2,
	       .doc = "How often to ask."),
	{}};

static const struct jd_field stop_units_fields[] = {
	MEMBER("units", LIST(1, 64, &st_unit), step_settings, units, .flags = JD_REQUIRED,
	       .doc = "Units to stop, in order; those that were active are started again in reverse. What systemd stops with them, "
		      "because it requires them or is part of them, is started again only if it is named, too."),
	{}};

static const struct jd_field step_fields[] = {
	MEMBER("name", &st_name_or_none, step_settings, name, .doc = "Default: the type and its position."),
	MEMBER("timeoutInSeconds", INTEGER(1, 3600), step_settings, timeout_seconds,
	       .doc = "The most it may take (stopUnits and hooks: each)."),
	MEMBER("reserveInSeconds", INTEGER(0, 3600), step_settings, reserve_seconds, .default_integer = -1,
	       .doc = "The least it needs when time is short (stopUnits and hooks: each; one that hangs leaves it to those after it). "
		      "Default of probeDown: until the load "
		      "balancer has noticed, interval x threshold + 1 of health.loadBalancerProbe."),
	MEMBER("retry", &st_retry, step_settings, retry, .doc = "Further tries after a failure."),
	MEMBER("onFailure", CHOICE("continue", "finish", "abort"), step_settings, on_failure,
	       .doc = "continue: next step. finish: skip the rest. abort: no further step, never acknowledge."),
	{}};

#define STEP_TYPES "probeDown", "refuseProbe", "run", "hooks", "http", "waitForConnections", "waitUntil", "stopUnits"
#define STEP_VARIANTS                                                                                                  \
	probe_down_fields, refuse_probe_fields, run_fields, hooks_fields, http_fields, wait_for_connections_fields,    \
		wait_until_fields, stop_units_fields

static const struct jd_type inner_step = {
	.kind = JD_VARIANT,
	.size = sizeof(struct step_settings),
	.fields = step_fields,
	.tag = "type",
	.tag_offset = offsetof(struct step_settings, type),
	.names = (const char *const[]){STEP_TYPES, NULL},
	.variants = (const struct jd_field *const[]){STEP_VARIANTS},
	.what = "a step",
};

static const struct jd_field parallel_fields[] = {
	MEMBER("steps", LIST(2, 8, &inner_step), step_settings, steps, .flags = JD_REQUIRED,
	       .doc = "Steps that are done at the same time; not parallel again."),
	{}};

const struct jd_type st_step = {
	.kind = JD_VARIANT,
	.size = sizeof(struct step_settings),
	.fields = step_fields,
	.tag = "type",
	.tag_offset = offsetof(struct step_settings, type),
	.names = (const char *const[]){STEP_TYPES, "parallel", NULL},
	.variants = (const struct jd_field *const[]){STEP_VARIANTS, parallel_fields},
	.what = "a step",
};

static const struct jd_field shared_fields[] = {
	MEMBER("acknowledge", CHOICE("never", "leader", "always"), drain_settings, shared_events.acknowledge,
	       .doc = "Who acknowledges an event that names several VMs. One approval counts for all of them, so by "
		      "default nobody. leader: the VM that is named first, when all the others say that they are "
		      "drained. always: each when it is drained itself."),
	MEMBER("peerUrl", &st_peer_url, drain_settings, shared_events.peer_url,
	       .doc = "Where the leader asks each other VM; {name} stands for its name. Drained is who answers 200 with a body "
		      "whose first word is \"drained\", as GET /drained on health.listen does."),
	{}};

static const struct jd_field shutdown_fields[] = {MEMBER("maxDelayInSeconds", INTEGER(5, 600), shutdown_settings,
							 max_delay_seconds, .default_integer = 60,
							 .doc = "How long reboot and shutdown are held back at most; logind is told so in "
								 "/etc/systemd/logind.conf.d/50-evenkeel.conf if it would allow less."),
						  {}};

/* settings.md 1.2, and what the manual shows. */
static const char default_policy[] =
	"[{\"types\":[\"Freeze\"],\"maxDurationInSeconds\":9,\"action\":\"notify\",\"acknowledge\":\"immediately\"},"
	"{\"types\":[\"Freeze\",\"Reboot\",\"Redeploy\",\"Preempt\",\"Terminate\"],"
	"\"action\":\"drain\",\"acknowledge\":\"whenDrained\"}]";

static const struct jd_field drain_fields[] = {
	MEMBER("pollingIntervalInSeconds", INTEGER(1, 60), drain_settings, polling_interval_seconds,
	       .default_integer = 1, .doc = "How often scheduled events are read. A Preempt may give less than 30 s, and an answer costs "
						   "next to nothing, so every second."),
	MEMBER("apiVersion", &st_api_version, drain_settings, api_version, .default_text = "2020-07-01",
	       .doc = "API version of scheduled events; where the platform does not know it, the newest that it names."),
	MEMBER("leadInSeconds", INTEGER(0, 86400), drain_settings, lead_seconds, .default_integer = 1200,
	       .doc = "Drain so long before the event may start. More than any ordinary notice, so at once; but an "
					  "event that is announced days ahead does not drain the VM for days."),
	MEMBER("marginInSeconds", INTEGER(0, 60), drain_settings, margin_seconds, .default_integer = 3,
	       .doc = "Kept free before the event may start: for the acknowledgement, and for clocks that differ."),
	MEMBER("policy", LIST(0, 32, OBJECT(policy_rule, rule_fields)), drain_settings, policy,
	       .default_text = default_policy, .doc = "What to do with which event; the first match wins, a member that is absent matches everything. "
						   "By default a freeze of less than 10 s is acknowledged at once and not drained for: a "
						   "drain would cost more than the freeze. Everything else is drained for and acknowledged "
						   "when drained, because an event that nobody acknowledges is delayed by up to 15 minutes. "
						   "Without a match, and for types that are not known, the event is told and never "
						   "acknowledged."),
	MEMBER("steps", LIST(0, 64, &st_step), drain_settings, steps,
	       .doc = "How to drain; absent: probeDown if health.listen is set, then hooks."),
	MEMBER("restoreTimeoutInSeconds", INTEGER(1, 3600), drain_settings, restore_timeout_seconds,
	       .default_integer = 120,
	       .doc = "How long the application may take to become healthy before the probe goes up."),
	MEMBER("restoreWhenRebooted", &st_boolean, drain_settings, restore_when_rebooted, .default_integer = true,
	       .doc = "Reboot, Redeploy: the new boot ends the event."),
	{.name = "sharedEvents",
	 .type = &(const struct jd_type){.kind = JD_OBJECT, .fields = shared_fields},
	 .doc = "Events that name several VMs."},
	MEMBER("shutdown", POINTER(shutdown_settings, shutdown_fields), drain_settings, shutdown,
	       .doc = "Drain before reboot and shutdown, too, held back by an inhibitor of logind; absent: off."),
	{}};
const struct jd_type st_drain = {.kind = JD_POINTER, .size = sizeof(struct drain_settings), .fields = drain_fields};
