#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * The hash of received frames that a driver may have reported: Toeplitz, over addresses and ports.
 *
 * Spec: virtio 1.3, 5.1.6.4.3 Hash calculation for incoming packets.
 */

#define HASH_KEY_MAX 40   /* bytes: enough for the longest input */
#define HASH_INPUT_MAX 36 /* bytes: two addresses of IPv6, and ports */
#define HASH_HEAD_BYTES 192
#define HASH_TYPES 0x1ffu /* all that the specification has */
#define HASH_REPORT_NONE 0

/** struct hash - what is calculated; 0 types: nothing is */
struct hash {
	uint32_t types;
	uint32_t table[2 * HASH_INPUT_MAX][16]; /* by place and value of half a byte of input */
};

/** hash_prepare() - calculate these types with this key of at most HASH_KEY_MAX bytes; zeros follow
 * a shorter one */
void hash_prepare(struct hash *hash, uint32_t types, const uint8_t *key, size_t n_key);

/** hash_bytes() - of at most HASH_INPUT_MAX bytes */
uint32_t hash_bytes(const struct hash *hash, const uint8_t *input, size_t n);

/** hash_frame() - of a frame that begins with these n bytes, at most HASH_HEAD_BYTES: all of it, or
 * as many. Returns its VIRTIO_NET_HASH_REPORT_*; *ret_value is 0 with HASH_REPORT_NONE */
uint16_t hash_frame(const struct hash *hash, const uint8_t *head, size_t n, uint32_t *ret_value);
