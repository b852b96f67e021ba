/* Settings for other people's eyes. */
#include <stdlib.h>

#include "agent/base/cleanup.h"
#include "agent/base/secret.h"
#include "agent/codec/uri.h"
#include "agent/core/settings_tables.h"

#define LEFT_OUT "[left out]"

/* Texts that are no secrets by their type, but that people put secrets into. */
static bool is_free_text(const char *path)
{
	static const char *const members[] = { "arguments", "command", "commands", "undo", "check", "body", "peerUrl" };

	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		for (const char *at = path; (at = strstr(at, members[i])); at++) {
			char before = at == path ? '.' : at[-1], after = at[strlen(members[i])];

			if (before == '.' && (!after || after == '[' || after == '.'))
				return true;
		}
	return false;
}

/* Of a URI the host may be seen: its path can be a secret, too. */
static char *replacement(const char *text)
{
	struct uri u;
	char *made;

	if (uri_parse(text, &u, NULL) < 0)
		return strdup(LEFT_OUT);
	made = str_format("%s://%s/" LEFT_OUT, u.https ? "https" : "http", u.host);
	uri_done(&u);
	return made;
}

static void replace(char **text, int *failed)
{
	char *made = str_empty(*text) ? NULL : replacement(*text);

	if (!made) {
		*failed |= !str_empty(*text);
		return;
	}
	erase_and_free(*text);
	*text = made;
}

static void visit(const struct jd_type *type, const struct jd_field *field, void *value, const char *path,
		  void *userdata)
{
	(void)field;
	if (type->kind == JD_SECRETABLE)
		replace(&((struct jd_secretable *)value)->text, userdata);
	else if (type->kind == JD_TEXT && (type->sensitive || is_free_text(path)))
		replace(value, userdata);
}

int settings_redact(struct settings *s, struct buf *out)
{
	bool first = true;

	(void)buf_puts(out, "{");
	for (enum settings_section section = 0; section < _SECTION_MAX; section++) {
		const struct jd_type *type = settings_section_type(section);
		void **pointer = settings_section_pointer(s, section);
		int failed = 0, r;

		if (!*pointer)
			continue;
		jd_walk(type, pointer, settings_section_name(section), visit, &failed);
		if (failed)
			return -ENOMEM;
		(void)buf_printf(out, "%s\n\"%s\": ", first ? "" : ",", settings_section_name(section));
		r = jd_encode(type, pointer, true, out);
		if (r < 0)
			return r;
		first = false;
	}
	(void)buf_puts(out, "\n}\n");
	return buf_ok(out);
}
