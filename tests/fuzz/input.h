#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* An input is read from its front. Behind its end there are zeros, so that a short one is a
 * whole one, too. */

struct input {
	const uint8_t *data;
	size_t n;
};

/** input_bytes() - copy up to n bytes; the rest of buf becomes zeros; returns their number */
static inline size_t input_bytes(struct input *in, void *buf, size_t n)
{
	size_t got = n < in->n ? n : in->n;

	if (got)
		memcpy(buf, in->data, got);
	memset((uint8_t *)buf + got, 0, n - got);
	in->data += got;
	in->n -= got;
	return got;
}

/** input_view() - up to n bytes where they lie; *ret_n says how many */
static inline const uint8_t *input_view(struct input *in, size_t n, size_t *ret_n)
{
	const uint8_t *data = in->data;

	*ret_n = n < in->n ? n : in->n;
	in->data += *ret_n;
	in->n -= *ret_n;
	return data;
}

static inline uint8_t input_u8(struct input *in)
{
	uint8_t x;

	input_bytes(in, &x, sizeof(x));
	return x;
}

static inline uint16_t input_u16(struct input *in)
{
	uint16_t x;

	input_bytes(in, &x, sizeof(x));
	return x;
}

static inline uint32_t input_u32(struct input *in)
{
	uint32_t x;

	input_bytes(in, &x, sizeof(x));
	return x;
}

static inline uint64_t input_u64(struct input *in)
{
	uint64_t x;

	input_bytes(in, &x, sizeof(x));
	return x;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/** same_bytes() - whether one is a copy of the other, padding included */
static inline bool same_bytes(const void *a, const void *b, size_t n)
{
	return memcmp(a, b, n) == 0;
}
