#include "proc/quarantine.h"

#include <stdio.h>

#include "base/log.h"

void quarantine_explain(const struct proc *proc, const char *device, const char *who,
	const char *input, const struct blame_mark *mark, char *text, size_t n_text)
{
	char how[64];

	snprintf(text, n_text, "%s: %s %s", who, input, blame_describe(mark, how, sizeof(how)));
	LOG_EVENT(QUARANTINE,
		log_device(LOG_ERR, device,
			"quarantined: %s; the device stands still until 'bulkheadctl release %s %s'; the evidence is in "
			"the core dumps (coredumpctl list bulkhead-%s)",
			text, proc->guest, device, proc->role->name));
}
