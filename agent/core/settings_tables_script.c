/* Tables of the section customScript. */
#include "agent/core/settings_tables.h"

#include "agent/base/limits.h"

static const struct jd_field file_fields[] = {
	MEMBER("uri", &st_http_secretable, script_file, uri, .flags = JD_REQUIRED,
	       .doc = "Where to download it; with a signature it belongs in a secret."),
	MEMBER("name", &st_relative_file_name, script_file, name,
	       .doc = "Name below the run's directory; default: the last segment of the URI's path."),
	MEMBER("sha256", &st_sha256, script_file, sha256, .doc = "What its content must hash to."),
	MEMBER("mode", &st_mode, script_file, mode, .default_text = "0500", .doc = "Mode of the file."),
	MEMBER("owner", &st_user_and_group, script_file, owner, .default_text = "root:root",
	       .doc = "Owner of the file, USER or USER:GROUP."),
	MEMBER("maxSizeInBytes", INTEGER(1, 1099511627776), script_file, max_size_bytes, .default_integer = 4294967296,
	       .doc = "A larger download is an error."),
	{}};
static const struct jd_type file = {
	.kind = JD_OBJECT,
	.size = sizeof(struct script_file),
	.fields = file_fields,
	.short_member = "uri",
	.what = "a URI, or an object with a uri",
};

static const struct jd_field limits_fields[] = {
	MEMBER("memoryInBytes", INTEGER(0, 1125899906842624), script_settings, limits.memory_bytes,
	       .doc = "Memory of the script and all it starts; 0: no limit."),
	MEMBER("cpuInPercent", INTEGER(0, 100000), script_settings, limits.cpu_percent,
	       .doc = "Processor time in percent of one processor; 0: no limit."),
	MEMBER("nice", INTEGER(-20, 19), script_settings, limits.nice, .doc = "Scheduling priority."),
	{}};

static const struct jd_field output_fields[] = {
	MEMBER("maxInBytes", INTEGER(4096, 1073741824), script_settings, output.max_bytes, .default_integer = 16777216,
	       .doc = "What is kept of each stream; the middle is dropped."),
	MEMBER("tailInBytes", INTEGER(0, 16384), script_settings, output.tail_bytes, .default_integer = 4096,
	       .doc = "What the status shows of each stream; several scripts share 32 KiB."),
	MEMBER("stdoutUri", &st_http_secretable_or_none, script_settings, output.stdout_uri,
	       .doc = "Append blob that gets the standard output, too; a signature needs sp=racw, an identity the role Storage "
		      "Blob Data Contributor."),
	MEMBER("stderrUri", &st_http_secretable_or_none, script_settings, output.stderr_uri,
	       .doc = "Append blob that gets the standard error, too."),
	{}};

static const struct jd_field script_fields[] = {
	MEMBER("name", &st_name, script_settings, name, .flags = JD_REQUIRED,
	       .doc = "Name in status, logs and commands."),
	MEMBER("commandToExecute", &st_shell_text, script_settings, command_to_execute,
	       .doc = "Text for /bin/sh; either this or script."),
	MEMBER("script", &st_script_text, script_settings, script,
	       .doc = "The script itself in base64, may be gzip; either this or commandToExecute."),
	MEMBER("arguments", LIST(0, 64, &st_argument), script_settings, arguments,
	       .doc = "Arguments of script; every user can read them."),
	MEMBER("environment", &st_environment, script_settings, environment, .doc = "Environment variables."),
	MEMBER("files", LIST(0, 64, &file), script_settings, files, .doc = "What is downloaded before."),
	MEMBER("identity", &st_identity, script_settings, identity,
	       .doc = "Whose token blob hosts (NAME.blob.*, and blobHosts) get first; absent: anonymous, or the URI's own "
		      "signature."),
	MEMBER("storageAccountName", &st_storage_account_name, script_settings, storage_account_name,
	       .doc = "Storage account whose key opens the files."),
	MEMBER("storageAccountKey", &st_storage_account_key, script_settings, storage_account_key,
	       .doc = "Key of that account."),
	MEMBER("convertLineEndings", &st_boolean, script_settings, convert_line_endings, .default_integer = true,
	       .doc = "Convert .sh .txt .py .pl files and files with #! to Unix line endings and UTF-8."),
	MEMBER("runAs", &st_user_and_group, script_settings, run_as, .default_text = "root",
	       .doc = "USER or USER:GROUP that runs it."),
	MEMBER("workingDirectory", &st_path_or_none, script_settings, working_directory,
	       .doc = "Default: the run's own directory, which holds the files."),
	MEMBER("timeoutInSeconds", INTEGER(0, 604800), script_settings, timeout_seconds,
	       .doc = "How long one try may take, with its downloads; 0: until the deadline (asynchronous: no limit)."),
	MEMBER("runPolicy", CHOICE("oncePerSequence", "oncePerContent", "everyBoot"), script_settings, run_policy,
	       .doc = "When it is run again; the content is its text, arguments, environment and files."),
	MEMBER("retry", &st_retry, script_settings, retry, .doc = "Further tries after a failure, be it of a download."),
	MEMBER("onReboot", CHOICE("fail", "rerun"), script_settings, on_reboot,
	       .doc = "What if the VM rebooted while it ran; at most 10 times it is run again."),
	MEMBER("rebootExitCode", INTEGER(0, 255), script_settings, reboot_exit_code,
	       .doc = "Exit code that asks for a reboot, after which the next script runs; 0: none."),
	MEMBER("continueOnFailure", &st_boolean, script_settings, continue_on_failure,
	       .doc = "Run the next scripts although this one failed."),
	MEMBER("treatFailureAsDeploymentFailure", &st_boolean, script_settings, treat_failure_as_deployment_failure,
	       .default_integer = true, .doc = "Whether its failure fails the deployment."),
	MEMBER("asynchronous", &st_boolean, script_settings, asynchronous,
	       .doc = "The deployment succeeds once it has started."),
	{.name = "limits",
	 .type = &(const struct jd_type){.kind = JD_OBJECT, .fields = limits_fields},
	 .doc = "What the script may use."},
	{.name = "output",
	 .type = &(const struct jd_type){.kind = JD_OBJECT, .fields = output_fields},
	 .doc = "What happens to what it writes."},
	MEMBER("wipe", &st_boolean, script_settings, wipe,
	       .doc = "Remove the files after the run; what came from a secret is always removed."),
	{}};

const struct jd_type script_settings_type = {
	.kind = JD_OBJECT, .size = sizeof(struct script_settings), .fields = script_fields};

int script_settings_decode(const char *text, size_t len, struct script_settings *ret, struct error *err)
{
	struct script_settings s = {0};
	int r = settings_decode(text, len, "script", &script_settings_type, &s, NULL, err);

	if (r >= 0)
		*ret = s;
	return r;
}

static const struct jd_field custom_script_fields[] = {
	MEMBER("waitFor", LIST(0, 3, CHOICE("cloudInit", "packageLocks", "certificates")), custom_script_settings,
	       wait_for, .doc = "What must be met before the first script starts."),
	MEMBER("waitTimeoutInSeconds", INTEGER(0, 5100), custom_script_settings, wait_timeout_seconds,
	       .default_integer = 900, .doc = "When that has passed nothing is run: an error."),
	MEMBER("deadlineInSeconds", INTEGER(60, 604800), custom_script_settings, deadline_seconds,
	       .default_integer = 5100,
	       .doc = "For the whole list with waits and retries, asynchronous scripts aside."),
	MEMBER("whenBusy", CHOICE("wait", "cancel"), custom_script_settings, when_busy,
	       .doc = "What if scripts of an older sequence number still run."),
	MEMBER("parallelDownloads", INTEGER(1, 16), custom_script_settings, parallel_downloads, .default_integer = 4,
	       .doc = "Downloads at the same time."),
	MEMBER("blobHosts", LIST(0, 8, &st_host_name), custom_script_settings, blob_hosts,
	       .doc = "Custom domains of blob storage: they get the identity's token and the account's signature like "
		      "NAME.blob.core.windows.net."),
	MEMBER("keepRuns", INTEGER(1, 50), custom_script_settings, keep_runs, .default_integer = 5,
	       .doc = "Finished runs that are kept per script."),
	MEMBER("scripts", UNIQUE_LIST(1, 32, &script_settings_type, "name"), custom_script_settings,
	       scripts, .flags = JD_REQUIRED, .doc = "The scripts, in order."),
	{}};
const struct jd_type st_custom_script = {
	.kind = JD_POINTER, .size = sizeof(struct custom_script_settings), .fields = custom_script_fields};
