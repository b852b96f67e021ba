/* Tables of what sections share, and of the small sections: userData, health, notify, network, log. */
#include "agent/core/settings_tables.h"

#include "agent/base/log.h"

static const struct jd_field identity_fields[] = {
	MEMBER("clientId", &st_guid, identity, client_id, .doc = "Client id of a user-assigned identity."),
	MEMBER("objectId", &st_guid, identity, object_id, .doc = "Object id of a user-assigned identity."),
	MEMBER("resourceId", &st_resource_id, identity, resource_id, .doc = "ARM id of a user-assigned identity."),
	{}};
const struct jd_type st_identity = {
	.kind = JD_POINTER,
	.size = sizeof(struct identity),
	.fields = identity_fields,
	.what = "an identity: {} for the system-assigned one, or one of clientId, objectId and resourceId",
};

static const struct jd_field retry_fields[] = {
	MEMBER("times", INTEGER(0, 10), retry_settings, times, .doc = "How often to try again after a failure."),
	MEMBER("delayInSeconds", INTEGER(0, 86400), retry_settings, delay_seconds, .default_integer = 30,
	       .doc = "How long to wait before each further try."),
	MEMBER("onExitCodes", &st_exit_codes, retry_settings, on_exit_codes,
	       .doc = "Try again only after these exit codes; none: after any failure."),
	{}};
const struct jd_type st_retry = {.kind = JD_OBJECT, .size = sizeof(struct retry_settings), .fields = retry_fields};

/* userData */

static const struct jd_field user_data_fields[] = {
	MEMBER("action", CHOICE("report", "apply"), userdata_settings, action,
	       .doc = "report: tell about user data that changed. apply: also run its parts, once per content and machine, after "
		      "cloud-init's final stage."),
	MEMBER("source", CHOICE("userData", "customData"), userdata_settings, source,
	       .doc = "Where it is read: the instance metadata service, or what provisioning has left."),
	MEMBER("pollingIntervalInSeconds", INTEGER(10, 3600), userdata_settings, polling_interval_seconds,
	       .default_integer = 60, .doc = "How often to look; spread by 10 %."),
	MEMBER("parts", LIST(0, 4, CHOICE("shellscript", "boothook", "include", "settings")), userdata_settings, parts,
	       .default_text = "[\"shellscript\"]",
	       .doc = "Kinds of parts that are applied; others are named and left. settings: application/vnd.evenkeel+json."),
	MEMBER("settingsSections", LIST(0, 8, &st_settable_section), userdata_settings, settings_sections,
	       .doc = "Sections that a settings part may set, where no other door has them."),
	MEMBER("baseline", CHOICE("adopt", "run"), userdata_settings, baseline,
	       .doc = "What to do with content found at the first look on an instance that has already booted with "
		      "it: take it as it is, or run it. What cloud-init has run at the first boot is not run again."),
	MEMBER("runPolicy", CHOICE("oncePerContent", "everyBoot"), userdata_settings, run_policy,
	       .doc = "When parts are run again. everyBoot: also at each boot, after cloud-init."),
	MEMBER("whenBusy", CHOICE("wait", "cancel"), userdata_settings, when_busy,
	       .doc = "When newer content arrives during a run: wait for its end, or stop it."),
	MEMBER("timeoutInSeconds", INTEGER(1, 86400), userdata_settings, timeout_seconds, .default_integer = 3600,
	       .doc = "How long one part may run."),
	MEMBER("retry", &st_retry, userdata_settings, retry, .doc = "Further tries of a part that failed."),
	{}};
const struct jd_type st_user_data = {
	.kind = JD_POINTER, .size = sizeof(struct userdata_settings), .fields = user_data_fields};

/* health */

static const struct jd_field application_fields[] = {
	MEMBER("http", &st_http_or_none, health_application, http, .doc = "Healthy if this URL answers 200 to 399."),
	MEMBER("tcp", &st_endpoint_or_none, health_application, tcp,
	       .doc = "Healthy if this endpoint accepts a connection."),
	MEMBER("unit", &st_unit_or_none, health_application, unit, .doc = "Healthy if this systemd unit is active."),
	MEMBER("intervalInSeconds", INTEGER(1, 3600), health_application, interval_seconds, .default_integer = 5,
	       .doc = "How often to ask; twice a second while only the application keeps /ready down, after a start or a restore."),
	MEMBER("timeoutInSeconds", INTEGER(1, 300), health_application, timeout_seconds, .default_integer = 2,
	       .doc = "How long one answer may take."),
	MEMBER("unhealthyThreshold", INTEGER(1, 100), health_application, unhealthy_threshold, .default_integer = 2,
	       .doc = "Failures in a row until it counts as unhealthy."),
	{}};

static const struct jd_field probe_fields[] = {
	MEMBER("intervalInSeconds", INTEGER(1, 3600), health_settings, probe.interval_seconds, .default_integer = 5,
	       .doc = "Interval of the load balancer's probe."),
	MEMBER("unhealthyThreshold", INTEGER(1, 100), health_settings, probe.unhealthy_threshold, .default_integer = 2,
	       .doc = "Failures in a row after which the load balancer sends nothing more."),
	{}};

static const struct jd_field health_fields[] = {
	MEMBER("listen", &st_endpoint_or_none, health_settings, listen,
	       .doc = "Address and port of GET /ready, GET /app-health and GET /drained; absent: no listener."),
	MEMBER("application", POINTER(health_application, application_fields), health_settings, application,
	       .doc = "How to ask the application; absent: it counts as healthy."),
	/* Its members have their offsets from the section, so it stands at 0. */
	{.name = "loadBalancerProbe",
	 .type = &(const struct jd_type){.kind = JD_OBJECT, .fields = probe_fields},
	 .doc = "What the load balancer was told; decides how long probeDown waits."},
	MEMBER("readyAfter", LIST(0, 3, CHOICE("customScript", "keyRefresh", "userData")), health_settings, ready_after,
	       .doc = "/ready says 503 until these have succeeded once on this instance."),
	MEMBER("metricsListen", &st_endpoint_or_none, health_settings, metrics_listen,
	       .doc = "Address and port of GET /metrics, best on loopback."),
	MEMBER("metricsFile", &st_path_or_none, health_settings, metrics_file,
	       .doc = "A text file for node_exporter with the same metrics, in a directory that the service may write to: "
	              "/var/lib/prometheus/node-exporter, /var/lib/node_exporter, or below /var/lib/evenkeel."),
	{}};
const struct jd_type st_health = {.kind = JD_POINTER, .size = sizeof(struct health_settings), .fields = health_fields};

/* notify */

static const struct jd_field webhook_fields[] = {
	MEMBER("name", &st_name, webhook_settings, name, .flags = JD_REQUIRED, .doc = "Name in status and logs."),
	MEMBER("url", &st_http_secretable, webhook_settings, url, .flags = JD_REQUIRED,
	       .doc = "Where to post; a URL that lets anyone post belongs in a secret."),
	MEMBER("format", CHOICE("json", "cloudEvents", "slack", "teams"), webhook_settings, format,
	       .doc = "Form of the message."),
	MEMBER("on",
	       LIST(0, 8,
		    CHOICE("event", "drain", "acknowledge", "restore", "script", "certificate", "userData", "problem")),
	       webhook_settings, on, .default_text = "[\"drain\",\"restore\",\"problem\"]",
	       .doc = "What is told there."),
	MEMBER("hmacKey", &st_secret_only, webhook_settings, hmac_key,
	       .doc = "Key of the signature (HMAC-SHA-256); absent: unsigned."),
	{}};

static const struct jd_field notify_fields[] = {
	MEMBER("webhooks", UNIQUE_LIST(0, 8, OBJECT(webhook_settings, webhook_fields), "name"), notify_settings,
	       webhooks, .doc = "Where to tell what happens."),
	{}};
const struct jd_type st_notify = {.kind = JD_POINTER, .size = sizeof(struct notify_settings), .fields = notify_fields};

/* network */

static const struct jd_field network_fields[] = {
	MEMBER("proxy", &st_proxy, network_settings, proxy,
	       .doc = "Proxy for downloads, vaults and webhooks; never for the platform's addresses and loopback."),
	MEMBER("noProxy", LIST(0, 64, TEXT(1, 256)), network_settings, no_proxy,
	       .doc = "Hosts and domains that are reached without it."),
	MEMBER("caFile", &st_path_or_none, network_settings, ca_file,
	       .doc = "Certificate authorities to trust (PEM), instead of the system's."),
	{}};
const struct jd_type st_network = {
	.kind = JD_POINTER, .size = sizeof(struct network_settings), .fields = network_fields};

/* log */

#define LOG_SIZE  10485760
#define LOG_FILES 5

static const struct jd_field log_fields[] = {
	/* In the order of enum log_level. */
	MEMBER("level", CHOICE("error", "warning", "info", "debug"), log_settings, level,
	       .default_integer = LOG_LEVEL_INFO, .doc = "The least important messages that are logged."),
	MEMBER("maxSizeInBytes", INTEGER(65536, 1073741824), log_settings, max_size_bytes, .default_integer = LOG_SIZE,
	       .doc = "Size at which the log file is rotated."),
	MEMBER("maxFiles", INTEGER(1, 20), log_settings, max_files, .default_integer = LOG_FILES,
	       .doc = "Log files that are kept."),
	MEMBER("console", &st_boolean, log_settings, console, .default_integer = true,
	       .doc = "Tell milestones on the serial console, too."),
	{}};
const struct jd_type st_log = {.kind = JD_POINTER, .size = sizeof(struct log_settings), .fields = log_fields};

const struct log_settings settings_log_defaults = {
	.level = LOG_LEVEL_INFO, .max_size_bytes = LOG_SIZE, .max_files = LOG_FILES, .console = true};
