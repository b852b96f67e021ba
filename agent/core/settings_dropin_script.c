/*
 * The settings of Custom Script v2 as they are: checks, words and numbers of its version 2.1.16 (main/schema.go,
 * main/handlersettings.go there), so that an operator who changes publisher and type reads what is in the peer's
 * documentation. The outcome is one script named "script".
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/core/settings_tables.h"

/* The peer's numbers (errorutil there). */
enum {
	CODE_COMMAND_TWICE = 20,
	CODE_FILES_TWICE = 22,
	CODE_NOTHING_TO_RUN = 23,
	CODE_KEY_AND_IDENTITY = 26,
	CODE_TWO_IDS = 27,
	CODE_SCRIPT_TWICE = 28,
	CODE_COMMAND_AND_SCRIPT = 29,
	CODE_HALF_CREDENTIALS = 30,
	CODE_BAD_CONFIGURATION = -21,
};

enum part { PART_PUBLIC, PART_PROTECTED };
static const char *const part_names[] = {"public", "protected"};

struct member {
	const char *name;
	const char *type;    /* the peer's word for it */
	const char *pattern; /* shown in its message */
	bool (*fits)(const char *text);
	bool in[2]; /* by enum part */
};

#define GUID_PATTERN "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
#define NAME_PATTERN "^[a-z0-9]{3,24}$"
#define KEY_PATTERN  "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$"

static bool fits_account_name(const char *text)
{
	size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789");

	return len >= 3 && len <= 24 && !text[len];
}

static bool fits_account_key(const char *text)
{
	size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
	size_t padding = strspn(text + len, "=");

	/* The peer's pattern takes an empty text, too. */
	return !*text || (!text[len + padding] && padding <= 2 && (len + padding) % 4 == 0);
}

static bool fits_guid(const char *text)
{
	return *text && check_guid(text, NULL) == 0;
}

static const struct member members[] = {
	{"commandToExecute", "string", .in = {true, true}},
	{"script", "string", .in = {true, true}},
	{"fileUris", "array", .in = {true, true}},
	{"skipDos2Unix", "boolean", .in = {true, false}},
	{"timestamp", "integer", .in = {true, true}},
	{"storageAccountName", "string", NAME_PATTERN, fits_account_name, {false, true}},
	{"storageAccountKey", "string", KEY_PATTERN, fits_account_key, {false, true}},
	{"managedIdentity", "object", .in = {false, true}},
};

static const struct member *find_member(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		if (str_equal(members[i].name, name))
			return &members[i];
	return NULL;
}

static const char *raw_member(const struct jd_list *list, const char *name)
{
	const struct settings_raw_member *m = list->items;

	for (size_t i = 0; i < list->n; i++)
		if (str_equal(m[i].key, name))
			return m[i].json;
	return NULL;
}

bool settings_has_script_dropin(const struct jd_list *public_members, const struct jd_list *protected_members)
{
	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		if (!str_equal(members[i].name, "timestamp") &&
		    (raw_member(public_members, members[i].name) || raw_member(protected_members, members[i].name)))
			return true;
	return false;
}

static int refuse(struct settings_loader *l, int code, const char *fmt, ...) _printf_(3, 4);
static int refuse(struct settings_loader *l, int code, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	jd_report_error(l->report, "Enable failed", "", "failed to get configuration: %s", text);
	if (!l->error_code)
		l->error_code = code;
	return -EINVAL;
}

static int refuse_schema(struct settings_loader *l, enum part part, const char *field, const char *reason)
{
	return refuse(l, CODE_BAD_CONFIGURATION, "json validation error: invalid %s settings JSON: %s: %s",
		      part_names[part], field, reason);
}

/* The peer's word for the type of a JSON text. */
static const char *type_of(const char *json)
{
	switch (*json) {
	case '"':
		return "string";
	case '{':
		return "object";
	case '[':
		return "array";
	case 't':
	case 'f':
		return "boolean";
	case 'n':
		return "null";
	default: {
		double number = strtod(json, NULL);

		/* Beyond 2^53 a double is whole anyway. */
		if (number > 9e15 || number < -9e15 || number - (double)(long long)number == 0.0)
			return "integer";
		return "number";
	}
	}
}

/* The text of a JSON string, erased by the caller. */
static int text_of(const char *json, char **ret)
{
	static const struct jd_type text = {.kind = JD_TEXT, .max = LIMIT_SETTINGS};

	*ret = NULL;
	return settings_decode(json, strlen(json), "text", &text, ret, NULL, NULL);
}

static int check_type(struct settings_loader *l, enum part part, const char *field, const char *type, const char *json)
{
	char reason[80];

	if (str_equal(type_of(json), type))
		return 0;
	(void)snprintf(reason, sizeof(reason), "Invalid type. Expected: %s, given: %s", type, type_of(json));
	return refuse_schema(l, part, field, reason);
}

static int check_pattern(struct settings_loader *l, enum part part, const char *field, const char *pattern,
			 bool (*fits)(const char *text), const char *json)
{
	_cleanup_erase_ char *text = NULL;
	char reason[160];
	int r = check_type(l, part, field, "string", json);

	if (r < 0)
		return r;
	r = text_of(json, &text);
	if (r < 0)
		return r;
	if (fits(text))
		return 0;
	(void)snprintf(reason, sizeof(reason), "Does not match pattern '%s'", pattern);
	return refuse_schema(l, part, field, reason);
}

/* gojsonschema's "uri": it parses, has a scheme, and no backslash. */
static bool is_uri(const char *text)
{
	size_t scheme = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-.");

	if (scheme == 0 || text[scheme] != ':' || strchr("0123456789+-.", *text) || strchr(text, '\\'))
		return false;
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return true;
}

static int check_uris(struct settings_loader *l, enum part part, const char *json)
{
	struct jd_list list = {0};
	int r = settings_decode(json, strlen(json), "fileUris", &st_raw_items, &list, NULL, NULL);

	for (size_t i = 0; r == 0 && i < list.n; i++) {
		_cleanup_erase_ char *text = NULL;
		char field[40];

		(void)snprintf(field, sizeof(field), "fileUris.%zu", i);
		r = check_type(l, part, field, "string", ((char **)list.items)[i]);
		if (r == 0)
			r = text_of(((char **)list.items)[i], &text);
		if (r == 0 && !is_uri(text))
			r = refuse_schema(l, part, field, "Does not match format 'uri'");
	}
	jd_free(&st_raw_items, &list);
	return r;
}

/* Other members are allowed there, whatever they are. */
static int check_identity(struct settings_loader *l, const char *json)
{
	static const struct jd_type raw = {.kind = JD_RAW};
	static const struct jd_field fields[] = {{.name = "objectId", .type = &raw, .offset = 0},
						 {.name = "clientId", .type = &raw, .offset = sizeof(char *)},
						 {}};
	static const struct jd_type shape = {
		.kind = JD_OBJECT, .fields = fields, .size = 2 * sizeof(char *), .lenient = true};
	char *ids[2] = {NULL, NULL};
	int r = settings_decode(json, strlen(json), "managedIdentity", &shape, ids, NULL, NULL);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(ids); i++) {
		char field[40];

		(void)snprintf(field, sizeof(field), "managedIdentity.%s", fields[i].name);
		if (ids[i])
			r = check_pattern(l, PART_PROTECTED, field, GUID_PATTERN, fits_guid, ids[i]);
	}
	jd_free(&shape, ids);
	return r;
}

static int check_member(struct settings_loader *l, enum part part, const struct member *m, const char *json)
{
	int r = check_type(l, part, m->name, m->type, json);

	if (r < 0)
		return r;
	if (m->fits)
		return check_pattern(l, part, m->name, m->pattern, m->fits, json);
	if (str_equal(m->name, "fileUris"))
		return check_uris(l, part, json);
	if (str_equal(m->name, "managedIdentity"))
		return check_identity(l, json);
	return 0;
}

/* What may stand beside the peer's members: our own sections and what every document may have. */
static bool is_ours(enum part part, const char *key)
{
	const struct jd_type *t = part == PART_PUBLIC ? &st_document : &st_protected;

	for (const struct jd_field *f = t->fields; f->name; f++)
		if (str_equal(f->name, key))
			return true;
	return false;
}

static int check_part(struct settings_loader *l, enum part part, const struct jd_list *list)
{
	const struct settings_raw_member *m = list->items;

	for (size_t i = 0; i < list->n; i++) {
		const struct member *known = find_member(m[i].key);
		char reason[160];

		if (known ? known->in[part] : is_ours(part, m[i].key))
			continue;
		(void)snprintf(reason, sizeof(reason), "Additional property %.*s is not allowed", CUT(m[i].key, 100));
		return refuse_schema(l, part, "(root)", reason);
	}
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		const char *json = raw_member(list, members[i].name);
		int r = json ? check_member(l, part, &members[i], json) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

int settings_check_script_dropin(struct settings_loader *l, const struct jd_list *public_members,
				 const struct jd_list *protected_members)
{
	int r = check_part(l, PART_PUBLIC, public_members);

	return r < 0 ? r : check_part(l, PART_PROTECTED, protected_members);
}

/* The peer's logical checks, in its order; the first ends them. */
static int check_rules(struct settings_loader *l, const struct settings_document *d, const struct settings_protected *p)
{
#define INVALID "invalid configuration: "
	bool command[2] = {!str_empty(d->command_to_execute), !str_empty(p->command_to_execute)};
	bool script[2] = {!str_empty(d->script), !str_empty(p->script)};
	bool name = !str_empty(p->storage_account_name), key = !str_empty(p->storage_account_key);
	const struct identity *id = p->managed_identity;

	if (!command[0] && !command[1] && !script[0] && !script[1])
		return refuse(l, CODE_NOTHING_TO_RUN, INVALID "'commandToExecute' is not specified");
	if (command[0] && command[1])
		return refuse(l, CODE_COMMAND_TWICE,
			      INVALID "'commandToExecute' was specified both in public and protected settings; "
				      "it must be specified only once");
	if (script[0] && script[1])
		return refuse(l, CODE_SCRIPT_TWICE,
			      INVALID "'script' was specified both in public and protected settings; "
				      "it must be specified only once");
	if (d->file_uris.n > 0 && p->file_uris.n > 0)
		return refuse(l, CODE_FILES_TWICE,
			      INVALID "'fileUris' were specified both in public and protected settings; "
				      "it must be specified only once");
	if ((command[0] || command[1]) && (script[0] || script[1]))
		return refuse(l, CODE_COMMAND_AND_SCRIPT,
			      INVALID "'commandToExecute' and 'script' were both specified, "
				      "but only one is validate at a time");
	if (name != key)
		return refuse(l, CODE_HALF_CREDENTIALS,
			      INVALID "both 'storageAccountName' and 'storageAccountKey' must be specified");
	if (id && (name || key))
		return refuse(l, CODE_KEY_AND_IDENTITY,
			      INVALID "'storageAccountName' or 'storageAccountKey' must not be specified with "
				      "'managedServiceIdentity'");
	if (id && !str_empty(id->client_id) && !str_empty(id->object_id))
		return refuse(l, CODE_TWO_IDS,
			      INVALID "only one of 'clientId' or 'objectId' must be specified with "
				      "'managedServiceIdentity'");
	return 0;
#undef INVALID
}

/* A value of the protected settings becomes a secret of that name. */
static int set_secret(struct settings_loader *l, enum settings_door door, const char *name, const char *value,
		      struct jd_secretable *to)
{
	_cleanup_free_ char *ref = str_format(SETTINGS_OWN_SECRET "%s", name);

	if (!ref || settings_add_secret(l->settings, door, ref, value) < 0)
		return -ENOMEM;
	to->ref = TAKE_PTR(ref);
	return 0;
}

static int set_either(struct settings_loader *l, enum settings_door door, const char *name, const char *public_value,
		      const char *protected_value, struct jd_secretable *to)
{
	if (!str_empty(public_value))
		return str_set(&to->text, public_value);
	return str_empty(protected_value) ? 0 : set_secret(l, door, name, protected_value, to);
}

/* `script` has room for them. */
static int set_files(struct settings_loader *l, enum settings_door door, const struct settings_document *d,
		     const struct settings_protected *p, struct script_settings *script)
{
	const struct jd_list *uris = d->file_uris.n > 0 ? &d->file_uris : &p->file_uris;
	struct script_file *files;

	if (uris->n == 0)
		return 0;
	files = calloc(uris->n, sizeof(*files));
	if (!files)
		return -ENOMEM;
	free(script->files.items);
	script->files = (struct jd_list){.items = files, .n = uris->n};
	for (size_t i = 0; i < uris->n; i++) {
		const char *uri = ((char **)uris->items)[i];
		char name[40];

		(void)snprintf(name, sizeof(name), "fileUris[%zu]", i);
		files[i].max_size_bytes = INT64_MAX;
		if (str_set(&files[i].mode, "0500") < 0 || str_set(&files[i].owner, "root:root") < 0 ||
		    (uris == &d->file_uris ? str_set(&files[i].uri.text, uri)
					   : set_secret(l, door, name, uri, &files[i].uri)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int set_identity(const struct identity *from, struct script_settings *script)
{
	if (!from)
		return 0;
	script->identity = calloc(1, sizeof(*script->identity));
	if (!script->identity ||
	    str_set(&script->identity->client_id, str_empty(from->client_id) ? NULL : from->client_id) < 0 ||
	    str_set(&script->identity->object_id, str_empty(from->object_id) ? NULL : from->object_id) < 0)
		return -ENOMEM;
	return 0;
}

int settings_script_dropin(struct settings_loader *l, enum settings_door door, const struct settings_document *d,
			   const struct settings_protected *p, struct custom_script_settings **ret)
{
	/* The defaults are the table's. */
	static const char skeleton[] = "{\"scripts\":[{\"name\":\"script\"}]}";
	struct custom_script_settings *section = NULL;
	struct script_settings *script;
	int r = check_rules(l, d, p);

	if (r < 0)
		return r;
	r = settings_decode(skeleton, strlen(skeleton), "script", &st_custom_script, &section, l->report, NULL);
	if (r < 0)
		return r;
	script = section->scripts.items;
	script->convert_line_endings = !d->skip_dos2unix;
	r = set_either(l, door, "commandToExecute", d->command_to_execute, p->command_to_execute,
		       &script->command_to_execute);
	if (r == 0)
		r = set_either(l, door, "script", d->script, p->script, &script->script);
	if (r == 0)
		r = set_files(l, door, d, p, script);
	if (r == 0)
		r = set_identity(p->managed_identity, script);
	if (r == 0 && !str_empty(p->storage_account_name))
		r = str_set(&script->storage_account_name, p->storage_account_name);
	if (r == 0 && !str_empty(p->storage_account_key))
		r = set_secret(l, door, "storageAccountKey", p->storage_account_key, &script->storage_account_key);
	if (r < 0) {
		jd_free(&st_custom_script, &section);
		return r;
	}
	*ret = section;
	return 0;
}
