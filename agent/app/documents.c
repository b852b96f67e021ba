/* Settings as they are handed over and as they lie below /etc. */
#include "agent/app/documents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/codec/digest.h"
#include "agent/io/paths.h"

void documents_done(struct documents *docs)
{
	goal_settings_done(&docs->received);
	secret_done(&docs->decrypted);
	for (size_t i = 0; i < docs->n_files; i++) {
		buf_done(&docs->files[i]);
		free(docs->names[i]);
	}
	buf_done(&docs->secrets);
	user_settings_done(&docs->user);
}

static int read_file(struct documents *docs, const char *path, struct error *err)
{
	struct buf *b = &docs->files[docs->n_files];
	struct error e = ERROR_INIT;
	int r;

	*b = BUF_INIT(LIMIT_SETTINGS);
	r = fs_read(path, LIMIT_SETTINGS, b, &e);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		buf_done(b);
		*err = e;
		return r;
	}
	docs->names[docs->n_files] = strdup(path);
	docs->n_files++;
	return docs->names[docs->n_files - 1] ? 0 : error_oom(err);
}

static int read_dropins(struct documents *docs, const char *directory, struct error *err)
{
	_cleanup_strv_ char **names = NULL;
	struct error e = ERROR_INIT;
	int r;

	r = fs_list(directory, LIMIT_DROPIN_FILES, &names, &e);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		*err = e;
		return r;
	}
	for (char **n = names; *n; n++) {
		_cleanup_free_ char *path = NULL;

		if (!str_ends(*n, ".json"))
			continue;
		if (docs->n_files >= ARRAY_SIZE(docs->files))
			return error_set(err, ERROR_USER, -E2BIG, "%s: more than %d settings files", directory, LIMIT_DROPIN_FILES);
		path = path_join(directory, *n);
		r = path ? read_file(docs, path, err) : error_oom(err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_files(const struct paths *p, struct documents *docs, struct error *err)
{
	_cleanup_free_ char *main_file = path_join(p->etc, "evenkeel.json");
	_cleanup_free_ char *dropins = path_join(p->etc, "evenkeel.d");
	_cleanup_free_ char *secrets = path_join(p->etc, "secrets.json");
	struct error e = ERROR_INIT;
	int r;

	if (!main_file || !dropins || !secrets)
		return error_oom(err);
	r = read_file(docs, main_file, err);
	if (r >= 0)
		r = read_dropins(docs, dropins, err);
	if (r < 0)
		return r;
	docs->secrets = BUF_SECRET_INIT(LIMIT_SETTINGS);
	r = fs_read(secrets, LIMIT_SETTINGS, &docs->secrets, &e);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		*err = e;
	return r;
}

/* The agent's own directory holds the certificates: two levels above the configuration folder (extension-contract.md 3.3). */
static char *library_directory(const struct goal_request *g)
{
	_cleanup_free_ char *version = path_parent(g->config_folder ? g->config_folder : "");

	return version ? path_parent(version) : NULL;
}

static int read_received(const struct goal_request *g, struct documents *docs, struct error *err)
{
	_cleanup_free_ char *file = NULL, *lib = NULL;
	int r;

	if (g->problem)
		return error_set(err, ERROR_PLATFORM, -EBADMSG, "%s", g->problem);
	if (str_empty(g->settings)) {
		docs->received.absent = true;
		return 0;
	}
	file = str_format("%s/%s.settings", g->config_folder ? g->config_folder : "", g->sequence);
	if (!file)
		return error_oom(err);
	r = goal_settings_parse(g->settings, strlen(g->settings), file, &docs->received, err);
	if (r < 0 || !docs->received.protected_blob)
		return r;
	lib = library_directory(g);
	return lib ? goal_settings_decrypt(&docs->received, lib, &docs->decrypted, err) : error_oom(err);
}

int documents_read(const struct paths *p, const struct goal_request *g, struct documents *docs, struct error *err)
{
	int r = read_received(g, docs, err);

	return r < 0 ? r : read_files(p, docs, err);
}

size_t documents_sources(const struct documents *docs, const struct user_settings *user,
			 struct settings_source out[static DOCUMENTS_SOURCES])
{
	const struct user_document *parts = user ? user->documents.items : NULL;
	size_t n = 0;

	out[n++] = (struct settings_source){
		.door = DOOR_EXTENSION,
		.name = "settings",
		.public_text = docs->received.public_text,
		.public_len = docs->received.public_text ? strlen(docs->received.public_text) : 0,
		.protected_text = docs->decrypted.data,
		.protected_len = docs->decrypted.len,
	};
	for (size_t i = 0; i < docs->n_files; i++)
		out[n++] = (struct settings_source){
			.door = DOOR_FILES,
			.name = docs->names[i],
			.public_text = docs->files[i].data,
			.public_len = docs->files[i].len,
			.protected_text = i == 0 ? docs->secrets.data : NULL,
			.protected_len = i == 0 ? docs->secrets.len : 0,
		};
	for (size_t i = 0; user && i < user->documents.n; i++)
		out[n++] = (struct settings_source){
			.door = DOOR_USER_DATA,
			.name = parts[i].name,
			.public_text = parts[i].text,
			.public_len = strlen(parts[i].text),
		};
	return n;
}

int documents_load(const struct documents *docs, struct settings *s, struct jd_report *report, struct error *refused,
		   struct error *err)
{
	struct settings_source sources[DOCUMENTS_SOURCES];

	*refused = ERROR_INIT;
	if (docs->user.documents.n) {
		int r = settings_load(sources, documents_sources(docs, &docs->user, sources), s, report, refused);

		if (r >= 0)
			return r;
		jd_report_done(report);
	}
	return settings_load(sources, documents_sources(docs, NULL, sources), s, report, err);
}

/* Without an extension the files are the goal state: one that changed is a new one. */
static int hash_files(const struct documents *docs, char ret[static SHA256_HEX_MAX], struct error *err)
{
	_cleanup_buf_ struct buf all = BUF_INIT((LIMIT_DROPIN_FILES + 1) * SHA256_HEX_MAX);
	int r = 0;

	for (size_t i = 0; r >= 0 && i < docs->n_files; i++) {
		r = settings_hash(docs->files[i].data, docs->files[i].len, i == 0 ? docs->secrets.data : NULL,
				  i == 0 ? docs->secrets.len : 0, ret, err);
		if (r >= 0 && buf_puts(&all, ret) < 0)
			r = error_oom(err);
	}
	if (r >= 0 && sha256_hex(buf_str(&all), all.len, ret) < 0)
		r = error_oom(err);
	return r;
}

int documents_key(const struct goal_request *g, const struct documents *docs, char **ret, struct error *err)
{
	const char *text = docs->received.public_text;
	char hash[SHA256_HEX_MAX];
	int r;

	if (str_empty(g->sequence))
		r = hash_files(docs, hash, err);
	else
		r = settings_hash(text, text ? strlen(text) : 0, docs->decrypted.data, docs->decrypted.len, hash, err);
	if (r < 0)
		return r;
	*ret = str_format("%s/%s/%s", g->installation ? g->installation : "-", g->sequence ? g->sequence : "", hash);
	return *ret ? 0 : error_oom(err);
}

int documents_files_key(const struct documents *docs, char **ret, struct error *err)
{
	char hash[SHA256_HEX_MAX];
	int r = hash_files(docs, hash, err);

	if (r < 0)
		return r;
	*ret = str_format(DOCUMENTS_FILES "//%s", hash);
	return *ret ? 0 : error_oom(err);
}

void documents_network(const struct settings *s, const char *no_proxy[static DOCUMENTS_NO_PROXY], struct http_options *ret)
{
	*ret = (struct http_options){ .connect_to = getenv("EVENKEEL_CONNECT_TO"), .no_proxy = no_proxy };
	no_proxy[0] = NULL;
	if (s->network) {
		char *const *names = s->network->no_proxy.items;
		size_t n = 0;

		for (; n < s->network->no_proxy.n && n < DOCUMENTS_NO_PROXY - 1; n++)
			no_proxy[n] = names[n];
		no_proxy[n] = NULL;
		ret->proxy = settings_value(s, SECTION_NETWORK, &s->network->proxy);
		ret->ca_file = str_empty(s->network->ca_file) ? NULL : s->network->ca_file;
	}
}
