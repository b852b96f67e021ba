/* Settings that several sections share, and the small sections (settings.md 1.2). */
#pragma once

#include "agent/codec/json.h"
#include "agent/core/settings_script.h" /* struct retry_settings */

/* No member set: the system-assigned identity; else exactly one. */
struct identity {
	char *client_id;
	char *object_id;
	char *resource_id;
};

enum userdata_action { USERDATA_REPORT, USERDATA_APPLY };
enum userdata_source { USERDATA_IMDS, USERDATA_CUSTOM_DATA };
enum userdata_part { USERDATA_SHELLSCRIPT, USERDATA_BOOTHOOK, USERDATA_INCLUDE, USERDATA_SETTINGS };
enum userdata_run_policy { USERDATA_ONCE_PER_CONTENT, USERDATA_EVERY_BOOT };
enum userdata_baseline { USERDATA_ADOPT, USERDATA_RUN };

struct userdata_settings {
	int action;
	int source;
	int64_t polling_interval_seconds;
	struct jd_list parts;             /* of int, enum userdata_part */
	struct jd_list settings_sections; /* of char *, section names */
	int baseline;
	int run_policy; /* enum userdata_run_policy */
	int when_busy;  /* enum when_busy */
	int64_t timeout_seconds;
	struct retry_settings retry;
};

enum ready_after { READY_AFTER_CUSTOM_SCRIPT, READY_AFTER_KEY_REFRESH, READY_AFTER_USER_DATA };

struct health_application {
	char *http;
	char *tcp;
	char *unit;
	int64_t interval_seconds;
	int64_t timeout_seconds;
	int64_t unhealthy_threshold;
};

struct health_settings {
	char *listen;
	struct health_application *application;
	struct {
		int64_t interval_seconds;
		int64_t unhealthy_threshold;
	} probe;
	struct jd_list ready_after; /* of int */
	char *metrics_listen;
	char *metrics_file;
};

enum webhook_format { WEBHOOK_JSON, WEBHOOK_CLOUD_EVENTS, WEBHOOK_SLACK, WEBHOOK_TEAMS };

struct webhook_settings {
	char *name;
	struct jd_secretable url;
	int format;
	struct jd_list on; /* of int: event drain acknowledge restore script certificate userData problem */
	struct jd_secretable hmac_key;
};

struct notify_settings {
	struct jd_list webhooks; /* of struct webhook_settings */
};

struct network_settings {
	struct jd_secretable proxy;
	struct jd_list no_proxy; /* of char * */
	char *ca_file;
};

struct log_settings {
	int level; /* enum log_level */
	int64_t max_size_bytes;
	int64_t max_files;
	bool console;
};
