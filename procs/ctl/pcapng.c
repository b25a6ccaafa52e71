/*
 * Blocks of the format, in native byte order: the first one tells readers which that is.
 *
 * A block is: type, length | fixed part | options | length. Everything is padded to 32 bits.
 */
#include "pcapng.h"

#include <string.h>

#include "base/bytes.h"

#define ORDER 0x1a2b3c4du
#define LINKTYPE_ETHERNET 1
#define DIGITS_OF_NS 9
#define INBOUND 1u
#define OUTBOUND 2u
#define UNKNOWN_LENGTH UINT64_MAX

enum block {
	BLOCK_INTERFACE = 1,
	BLOCK_STATISTICS = 5,
	BLOCK_FRAME = 6,
	BLOCK_SECTION = 0x0a0d0d0a,
};

/* Numbers of options belong to a kind of block each. */
enum option {
	OPTION_END = 0,
	SECTION_PROGRAM = 4,
	INTERFACE_NAME = 2,
	INTERFACE_DESCRIPTION = 3,
	INTERFACE_RESOLUTION = 9,
	FRAME_FLAGS = 2,
	STATISTICS_SEEN = 4,
	STATISTICS_LOST = 5,
};

/** struct draft - a block without its frame */
struct draft {
	uint8_t bytes[1024];
	size_t n;
};

static void put(struct draft *draft, const void *bytes, size_t n)
{
	size_t padded = align_up(n, 4);

	if (draft->n + padded > sizeof(draft->bytes))
		return;
	memset(draft->bytes + draft->n, 0, padded);
	memcpy(draft->bytes + draft->n, bytes, n);
	draft->n += padded;
}

static void put32(struct draft *draft, uint32_t value)
{
	put(draft, &value, sizeof(value));
}

/* Times are two halves, the upper one first, whatever the byte order is. */
static void put_time(struct draft *draft, uint64_t ns)
{
	put32(draft, (uint32_t)(ns >> 32));
	put32(draft, (uint32_t)ns);
}

static void put_option(struct draft *draft, enum option option, const void *bytes, size_t n)
{
	uint16_t head[2] = { (uint16_t)option, (uint16_t)n };

	put(draft, head, sizeof(head));
	put(draft, bytes, n);
}

static void put_text(struct draft *draft, enum option option, const char *text)
{
	put_option(draft, option, text, strnlen(text, 255));
}

static void write_block(FILE *to, enum block type, const struct draft *fixed, const void *data,
	size_t n_data, const struct draft *options)
{
	static const uint8_t padding[4];
	uint32_t padded = (uint32_t)align_up(n_data, 4);
	uint32_t head[2] = { type, (uint32_t)(fixed->n + padded + options->n + 12) };

	fwrite(head, sizeof(head), 1, to);
	fwrite(fixed->bytes, fixed->n, 1, to);
	fwrite(data, n_data, 1, to);
	fwrite(padding, padded - n_data, 1, to);
	fwrite(options->bytes, options->n, 1, to);
	fwrite(&head[1], sizeof(head[1]), 1, to);
}

static void begin_section(FILE *to, const char *program)
{
	struct draft fixed = { .n = 0 }, options = { .n = 0 };
	const uint16_t version[2] = { 1, 0 };
	uint64_t length = UNKNOWN_LENGTH;

	put32(&fixed, ORDER);
	put(&fixed, version, sizeof(version));
	put(&fixed, &length, sizeof(length));
	put_text(&options, SECTION_PROGRAM, program);
	put_option(&options, OPTION_END, "", 0);
	write_block(to, BLOCK_SECTION, &fixed, "", 0, &options);
}

void pcapng_begin(FILE *to, const char *program, const char *interface, const char *description,
	uint32_t snap_bytes)
{
	struct draft fixed = { .n = 0 }, options = { .n = 0 };
	const uint16_t link[2] = { LINKTYPE_ETHERNET, 0 };
	const uint8_t digits = DIGITS_OF_NS;

	begin_section(to, program);
	put(&fixed, link, sizeof(link));
	put32(&fixed, snap_bytes);
	put_text(&options, INTERFACE_NAME, interface);
	put_text(&options, INTERFACE_DESCRIPTION, description);
	put_option(&options, INTERFACE_RESOLUTION, &digits, sizeof(digits));
	put_option(&options, OPTION_END, "", 0);
	write_block(to, BLOCK_INTERFACE, &fixed, "", 0, &options);
}

void pcapng_frame(FILE *to, const struct pcapng_frame *frame)
{
	struct draft fixed = { .n = 0 }, options = { .n = 0 };
	uint32_t flags = frame->outbound ? OUTBOUND : INBOUND;

	put32(&fixed, 0); /* the interface */
	put_time(&fixed, frame->time_ns);
	put32(&fixed, frame->n_bytes);
	put32(&fixed, frame->wire_bytes);
	put_option(&options, FRAME_FLAGS, &flags, sizeof(flags));
	put_option(&options, OPTION_END, "", 0);
	write_block(to, BLOCK_FRAME, &fixed, frame->bytes, frame->n_bytes, &options);
}

void pcapng_end(FILE *to, uint64_t time_ns, uint64_t n_seen, uint64_t n_lost)
{
	struct draft fixed = { .n = 0 }, options = { .n = 0 };

	put32(&fixed, 0);
	put_time(&fixed, time_ns);
	put_option(&options, STATISTICS_SEEN, &n_seen, sizeof(n_seen));
	put_option(&options, STATISTICS_LOST, &n_lost, sizeof(n_lost));
	put_option(&options, OPTION_END, "", 0);
	write_block(to, BLOCK_STATISTICS, &fixed, "", 0, &options);
}
