#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/sanitizer.h"
#include "virtio/virtio.h"

/* How this library reads and writes memory that others share: the guest, the VMM, a successor. */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	"rings are little-endian and read as they are");

/* The specification's numbers of these two are bits. */
#define DESC_F_AVAIL (1 << VRING_PACKED_DESC_F_AVAIL)
#define DESC_F_USED (1 << VRING_PACKED_DESC_F_USED)
#define DESC_BYTES 16

/** struct desc - the copy of a descriptor of either layout */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t link; /* split: next; packed: id */
};

/** desc_of() - from the two words of a descriptor, as they lie in memory */
static inline struct desc desc_of(uint64_t word0, uint64_t word1, bool packed)
{
	uint16_t first = (uint16_t)(word1 >> 32), second = (uint16_t)(word1 >> 48);

	return (struct desc){ .addr = word0,
		.len = (uint32_t)word1,
		.flags = packed ? second : first,
		.link = packed ? first : second };
}

/*
 * step() stands between two stores that a successor must find in this order. A killed process
 * leaves its stores in memory in the order of its instructions, so it is enough to keep the
 * compiler from moving them. Tests compile this library with VIRTQ_STEPS, and die at each step in
 * turn.
 */
#ifdef VIRTQ_STEPS
/** virtq_step() - the test's: it ends the process when its turn has come */
void virtq_step(void);
#define step() virtq_step()
#else
#define step() atomic_signal_fence(memory_order_seq_cst)
#endif

/** full_fence() - between a store of ours and a load of ours, which the driver does the other way
 * round */
static inline void full_fence(void)
{
#if SANITIZES_THREADS /* that sanitizer knows no fences */
	static atomic_int dummy;

	atomic_fetch_add(&dummy, 1);
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* Guest memory is read by loads that the compiler may neither repeat nor merge: what was checked is
 * what is used. */
#define guest_load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define guest_load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define guest_store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define guest_store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
