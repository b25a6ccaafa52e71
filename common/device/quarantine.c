/*
 * A worker stops serving the device after several consecutive crashes caused by the same input. It
 * reports why, and watches the record until the operator has the mark in the ledger cleared.
 */
#include "device/core.h"

#include <stdio.h>

#include "base/log.h"
#include "proc/quarantine.h"

static void name_input(const struct blame_mark *mark, char *buf, size_t n)
{
	if (mark->what == LEDGER_BLAME_RECORD)
		snprintf(buf, n, "generation %llu of the record", (unsigned long long)mark->which);
	else if (mark->which == LEDGER_BLAME_NO_HEAD)
		snprintf(buf, n, "ring %u", (unsigned int)mark->what);
	else
		snprintf(buf, n, "ring %u, head %u", (unsigned int)mark->what,
			(unsigned int)mark->which);
}

static void begin(struct device *device, const struct blame_mark *mark)
{
	char input[64];

	name_input(mark, input, sizeof(input));
	quarantine_explain(device->proc, device->config->name, "worker", input, mark,
		device->core->quarantine, sizeof(device->core->quarantine));
}

bool quarantine_holds(struct device *device)
{
	struct device_core *core = device->core;
	const struct blame_mark *mark = &device->ledger.header->blame;

	if (mark->deaths >= BLAME_LIMIT) {
		if (!*core->quarantine)
			begin(device, mark);
		return true;
	}
	if (*core->quarantine) {
		log_notice("released from quarantine");
		*core->quarantine = '\0';
		bh__desired__free_unpacked(core->applied, NULL);
		core->applied = NULL;
	}
	return false;
}
