/* Checks of the way to vaults and storage: names, connections, TLS, and what their answers say of our clock. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/doctor_private.h"
#include "agent/azure/blob.h"
#include "agent/azure/keyvault.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/codec/uri.h"
#include "agent/io/http.h"

#define ANSWER_MAX	(64UL * 1024)
#define AUTHORITIES_MAX (8UL * 1024 * 1024)
#define ENVIRONMENT_MAX (128UL * 1024)
#define CLOCK_WARNING	(30 * USEC_PER_SEC)   /* a Date has whole seconds, and the answer took its time */
#define CLOCK_ERROR	(5 * USEC_PER_MINUTE) /* signatures and tokens are refused from there on */

/* ---- authorities ---- */

void doctor_check_authorities(struct doctor *d)
{
	const char *file = d->settings.network ? d->settings.network->ca_file : NULL;
	_cleanup_buf_ struct buf text = BUF_INIT(AUTHORITIES_MAX);
	struct error e = ERROR_INIT;

	if (str_empty(file))
		doctor_tell(d, VERDICT_OK, NULL, "the system's own authorities are trusted");
	else if (fs_is_dir(file))
		doctor_tell(d, VERDICT_OK, NULL, "those in %s are trusted", file);
	else if (fs_read(file, AUTHORITIES_MAX, &text, &e) < 0)
		doctor_tell(d, VERDICT_ERROR, NULL, "network.caFile: %s", e.msg);
	else if (!strstr(buf_str(&text), "-----BEGIN CERTIFICATE-----") &&
		 !strstr(buf_str(&text), "-----BEGIN TRUSTED CERTIFICATE-----"))
		doctor_tell(d, VERDICT_ERROR, NULL, "network.caFile: %s holds no certificate", file);
	else
		doctor_tell(d, VERDICT_OK, NULL, "those in %s are trusted", file);
}

/* ---- proxies ---- */

static bool is_proxy(const char *variable)
{
	static const char *const names[] = { "http_proxy=", "https_proxy=", "all_proxy=",
					     "HTTP_PROXY=", "HTTPS_PROXY=", "ALL_PROXY=" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_starts(variable, names[i]) && variable[strlen(names[i])])
			return true;
	return false;
}

/* Only the names: a value may hold a password. */
void doctor_check_proxy(struct doctor *d)
{
	_cleanup_buf_ struct buf names = BUF_INIT(LIMIT_STATUS_MESSAGE);
	char path[64], *block = malloc(ENVIRONMENT_MAX);
	int pid = doctor_service_pid(d);
	size_t len = 0;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/environ", pid);
	f = pid ? fopen(path, "re") : NULL;
	if (f && block)
		len = fread(block, 1, ENVIRONMENT_MAX - 1, f);
	if (f)
		(void)fclose(f);
	if (block)
		block[len] = '\0';
	for (size_t at = 0; at < len; at += strlen(block + at) + 1)
		if (is_proxy(block + at))
			(void)buf_printf(&names, "%s%.*s", names.len ? ", " : "", (int)strcspn(block + at, "="),
					 block + at);
	if (block)
		explicit_bzero(block, len);
	free(block);
	if (names.len &&
	    !(d->settings.network && settings_value(&d->settings, SECTION_NETWORK, &d->settings.network->proxy)))
		doctor_tell(d, VERDICT_WARNING, NULL,
			    "%s in the service's environment: never used, and the settings have no proxy",
			    buf_str(&names));
	else if (names.len)
		doctor_tell(d, VERDICT_NOTE,
			    "only network.proxy counts; nothing goes through a proxy to the metadata service",
			    "%s in the service's environment: never used", buf_str(&names));
	else
		doctor_tell(d, VERDICT_OK, NULL,
			    pid ? "no proxy variables in the service's environment"
				: "the service does not run, so it has no environment");
}

/* ---- hosts ---- */

static bool is_private(const char *address)
{
	struct in6_addr six;
	struct in_addr four;

	if (inet_pton(AF_INET, address, &four) == 1) {
		uint32_t a = ntohl(four.s_addr);

		return a >> 24 == 10 || a >> 20 == 0xac1 || a >> 16 == 0xc0a8 ||
		       a >> 22 == 0x191; /* 100.64/10: shared */
	}
	return inet_pton(AF_INET6, address, &six) == 1 && (six.s6_addr[0] & 0xfe) == 0xfc;
}

static const char *advice_on(int result)
{
	switch (result) {
	case -EHOSTUNREACH:
		return "check the name in the settings, the VM's name servers, and the private DNS zone if there is a private endpoint";
	case -EKEYREJECTED:
		return "where a proxy looks into TLS, its authority belongs into network.caFile; else check clock and authorities";
	case -EACCES:
		return "a firewall rule or a prohibit route of this machine keeps programs from it: nft list ruleset, ip rule, ip route";
	default:
		return NULL;
	}
}

static void judge_clock(struct doctor_probe *p, const struct http_response *resp)
{
	const char *date = http_response_header(resp, "Date");
	struct doctor_probe as = *p;
	usec_t theirs, ours = time_wall(), apart;
	char span[TIMEFMT_MAX];

	as.check = p->doctor->clock;
	if (!date || timefmt_parse(date, &theirs, NULL) < 0)
		return;
	apart = ours > theirs ? ours - theirs : theirs - ours;
	if (apart > CLOCK_WARNING)
		doctor_tell_probe(&as, apart > CLOCK_ERROR ? VERDICT_ERROR : VERDICT_WARNING, NULL,
				  "the clock is %s %s, says %s", timefmt_span(apart, span),
				  ours > theirs ? "ahead" : "behind", p->subject);
}

static void on_answer(const struct http_response *resp, void *userdata)
{
	struct doctor_probe *p = userdata;
	const char *where = resp->address ? resp->address : "";
	const char *kind = !resp->address ? "" : is_private(where) ? ", a private endpoint" : ", a public address";

	if (resp->result < 0 && resp->result != -EFBIG) {
		doctor_tell_probe(p, VERDICT_ERROR, advice_on(resp->result), "%s: %s%s", p->subject, resp->detail,
				  kind);
	} else {
		doctor_tell_probe(p, VERDICT_OK, NULL, "%s answers%s%s%s", p->subject,
				  resp->address ? " at " : " through the proxy", where, kind);
		judge_clock(p, resp);
	}
	doctor_probe_over(p);
}

/* An answer of any status will do: nothing is asked for that needs a right. */
static void ask_host(struct doctor *d, const char *scheme, const char *host, const char *path)
{
	_cleanup_free_ char *url = str_format("%s://%s%s", scheme, host, path);
	const struct http_request req = { .url = url, .timeout_usec = DOCTOR_REQUEST_USEC, .max_body = ANSWER_MAX };
	struct doctor_probe *p;
	struct error e = ERROR_INIT;

	if (!url || doctor_probed(d, host))
		return;
	p = doctor_probe_new(d, host);
	if (p && http_submit(d->http, &req, on_answer, p, &p->http, &e) < 0) {
		doctor_tell(d, VERDICT_ERROR, NULL, "%s: %s", host, e.msg);
		doctor_probe_over(p);
	}
}

static void ask_vault(struct doctor *d, const char *url)
{
	char host[256], name[256], version[256], resource[256];

	if (vault_url_parse(url, &d->settings.key_refresh->vault_suffixes, host, name, version, resource, NULL) >= 0)
		ask_host(d, "https", host, "/secrets?api-version=7.4");
}

static void ask_storage(struct doctor *d, const struct jd_secretable *v)
{
	const struct custom_script_settings *section = d->settings.custom_script;
	const struct blob_credentials c = { .hosts = section->blob_hosts.items, .n_hosts = section->blob_hosts.n };
	const char *text = settings_value(&d->settings, SECTION_CUSTOM_SCRIPT, v);
	struct uri u;

	if (!text || uri_parse(text, &u, NULL) < 0)
		return;
	if (blob_is_host(u.host, &c) && !u.port)
		ask_host(d, u.https ? "https" : "http", u.host, "/");
	uri_done(&u);
}

void doctor_check_hosts(struct doctor *d)
{
	const struct settings *s = &d->settings;
	size_t before = d->waiting;

	for (size_t i = 0; s->key_refresh && i < s->key_refresh->certificates.n; i++)
		ask_vault(d, ((const struct certificate_settings *)s->key_refresh->certificates.items)[i].url);
	for (size_t i = 0; s->key_refresh && i < s->key_refresh->secrets.n; i++)
		ask_vault(d, ((const struct key_secret_settings *)s->key_refresh->secrets.items)[i].url);
	for (size_t i = 0; s->custom_script && i < s->custom_script->scripts.n; i++) {
		const struct script_settings *script =
			&((const struct script_settings *)s->custom_script->scripts.items)[i];
		const struct script_file *files = script->files.items;

		for (size_t k = 0; k < script->files.n; k++)
			ask_storage(d, &files[k].uri);
		ask_storage(d, &script->output.stdout_uri);
		ask_storage(d, &script->output.stderr_uri);
	}
	if (d->waiting == before)
		doctor_tell(d, VERDICT_OK, NULL, "the settings name no vault and no blob storage");
}
