/* Any bytes as instance metadata, and as the words of a service that refuses: a name or an error; lines fit for
 * messages. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/imds.h"
#include "agent/azure/service.h"
#include "agent/base/str.h"

static void check_line(const char *line, size_t size)
{
	size_t len = strlen(line);

	assert(len < size && utf8_valid(line, len));
	for (size_t i = 0; i < len; i++)
		assert((unsigned char)line[i] >= ' ' && line[i] != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct imds_instance i = { .name = NULL };
	struct error err = ERROR_INIT;
	struct service_words words;

	if (imds_instance_parse((const char *)data, size, &i, &err) < 0) {
		assert(err.code < 0 && *err.msg && !i.name && !i.vm_id);
	} else {
		assert(*i.name && i.vm_id && i.location && i.environment && i.scale_set && i.vm_size && i.resource_id);
		imds_instance_done(&i);
	}
	service_words_parse((const char *)data, size, &words);
	check_line(words.code, sizeof(words.code));
	check_line(words.inner, sizeof(words.inner));
	check_line(words.message, sizeof(words.message));
	check_line(words.newest_version, sizeof(words.newest_version));
	return 0;
}
