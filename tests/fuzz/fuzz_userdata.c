/* User data of any bytes: a format is found, only what was inflated within the limit counts as gzip, and its parts stay within the
 * limits; what was planned can be read again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/gzip.h"
#include "agent/core/userdata_parts.h"
#include "agent/core/userdata_plan.h"

static void check_item(const struct userdata_item *i)
{
	_cleanup_buf_ struct buf content = BUF_INIT(LIMIT_USER_DATA_EXPANDED);
	char **urls = NULL;

	if (!i->type || !i->name || i->kind < 0 || i->kind >= _USERDATA_KIND_MAX || (i->problem && i->content))
		abort();
	if (userdata_item_content(i, &content, NULL) < 0)
		abort();
	/* What is run begins like a script. */
	if (i->content && i->kind <= USERDATA_KIND_BOOTHOOK && strncmp(buf_str(&content), "#!", 2) != 0)
		abort();
	if (i->kind == USERDATA_KIND_INCLUDE && i->content && userdata_item_urls(i, &urls, NULL) >= 0) {
		if (strv_length(urls) > LIMIT_USER_DATA_INCLUDES)
			abort();
		strv_free(urls);
	}
}

static void check_parts(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_USER_DATA_PLAN);
	struct userdata_parts p = { 0 }, again = { 0 };
	const struct userdata_body body = { (const char *)data, size };

	if (userdata_parts_make(data, size, "sha", &p, NULL) < 0) {
		if (p.items.items)
			abort();
		return;
	}
	for (size_t i = 0; i < p.items.n; i++)
		check_item((const struct userdata_item *)p.items.items + i);
	if (p.items.n > LIMIT_USER_DATA_PARTS || jd_encode(&userdata_parts_type, &p, false, &text) < 0 ||
	    jd_decode_document(text.data, text.len, "plan", LIMIT_USER_DATA_PLAN, &userdata_parts_type, &again, NULL) <
		    0 ||
	    again.items.n != p.items.n)
		abort();
	userdata_parts_done(&again);
	for (int depth = 0; p.items.n && depth <= LIMIT_USER_DATA_INCLUDE_DEPTH; depth++)
		if (userdata_parts_include(&p, 0, &body, 1, NULL) < 0)
			break;
	userdata_parts_done(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct userdata_form f = userdata_detect(data, size);
	struct userdata_record r = { 0 };

	if (f.format < 0 || f.format >= _USERDATA_FORMAT_MAX || (f.gzip && !gzip_detect(data, size)))
		abort();
	if (userdata_record_decode((const char *)data, size, &r, NULL) >= 0)
		userdata_record_done(&r);
	else if (r.sha256)
		abort();
	check_parts(data, size);
	return 0;
}
