/*
 * All that a process has started, however often it forked: descendants are found in /proc by their parents. What
 * was orphaned is among them only below a subreaper (PR_SET_CHILD_SUBREAPER) that still lives.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Sends `signo` (0: only count) to every descendant of `root`, zombies aside; their number. */
size_t process_tree_signal(pid_t root, int signo);

/* A process of this group whose command line is three words, the last two being these; 0: none. The words alone would not
 * do: another root's service, or a test beside this one, may run a job of the same id. */
pid_t process_find(pid_t group, const char *verb, const char *argument);
bool process_is(pid_t pid, pid_t group, const char *verb, const char *argument);
