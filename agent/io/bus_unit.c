/* What systemd says of a unit, and of an error, read from its messages. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/bus_internal.h"

#define CALL_TIMEOUT (25 * USEC_PER_SEC)

int bus_error_result(const sd_bus_error *e)
{
	static const struct {
		const char *name;
		int result;
	} known[] = {
		{ "org.freedesktop.systemd1.NoSuchUnit", -ENOENT },
		{ "org.freedesktop.systemd1.UnitMasked", -EACCES },
		{ "org.freedesktop.systemd1.UnitExists", -EEXIST },
		{ "org.freedesktop.systemd1.JobTypeNotApplicable", -EOPNOTSUPP },
		{ "org.freedesktop.systemd1.OnlyByDependency", -EACCES },
		{ "org.freedesktop.systemd1.LoadFailed", -EIO },
		{ "org.freedesktop.systemd1.BadUnitSetting", -EIO },
		{ "org.freedesktop.DBus.Error.NoReply", -ETIMEDOUT },
		{ "org.freedesktop.DBus.Error.Timeout", -ETIMEDOUT },
		{ "org.freedesktop.DBus.Error.Disconnected", -ENOTCONN },
	};
	int r;

	if (!e)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (str_equal(e->name, known[i].name))
			return known[i].result;
	r = sd_bus_error_get_errno(e);
	return r > 0 ? -r : -EIO;
}

static int read_property(sd_bus_message *m, struct unit_properties *p)
{
	static const struct {
		const char *name;
		size_t offset;
	} texts[] = {
		{ "LoadState", offsetof(struct unit_properties, load) },
		{ "ActiveState", offsetof(struct unit_properties, active) },
		{ "SubState", offsetof(struct unit_properties, sub) },
		{ "UnitFileState", offsetof(struct unit_properties, file_state) },
		{ "Result", offsetof(struct unit_properties, result) },
	};
	const char *name, *text;
	int32_t number = 0;
	int r = sd_bus_message_read(m, "s", &name);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (str_equal(name, texts[i].name)) {
			r = sd_bus_message_read(m, "v", "s", &text);
			if (r >= 0)
				(void)snprintf((char *)p + texts[i].offset, sizeof(p->load), "%s", text);
			return r;
		}
	if (!str_equal(name, "ExecMainCode") && !str_equal(name, "ExecMainStatus"))
		return sd_bus_message_skip(m, "v");
	r = sd_bus_message_read(m, "v", "i", &number);
	if (str_equal(name, "ExecMainCode"))
		p->main_code = number;
	else
		p->main_status = number;
	return r;
}

int bus_read_unit(sd_bus_message *m, struct unit_properties *ret)
{
	struct unit_properties p = { 0 };
	int r = sd_bus_message_enter_container(m, 'a', "{sv}");

	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		r = read_property(m, &p);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
	}
	if (r < 0)
		return r;
	*ret = p;
	return 0;
}

int bus_get_all_call(struct bus *b, const char *unit, sd_bus_message **ret)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_message_ sd_bus_message *m = NULL;
	int r;

	if (!bus_sd(b))
		return -ENOTCONN;
	r = sd_bus_path_encode(SYSTEMD_PATH "/unit", unit, &path);
	if (r >= 0)
		r = sd_bus_message_new_method_call(bus_sd(b), &m, bus_destination(b), path,
						   "org.freedesktop.DBus.Properties", "GetAll");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", "");
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

int bus_unit_get_all(struct bus *b, const char *unit, sd_bus_message_handler_t fn, void *userdata, sd_bus_slot **ret)
{
	_cleanup_message_ sd_bus_message *m = NULL;
	int r = bus_get_all_call(b, unit, &m);

	return r < 0 ? r : sd_bus_call_async(bus_sd(b), ret, m, fn, userdata, CALL_TIMEOUT);
}
