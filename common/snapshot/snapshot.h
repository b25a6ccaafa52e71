#pragma once

#include <stddef.h>
#include <stdint.h>

#include "snapshot/fault.h"
#include "state.pb-c.h"

/*
 * The state of a device, as it stands in a file or a stream: a header, and a packed State. Numbers
 * of the header are little endian:
 *
 *    0  magic, "BHSTATE\n"
 *    8  version of the format, 32 bits: 1
 *   12  flags, 32 bits: reserved, 0
 *   16  length of the body in bytes, 64 bits
 *   24  checksum, 32 bits: zlib's CRC-32 of the bytes 0 to 23 and of the body
 *   28  body
 *
 * A file of a whole guest is several of these, one behind the other.
 *
 * What is read here may come from anybody. The functions are pure: any thread, nothing blocks, no
 * descriptor. They judge the form. Whether a device can take a state over, only the device knows.
 */

#define SNAPSHOT_MAGIC "BHSTATE\n"
#define SNAPSHOT_MAGIC_BYTES 8
#define SNAPSHOT_VERSION 1
#define SNAPSHOT_HEADER_BYTES 28
#define SNAPSHOT_BODY_MAX (512u * 1024)
#define SNAPSHOT_IMAGE_MAX (SNAPSHOT_HEADER_BYTES + SNAPSHOT_BODY_MAX)
#define SNAPSHOT_STAGES_MAX 64 /* of one State */

/** Outcomes; 0 is success, and negative numbers are errno. */
enum {
	SNAPSHOT_E_REFUSED = 1, /* it breaks a rule, which the fault's text says */
	SNAPSHOT_E_END,         /* no image follows */
};

/** struct snapshot_image - one of the images in a buffer, from which it is borrowed */
struct snapshot_image {
	const uint8_t *state; /* a packed State: its checksum is right, it may break other rules */
	size_t n_state;
};

/**
 * snapshot_pack() - put the header before a packed State
 * @state:   [in]  n_state bytes, which are not looked at
 * @ret_buf: [out] *ret_n bytes, the caller's; free()
 *
 * Errors: 0 | -EMSGSIZE: more than SNAPSHOT_BODY_MAX | -ENOMEM.
 */
int snapshot_pack(const uint8_t *state, size_t n_state, uint8_t **ret_buf, size_t *ret_n);

/**
 * snapshot_next() - find the next image of a file
 * @at:        [in, out] where it begins, at first 0; moved behind it on 0
 * @ret_image: [out] set on 0
 * @fault:     [out] set on SNAPSHOT_E_REFUSED
 *
 * Returns: 0 | SNAPSHOT_E_END: the buffer ends here | SNAPSHOT_E_REFUSED: header or checksum.
 */
int snapshot_next(const uint8_t *buf, size_t n, size_t *at, struct snapshot_image *ret_image,
	struct snapshot_fault *fault);

/**
 * snapshot_check() - whether a stream is one image, and nothing else, of a State in form
 *
 * Returns: 0 | SNAPSHOT_E_REFUSED, with fault | -ENOMEM. *ret_image is set on 0.
 */
int snapshot_check(const uint8_t *buf, size_t n, struct snapshot_image *ret_image,
	struct snapshot_fault *fault);

/**
 * snapshot_unpack() - parse a State, and judge its form
 * @ret_state: [out] the caller's, set on 0; free it with bh__state__free_unpacked(state, NULL)
 *
 * Shape:   on 0: type, device and guest are names; stages have names, each once, and versions from
 *          1; those of the table (stage.h) whose version is known are well-formed, and every number
 *          in them is in range. A stage that is not in the table, or of a newer version, is not
 *          looked into: whoever takes the state over refuses what it does not know.
 * Returns: 0 | SNAPSHOT_E_REFUSED, with fault | -ENOMEM.
 */
int snapshot_unpack(const uint8_t *state, size_t n_state, Bh__State **ret_state,
	struct snapshot_fault *fault);
