/*
 * The header, and walking through a file. The checksum covers all other bytes, so that whatever
 * passes is what was written; against somebody who wants to deceive it protects nothing.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/bytes.h"
#include "snapshot/snapshot.h"

struct header {
	char magic[SNAPSHOT_MAGIC_BYTES];
	uint32_t version;
	uint32_t flags;
	uint64_t n_body;
	uint32_t crc;
} __attribute__((packed));

_Static_assert(sizeof(struct header) == SNAPSHOT_HEADER_BYTES, "as the format has it");

static uint32_t checksum(const struct header *header, const uint8_t *body, size_t n)
{
	uLong crc = crc32(0, (const Bytef *)header, offsetof(struct header, crc));

	return (uint32_t)crc32(crc, body, (uInt)n);
}

int snapshot_pack(const uint8_t *state, size_t n_state, uint8_t **ret_buf, size_t *ret_n)
{
	struct header header = { .magic = { SNAPSHOT_MAGIC },
		.version = htole32(SNAPSHOT_VERSION),
		.n_body = htole64(n_state) };
	uint8_t *buf;

	if (n_state > SNAPSHOT_BODY_MAX)
		return -EMSGSIZE;
	buf = malloc(sizeof(header) + n_state);
	if (!buf)
		return -ENOMEM;
	header.crc = htole32(checksum(&header, state, n_state));
	memcpy(buf, &header, sizeof(header));
	if (n_state)
		memcpy(buf + sizeof(header), state, n_state);
	*ret_buf = buf;
	*ret_n = sizeof(header) + n_state;
	return 0;
}

static int judge_magic(const uint8_t *buf, size_t n, struct snapshot_fault *fault)
{
	if (n == 0)
		return snapshot_refuse(fault, "it is empty");
	if (memcmp(buf, SNAPSHOT_MAGIC, MIN(n, (size_t)SNAPSHOT_MAGIC_BYTES)) != 0)
		return snapshot_refuse(fault,
			"its magic is another one: this is no snapshot of Bulkhead's");
	return 0;
}

/* A newer version may have another header behind the version. */
static int judge_header(const struct header *header, struct snapshot_fault *fault)
{
	uint32_t version = le32toh(header->version), flags = le32toh(header->flags);
	uint64_t n_body = le64toh(header->n_body);

	if (version > SNAPSHOT_VERSION)
		return snapshot_refuse(fault,
			"its format has version %u, which is newer than this release: it reads version %d",
			version, SNAPSHOT_VERSION);
	if (version == 0)
		return snapshot_refuse(fault, "its format has version 0; the first one is 1");
	if (flags)
		return snapshot_refuse(fault, "its flags are 0x%x; they must be 0", flags);
	if (n_body > SNAPSHOT_BODY_MAX)
		return snapshot_refuse(fault, "its body has %llu bytes; at most %u are possible",
			(unsigned long long)n_body, SNAPSHOT_BODY_MAX);
	return 0;
}

static int judge_body(const struct header *header, const uint8_t *body, size_t n,
	struct snapshot_fault *fault)
{
	size_t n_body = le64toh(header->n_body);
	uint32_t crc, wanted = le32toh(header->crc);

	if (n < n_body)
		return snapshot_refuse(fault, "it is truncated by %zu of its body's %zu bytes",
			n_body - n, n_body);
	crc = checksum(header, body, n_body);
	if (crc != wanted)
		return snapshot_refuse(fault,
			"its checksum is 0x%08x, and that of what is there 0x%08x: it is damaged",
			wanted, crc);
	return 0;
}

static int judge_image(const uint8_t *buf, size_t n, struct snapshot_image *ret_image,
	struct snapshot_fault *fault)
{
	struct header header;
	int r = judge_magic(buf, n, fault);

	if (r)
		return r;
	if (n < sizeof(header))
		return snapshot_refuse(fault, "it is truncated by %zu of its header's %zu bytes",
			sizeof(header) - n, sizeof(header));
	memcpy(&header, buf, sizeof(header));
	r = judge_header(&header, fault);
	if (r == 0)
		r = judge_body(&header, buf + sizeof(header), n - sizeof(header), fault);
	if (r == 0)
		*ret_image =
			(struct snapshot_image){ buf + sizeof(header), le64toh(header.n_body) };
	return r;
}

int snapshot_next(const uint8_t *buf, size_t n, size_t *at, struct snapshot_image *ret_image,
	struct snapshot_fault *fault)
{
	struct snapshot_image image = { 0 };
	int r;

	if (*at > 0 && *at == n)
		return SNAPSHOT_E_END;
	r = judge_image(buf + *at, n - *at, &image, fault);
	if (r)
		return r;
	*at += SNAPSHOT_HEADER_BYTES + image.n_state;
	*ret_image = image;
	return 0;
}

int snapshot_check(const uint8_t *buf, size_t n, struct snapshot_image *ret_image,
	struct snapshot_fault *fault)
{
	struct snapshot_image image;
	Bh__State *state;
	size_t at = 0;
	int r = snapshot_next(buf, n, &at, &image, fault);

	if (r)
		return r;
	if (at < n)
		return snapshot_refuse(fault, "bytes behind its end: %zu", n - at);
	r = snapshot_unpack(image.state, image.n_state, &state, fault);
	if (r)
		return r;
	bh__state__free_unpacked(state, NULL);
	*ret_image = image;
	return 0;
}
