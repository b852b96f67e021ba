/* What is kept of removals that failed. */
#include "agent/app/removal.h"

#include "agent/base/log.h"

void removal_note(struct removal *rm, int r, const struct error *e)
{
	if (r >= 0)
		return;
	if (rm->first == 0) {
		rm->first = r;
		if (rm->err)
			*rm->err = *e;
	} else {
		log_warning("%s", e->msg);
	}
}
