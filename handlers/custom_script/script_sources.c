/* From a script's settings to what its job fetches and sends: files, blobs for the output, rights, the network. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/blob.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/settings_common.h"
#include "agent/io/loop.h"
#include "handlers/custom_script/script_private.h"

static const char *value_of(const struct handler *h, const struct jd_secretable *v)
{
	const char *value = settings_value(h->settings, SECTION_CUSTOM_SCRIPT, v);

	return value ? value : "";
}

/* ---- checks ---- */

/* "a" and "a/b": one of them would have to be a directory. */
static bool is_above(const char *a, const char *b)
{
	size_t n = strlen(a);

	return strncmp(a, b, n) == 0 && b[n] == '/';
}

/* The settings' own form has been judged; Custom Script's has not, since it would just overwrite the one with the other. */
static int check_names(const struct handler *h, const struct script_settings *s, struct error *err)
{
	const struct script_file *f = s->files.items;

	for (size_t i = 0; i < s->files.n; i++)
		for (size_t k = 0; k < i; k++) {
			bool same = str_equal(f[i].name, f[k].name) &&
				    !str_equal(value_of(h, &f[i].uri), value_of(h, &f[k].uri));

			if (same || is_above(f[i].name, f[k].name) || is_above(f[k].name, f[i].name))
				return error_set(
					err, ERROR_USER, -EINVAL,
					"script %s: two files cannot be there at once: %.80s and %.80s (files %zu and %zu)",
					s->name, f[k].name, f[i].name, k + 1, i + 1);
		}
	return 0;
}

/* What the key cannot open is told before anything is begun. */
static int check_key(const struct handler *h, const struct script_settings *s, const struct blob_credentials *c,
		     const struct jd_secretable *uri, const char *what, struct error *err)
{
	_cleanup_buf_ struct buf url = BUF_SECRET_INIT(2 * LIMIT_URI);
	int r = str_empty(s->storage_account_name)
			? 0
			: blob_sign(value_of(h, uri), c, "r", loop_now_wall(h->host->loop), &url, err);

	return r < 0 ? error_wrap(err, r, "script %s: %.80s", s->name, what) : 0;
}

static size_t path_length(const char *uri)
{
	return strcspn(uri, "?");
}

static int check_outputs(const struct handler *h, const struct script_settings *s, struct error *err)
{
	const char *out = value_of(h, &s->output.stdout_uri), *e = value_of(h, &s->output.stderr_uri);

	if (!*out || path_length(out) != path_length(e) || strncmp(out, e, path_length(out)) != 0)
		return 0;
	return error_set(err, ERROR_USER, -EINVAL,
			 "script %s: output.stdoutUri and output.stderrUri are the same blob; give two", s->name);
}

static int check_all(const struct handler *h, const struct script_settings *s, struct error *err)
{
	const char *key = value_of(h, &s->storage_account_key);
	struct blob_credentials c = { .account = s->storage_account_name,
					    .key = key,
					    .hosts = h->section->blob_hosts.items,
					    .n_hosts = h->section->blob_hosts.n };
	const struct script_file *f = s->files.items;
	int r = check_names(h, s, err);

	if (r >= 0)
		r = check_outputs(h, s, err);
	for (size_t i = 0; r >= 0 && i < s->files.n; i++)
		r = check_key(h, s, &c, &f[i].uri, f[i].name, err);
	c.signature_first = true;
	if (r >= 0 && blob_right_of(value_of(h, &s->output.stdout_uri), &c) == BLOB_KEY && *value_of(h, &s->output.stdout_uri))
		r = check_key(h, s, &c, &s->output.stdout_uri, "output.stdoutUri", err);
	if (r >= 0 && blob_right_of(value_of(h, &s->output.stderr_uri), &c) == BLOB_KEY && *value_of(h, &s->output.stderr_uri))
		r = check_key(h, s, &c, &s->output.stderr_uri, "output.stderrUri", err);
	return r;
}

/* ---- making ---- */

/* A URI may hold a signature, so all of them are handled like secrets. */
static int make_downloads(const struct handler *h, const struct script_settings *s, struct job *job,
			  struct job_secrets *secrets)
{
	const struct script_file *from = s->files.items;
	struct job_download *to;
	int r = 0;

	if (!s->files.n)
		return 0;
	to = job->downloads.items = calloc(s->files.n, sizeof(*to));
	if (!to)
		return -ENOMEM;
	job->downloads.n = s->files.n;
	job->parallel_downloads = h->section->parallel_downloads;
	for (size_t i = 0; r >= 0 && i < s->files.n; i++) {
		to[i].max_bytes = from[i].max_size_bytes;
		job->secret_uris = job->secret_uris || from[i].uri.ref;
		to[i].uri = str_format("/uri-%zu", i);
		if (!to[i].uri || str_set(&to[i].name, from[i].name) < 0 ||
		    str_set(&to[i].sha256, from[i].sha256) < 0 || str_set(&to[i].mode, from[i].mode) < 0 ||
		    str_set(&to[i].owner, from[i].owner) < 0)
			return -ENOMEM;
		r = script_job_secret(secrets, to[i].uri, value_of(h, &from[i].uri));
	}
	return r;
}

static int make_output(const char *uri, const char *name, char **ret, struct job_secrets *secrets)
{
	if (!*uri)
		return 0;
	return str_set(ret, name) < 0 ? -ENOMEM : script_job_secret(secrets, name, uri);
}

static int copy_list(const struct jd_list *from, struct jd_list *to)
{
	char *const *items = from->items;
	char **copy = to->items = calloc(from->n + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	to->n = from->n;
	for (size_t i = 0; i < from->n; i++) {
		copy[i] = strdup(items[i]);
		if (!copy[i])
			return -ENOMEM;
	}
	return 0;
}

/* The key goes along, so that each request is signed when it is made, however long the script runs. */
static int make_rights(const struct handler *h, const struct script_settings *s, struct job *job,
		       struct job_secrets *secrets)
{
	const struct identity *i = s->identity;

	job->identity = i;
	if (i && (str_set(&job->client_id, i->client_id) < 0 || str_set(&job->object_id, i->object_id) < 0 ||
		  str_set(&job->resource_id, i->resource_id) < 0))
		return -ENOMEM;
	if (copy_list(&h->section->blob_hosts, &job->blob_hosts) < 0)
		return -ENOMEM;
	if (str_empty(s->storage_account_name))
		return 0;
	if (str_set(&job->account, s->storage_account_name) < 0)
		return -ENOMEM;
	return script_job_secret(secrets, JOB_CONTENT_STORAGE_KEY, value_of(h, &s->storage_account_key));
}

static int make_network(const struct handler *h, struct job *job, struct job_secrets *secrets)
{
	const struct network_settings *network = h->settings->network;
	const char *proxy = network ? settings_value(h->settings, SECTION_NETWORK, &network->proxy) : NULL;

	if (!network)
		return 0;
	if (str_set(&job->ca_file, network->ca_file) < 0 || copy_list(&network->no_proxy, &job->no_proxy) < 0)
		return -ENOMEM;
	return str_empty(proxy) ? 0 : script_job_secret(secrets, JOB_CONTENT_PROXY, proxy);
}

int script_job_sources(const struct handler *h, const struct script_settings *s, struct job *job,
		       struct job_secrets *secrets, struct error *err)
{
	int r;

	/* Scripts that are run by hand need no section, and have no sources. */
	if (!h->section)
		return 0;
	r = check_all(h, s, err);
	if (r < 0)
		return r;
	job->secret_uris = s->output.stdout_uri.ref || s->output.stderr_uri.ref;
	r = make_downloads(h, s, job, secrets);
	if (r >= 0)
		r = make_output(value_of(h, &s->output.stdout_uri), JOB_CONTENT_STDOUT_URI, &job->stdout_uri, secrets);
	if (r >= 0)
		r = make_output(value_of(h, &s->output.stderr_uri), JOB_CONTENT_STDERR_URI, &job->stderr_uri, secrets);
	if (r < 0 || (!job->downloads.n && !job->stdout_uri && !job->stderr_uri))
		return r;
	r = make_rights(h, s, job, secrets);
	return r < 0 ? r : make_network(h, job, secrets);
}
