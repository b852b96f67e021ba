/* By which numbers a download is tried again, and which code of Custom Script's its end has. */
#pragma once

#include "agent/azure/blob_client.h"

#define FETCH_BROKEN_OFF 200 /* the status by which the rules know a body that ended too soon */

/* The code for a status that is the server's last word; `right`: with which the file was asked for. */
int fetch_code(enum blob_right right, long status);
