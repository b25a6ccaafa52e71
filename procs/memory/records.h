#pragma once

#include "peers.h"

/** Rows of the bus table. */
int handle_commit_desired(void *context, struct bus_request *request, const Bh__Envelope *msg);
int handle_report_observed(void *context, struct bus_request *request, const Bh__Envelope *msg);
