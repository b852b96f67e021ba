/* Settings of custom scripts (settings.md 1.2 "customScript"). Owned and released by the tables in settings_tables.c.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/codec/json.h"

struct identity; /* settings_common.h */

enum script_wait { SCRIPT_WAIT_CLOUD_INIT, SCRIPT_WAIT_PACKAGE_LOCKS, SCRIPT_WAIT_CERTIFICATES };
enum when_busy { WHEN_BUSY_WAIT, WHEN_BUSY_CANCEL };
enum run_policy { RUN_ONCE_PER_SEQUENCE, RUN_ONCE_PER_CONTENT, RUN_EVERY_BOOT };
enum on_reboot { ON_REBOOT_FAIL, ON_REBOOT_RERUN };

struct retry_settings {
	int64_t times;
	int64_t delay_seconds;
	struct jd_list on_exit_codes; /* of int64_t; empty: any failure */
};

struct script_file {
	struct jd_secretable uri;
	char *name; /* after loading NULL only if the URI has no usable one (Custom Script's settings) */
	char *sha256;
	char *mode;
	char *owner;
	int64_t max_size_bytes;
};

struct script_variable {
	char *name;
	struct jd_secretable value;
};

struct script_settings {
	char *name;
	struct jd_secretable command_to_execute;
	struct jd_secretable script; /* base64, may be gzip */
	struct jd_list arguments;    /* of char * */
	struct jd_list environment;  /* of struct script_variable */
	struct jd_list files;        /* of struct script_file */
	struct identity *identity;
	char *storage_account_name;
	struct jd_secretable storage_account_key;
	bool convert_line_endings;
	char *run_as;
	char *working_directory;
	int64_t timeout_seconds;
	int run_policy; /* enum run_policy */
	struct retry_settings retry;
	int on_reboot; /* enum on_reboot */
	int64_t reboot_exit_code;
	bool continue_on_failure;
	bool treat_failure_as_deployment_failure;
	bool asynchronous;
	struct {
		int64_t memory_bytes;
		int64_t cpu_percent;
		int64_t nice;
	} limits;
	struct {
		int64_t max_bytes;
		int64_t tail_bytes;
		struct jd_secretable stdout_uri;
		struct jd_secretable stderr_uri;
	} output;
	bool wipe;
};

/* One script by itself, with every default (`evenkeel scripts run`); released with jd_free(). */
extern const struct jd_type script_settings_type;
_nodiscard_ int script_settings_decode(const char *text, size_t len, struct script_settings *ret, struct error *err);

struct custom_script_settings {
	struct jd_list wait_for; /* of int, enum script_wait */
	int64_t wait_timeout_seconds;
	int64_t deadline_seconds;
	int when_busy; /* enum when_busy */
	int64_t parallel_downloads;
	struct jd_list blob_hosts; /* of char *: blob storage under names of its own */
	int64_t keep_runs;
	struct jd_list scripts; /* of struct script_settings, 1..32 */
};
