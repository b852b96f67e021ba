/* Any bytes as HandlerEnvironment.json: all folders are there and absolute, or there is an error that names the file.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/handler_environment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct handler_environment e = { 0 };
	struct error err = ERROR_INIT;

	if (handler_environment_parse((const char *)data, size, "/base", &e, &err) < 0) {
		assert(err.code < 0 && err.cls != ERROR_NONE && strstr(err.msg, "/base/HandlerEnvironment.json"));
		assert(!e.base && !e.log_folder);
		return 0;
	}
	assert(e.log_folder[0] == '/' && e.config_folder[0] == '/' && e.status_folder[0] == '/');
	assert(!e.events_folder || e.events_folder[0] == '/');
	handler_environment_done(&e);
	return 0;
}
