/* Sentences about settings that have been decoded: they speak of what the operator has written. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/core/settings_tables.h"

#define PATH_MAX_SHOWN 512

/* A peer's settings have other names for the same: a sentence speaks of what the operator has written. */
static const char *path_of_peer(const struct settings *s, enum settings_section section, const char *path,
				char out[static PATH_MAX_SHOWN])
{
	static const char script[] = "customScript.scripts[0].", file[] = "files[";
	static const char vault[] = "keyRefresh.", certificate[] = "certificates[";

	if (section == SECTION_CUSTOM_SCRIPT && s->drop_in_script && str_starts(path, script)) {
		path += strlen(script);
		if (!str_starts(path, file))
			return path;
		(void)snprintf(out, PATH_MAX_SHOWN, "fileUris%.*s", (int)strcspn(path + strlen(file) - 1, "."),
			       path + strlen(file) - 1);
		return out;
	}
	if (section == SECTION_KEY_REFRESH && s->drop_in_vault && str_starts(path, vault)) {
		path += strlen(vault);
		(void)snprintf(out, PATH_MAX_SHOWN, "secretsManagementSettings.%s%s",
			       str_starts(path, certificate) ? "observedCertificates[" : "",
			       str_starts(path, certificate) ? path + strlen(certificate) : path);
		return out;
	}
	return path;
}

void settings_error(struct settings_loader *l, enum settings_section section, const char *path, const char *fmt, ...)
{
	char text[JD_REPORT_SENTENCE], other[PATH_MAX_SHOWN];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	jd_report_error(l->report, l->subject[section], path_of_peer(l->settings, section, path, other), "%s", text);
}

void settings_warning(struct settings_loader *l, enum settings_section section, const char *path, const char *fmt, ...)
{
	char text[JD_REPORT_SENTENCE], other[PATH_MAX_SHOWN];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	jd_report_warning(l->report, l->subject[section], path_of_peer(l->settings, section, path, other), "%s", text);
}
