/* A program that is only the runner, for tests of layers that start it: NAME run ID. */
#include <stddef.h>
#include <string.h>

#include "agent/app/verbs.h"

int main(int argc, char **argv)
{
	return argc > 1 && strcmp(argv[1], "run") == 0 ? verb_run(argc - 1, argv + 1) : 2;
}
