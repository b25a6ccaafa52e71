#include "verdict.h"

#include <stdio.h>

#include "base/log.h"
#include "requests.h"

static void name_input(const struct blame_mark *mark, char *buf, size_t n)
{
	const struct request_row *row = requests_find((uint32_t)mark->what);

	if (mark->what)
		snprintf(buf, n, "message %s (%u) of %u bytes", row ? row->name : "without a name",
			(unsigned int)mark->what, (unsigned int)mark->which);
	else
		snprintf(buf, n, "a message that could not be read");
}

void verdict_explain(const char *device, const struct blame_mark *mark, char *text, size_t n_text)
{
	char input[96], how[64];

	name_input(mark, input, sizeof(input));
	snprintf(text, n_text, "frontend: %s %s", input, blame_describe(mark, how, sizeof(how)));
	log_device(LOG_ERR, device,
		"quarantined: %s; the VMM's connection is ended, and no other is accepted until the "
		"device is released (bulkheadctl(1)); the evidence is in the core dumps "
		"(coredumpctl list bulkhead-frontend)",
		text);
}
