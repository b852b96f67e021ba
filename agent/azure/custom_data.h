/*
 * Custom data: what provisioning has left of it (user-data.md A). waagent writes /var/lib/waagent/CustomData, in base64 or,
 * with Provisioning.DecodeCustomData, as it was given; waagent and cloud-init leave ovf-env.xml there, which holds it in
 * base64. It never changes on a machine that stays what it is; a new image or instance brings another.
 */
#pragma once

#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

struct paths;

/* Appends the decoded bytes. -ENOENT: none has been given; -EFBIG: more than 64 KiB. */
_nodiscard_ int custom_data_read(const struct paths *p, struct buf *out, struct error *err);

/* What the file CustomData means: base64 if it is that as a whole, else itself. */
_nodiscard_ int custom_data_decode(const char *text, size_t len, struct buf *out, struct error *err);
/* The text of the element CustomData of ovf-env.xml, decoded. -ENOENT: there is none, or it is empty; -EBADMSG. */
_nodiscard_ int custom_data_from_ovf(const char *text, size_t len, struct buf *out, struct error *err);
