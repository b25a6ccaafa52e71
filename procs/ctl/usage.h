#pragma once

#include <stdbool.h>
#include <stdint.h>

/** struct usage - what the kernel says that a process uses */
struct usage {
	bool known;      /* false: it is gone, or is none of ours, and all is 0 */
	bool has_memory; /* the caller may see its memory */
	uint64_t rss_bytes;
	uint64_t pss_bytes; /* what it shares with n processes counts 1/n */
	bool has_fds;
	uint64_t n_fds;
	uint64_t cpu_ms; /* user and system, all threads */
};

/** usage_read() - of the process with that number, if it bears the name of a program of ours
 * @wants_memory: walk its page tables, which takes about a millisecond for each GiB of guest
 * memory */
struct usage usage_read(uint32_t pid, bool wants_memory);
