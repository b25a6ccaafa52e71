#pragma once

struct device;

/* What a worker says of itself, to the journal and to the service manager. */

/** tell_ready() - the first report has arrived: the release, what is served, and since when */
void tell_ready(struct device *device);

/** tell_state() - after each report: the service manager's status line, and what a driver has
 * negotiated; says nothing twice */
void tell_state(struct device *device);
