/* Rules across the members of customScript. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/core/settings_tables.h"

/* After 5400 s the platform takes the deployment for failed, whatever the VM says; the rest is for telling it. */
#define PLATFORM_GIVES_UP 5400
#define LONGEST_SECONDS   5100

#define TOO_LONG "%" PRId64 " is more than %d (the platform gives up at %d); make the long script asynchronous"

static bool has_value(const struct jd_secretable *s)
{
	return s->text || s->ref;
}

/* Names that are taken: of what we put beside the files ourselves. */
static bool is_taken(const struct script_settings *s, const char *name)
{
	return str_starts(name, FS_TEMPORARY_PREFIX) || (has_value(&s->script) && str_equal(name, "script.sh"));
}

/* "a" and "a/b": one of them would have to be a directory. */
static bool is_above(const char *a, const char *b)
{
	size_t n = strlen(a);

	return strncmp(a, b, n) == 0 && b[n] == '/';
}

static void judge_files(struct settings_loader *l, const struct script_settings *s, const char *path)
{
	const struct script_file *f = s->files.items;

	for (size_t i = 0; i < s->files.n; i++) {
		/* What comes from a secret URI is a piece of the secret. */
		const char *quote = f[i].uri.ref ? "" : "\"";
		struct error why = ERROR_INIT;
		char where[96];

		(void)snprintf(where, sizeof(where), "%s.files[%zu]", path, i);
		if (!f[i].name) {
			settings_error(l, SECTION_CUSTOM_SCRIPT, where, "the URI ends in no file name; give \"name\"");
			continue;
		}
		if (check_relative_file_name(f[i].name, &why) < 0) {
			settings_error(l, SECTION_CUSTOM_SCRIPT, where, "name from the URI: %s",
				       f[i].uri.ref ? "cannot be used; give \"name\"" : why.msg);
			continue;
		}
		if (is_taken(s, f[i].name)) {
			settings_error(l, SECTION_CUSTOM_SCRIPT, where, "its name is taken by the agent itself; give another");
			continue;
		}
		for (size_t k = 0; k < i; k++)
			if (f[k].name && (is_above(f[k].name, f[i].name) || is_above(f[i].name, f[k].name))) {
				settings_error(l, SECTION_CUSTOM_SCRIPT, where,
					       "it cannot be there together with files[%zu]: one of the two would have to be a directory", k);
				break;
			}
		for (size_t k = 0; k < i; k++)
			if (str_equal(f[k].name, f[i].name)) {
				settings_error(l, SECTION_CUSTOM_SCRIPT, where,
					       "%s%.*s%s is already the name of files[%zu]", quote,
					       CUT(f[i].uri.ref ? "what the URI ends in" : f[i].name, 64), quote, k);
				break;
			}
	}
}

static void judge_one(struct settings_loader *l, const struct script_settings *s, const char *path)
{
	bool command = has_value(&s->command_to_execute), script = has_value(&s->script);
	bool name = s->storage_account_name, key = has_value(&s->storage_account_key);
	char where[96];

	if (command == script)
		settings_error(l, SECTION_CUSTOM_SCRIPT, path,
			       "one of \"commandToExecute\" and \"script\" is required, got %s",
			       command ? "both" : "none");
	if (s->arguments.n > 0 && !script) {
		(void)snprintf(where, sizeof(where), "%s.arguments", path);
		settings_error(l, SECTION_CUSTOM_SCRIPT, where,
			       "belong to \"script\"; write them into \"commandToExecute\"");
	}
	if (name != key)
		settings_error(l, SECTION_CUSTOM_SCRIPT, path,
			       "both \"storageAccountName\" and \"storageAccountKey\" are required, got one");
	if ((name || key) && s->identity)
		settings_error(l, SECTION_CUSTOM_SCRIPT, path,
			       "either \"identity\" or the storage account's name and key, got both");
	judge_files(l, s, path);
}

/* The extension's door only: nobody waits for a file's scripts. */
static void judge_times(struct settings_loader *l)
{
	const struct custom_script_settings *c = l->settings->custom_script;
	const struct script_settings *s = c->scripts.items;
	bool synchronous = false;

	if (l->settings->door_of[SECTION_CUSTOM_SCRIPT] != DOOR_EXTENSION)
		return;
	for (size_t i = 0; i < c->scripts.n; i++) {
		char where[96];

		synchronous = synchronous || !s[i].asynchronous;
		if (s[i].asynchronous || s[i].timeout_seconds <= LONGEST_SECONDS)
			continue;
		(void)snprintf(where, sizeof(where), "customScript.scripts[%zu].timeoutInSeconds", i);
		settings_error(l, SECTION_CUSTOM_SCRIPT, where, TOO_LONG, s[i].timeout_seconds, LONGEST_SECONDS,
			       PLATFORM_GIVES_UP);
	}
	if (synchronous && c->deadline_seconds > LONGEST_SECONDS)
		settings_error(l, SECTION_CUSTOM_SCRIPT, "customScript.deadlineInSeconds", TOO_LONG,
			       c->deadline_seconds, LONGEST_SECONDS, PLATFORM_GIVES_UP);
}

void settings_judge_script(struct settings_loader *l)
{
	const struct custom_script_settings *c = l->settings->custom_script;
	const struct script_settings *s = c->scripts.items;

	/* The peer has its own rules, and they have been held. */
	if (l->settings->drop_in_script)
		return;
	judge_times(l);
	for (size_t i = 0; i < c->scripts.n; i++) {
		char path[64];

		(void)snprintf(path, sizeof(path), "customScript.scripts[%zu]", i);
		judge_one(l, &s[i], path);
	}
}
