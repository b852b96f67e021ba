/* tests/support/http_server.py as a group's fixture: start_server() and stop_server() for cmocka_run_group_tests(). */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"

static struct {
	pid_t pid;
	int stop;
	unsigned port, tls_port;
	char ca[200];
} server;

static int start_server(void **state)
{
	_cleanup_free_ char *script = str_format("%s/tests/support/http_server.py", getenv("EK_TEST_SOURCE_DIR"));
	int in[2], out[2];
	FILE *f;

	(void)state;
	if (!script || pipe(in) < 0 || pipe(out) < 0)
		return -1;
	server.pid = fork();
	if (server.pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		close(out[0]);
		execl("/usr/bin/python3", "python3", script, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	server.stop = in[1];
	f = fdopen(out[0], "r");
	if (!f || fscanf(f, "%u %u %199s", &server.port, &server.tls_port, server.ca) != 3)
		return -1;
	fclose(f);
	return 0;
}

static int stop_server(void **state)
{
	(void)state;
	close(server.stop);
	return waitpid(server.pid, NULL, 0) == server.pid ? 0 : -1;
}
