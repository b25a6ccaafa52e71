#pragma once

#include <stddef.h>
#include <stdint.h>

#include "saved.h"

/* The state of a device goes through a pipe to the memory manager of its guest, or comes from
 * there. Both functions block until the transfer has ended; it is cancelled with this process. What
 * goes wrong is reported here, by one line on standard error that names the device. */

/** struct target - a device of a running guest; all of it borrowed */
struct target {
	const char *runtime_dir;
	const char *guest;
	const char *device;
};

/** transfer_save() - get a device's state, which may be running
 * @image: [out] one image, in form; set on 0; free image->bytes
 *
 * Errors: 0 | negative errno, already reported. */
int transfer_save(const struct target *target, struct saved *image);

/** transfer_load() - put a state into a device, none of whose rings runs
 * @image: [in] one image; borrowed for the call
 *
 * Errors: 0 | negative errno, already reported: the device is as it was. */
int transfer_load(const struct target *target, const struct saved *image);
