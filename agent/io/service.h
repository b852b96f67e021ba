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

/* A listening socket of ours that the manager keeps open over a restart, so that a caller waits instead of being refused; a
 * stop closes it. `name` begins with SERVICE_KEPT, holds no ":" and is at most 255 bytes long. */
#define SERVICE_KEPT "listen-"
void service_keep_socket(const char *name, int fd);
/* Returns when the manager has closed it, so that its address is free; waits for that a second at most. */
void service_forget_socket(const char *name);
/* Once in a process's life: hands over each that the process before has left; `take` owns it then, and forgets what it does not
 * want. It may be any descriptor: who has put it there is not known. */
typedef void (*service_kept_fn)(const char *name, int fd, void *userdata);
void service_take_kept(service_kept_fn take, void *userdata);
