/*
 * Managed-identity tokens (key-vault.md C): cached in memory per resource and identity, renewed at half of their life
 * (sooner when the answer says so), requests for the same token joined, retried by the platform's table inside a deadline.
 * Arc's challenge is answered.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/base/time.h"

struct http;
struct loop;
struct identity; /* agent/core/settings_common.h */
struct tokens;
struct token_call;

_nodiscard_ int tokens_new(struct tokens **ret, struct loop *loop, struct http *http, struct error *err);
/* Erases. Before the client; calls that are still there end without a callback. Not from a callback. */
void tokens_free(struct tokens *t);
/* Where Arc's key files are looked for: below this directory; "" in life. */
_nodiscard_ int tokens_set_root(struct tokens *t, const char *root);

/* `token` is valid in the callback only; NULL when it failed. `who` names the identity used ("system-assigned",
 * "client id …"), as the answer says. */
typedef void (*token_fn)(const char *token, const char *who, const struct error *err, void *userdata);

/* `endpoint` with or without /oauth2/token; link-local or loopback, checked by the settings. `identity` NULL: none set.
 * `fresh` bypasses both caches (after a 401 of the service), unless what is cached was got so a few seconds ago. The
 * callback runs at most once and from the loop, also for a cached token; the call is the caller's, who may free it there.
 * A token that is due for renewal but cannot be renewed now is given as it is. -EINVAL: endpoint; -EBUSY: too many. */
_nodiscard_ int token_get(struct tokens *t, const char *endpoint, const char *resource, const struct identity *identity,
			  bool fresh, usec_t deadline_boot, token_fn done, void *userdata, struct token_call **ret,
			  struct error *err);
void token_call_free(struct token_call *c);

DEFINE_CLEANUP(struct tokens *, tokens_free)
DEFINE_CLEANUP(struct token_call *, token_call_free)
