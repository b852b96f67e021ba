/*
 * What OpenSSL gives back to the heap is erased: its decoders leave private keys in what they free, and what it keeps of
 * a PKCS#12 without a password is as good as the key.
 */
#pragma once

#include "agent/base/macros.h"

/* For the whole process, before anything else of OpenSSL is called (also by other libraries): at the start of main().
 * -EBUSY: too late; everything works, and nothing is erased. */
_nodiscard_ int memory_erase_freed(void);
