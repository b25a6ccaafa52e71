#pragma once

/** struct snapshot_fault - why a snapshot is refused: one sentence that names the field and the
 * rule, without a final full stop. It is safe to display. Written by snapshot_refuse() */
struct snapshot_fault {
	char text[256];
};

/** snapshot_refuse() - write down the rule that is broken; a long text is cut. Returns
 * SNAPSHOT_E_REFUSED */
__attribute__((format(printf, 2, 3))) int snapshot_refuse(struct snapshot_fault *fault,
	const char *fmt, ...);
