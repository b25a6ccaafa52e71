#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* A capture file with one Ethernet interface, which tcpdump and Wireshark read. */

/** struct pcapng_frame - a frame, borrowed */
struct pcapng_frame {
	uint64_t time_ns; /* since 1970 */
	const uint8_t *bytes;
	uint32_t n_bytes;    /* that were captured */
	uint32_t wire_bytes; /* that it has */
	bool outbound;       /* from the host to the guest */
};

/** pcapng_begin() - what precedes the first frame
 * @program, interface, description: shown by whoever reads it */
void pcapng_begin(FILE *to, const char *program, const char *interface, const char *description,
	uint32_t snap_bytes);

/** pcapng_frame() - one more */
void pcapng_frame(FILE *to, const struct pcapng_frame *frame);

/** pcapng_end() - how many frames passed the filter, and how many of these were lost */
void pcapng_end(FILE *to, uint64_t time_ns, uint64_t n_seen, uint64_t n_lost);
