/*
 * A file on its way to disk: counted and, if somebody asks for it, hashed as it came, converted where it is a script, in a temporary file that gets
 * its name only when it is whole. For the runner's files only.
 */
#pragma once

#include <stdint.h>

#include "agent/app/runner.h"
#include "agent/codec/digest.h"

#define RECEIVE_HEAD 64 /* what is looked at to tell a script from other files */

enum conversion { CONVERT_UNDECIDED, CONVERT_YES, CONVERT_NO };

struct receive {
	const char *name; /* borrowed, as the settings call it */
	bool may_convert, hashed;
	char *path, *made;   /* the name it gets, and the temporary one */
	int fd;		     /* -1: closed */
	uint64_t received;   /* bytes, as they came */
	struct sha256 *hash; /* NULL: nobody asks for it, and it costs more than all the rest */
	enum conversion conversion;
	struct text_convert convert;
	unsigned char head[RECEIVE_HEAD];
	size_t n_head;
};

/* `directory`: where the temporary file stands; `number` tells those of one directory apart. The caller sets may_convert
 * and hashed. */
_nodiscard_ int receive_init(struct receive *r, const char *directory, const char *name, size_t number);
/* Empty, whatever there was. */
_nodiscard_ int receive_begin(struct receive *r, struct error *err);
_nodiscard_ int receive_put(struct receive *r, const void *data, size_t len);
/* Nothing follows; the hash of what came, "" when not hashed. */
_nodiscard_ int receive_end(struct receive *r, char ret[static SHA256_HEX_MAX], struct error *err);
/* Owner ("name", "name:group"), mode ("0500") and name. Root's own file that others cannot read goes to the script's user. */
_nodiscard_ int receive_finish(struct receive *r, const char *owner, const char *mode, const struct runner_user *user,
			       struct error *err);
/* Removes what is not whole. */
void receive_done(struct receive *r);
