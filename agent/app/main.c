/* Finds the verb and runs it. */
#include <stdio.h>
#include <string.h>

#include "agent/app/arguments.h"
#include "agent/app/verbs.h"
#include "agent/base/str.h"
#include "agent/codec/memory.h"
#include "agent/core/exit_codes.h"

#define VERBS_MAX 64

static int unknown(const char *name)
{
	const char *names[VERBS_MAX + 1] = { NULL };
	int near;

	for (unsigned i = 0; verbs[i].name && i < VERBS_MAX; i++)
		names[i] = verbs[i].name;
	near = str_nearest(name, names);
	if (near >= 0)
		fprintf(stderr, "evenkeel: no verb \"%s\"; did you mean \"%s\"? See evenkeel help.\n", name, names[near]);
	else
		fprintf(stderr, "evenkeel: no verb \"%s\". See evenkeel help.\n", name);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "help";
	const struct verb *verb;
	int code;

	if (memory_erase_freed() < 0)
		fputs("evenkeel: keys that are no longer needed cannot be erased from memory\n", stderr);
	if (str_equal(name, "--help") || str_equal(name, "-h"))
		name = "help";
	else if (str_equal(name, "--version"))
		name = "version";
	verb = verb_find(name);
	if (!verb)
		return unknown(name);
	if (argc > 1) {
		argc--;
		argv++;
	}
	code = verb_check_arguments(verb, argc, argv);
	return code == VERB_GO_ON ? verb->run(argc, argv) : code;
}
