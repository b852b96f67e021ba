/* What the service manager wants to know from a Type=notify service, and the sockets it hands over. Without a manager all of it does nothing. */
#pragma once

#include "agent/base/error.h"
#include "agent/base/macros.h"

struct loop;

void service_ready(const char *status);
void service_reloading(void);
void service_stopping(void);
void service_status(const char *status); /* one line, shown by systemctl status */
/* Pings the watchdog from the loop while it turns; 0 also when none is asked for. */
_nodiscard_ int service_watchdog(struct loop *loop, struct error *err);
/* The listening file descriptor handed over under that name (FileDescriptorName=), or -ENOENT. The caller owns it. */
_nodiscard_ int service_socket(const char *name);
