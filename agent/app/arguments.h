/*
 * What a person typed behind a verb. Which options and words a verb takes says its argument line in the table of verbs
 * (agent/app/verbs.h), which help, completion and the look before a verb runs go by; what they are worth to the verb, it
 * reads with a table of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct verb;

/* ---- argument lines ---- */

/* The next literal word of an argument line; placeholders are in capitals. Returns where to go on; NULL at the end. */
#define VERB_WORD_MAX 64
const char *verb_next_word(const char *line, char word[static VERB_WORD_MAX]);

/* Looks at the arguments before the verb does (argv[0] is the verb): VERB_GO_ON, or an exit code, because --help was asked
 * for or an option is not the verb's. */
enum { VERB_GO_ON = -1 };
int verb_check_arguments(const struct verb *v, int argc, char **argv);

/* Prints how the verb is called: those of the line's alternatives that begin with the word (""; all of them), each on a line
 * of its own, the first one behind `lead`. */
void verb_print_usage(const struct verb *v, const char *word, const char *lead, FILE *out);

/* The same for a call that is wrong, and where there is more. `call`: the verb, or with the word of an alternative
 * ("scripts logs"). EXIT_USAGE. */
int cli_usage(const char *call);

/* ---- values ---- */

/* One option, or one word that is no option: exactly one of the pointers says what it is and takes the value. Where nothing
 * is given, the value stays as it was. */
struct argument {
	const char *name;  /* "--json"; NULL for .word and .rest */
	bool *flag;	   /* set when it is given */
	const char **text; /* the word behind it */
	uint64_t *number;  /* the number behind it, from min to max */
	uint64_t min, max;
	uint64_t *seconds; /* the duration behind it, at least a second */
	const char **word; /* a word by itself; several are filled in their order */
	char ***rest; /* the first word by itself and all behind it, or all behind "--"; ends with NULL, not empty */
};

/* EXIT_OK; or EXIT_USAGE after it has told how `call` is meant, or what a duration is. argv[0] is skipped. */
int arguments_read(const char *call, const struct argument *table, size_t n, int argc, char **argv);
