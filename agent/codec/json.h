/*
 * JSON by tables. A `struct jd_type` describes a value, a `struct jd_field` list an object: what may be
 * there, its limits, where it goes, its default, one sentence about it. The same table drives decoding
 * with every message, encoding, releasing, the published JSON Schema and the settings manual, so they
 * cannot disagree. Nothing outside json*.c looks at a json_object. (json_ is json-c's prefix; ours is jd_.)
 *
 * A text is read strictly: UTF-8 valid, RFC 8259 (no 'a', NaN, comments, leading zeros, trailing bytes),
 * depth and number of values within limits, no duplicate keys in one object, no NUL and no half surrogate
 * pairs in texts, integers within int64. A UTF-8 BOM at the start is skipped.
 *
 * A target is zeroed by the caller; decoding applies defaults, then the document. On failure the target
 * is released and zeroed again: whole, or not at all. `null` counts as absent everywhere but in a list,
 * where position has a meaning and null is an error.
 *
 * No message ever shows a value at a JD_SECRETABLE or a `sensitive` text.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

struct jd_type;
struct jd_report;

enum jd_kind {
	JD_BOOLEAN,    /* bool; with `names` the word names[0] stands for true and nothing else is taken */
	JD_INTEGER,    /* int64_t in [min, max] (both 0: any); with `lenient` also "60" and 60.0 */
	JD_TEXT,       /* char *, heap; min..max bytes (max 0: 64 KiB); `check` if given */
	JD_SECRETABLE, /* struct jd_secretable: a text, or {"secretRef": NAME}; must_be_secret allows only the latter */
	JD_CHOICE,     /* int: index into `names`; with `lenient` an unknown word is -1 (the platform adds some) */
	JD_OBJECT,     /* a struct in place, `fields` */
	JD_POINTER,    /* struct *, heap, `size` bytes, `fields`; NULL when absent */
	JD_VARIANT,    /* a struct in place; member `tag` names which of `variants` applies, index (int) at tag_offset,
			* -1 when absent; `fields` (may be NULL) are the members common to all */
	JD_LIST,       /* struct jd_list of `element`, min..max items (max 0: as many as the document may hold);
			* `items` is NULL when absent, and is not when the document has [] */
	JD_MAP,        /* struct jd_list of items { char *key; VALUE at value_offset of type `element` }, min..max of
			* them (max 0: as in a list), in the order of the document */
	JD_RAW,	       /* char *, heap: the JSON text of any value, compact, keys sorted */
};

struct jd_field {
	const char *name;
	const struct jd_type *type;
	size_t offset;
	unsigned flags;
	int64_t default_integer;  /* JD_INTEGER, JD_BOOLEAN, JD_CHOICE (-1: absent); not held against min and max, so
				   * one outside them says "absent", and neither encoding nor the schema shows it */
	const char *default_text; /* JD_TEXT, JD_SECRETABLE: the text; others: JSON, e.g. "[200]"; NULL: none */
	const char *doc;	  /* one sentence, for the schema and the manual */
};

enum jd_field_flags {
	JD_REQUIRED = 1 << 0,
	JD_IGNORED = 1 << 1,	    /* accepted, checked, told as a warning, not stored (no offset) */
	JD_SILENTLY_IGNORED = 1 << 2,
	JD_OMIT_EMPTY = 1 << 3,	    /* encoding leaves out "", absent lists, 0 and false, unless the default is another */
	/* JD_OBJECT: an absent one stays zero; the defaults of its members hold when it is there. */
	JD_ZERO_ABSENT = 1 << 4,
};

struct jd_list {
	void *items; /* of element size (JD_LIST) or item_size (JD_MAP); of a JD_LIST NULL only when it is absent */
	size_t n;
};

struct jd_secretable {
	char *text; /* exactly one of the two is set, or none when absent */
	char *ref;
};

struct jd_type {
	enum jd_kind kind;
	int64_t min, max;
	const char *what;	   /* what a message says was expected, e.g. "a port"; NULL: made from the kind */
	const char *const *names;  /* JD_CHOICE, JD_VARIANT: NULL-terminated */
	const struct jd_field *fields; /* ends with a NULL name */
	size_t size; /* of one struct: JD_OBJECT as element or ignored, JD_POINTER, JD_VARIANT; JD_MAP: of one item */
	const char *tag;	   /* JD_VARIANT */
	size_t tag_offset;
	const struct jd_field *const *variants;
	const struct jd_type *element; /* JD_LIST, JD_MAP */
	size_t value_offset;	       /* JD_MAP */
	/* JD_TEXT, JD_SECRETABLE text, JD_MAP keys: what is wrong, without path: "expected …, got …; what to do".
	 * Where a value must not be shown, the message is cut before ", got". */
	int (*check)(const char *text, struct error *err);
	const char *pattern; /* the check as the schema publishes it, or NULL */
	/* JD_OBJECT, JD_POINTER: a value that is no object (or only a secretRef) stands for {short_member: value},
	 * a list for {short_list: value}. short_only: the object itself is not accepted; encoded so, too. */
	const char *short_member, *short_list;
	bool short_only;
	const char *unique;    /* JD_LIST of objects: this text member is unique; absent ones do not count */
	const char *no_secret; /* JD_TEXT: what is said of a {"secretRef"}; NULL: "a secretRef is not allowed here" */
	/* JD_INTEGER "60", JD_BOOLEAN "False" as texts too. JD_OBJECT, JD_POINTER, JD_VARIANT: that for all inside,
	 * and unknown members inside are warnings. */
	bool lenient;
	bool must_be_secret; /* JD_SECRETABLE (S!) */
	bool sensitive;	     /* JD_TEXT: a message never shows the value */
};

enum jd_unknown { JD_UNKNOWN_IGNORE, JD_UNKNOWN_ERROR };

struct jd_options {
	const char *subject; /* first word of every message: "settings" */
	enum jd_unknown unknown;
	size_t max_bytes;     /* 0: LIMIT_SETTINGS, as below */
	unsigned max_depth;   /* levels inside the document's own object or list */
	unsigned max_values;  /* an object counts as three: json-c's memory */
	struct jd_report *report; /* NULL: only the first error, into err */
};

/* Decodes `text` (need not be NUL-terminated) into `target`, described by `type` (any; mostly JD_OBJECT or JD_LIST).
 * 0; -EBADMSG not JSON; -E2BIG too large, deep or many; -EINVAL settings wrong (all errors in the report,
 * the first also in err); -ENOMEM. Message form: "SUBJECT: PATH: expected …, got …". */
_nodiscard_ int jd_decode(const char *text, size_t len, const struct jd_type *type, const struct jd_options *o,
			  void *target, struct error *err);

/* Platform documents and our own records: unknown members ignored, limits of platform documents. */
_nodiscard_ int jd_decode_document(const char *text, size_t len, const char *subject, size_t max_bytes,
				   const struct jd_type *type, void *target, struct error *err);

/* Appends the value as JSON. pretty: two blanks of indentation. What is absent (NULL) is left out. Fails as
 * the buffer does. */
_nodiscard_ int jd_encode(const struct jd_type *type, const void *value, bool pretty, struct buf *out);

/* Releases everything the value owns (secretable texts and JD_TEXT are erased first) and zeroes it. */
void jd_free(const struct jd_type *type, void *value);

/* Calls `visit` for everything that is there, outside first: objects, lists, texts, numbers … `field` is the
 * member's table row, NULL for elements of lists and maps. `path` begins with the one given. `visit` may change the
 * value but not release what the walk is inside of. */
typedef void (*jd_visit_fn)(const struct jd_type *type, const struct jd_field *field, void *value, const char *path,
			    void *userdata);
void jd_walk(const struct jd_type *type, void *value, const char *path, jd_visit_fn visit, void *userdata);

/* Appends a JSON Schema (draft 2020-12) of the type. */
_nodiscard_ int jd_schema(const struct jd_type *type, const char *title, const char *id, struct buf *out);

/* Appends `text` compact with keys sorted: what a hash of a document is made from. Strict as jd_decode. */
_nodiscard_ int jd_canonical(const char *text, size_t len, size_t max_bytes, struct buf *out, struct error *err);

const char *jd_library(void); /* json-c's version */

/* Appends text as a JSON string with its quotes (invalid UTF-8 becomes U+FFFD). */
int jd_quote(struct buf *out, const char *text, size_t len);
