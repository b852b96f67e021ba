/*
 * The settings of the Key Vault extension, versions 1 to 4, as they are (its page key-vault-linux.md and what its users
 * really pass). The outcome is a section keyRefresh whose files lie as the peer's did.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/core/settings_tables.h"

#define SECTION_NAME   "secretsManagementSettings"
#define TOKEN_SUFFIX   "/oauth2/token"
#define V4_INTERVAL_LO 300
#define V4_INTERVAL_HI 3600
#define INTERVAL_LO    60
#define INTERVAL_HI    86400

bool settings_has_vault_dropin(const struct settings_document *d)
{
	return d->vault || d->vault_authentication || d->vault_logging;
}

/* Whether a certificate was given as a mere text cannot be seen in decoded values, where both forms have a url. */
static int has_text_entries(const struct jd_list *public_members, bool *ret)
{
	static const struct jd_field fields[] = {{.name = "observedCertificates", .type = &st_raw_items}, {}};
	static const struct jd_type shape = {
		.kind = JD_OBJECT, .fields = fields, .size = sizeof(struct jd_list), .lenient = true};
	const struct settings_raw_member *m = public_members->items;
	struct jd_list entries = {0};
	int r = 0;

	*ret = false;
	for (size_t i = 0; r == 0 && i < public_members->n; i++)
		if (str_equal(m[i].key, SECTION_NAME))
			r = settings_decode(m[i].json, strlen(m[i].json), SECTION_NAME, &shape, &entries, NULL, NULL);
	for (size_t i = 0; r == 0 && i < entries.n; i++)
		*ret = *ret || ((char **)entries.items)[i][0] == '"';
	jd_free(&shape, &entries);
	return r;
}

static int find_layout(const struct jd_list *public_members, const struct vault_settings *v, int *ret)
{
	const struct vault_certificate *c = v->certificates.items;
	bool v3;
	int r = has_text_entries(public_members, &v3);

	if (r < 0)
		return r;
	v3 = v3 || v->require_initial_sync || v->acl_enabled;
	for (size_t i = 0; i < v->certificates.n; i++)
		v3 = v3 || !str_empty(c[i].link_name);
	*ret = v3 ? STORE_KV3 : STORE_KV4;
	return 0;
}

/* An ARM id is a frequent mistake that works all the same: the token service knows it by another name. */
static int set_identity(struct settings_loader *l, const char *subject, const char *path, const char *client_id,
			const char *object_id, struct identity **ret)
{
	struct error why = ERROR_INIT;
	struct identity *id;

	if (str_empty(client_id) && str_empty(object_id))
		return 0;
	id = *ret = calloc(1, sizeof(*id));
	if (!id)
		return -ENOMEM;
	if (!str_empty(client_id) && !str_empty(object_id)) {
		jd_report_error(l->report, subject, path,
				"one of \"msiClientId\" and \"msiObjectId\" may be given, got both");
		return -EINVAL;
	}
	if (!str_empty(client_id) && settings_is_resource_id(client_id)) {
		jd_report_warning(
			l->report, subject, path,
			"msiClientId: got an ARM id where a GUID is expected; taken as the identity's resource id");
		return str_set(&id->resource_id, client_id);
	}
	if (check_guid(str_empty(client_id) ? object_id : client_id, &why) < 0) {
		jd_report_error(l->report, subject, path, "%s: %s",
				str_empty(client_id) ? "msiObjectId" : "msiClientId", why.msg);
		return -EINVAL;
	}
	return str_empty(client_id) ? str_set(&id->object_id, object_id) : str_set(&id->client_id, client_id);
}

/* The documentation shows the endpoint both ways. */
static int set_endpoint(struct settings_loader *l, const char *subject, const char *given, char **ret)
{
	_cleanup_free_ char *plain = NULL;
	struct error why = ERROR_INIT;
	size_t len;

	if (str_empty(given))
		return 0;
	plain = strdup(given);
	if (!plain)
		return -ENOMEM;
	len = strlen(plain);
	while (len > 0 && plain[len - 1] == '/')
		plain[--len] = '\0';
	if (str_ends(plain, TOKEN_SUFFIX))
		plain[len - strlen(TOKEN_SUFFIX)] = '\0';
	if (check_identity_endpoint(plain, &why) < 0) {
		jd_report_error(l->report, subject, "authenticationSettings.msiEndpoint", "%s", why.msg);
		return -EINVAL;
	}
	free(*ret);
	*ret = TAKE_PTR(plain);
	return 0;
}

static int64_t clamp_interval(struct settings_loader *l, const char *subject, int64_t wanted, int layout)
{
	int64_t lo = layout == STORE_KV4 ? V4_INTERVAL_LO : INTERVAL_LO;
	int64_t hi = layout == STORE_KV4 ? V4_INTERVAL_HI : INTERVAL_HI;
	int64_t used = wanted < lo ? lo : wanted > hi ? hi : wanted;

	if (used != wanted)
		jd_report_warning(l->report, subject, SECTION_NAME ".pollingIntervalInS", "%lld is taken as %lld",
				  (long long)wanted, (long long)used);
	return used;
}

/* The same secret in two stores is two items; status and commands need two names. */
static int set_name(struct certificate_settings *all, size_t index)
{
	_cleanup_free_ char *vault = NULL, *suffix = NULL, *secret = NULL, *name = NULL;
	int r = settings_split_vault_url(all[index].url, &vault, &suffix, &secret);

	if (r < 0)
		return r;
	for (unsigned n = 1;; n++) {
		bool taken = false;

		free(TAKE_PTR(name));
		name = n == 1 ? str_format("%s.%s", vault, secret) : str_format("%s.%s-%u", vault, secret, n);
		if (!name)
			return -ENOMEM;
		for (size_t i = 0; i < index; i++)
			taken = taken || str_equal(all[i].name, name);
		if (!taken)
			break;
	}
	free(all[index].name);
	all[index].name = TAKE_PTR(name);
	return 0;
}

static int set_directory(const char *store, char **ret)
{
	int r = str_set(ret, store);
	size_t len = r < 0 ? 0 : strlen(*ret);

	while (len > 1 && (*ret)[len - 1] == '/')
		(*ret)[--len] = '\0';
	return r;
}

static int set_certificate(struct settings_loader *l, const char *subject, const struct vault_settings *v, size_t index,
			   int layout, struct key_refresh_settings *section)
{
	struct vault_certificate *from = (struct vault_certificate *)v->certificates.items + index;
	struct certificate_settings *all = section->certificates.items, *to = &all[index];
	struct certificate_files none = {0};
	char path[80];
	int r;

	(void)snprintf(path, sizeof(path), SECTION_NAME ".observedCertificates[%zu]", index);
	if (!str_empty(from->link_name) &&
	    (strchr(from->link_name, '/') || str_equal(from->link_name, ".") || str_equal(from->link_name, ".."))) {
		jd_report_error(l->report, subject, path, "customSymbolicLinkName: expected a plain file name");
		return -EINVAL;
	}
	to->layout = layout;
	/* The layout decides which files there are. */
	free(TAKE_PTR(to->files.fullchain));
	free(TAKE_PTR(to->files.key));
	to->files = none;
	free(TAKE_PTR(to->url));
	to->url = TAKE_PTR(from->url);
	if (!str_empty(from->link_name))
		to->link_name = TAKE_PTR(from->link_name);
	to->acls = from->acls;
	from->acls = (struct jd_list){0};
	r = set_directory(str_empty(from->store) ? v->store : from->store, &to->directory);
	if (r == 0)
		r = set_name(all, index);
	if (r == 0 && from->authentication_override) {
		char where[128];

		(void)snprintf(where, sizeof(where), "%s.authenticationOverride", path);
		r = set_identity(l, subject, where, from->authentication_override->msi_client_id, NULL, &to->identity);
	}
	return r;
}

/* A section with so many certificates, each with the table's defaults. */
static int make_section(struct settings_loader *l, size_t n, struct key_refresh_settings **ret)
{
	struct buf text = BUF_INIT(LIMIT_SETTINGS);
	int r;

	buf_puts(&text, "{\"certificates\":[");
	for (size_t i = 0; i < n; i++)
		buf_printf(&text, "%s{\"url\":\"https://v.vault.azure.net/secrets/s\"}", i ? "," : "");
	r = buf_puts(&text, "]}");
	if (r == 0)
		r = settings_decode(buf_str(&text), text.len, SECTION_NAME, &st_key_refresh, ret, l->report, NULL);
	buf_done(&text);
	return r;
}

static int check_shape(struct settings_loader *l, const char *subject, const struct settings_document *d)
{
	if (!d->vault) {
		jd_report_error(l->report, subject,
				d->vault_authentication ? "authenticationSettings" : "loggingSettings",
				"stands beside " SECTION_NAME ", which is missing");
		return -EINVAL;
	}
	if (d->vault->misplaced_authentication)
		jd_report_error(l->report, subject, SECTION_NAME ".authenticationSettings",
				"belongs beside " SECTION_NAME ", not inside it");
	if (d->vault->misplaced_logging)
		jd_report_error(l->report, subject, SECTION_NAME ".loggingSettings",
				"belongs beside " SECTION_NAME ", not inside it");
	if (d->vault->misplaced_authentication || d->vault->misplaced_logging)
		return -EINVAL;
	if (d->vault_logging)
		jd_report_warning(l->report, subject, "loggingSettings",
				  "nothing is sent to fluentd; the log goes to its file and the journal");
	return 0;
}

int settings_vault_dropin(struct settings_loader *l, const char *subject, const struct jd_list *public_members,
			  const struct settings_document *d, struct key_refresh_settings **ret)
{
	struct key_refresh_settings *section = NULL;
	const struct vault_authentication *a = d->vault_authentication;
	int layout = STORE_KV4;
	int r = check_shape(l, subject, d);

	if (r == 0)
		r = find_layout(public_members, d->vault, &layout);
	if (r == 0)
		r = make_section(l, d->vault->certificates.n, &section);
	if (r < 0)
		return r;
	section->polling_interval_seconds = clamp_interval(l, subject, d->vault->polling_interval_seconds, layout);
	for (size_t i = 0; r == 0 && i < d->vault->certificates.n; i++)
		r = set_certificate(l, subject, d->vault, i, layout, section);
	if (r == 0 && a)
		r = set_endpoint(l, subject, a->msi_endpoint, &section->identity_endpoint);
	if (r == 0 && a)
		r = set_identity(l, subject, "authenticationSettings", a->msi_client_id, a->msi_object_id,
				 &section->identity);
	if (r < 0) {
		settings_free_section(SECTION_KEY_REFRESH, &section);
		return r;
	}
	*ret = section;
	return 0;
}
