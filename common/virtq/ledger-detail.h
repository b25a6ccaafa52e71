#pragma once

#include <stdint.h>

/* What the ledger counts of a ring beside its counters (ledger.h). */

/** enum ledger_drop - why something was dropped; only added to */
enum ledger_drop {
	LEDGER_DROP_CHAIN,     /* the driver's chain broke a rule; counted as an error, too */
	LEDGER_DROP_DISABLED,  /* the ring is disabled */
	LEDGER_DROP_MALFORMED, /* its header or its length is not valid */
	LEDGER_DROP_HOST,      /* the host's end did not take it */
	LEDGER_DROP_ROOM,      /* too long for the driver's buffers */
	LEDGER_DROP_MEMORY,    /* the driver's buffers are not in guest memory any more */
	LEDGER_DROPS,
};

/** struct ledger_detail - more counters, written likewise; a release before 0.3 leaves them as they
 * are, so the sum of the drops may be less than ledger_counters.dropped */
struct ledger_detail {
	uint64_t items; /* moved as a whole: of a network device, frames */
	uint64_t drops[LEDGER_DROPS];
};

/** ledger_drop_name() - a word for a reason: "host"; of LEDGER_DROPS and above, "other". A static
 * text */
const char *ledger_drop_name(unsigned int drop);
