#pragma once

#include <stdbool.h>

#include "config/config.h"

/* What one device alone may have on a host: the path of its socket, and what its type holds
 * (config/keys.h), like a TAP. A path is compared by where it leads, not by how it is written. */

/** struct claims - who has what; initially { 0 } */
struct claims {
	void *tree; /* private */
};

/** struct clash - two devices that want the same */
struct clash {
	const char *device; /* of the guest whose claim fails; borrowed from its config */
	unsigned int line;
	char *what;  /* "socket /run/vm1/net0.sock", "tap vm1-net0" */
	char *other; /* GUEST:DEVICE, who has it */
};

/**
 * claims_add() - claim for a guest what its devices want
 * @ret_clash: [out] set on -EEXIST; free with clash_deinit()
 *
 * Errors: 0 | -EEXIST: another guest has it, and nothing is added.
 */
int claims_add(struct claims *claims, const struct config *config, struct clash *ret_clash);

/** claims_deinit() - free all claims; the struct is empty afterwards */
void claims_deinit(struct claims *claims);

/** clash_deinit() - free the texts */
void clash_deinit(struct clash *clash);

/** clash_text() - what to tell the operator: "FILE:LINE: ..."; malloc'ed */
char *clash_text(const struct clash *clash, const struct config *config);

/** claims_same() - what two devices of one guest both want: "socket", "tap"; NULL = nothing
 * @held: whether the devices are valid, so that what their types hold is known */
const char *claims_same(const struct config_device *a, const struct config_device *b, bool held);
