/* What the files of the JSON codec share; nothing outside json*.c includes this. */
#pragma once

#include "agent/codec/json.h"

struct json_object;

#define JD_SHOWN    40  /* bytes of a value or a key that a message shows */
#define JD_NAME_MAX 256 /* bytes of a key in a JD_MAP, and of the name of a secret */

/* Reads one strict JSON text whole into *ret (NULL is JSON's null); give it back with jd_tree_erase().
 * Messages carry line and column and never a value. -EBADMSG, -E2BIG, -ENOMEM. */
_nodiscard_ int jd_scan(const char *text, size_t len, size_t max_bytes, unsigned max_depth, unsigned max_values,
			struct json_object **ret, struct error *err);

/* Overwrites every text of the tree, then releases it: a document may hold secrets. */
void jd_tree_erase(struct json_object *root);

/* Appends the tree as compact JSON with sorted keys. */
_nodiscard_ int jd_tree_write(struct json_object *v, struct buf *out);

/* The layout of what is written. A list or object is opened, each item or member announced (`empty` starts
 * as true), its value written by whoever knows it, then closed. Errors stick in the buffer. */
struct jd_writer {
	struct buf *out;
	bool pretty;
	unsigned depth;
};
void jd_write_open(struct jd_writer *w, char c);
void jd_write_item(struct jd_writer *w, bool *empty);
void jd_write_member(struct jd_writer *w, bool *empty, const char *name);
void jd_write_close(struct jd_writer *w, char c, bool empty);

/* Bytes that one value of the type takes as an element or a member. */
size_t jd_type_size(const struct jd_type *type);

/* An object in one of its three forms. */
bool jd_has_members(const struct jd_type *type);

/* The member of that name among `fields`, or NULL. `fields` may be NULL. */
const struct jd_field *jd_field_find(const struct jd_field *fields, const char *name);

/* Appends one step to a path of `len` bytes: `.key`, `["odd key"]`, or `[index]` when key is NULL. Gives back the
 * new length. A path that is too long is cut at a character border. */
#define JD_PATH_SIZE 512
size_t jd_path_step(char path[static JD_PATH_SIZE], size_t len, const char *key, size_t index);

/* `"text"` in a message: escaped, cut after JD_SHOWN bytes at a character border. */
#define JD_SHOWN_SIZE (JD_SHOWN * 6 + 8)
const char *jd_shown(const char *text, size_t len, char out[static JD_SHOWN_SIZE]);
