/* Argument lines of the table of verbs, and what was typed against them. */
#include "agent/app/arguments.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "agent/app/cli_client.h"
#include "agent/app/verbs.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"

#define WORDS_MAX 32 /* options and subcommands of one verb */

/* ---- argument lines ---- */

const char *verb_next_word(const char *line, char word[static VERB_WORD_MAX])
{
	for (;;) {
		size_t n = 0;
		bool literal;

		while (*line && !(islower((unsigned char)*line) || isupper((unsigned char)*line) || *line == '-'))
			line++;
		while (line[n] && (isalnum((unsigned char)line[n]) || line[n] == '-') && n < VERB_WORD_MAX - 1)
			n++;
		if (n == 0)
			return NULL;
		literal = !isupper((unsigned char)*line);
		if (literal) {
			memcpy(word, line, n);
			word[n] = '\0';
		}
		line += n;
		if (literal)
			return line;
	}
}

/* How much of the line is its first alternative, and where the next one begins: NULL, none. Brackets may hold bars of their own. */
static size_t alternative(const char *line, const char **ret_next)
{
	size_t n = 0;
	int depth = 0;

	while (line[n] && !(depth == 0 && str_starts(line + n, " | "))) {
		depth += line[n] == '[' ? 1 : line[n] == ']' ? -1 : 0;
		n++;
	}
	*ret_next = line[n] ? line + n + strlen(" | ") : NULL;
	return n;
}

/* Where the line goes on behind that word; NULL: the verb does not know it. */
static const char *find_word(const struct verb *v, const char *wanted)
{
	char word[VERB_WORD_MAX];

	for (const char *at = v->arguments; (at = verb_next_word(at, word));)
		if (str_equal(word, wanted))
			return at;
	return NULL;
}

static bool takes_value(const char *behind)
{
	return behind[0] == ' ' && isupper((unsigned char)behind[1]);
}

static int unknown_option(const struct verb *v, const char *option)
{
	char words[WORDS_MAX][VERB_WORD_MAX];
	const char *list[WORDS_MAX + 1] = { NULL };
	size_t n = 0;
	int near;

	for (const char *at = v->arguments; n < WORDS_MAX && (at = verb_next_word(at, words[n]));)
		if (words[n][0] == '-') {
			list[n] = words[n];
			n++;
		}
	list[n] = NULL;
	near = str_nearest(option, list);
	if (near >= 0)
		fprintf(stderr, "evenkeel %s: no option \"%s\"; did you mean \"%s\"? See evenkeel %s --help.\n",
			v->name, option, list[near], v->name);
	else
		fprintf(stderr, "evenkeel %s: no option \"%s\". See evenkeel %s --help.\n", v->name, option, v->name);
	return EXIT_USAGE;
}

int verb_check_arguments(const struct verb *v, int argc, char **argv)
{
	/* What stands behind a file that is run is the file's. */
	bool runs_file = str_equal(v->name, "scripts") && argc > 1 && str_equal(argv[1], "run");

	for (int i = 1; i < argc && !str_equal(argv[i], "--"); i++) {
		const char *behind;

		if (argv[i][0] != '-' || !argv[i][1]) {
			if (runs_file && i > 1)
				break;
			continue;
		}
		if (str_equal(argv[i], "--help") || str_equal(argv[i], "-h")) {
			verb_print_help(v);
			return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
		}
		behind = find_word(v, argv[i]);
		if (!behind)
			return unknown_option(v, argv[i]);
		if (takes_value(behind))
			i++;
	}
	return VERB_GO_ON;
}

void verb_print_usage(const struct verb *v, const char *word, const char *lead, FILE *out)
{
	const char *next = v->arguments;

	while (next) {
		const char *at = next;
		size_t n = alternative(at, &next);

		if (!str_starts(at, word))
			continue;
		fprintf(out, "%-6s evenkeel %s%s%.*s\n", lead, v->name, n ? " " : "", (int)n, at);
		lead = "";
	}
}

int cli_usage(const char *call)
{
	size_t named = strcspn(call, " ");
	char name[VERB_WORD_MAX];
	const struct verb *v;

	(void)snprintf(name, sizeof(name), "%.*s", (int)named, call);
	v = verb_find(name);
	if (v)
		verb_print_usage(v, call + named + (call[named] == ' '), "usage:", stderr);
	fprintf(stderr, "evenkeel help %s tells more\n", name);
	return EXIT_USAGE;
}

/* ---- values ---- */

static const struct argument *find_option(const struct argument *table, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (str_equal(table[i].name, name))
			return &table[i];
	return NULL;
}

/* The first place for a word that is empty yet. */
static const struct argument *find_place(const struct argument *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (table[i].word && !*table[i].word)
			return &table[i];
	return NULL;
}

static char ***find_rest(const struct argument *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (table[i].rest)
			return table[i].rest;
	return NULL;
}

static int read_value(const char *call, const struct argument *a, const char *text)
{
	if (a->text)
		*a->text = text;
	else if (a->seconds && (!cli_duration(text, a->seconds) || *a->seconds == 0))
		return cli_bad_duration(text);
	else if (a->number && (!str_to_u64(text, a->max, a->number) || *a->number < a->min))
		return cli_usage(call);
	return EXIT_OK;
}

int arguments_read(const char *call, const struct argument *table, size_t n, int argc, char **argv)
{
	char ***rest = find_rest(table, n);

	for (int i = 1; i < argc; i++) {
		bool ends_options = rest && str_equal(argv[i], "--");
		const struct argument *a;
		int code = EXIT_OK;

		if (rest && (ends_options || argv[i][0] != '-')) {
			*rest = argv + i + ends_options;
			return **rest ? EXIT_OK : cli_usage(call);
		}
		a = argv[i][0] == '-' ? find_option(table, n, argv[i]) : find_place(table, n);
		if (!a || (!a->flag && !a->word && i + 1 == argc))
			return cli_usage(call);
		if (a->flag)
			*a->flag = true;
		else if (a->word)
			*a->word = argv[i];
		else
			code = read_value(call, a, argv[++i]);
		if (code != EXIT_OK)
			return code;
	}
	return EXIT_OK;
}
