/*
 * The storage of parsed chains.
 *
 * All of it is reserved when the ring starts, and touched only as far as it is used: a driver may
 * ask for the largest ring and post little. Slots are dealt from the beginning of their array, and
 * the slot that was put back last is the next one to be got. So no more slots are touched than were
 * ever in use at a time.
 *
 * A slot holds a few spans itself. A longer chain moves to a block, of which there are fewer than
 * slots. When all blocks are in use, parsing waits until a chain is completed. That happens sooner
 * or later, because only chains that the device has before it hold a block.
 */
#include "virtq/slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"

#define LINE_BYTES 64
/* larger arrays have pages of their own, which the kernel gives when they are touched */
#define LAZY_BYTES 65536
#define BLOCKS_MAX 128 /* chains with a block that may be parsed and not completed at a time */

_Static_assert(sizeof(struct slot) == 3 * LINE_BYTES, "a slot fills whole lines");

void *lazy_new(size_t n, size_t size)
{
	size_t n_bytes = n * size;
	void *mem;

	if (n_bytes < LAZY_BYTES) {
		mem = aligned_alloc(LINE_BYTES, align_up(n_bytes, LINE_BYTES));
		return mem ? memset(mem, 0, n_bytes) : NULL;
	}
	mem = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return mem == MAP_FAILED ? NULL : mem;
}

void lazy_free(void *mem, size_t n, size_t size)
{
	if (n * size < LAZY_BYTES)
		free(mem);
	else if (mem)
		(void)munmap(mem, n * size);
}

static uint32_t n_window(const struct virtq *vq)
{
	uint32_t n = 1;

	while (n < vq->size)
		n <<= 1;
	return n;
}

int slots_new(struct virtq *vq)
{
	uint32_t n = vq->size;

	vq->size_max_mask = n_window(vq) - 1;
	vq->n_blocks = MIN(n, (uint32_t)BLOCKS_MAX);
	vq->slots = lazy_new(n, sizeof(*vq->slots));
	vq->free_slots = lazy_new(n, sizeof(*vq->free_slots));
	vq->window = lazy_new(n_window(vq), sizeof(*vq->window));
	vq->busy = lazy_new(n, sizeof(*vq->busy));
	vq->staged = lazy_new(n, sizeof(*vq->staged));
	vq->again = lazy_new(n, sizeof(*vq->again));
	vq->free_blocks = lazy_new(vq->n_blocks, sizeof(*vq->free_blocks));
	vq->blocks = lazy_new(vq->n_blocks, sizeof(*vq->blocks));
	if (!vq->slots || !vq->free_slots || !vq->window || !vq->busy || !vq->staged ||
		!vq->again || !vq->free_blocks || !vq->blocks)
		return -ENOMEM;
	for (uint32_t i = 0; i < vq->n_blocks; i++)
		vq->free_blocks[i] = (uint16_t)(vq->n_blocks - 1 - i);
	vq->n_free_blocks = vq->n_blocks;
	return 0;
}

void slots_free(struct virtq *vq)
{
	uint32_t n = vq->size;

	lazy_free(vq->slots, n, sizeof(*vq->slots));
	lazy_free(vq->free_slots, n, sizeof(*vq->free_slots));
	lazy_free(vq->window, n_window(vq), sizeof(*vq->window));
	lazy_free(vq->busy, n, sizeof(*vq->busy));
	lazy_free(vq->staged, n, sizeof(*vq->staged));
	lazy_free(vq->again, n, sizeof(*vq->again));
	lazy_free(vq->free_blocks, vq->n_blocks, sizeof(*vq->free_blocks));
	lazy_free(vq->blocks, vq->n_blocks, sizeof(*vq->blocks));
}

void block_put(struct virtq *vq, const struct iovec *spans)
{
	const struct block *block = (const void *)spans;

	vq->free_blocks[vq->n_free_blocks++] = (uint16_t)(block - vq->blocks);
	vq->starved = false;
}

bool block_get(struct virtq *vq, struct slot *slot, unsigned int n)
{
	struct block *block;

	if (vq->n_free_blocks == 0) {
		vq->starved = true;
		return false;
	}
	block = &vq->blocks[vq->free_blocks[--vq->n_free_blocks]];
	memcpy(block->spans, slot->few, n * sizeof(*slot->few));
	memcpy(block->gpas, slot->few_gpas, n * sizeof(*slot->few_gpas));
	slot->chain.iov = block->spans;
	return true;
}
