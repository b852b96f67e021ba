/*
 * Any bytes as settings: no crash, no leak, whole or not at all, and every sentence is text. The first byte says how
 * much of the rest is the public part, its lowest bits which door it comes through.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/core/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Also where NDEBUG is defined. */
static void must(bool holds)
{
	if (!holds)
		abort();
}

static void check_sentences(const struct jd_report *r)
{
	for (unsigned i = 0; i < r->n_errors; i++)
		must(*r->errors[i] && utf8_valid(r->errors[i], strlen(r->errors[i])));
	for (unsigned i = 0; i < r->n_warnings; i++)
		must(*r->warnings[i] && utf8_valid(r->warnings[i], strlen(r->warnings[i])));
}

static void check_settings(const struct settings *s)
{
	void *const sections[_SECTION_MAX] = {s->custom_script, s->key_refresh, s->drain,   s->user_data,
					      s->health,        s->notify,      s->network, s->log};

	for (int i = 0; i < _SECTION_MAX; i++)
		must(!sections[i] == (s->door_of[i] < 0));
	if (s->custom_script)
		must(s->custom_script->scripts.n > 0);
	if (s->drain) {
		const struct step_settings *step = s->drain->steps.items;

		for (size_t i = 0; i < s->drain->steps.n; i++)
			must(step[i].name && step[i].reserve_seconds >= 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char consent[] =
		"{\"userData\":{\"action\":\"apply\",\"parts\":[\"settings\"],\"settingsSections\":"
		"[\"drain\",\"health\",\"notify\"]}}";
	struct settings_source sources[2] = {0};
	struct settings s = {0};
	struct jd_report report = {0};
	struct error err = ERROR_INIT;
	const char *text;
	char hash[65];
	size_t split;

	if (size == 0)
		return 0;
	text = (const char *)data + 1;
	size--;
	split = data[0] & 0x80 ? size : size * (size_t)(data[0] >> 2) / 31;
	if (split > size)
		split = size;
	sources[0] = (struct settings_source){
		.door = (enum settings_door)((data[0] & 3) % 3),
		.name = "settings",
		.public_text = text,
		.public_len = split,
		.protected_text = text + split,
		.protected_len = size - split,
	};
	sources[1] = (struct settings_source){
		.door = DOOR_FILES, .name = "consent", .public_text = consent, .public_len = sizeof(consent) - 1};
	if (settings_load(sources, sources[0].door == DOOR_USER_DATA ? 2 : 1, &s, &report, &err) == 0)
		check_settings(&s);
	else
		must(report.n_errors > 0 && *err.msg && s.error_code != 0 && !s.custom_script);
	check_sentences(&report);
	settings_done(&s);
	jd_report_done(&report);
	if (settings_hash(text, split, text + split, size - split, hash, &err) == 0)
		must(strlen(hash) == 64);
	return 0;
}
