/*
 * Preloaded, it kills the process just before its n-th change of a directory's names (EK_DIE_AT): between any two steps of what
 * puts files in their places or takes them away.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int left = -1;

__attribute__((constructor)) static void begin(void)
{
	const char *text = getenv("EK_DIE_AT");

	left = text ? atoi(text) : -1;
}

static void *next(const char *name)
{
	if (left > 0 && --left == 0)
		(void)kill(getpid(), SIGKILL);
	return dlsym(RTLD_NEXT, name);
}

#define CALL(name, type, ...) ((int(*) type)next(name))(__VA_ARGS__)

int unlink(const char *path)
{
	return CALL("unlink", (const char *), path);
}

int unlinkat(int dir, const char *path, int flags)
{
	return CALL("unlinkat", (int, const char *, int), dir, path, flags);
}

int rmdir(const char *path)
{
	return CALL("rmdir", (const char *), path);
}

int renameat(int dir, const char *from, int to_dir, const char *to)
{
	return CALL("renameat", (int, const char *, int, const char *), dir, from, to_dir, to);
}
