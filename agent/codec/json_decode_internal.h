/*
 * What the files of the decoder share: json.c (documents and objects), json_list.c (lists and maps), json_leaf.c (what
 * holds no other values), json_complain.c (messages).
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent/codec/json_internal.h"

/* gcc's analyzer cannot follow ownership into a target that only a table describes. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

/* Where the decoder stands; lives on the stack, is spelled out only for a message. */
struct jd_place {
	const struct jd_place *up;
	const char *key; /* NULL: index */
	size_t index;
};

struct jd_decoder {
	const struct jd_options *o;
	enum error_class cls;
	struct error *err;
	int r;            /* the first failure */
	unsigned lenient; /* inside that many lenient objects */
};

/* Messages. An error is kept in the decoder, which goes on; a warning only in the report. */

void jd_complain(struct jd_decoder *d, const struct jd_place *at, const char *fmt, ...) _printf_(3, 4);
void jd_warn(struct jd_decoder *d, const struct jd_place *at, const char *fmt, ...) _printf_(3, 4);
/* `expected WHAT, got …` for a value of the wrong kind. */
void jd_complain_kind(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, const char *what,
		      struct json_object *v);
/* `expected "a", "b" or "c", got "d"; did you mean …` */
void jd_complain_choice(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v);
/* `variant` as the document names it, or NULL. */
void jd_complain_unknown(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t,
			 const struct jd_field *fields, const struct jd_field *more, const char *variant);
/* What a message says that it found. */
const char *jd_got(struct json_object *v, bool hidden, char out[static JD_SHOWN_SIZE]);
/* Whether no message may show the value. */
bool jd_is_hidden(const struct jd_type *t);

/* Ends the decoding: the one failure after which it does not go on. Gives back -ENOMEM. */
int jd_out_of_memory(struct jd_decoder *d);

/* Values. 0 also if something was reported (d->r says so); negative only when decoding cannot go on. */

int jd_decode_value(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
		    void *target);
int jd_decode_list(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
		   struct jd_list *target);
int jd_decode_map(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
		  struct jd_list *target);
int jd_decode_leaf(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
		   void *target);
int jd_copy_text(struct jd_decoder *d, const char *text, char **to);
/* Index of the text among the names, or -1. */
int jd_find_name(const char *const *names, struct json_object *v);
/* {"secretRef": …} and nothing else. `ret` may be NULL. */
bool jd_is_secret_form(struct json_object *v, struct json_object **ret);
