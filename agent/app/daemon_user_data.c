/* Settings that user data brings (door 2): judged with those of the other doors, kept, put in force. */
#include <errno.h>
#include <stdlib.h>

#include "agent/app/daemon_private.h"
#include "agent/app/user_settings.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"

/* What is in force is another goal state than the newest, which was refused or cannot be read yet. */
static bool newest_in_force(const struct daemon *d)
{
	return !d->have_goal || str_equal(deployment_of(d->deployments)->key, d->key);
}

static int goal_in_force(struct daemon *d, struct goal_request *copy, const struct goal_request **ret,
			 struct error *err)
{
	int r = 0;

	*ret = &d->goal;
	if (!newest_in_force(d)) {
		r = goal_in_force_read(&d->paths, copy, err);
		*ret = copy;
	}
	return r == -ENOENT ? 0 : r;
}

static int judge_offer(struct daemon *d, const struct goal_request *g, const struct user_settings *offered,
		       struct error *err)
{
	_cleanup_(settings_done) struct settings s = { 0 };
	_cleanup_free_ char *key = NULL;
	struct jd_report told = d->report;
	int r;

	/* The report of what is in force stays what it is. */
	d->report = (struct jd_report){ 0 };
	r = daemon_load_documents(d, g, offered, &s, &key, err);
	jd_report_done(&d->report);
	d->report = told;
	return r;
}

static int copy_documents(struct user_settings *to, const char *revision, const struct handler_document *documents,
			  size_t n, struct error *err)
{
	struct user_document *list = calloc(n + 1, sizeof(*list));

	if (!list || str_set(&to->revision, revision) < 0) {
		free(list);
		return error_oom(err);
	}
	to->documents = (struct jd_list){ list, n };
	for (size_t i = 0; i < n; i++)
		if (str_set(&list[i].name, documents[i].name) < 0 || str_set(&list[i].text, documents[i].text) < 0)
			return error_oom(err);
	return 0;
}

int daemon_offer_settings(struct daemon *d, const char *revision, const struct handler_document *documents, size_t n,
			  struct error *err)
{
	_cleanup_(user_settings_done) struct user_settings offered = { 0 };
	_cleanup_(goal_request_done) struct goal_request former = { 0 };
	_cleanup_(settings_done) struct settings s = { 0 };
	_cleanup_free_ char *key = NULL;
	const struct goal_request *g;
	char hash[SHA256_HEX_MAX];
	int r;

	if (n > LIMIT_USER_DATA_SETTINGS)
		return error_set(err, ERROR_USER, -E2BIG, "user data holds more than %d settings parts",
				 LIMIT_USER_DATA_SETTINGS);
	r = copy_documents(&offered, revision, documents, n, err);
	if (r >= 0)
		r = user_settings_hash(&offered, hash, err);
	if (r < 0 || (str_equal(hash, d->user_key) && !d->user_data_refused && !d->user_settings_lost))
		return r;
	r = goal_in_force(d, &former, &g, err);
	if (r >= 0 && n)
		r = judge_offer(d, g, &offered, err);
	if (r >= 0)
		r = user_settings_write(&d->paths, &offered, err);
	if (r < 0)
		return r;
	if (newest_in_force(d))
		return daemon_load_goal(d, err);
	r = daemon_load_documents(d, g, NULL, &s, &key, err);
	if (r >= 0)
		r = daemon_put_in_force(d, &s, err);
	daemon_changed(d);
	return r;
}
