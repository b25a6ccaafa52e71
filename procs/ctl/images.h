#pragma once

#include "config/config.h"
#include "saved.h"
#include "snapshot/snapshot.h"

/** struct image - one device's */
struct image {
	Bh__State *state;     /* in form */
	const uint8_t *bytes; /* of header and state; borrowed from the file */
	size_t n;
};

/** struct images - what a file consists of */
struct images {
	struct image list[CONFIG_DEVICES_MAX];
	size_t n;
};

/**
 * images_find() - find and judge all images of a file
 * @saved:  [in]  borrowed until images_free()
 * @images: [out] on failure those before the one that is refused; images_free() in any case
 *
 * Errors: 0 | SNAPSHOT_E_REFUSED, with fault | -ENOMEM.
 */
int images_find(const struct saved *saved, struct images *images, struct snapshot_fault *fault);

/** images_free() - free what images_find() has found */
void images_free(struct images *images);

/**
 * image_strip() - take a stage out of an image
 * @image: [in, out] one image, in form, in malloc'ed memory: replaced, unless it has no such stage
 *
 * Errors: 0 | -ENOMEM, and it is as it was.
 */
int image_strip(struct saved *image, const char *stage);
