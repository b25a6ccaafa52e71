#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "exposition.h"
#include "scrape.h"

/* The tables of series. A row is a metric; its value is asked of every guest, process, device or
 * queue that there is. bulkhead-metrics(7) has an entry for each row, to which a test holds it. */

/** struct subject - what a value is about; what is beyond its scope is NULL or 0 */
struct subject {
	const struct scraped *guest;
	const Bh__PeerStatus *process;
	const struct usage *usage;
	const Bh__DeviceStatus *device;
	const Bh__Ring *ring;
	struct labels labels;
};

/** enum scope - what a metric is about */
enum scope {
	SCOPE_GUEST,
	SCOPE_PROCESS,
	SCOPE_DEVICE,
	SCOPE_QUEUE,
};

/** struct series - a metric */
struct series {
	const char *name;
	const char *type; /* "gauge", "counter", "histogram" */
	const char *help;
	enum scope scope;
	/* one value for each subject; false = it has none */
	bool (*value)(const struct subject *subject, double *ret_value);
	/* in its place, where there are several of a subject */
	void (*write)(FILE *to, const struct series *series, const struct subject *subject);
};

extern const struct series series_table[];
extern const size_t n_series;
