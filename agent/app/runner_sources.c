/* The runner's way to the network: one client, with the proxy, the authorities and the rights that the job names. */
#include "agent/app/runner_network.h"

#include <stdlib.h>
#include <string.h>

#include "agent/azure/blob_client.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/core/settings_common.h"
#include "agent/io/http.h"

static int open_client(struct sources *s, struct loop *l, const struct job *job, const struct job_secrets *secrets,
		       struct error *err)
{
	char *const *hosts = job->no_proxy.items;
	const struct http_options options = { .proxy = job_secret(secrets, JOB_CONTENT_PROXY),
					      .no_proxy = s->no_proxy,
					      .ca_file = str_empty(job->ca_file) ? NULL : job->ca_file,
					      .host_connections = (unsigned)job->parallel_downloads,
					      .connect_to = getenv("EVENKEEL_CONNECT_TO") };

	for (size_t i = 0; i < job->no_proxy.n; i++)
		s->no_proxy[i] = hosts[i];
	return http_new(&s->http, l, &options, err);
}

int sources_open(struct sources *s, struct loop *l, const struct job *job, const struct job_secrets *secrets,
		 const char *permissions, struct error *err)
{
	const char *key = job_secret(secrets, JOB_CONTENT_STORAGE_KEY);
	struct blob_client_options o = { .loop = l, .permissions = permissions };
	int r;

	*s = (struct sources){ .no_proxy = calloc(job->no_proxy.n + 1, sizeof(*s->no_proxy)) };
	if (!s->no_proxy || str_set(&s->key, key ? key : "") < 0)
		return error_oom(err);
	if (job->identity) {
		s->identity = calloc(1, sizeof(*s->identity));
		if (!s->identity)
			return error_oom(err);
		*s->identity = (struct identity){ job->client_id, job->object_id, job->resource_id };
	}
	r = open_client(s, l, job, secrets, err);
	if (r < 0)
		return r;
	o.http = s->http;
	o.credentials = (struct blob_credentials){ .account = job->account,
						   .key = s->key,
						   .identity = s->identity,
						   .signature_first = !str_equal(permissions, "r"),
						   .hosts = job->blob_hosts.items,
						   .n_hosts = job->blob_hosts.n };
	return blob_client_new(&s->client, &o, err);
}

void sources_close(struct sources *s)
{
	blob_client_free(s->client);
	http_free(s->http);
	free(s->no_proxy);
	free(s->identity);
	erase_and_free(s->key);
	*s = (struct sources){ 0 };
}
