/* The table of verbs. */
#include "agent/app/verbs.h"

#include "agent/base/str.h"

const struct verb verbs[] = {
	{ "status", verb_status, "[--watch] [--json]", "Show this VM on one screen: problems, deployment, serving or not, next event, certificates, scripts" },
	{ "events", verb_events, "[--watch] [--json]", "Show the scheduled events that are known, what holds this VM drained, and the steps" },
	{ "drain", verb_drain, "[--wait] [REASON]", "Drain this VM by the steps of the settings, until evenkeel restore" },
	{ "restore", verb_restore, "[--force]", "End what an operator, backup or rehearsal holds; --force also lets go of events and of units that do not start" },
	{ "ack", verb_ack, "EVENT-ID", "Acknowledge a scheduled event to the platform now" },
	{ "quiesce", verb_quiesce, "[--for DURATION] [--within DURATION]", "Drain for a backup, and return when drained; resumes by itself after --for (15min)" },
	{ "resume", verb_resume, "", "End what quiesce began, and return when it is restored" },
	{ "simulate", verb_simulate, "TYPE [--in DURATION] [--duration DURATION] [--dry-run]", "Rehearse an event with the real steps, or only print the plan; the platform hears nothing" },
	{ "pause", verb_pause, "[--for DURATION] [REASON] | --end", "Let nothing begin for a while (1h) but what an operator orders: no drain, no script, no renewal" },
	{ "certs", verb_certs, "[--json] | refresh [NAME] | check", "Show the certificates and secrets of Key Vault; ask the vault now; check what is on disk" },
	{ "scripts", verb_scripts, "[--json] | logs [--run N | --job ID] [--stderr] [--follow] NAME | run [--name NAME] [--user USER[:GROUP]] [--timeout SECONDS] FILE [ARGUMENT...]", "Show the scripts and their runs, print or follow the output of one, or run a file like one" },
	{ "doctor", verb_doctor, "[--json] | --checks", "Look at and ask for everything the agent depends on; --checks lists what is looked at" },
	{ "userdata", verb_userdata, "[--json] | history | show [--applied] | diff | apply [REVISION] | ignore [REVISION]", "Show what is known of user data and what was applied; show or compare its content; order what is there now to be applied, or not" },
	{ "validate", verb_validate, "[--secrets FILE] FILE", "Check a settings document, with every message and warning" },
	{ "schema", verb_schema, "", "Print the JSON Schema of the settings" },
	{ "logs", verb_logs, "[--follow] [--lines NUMBER]", "Print the end of the log; --follow goes on with what is added" },
	{ "support-bundle", verb_support_bundle, "[FILE]", "Collect logs, status, records and what the doctor finds in one archive, without secrets" },
	{ "generalize", verb_generalize, "--yes [--all]", "Make this VM an image: remove identity, records, secrets, logs and certificates; --all also settings and program" },
	{ "completion", verb_completion, "bash | zsh", "Print the completions for a shell" },
	{ "version", verb_version, "[--json]", "Print the version; --json also how it was built, and its libraries" },
	{ "help", verb_help, "[--all] | VERB", "Print this help, or that of a verb; --all also the verbs of the platform and our own" },
	{ "daemon", verb_daemon, "[--foreground] [--until-idle]", "Run the service; --foreground logs to standard error, --until-idle ends when nothing is left to do", true },
	{ "service", verb_service, "install | remove | retire | leave", "Install or remove binary, units and service; restore what is drained, before a removal; or uninstall an extension that has vanished", true },
	{ "install", verb_extension, "", "Extension command of the Azure Linux Agent", true },
	{ "enable", verb_extension, "", "Extension command of the Azure Linux Agent", true },
	{ "disable", verb_extension, "", "Extension command of the Azure Linux Agent", true },
	{ "update", verb_extension, "", "Extension command of the Azure Linux Agent", true },
	{ "uninstall", verb_extension, "", "Extension command of the Azure Linux Agent", true },
	{ "run", verb_run, "JOB", "Do one job; started by the service", true },
	{ NULL },
};

const struct verb *verb_find(const char *name)
{
	for (const struct verb *v = verbs; v->name; v++)
		if (str_equal(v->name, name))
			return v;
	return NULL;
}
