/*
 * Completions for shells, made from the table of verbs, so that they cannot disagree with it: the words of a verb are its
 * options and the literal words (subcommands) of its argument line.
 */
#include <stdio.h>

#include "agent/app/arguments.h"
#include "agent/app/verbs.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"

static void print_words(const struct verb *v, const char *separator)
{
	char word[VERB_WORD_MAX];
	bool any = false;

	for (const char *at = v->arguments; (at = verb_next_word(at, word)); any = true)
		printf("%s%s", any ? separator : "", word);
}

static void print_verbs(const char *separator)
{
	bool any = false;

	for (const struct verb *v = verbs; v->name; v++) {
		if (v->internal)
			continue;
		printf("%s%s", any ? separator : "", v->name);
		any = true;
	}
}

static void print_bash(void)
{
	printf("# bash completion for evenkeel, printed by: evenkeel completion bash\n"
	       "_evenkeel() {\n"
	       "\tlocal current=${COMP_WORDS[COMP_CWORD]} words\n"
	       "\tif [ \"$COMP_CWORD\" = 1 ]; then\n\t\twords='");
	print_verbs(" ");
	printf("'\n\telse\n\t\tcase ${COMP_WORDS[1]} in\n");
	for (const struct verb *v = verbs; v->name; v++) {
		if (v->internal || str_empty(v->arguments))
			continue;
		printf("\t\t%s) words='", v->name);
		print_words(v, " ");
		printf("' ;;\n");
	}
	printf("\t\t*) words= ;;\n\t\tesac\n\tfi\n"
	       "\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
	       "}\n"
	       "complete -o default -F _evenkeel evenkeel\n");
}

static void print_zsh_text(const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			printf("'\\''");
		else if (*text == ':')
			printf("\\:");
		else
			(void)putchar(*text);
	}
}

static void print_zsh(void)
{
	printf("#compdef evenkeel\n# zsh completion for evenkeel, printed by: evenkeel completion zsh\n"
	       "_evenkeel() {\n\tlocal -a verbs\n\tverbs=(\n");
	for (const struct verb *v = verbs; v->name; v++) {
		if (v->internal)
			continue;
		printf("\t\t'%s:", v->name);
		print_zsh_text(v->help);
		printf("'\n");
	}
	printf("\t)\n\tif (( CURRENT == 2 )); then\n\t\t_describe verb verbs\n\t\treturn\n\tfi\n\tcase $words[2] in\n");
	for (const struct verb *v = verbs; v->name; v++) {
		if (v->internal || str_empty(v->arguments))
			continue;
		printf("\t%s) compadd -- ", v->name);
		print_words(v, " ");
		printf(" ;;\n");
	}
	printf("\tesac\n\t_files\n}\n_evenkeel \"$@\"\n");
}

int verb_completion(int argc, char **argv)
{
	if (argc == 2 && str_equal(argv[1], "bash"))
		print_bash();
	else if (argc == 2 && str_equal(argv[1], "zsh"))
		print_zsh();
	else
		return cli_usage("completion");
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}
