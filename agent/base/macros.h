/* Compiler attributes and the few macros every layer may use. */
#pragma once

#include <stddef.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define _printf_(f, a)	__attribute__((format(printf, f, a)))
#define _nodiscard_	__attribute__((warn_unused_result))
#define _cleanup_(fn)	__attribute__((cleanup(fn)))
#define _unused_	__attribute__((unused))

/* Move ownership out of a variable: yields its value and leaves NULL behind. */
#define TAKE_PTR(p)                        \
	({                                 \
		__typeof__(p) *_pp = &(p); \
		__typeof__(p) _v = *_pp;   \
		*_pp = NULL;               \
		_v;                        \
	})

#define TAKE_FD(fd)                \
	({                         \
		int *_pf = &(fd);  \
		int _f = *_pf;     \
		*_pf = -1;         \
		_f;                \
	})

/* One line per type: from `void foo_free(struct foo *)` make `foo_freep` for _cleanup_(). */
#define DEFINE_CLEANUP(type, fn)                   \
	static inline _unused_ void fn##p(type *p) \
	{                                          \
		if (*p)                            \
			fn(*p);                    \
		*p = NULL;                         \
	}
