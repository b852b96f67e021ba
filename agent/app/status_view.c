/* The table of what `evenkeel status` shows. */
#include "agent/app/status_view.h"

static const struct jd_type text = { .kind = JD_TEXT };
static const struct jd_type flag = { .kind = JD_BOOLEAN };
static const struct jd_type number = { .kind = JD_INTEGER };
static const struct jd_type raw = { .kind = JD_RAW };

/* clang-format off */
static const struct jd_field machine_fields[] = {
	{ "name",       &text, offsetof(struct view_machine, name) },
	{ "vmId",       &text, offsetof(struct view_machine, vm_id) },
	{ "size",       &text, offsetof(struct view_machine, size) },
	{ "scaleSet",   &text, offsetof(struct view_machine, scale_set) },
	{ "location",   &text, offsetof(struct view_machine, location) },
	{ "resourceId", &text, offsetof(struct view_machine, resource_id) },
	{ "hostName",   &text, offsetof(struct view_machine, host_name) },
	{ "problem",    &text, offsetof(struct view_machine, problem) },
	{ "asking",     &flag, offsetof(struct view_machine, asking), JD_OMIT_EMPTY },
	{ NULL },
};
const struct jd_type view_machine_type = { .kind = JD_OBJECT, .fields = machine_fields, .size = sizeof(struct view_machine) };

static const struct jd_field owner_fields[] = {
	{ "kind",    &text, offsetof(struct view_owner, kind) },
	{ "version", &text, offsetof(struct view_owner, version) },
	{ NULL },
};
static const struct jd_type owner_type = { .kind = JD_OBJECT, .fields = owner_fields, .size = sizeof(struct view_owner) };

static const struct jd_field pause_fields[] = {
	{ "since",              &text,   offsetof(struct view_pause, since) },
	{ "until",              &text,   offsetof(struct view_pause, until) },
	{ "remainingInSeconds", &number, offsetof(struct view_pause, remaining_seconds) },
	{ "reason",             &text,   offsetof(struct view_pause, reason) },
	{ NULL },
};
const struct jd_type view_pause_type = { .kind = JD_OBJECT, .fields = pause_fields, .size = sizeof(struct view_pause) };
static const struct jd_type pause_pointer = { .kind = JD_POINTER, .fields = pause_fields, .size = sizeof(struct view_pause) };

static const struct jd_field certificate_fields[] = {
	{ "name",        &text, offsetof(struct view_certificate, name) },
	{ "state",       &text, offsetof(struct view_certificate, state) },
	{ "version",     &text, offsetof(struct view_certificate, version) },
	{ "thumbprint",  &text, offsetof(struct view_certificate, thumbprint) },
	{ "notAfter",    &text, offsetof(struct view_certificate, not_after) },
	{ "installedAt", &text, offsetof(struct view_certificate, installed_at) },
	{ "error",       &text, offsetof(struct view_certificate, error) },
	{ NULL },
};
static const struct jd_type certificate = { .kind = JD_OBJECT, .fields = certificate_fields, .size = sizeof(struct view_certificate) };
static const struct jd_type certificates = { .kind = JD_LIST, .element = &certificate };

static const struct jd_field last_fields[] = {
	{ "name",                   &text,   offsetof(struct view_last, name) },
	{ "origin",                 &text,   offsetof(struct view_last, origin) },
	{ "state",                  &text,   offsetof(struct view_last, state) },
	{ "result",                 &text,   offsetof(struct view_last, result) },
	{ "job",                    &text,   offsetof(struct view_last, job) },
	{ "startedAt",              &text,   offsetof(struct view_last, started_at) },
	{ "endedAt",                &text,   offsetof(struct view_last, ended_at) },
	{ "durationInMilliseconds", &number, offsetof(struct view_last, duration_msec) },
	{ NULL },
};
static const struct jd_type last = { .kind = JD_OBJECT, .fields = last_fields, .size = sizeof(struct view_last) };
static const struct jd_type scripts = { .kind = JD_LIST, .element = &last };

static const struct jd_field user_data_fields[] = {
	{ "revision",    &text,   offsetof(struct view_user_data, revision) },
	{ "sizeInBytes", &number, offsetof(struct view_user_data, size_bytes) },
	{ "seenAt",      &text,   offsetof(struct view_user_data, seen_at) },
	{ "confirmedAt", &text,   offsetof(struct view_user_data, confirmed_at) },
	{ "removedAt",   &text,   offsetof(struct view_user_data, removed_at) },
	{ NULL },
};
static const struct jd_type user_data = { .kind = JD_POINTER, .fields = user_data_fields, .size = sizeof(struct view_user_data) };

static const struct jd_field view_fields[] = {
	{ "running",      &flag,              offsetof(struct status_view, running) },
	{ "version",      &text,              offsetof(struct status_view, version) },
	{ "sequence",     &text,              offsetof(struct status_view, sequence) },
	{ "serving",      &flag,              offsetof(struct status_view, serving) },
	{ "ready",        &flag,              offsetof(struct status_view, ready) },
	{ "notReady",     &text,              offsetof(struct status_view, not_ready) },
	{ "application",  &text,              offsetof(struct status_view, application) },
	{ "status",       &raw,               offsetof(struct status_view, status) },
	{ "machine",      &view_machine_type, offsetof(struct status_view, machine) },
	{ "owner",        &owner_type,        offsetof(struct status_view, owner) },
	{ "pause",        &pause_pointer,     offsetof(struct status_view, pause) },
	{ "drain",        &drain_view_type,   offsetof(struct status_view, drain) },
	{ "certificates", &certificates,      offsetof(struct status_view, certificates) },
	{ "scripts",      &scripts,           offsetof(struct status_view, scripts) },
	{ "userData",     &user_data,         offsetof(struct status_view, user_data) },
	{ NULL },
};
/* clang-format on */
const struct jd_type status_view_type = { .kind = JD_OBJECT,
					  .fields = view_fields,
					  .size = sizeof(struct status_view) };
