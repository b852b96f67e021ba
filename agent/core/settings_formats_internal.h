/*
 * How a leaf of the tables is checked. For settings_formats*.c only.
 *
 * A check answers 0, or -EINVAL and what is wrong, without path. Empty texts pass where a type's minimum length or
 * "or none" speaks of them. Formats are those of settings.md 1.1.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/ascii.h"
#include "agent/base/error.h"

#define FORMAT_SHOWN_SIZE 52

/* True if every character is a letter, a digit or one of `also`. */
bool format_only(const char *text, const char *also);
bool format_has_control(const char *text);
/* A value of public settings in a message: cut, on one line. */
const char *format_shown(const char *text, char out[static FORMAT_SHOWN_SIZE]);
/* `expected WHAT, got "TEXT"`; gives back -EINVAL. */
int format_wrong(struct error *err, const char *what, const char *text);
