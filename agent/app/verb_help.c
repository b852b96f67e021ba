/*
 * `evenkeel help` and `evenkeel VERB --help`. Usage comes from the table of verbs; what is said beyond that, and the examples,
 * stands here.
 */
#include <stdio.h>
#include <string.h>

#include "agent/app/arguments.h"
#include "agent/app/verbs.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "generated/version.h"

#define CALL_WIDTH 32 /* of the first column of the help */

struct detail {
	const char *verb;
	const char *text;     /* whole lines */
	const char *examples; /* one a line */
};

/* clang-format off */
static const struct detail details[] = {
	{ "status",
	  "Problems come first; then the deployment, the next event with the time that is left, what holds this VM drained,\n"
	  "the nearest expiries, the last scripts. --watch redraws each second until it is interrupted. --json is described in\n"
	  "evenkeel(1). Without the service it shows what the files tell, and exits with 4.\n",
	  "evenkeel status\nevenkeel status --watch\nevenkeel status --json\n" },
	{ "events",
	  "--watch goes on with every line that is told; with --json it prints one document for each change.\n",
	  "evenkeel events\nevenkeel events --watch\nevenkeel events --json\n" },
	{ "drain",
	  "--wait tells each step and returns when the VM is drained: 0 if every step went well, else 1. The VM stays drained\n"
	  "over restarts and reboots, until evenkeel restore.\n",
	  "evenkeel drain --wait \"new disk\"\nevenkeel restore\n" },
	{ "restore",
	  "A scheduled event that holds the VM goes on holding it unless --force is given. --force also raises the probe\n"
	  "although a unit that was stopped does not start.\n",
	  "evenkeel restore\nevenkeel restore --force\n" },
	{ "ack",
	  "The platform then need not wait for NotBefore. evenkeel events shows the ids.\n",
	  "evenkeel ack A123BC45-1234-5678-AB90-ABCDEF123456\n" },
	{ "quiesce",
	  "The pre-script of Azure VM backup: drains within --within (5min), or resumes and exits with 1. A DURATION is 90, 90s,\n"
	  "15min or 2h.\n",
	  "evenkeel quiesce --for 30min --within 2min\nevenkeel resume\n" },
	{ "resume",
	  "The post-script of Azure VM backup. It exits with 1 when nothing was held any more: the backup took too long.\n",
	  "evenkeel resume\n" },
	{ "simulate",
	  "TYPE is Freeze, Reboot, Redeploy, Preempt or Terminate. --in is the notice; without it, the documented one. A real\n"
	  "event takes over a rehearsal.\n",
	  "evenkeel simulate Reboot --dry-run\nevenkeel simulate Preempt --in 30s\n" },
	{ "pause",
	  "What runs goes on. Events that come are told as paused: they are not drained for and not acknowledged, and what is due\n"
	  "or has started by then is handled the moment the pause ends. The time is 24h at most; a restart of the service does\n"
	  "not end a pause, a reboot does. --end ends it now.\n",
	  "evenkeel pause --for 2h \"moving the database\"\nevenkeel pause --end\n" },
	{ "certs",
	  "refresh asks the vault now, for all or for one, and returns when it has been answered; check looks at the files without\n"
	  "the network, and the exit code tells the worst: 0, 6 (it needs attention) or 1.\n",
	  "evenkeel certs\nevenkeel certs refresh web\nevenkeel certs check\n" },
	{ "userdata",
	  "show prints the content, diff compares it with what was applied last; apply and ignore are orders about the revision\n"
	  "that is there now.\n",
	  "evenkeel userdata\nevenkeel userdata diff\nevenkeel userdata apply\n" },
	{ "doctor",
	  "Nothing is changed, and Scheduled Events are not asked. It takes 30 seconds at most; each finding says what to do, and\n"
	  "the exit code tells the worst: 0, 6 or 7.\n",
	  "evenkeel doctor\nevenkeel doctor --json\nevenkeel doctor --checks\n" },
	{ "support-bundle",
	  "Only root may read the archive. FILE must not be there; without it the archive is made in the present directory and its\n"
	  "name is printed. CONTENTS.txt in it says what is there and what was left out.\n",
	  "evenkeel support-bundle\nevenkeel support-bundle /root/shop-0.tar.gz\n" },
	{ "scripts",
	  "logs prints the output of the newest run, or of the one that --run or --job names; --follow goes on until it ends and\n"
	  "exits as the script did. run does that with a local file, as a job of the service.\n",
	  "evenkeel scripts\nevenkeel scripts logs --follow deploy\nevenkeel scripts run --timeout 600 repair.sh --verbose\n" },
	{ "validate",
	  "Nothing is changed, and no service is needed. --secrets names the document with the values of secretRef members.\n",
	  "evenkeel validate evenkeel.json\nevenkeel validate --secrets secrets.json evenkeel.json\n" },
	{ "schema",
	  "For editors and pipelines: draft 2020-12.\n",
	  "evenkeel schema\n" },
	{ "logs",
	  "The last 50 lines, or as many as --lines says. Needs no service.\n",
	  "evenkeel logs --lines 200\nevenkeel logs --follow\n" },
	{ "generalize",
	  "Records, jobs, certificates, logs and secrets of this VM go, so that a VM made of its image begins as a new one. Refused\n"
	  "while something is drained or runs. The installation and /etc/evenkeel stay, unless --all. cloud-init clean calls it.\n",
	  "evenkeel generalize --yes\nevenkeel generalize --yes --all\n" },
	{ "completion",
	  "Packages install them; by hand: evenkeel completion bash >/etc/bash_completion.d/evenkeel\n",
	  "evenkeel completion bash\nevenkeel completion zsh\n" },
	{ "version",
	  "--json adds the architecture, the compiler and the versions of the libraries that are loaded.\n",
	  "evenkeel version --json\n" },
	{ "help",
	  "evenkeel VERB --help is the same as evenkeel help VERB.\n",
	  "evenkeel help --all\nevenkeel help simulate\n" },
};
/* clang-format on */

static const struct detail *detail_of(const char *verb)
{
	for (size_t i = 0; i < ARRAY_SIZE(details); i++)
		if (str_equal(details[i].verb, verb))
			return &details[i];
	return NULL;
}

/* ---- printing ---- */

static void print_examples(const char *lines)
{
	printf("\nExamples:\n");
	while (*lines) {
		size_t n = strcspn(lines, "\n");

		printf("  %.*s\n", (int)n, lines);
		lines += n + (lines[n] == '\n');
	}
}

void verb_print_help(const struct verb *v)
{
	const struct detail *d = detail_of(v->name);

	verb_print_usage(v, "", "Usage:", stdout);
	printf("\n%s.\n", v->help);
	if (d)
		printf("%s", d->text);
	if (d)
		print_examples(d->examples);
}

static void print_verbs(bool all)
{
	for (const struct verb *v = verbs; v->name; v++) {
		char call[256];

		if (v->internal && !all)
			continue;
		(void)snprintf(call, sizeof(call), "%s %s", v->name, v->arguments);
		if (strlen(call) > CALL_WIDTH)
			printf("  %s\n  %-*s %s\n", call, CALL_WIDTH, "", v->help);
		else
			printf("  %-*s %s\n", CALL_WIDTH, call, v->help);
	}
}

static void print_codes(void)
{
	printf("\nExit codes:\n");
	for (const struct code_meaning *c = exit_code_table; c->name; c++)
		printf("  %3d  %s\n", c->code, c->meaning);
}

static int help_of(const char *name)
{
	const struct verb *v = verb_find(name);

	if (!v) {
		fprintf(stderr, "evenkeel help: no verb \"%s\". See evenkeel help --all.\n", name);
		return EXIT_USAGE;
	}
	verb_print_help(v);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}

int verb_help(int argc, char **argv)
{
	bool all = argc == 2 && str_equal(argv[1], "--all");

	if (argc > 2)
		return cli_usage("help");
	if (argc == 2 && !all && argv[1][0] != '-')
		return help_of(argv[1]);
	printf("evenkeel %s - guest agent for Azure Linux VMs\n\nUsage: evenkeel VERB [ARGUMENTS]\n\n", EK_VERSION);
	print_verbs(all);
	print_codes();
	printf("\nevenkeel VERB --help tells more about a verb.\n");
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}
