/*
 * How a service of the platform says no: its words as one short line, and what the status means for errors. For
 * imds, identity and keyvault; nothing outside this directory needs it.
 */
#pragma once

#include <stddef.h>

#include "agent/base/error.h"
#include "agent/base/time.h"

struct http_response;

/* Every text is one line of valid UTF-8, possibly "". */
struct service_words {
	char code[64];		 /* "Forbidden", "invalid_request" */
	char inner[64];		 /* Key Vault's innererror.code */
	char message[200];	 /* cut, if longer */
	char newest_version[16]; /* of an IMDS answer that lists newest-versions */
};

/* Understands {"error": "…", "error_description": "…"}, {"error": {"code", "message", "innererror"}} and, as a message
 * without code, any other bytes. */
void service_words_parse(const char *body, size_t len, struct service_words *ret);

/* Copies as one line, cut at a character border. */
void service_line(const char *text, size_t len, char *out, size_t size);

/* What an HTTP status other than the wanted one is as an error. */
int service_status_errno(int status);
enum error_class service_status_class(int status);
usec_t service_retry_after(const struct http_response *resp);
