/*
 * The ledger file. Its shape follows from three numbers, so every process that knows them finds
 * every part; the header repeats them for whoever does not. The magic is written last: a ledger
 * whose maker died in between is still new.
 */
#include "virtq/ledger.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "virtio/virtio.h"
#include "virtq/inflight-layout.h"

#define PART_ALIGN LEDGER_SHAPED_AT /* of the file format, whatever the page size here is */
#define PACKED_WRAP 0x8000u
#define N_QUEUES_MAX 4096
#define STATE_BYTES_MAX (64 << 20)

static size_t state_at(void)
{
	return PART_ALIGN;
}

static size_t queues_at(uint32_t state_bytes)
{
	return state_at() + align_up(state_bytes, PART_ALIGN);
}

static size_t inflight_at(uint32_t n_queues, uint32_t state_bytes)
{
	return queues_at(state_bytes) +
		align_up((size_t)n_queues * sizeof(struct ledger_queue), PART_ALIGN);
}

size_t ledger_inflight_bytes(uint32_t queue_size)
{
	return inflight_bytes(queue_size, true);
}

size_t ledger_bytes(uint32_t n_queues, uint32_t queue_size_max, uint32_t state_bytes)
{
	return align_up(inflight_at(n_queues, state_bytes) +
			(size_t)n_queues * ledger_inflight_bytes(queue_size_max),
		PART_ALIGN);
}

static bool shape_is_sane(uint32_t n_queues, uint32_t queue_size_max, uint32_t state_bytes)
{
	return n_queues <= N_QUEUES_MAX && queue_size_max <= VIRTQUEUE_SIZE_MAX &&
		state_bytes <= STATE_BYTES_MAX;
}

static int file_bytes(int fd, size_t *ret_bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret_bytes = st.st_size < 0 ? 0 : (size_t)st.st_size;
	return 0;
}

/* Without a header when it failed, which errno then tells. */
static struct ledger map_file(int fd, size_t n_bytes, int prot)
{
	void *mem = mmap(NULL, n_bytes, prot, MAP_SHARED, fd, 0);

	return (struct ledger){ .header = mem == MAP_FAILED ? NULL : mem, .size_bytes = n_bytes };
}

static void set_shape(struct ledger *ledger, uint32_t n_queues, uint32_t queue_size_max,
	uint32_t state_bytes)
{
	uint8_t *mem = (uint8_t *)ledger->header;

	ledger->n_queues = n_queues;
	ledger->queue_size_max = queue_size_max;
	ledger->state_bytes = state_bytes;
	ledger->state = mem + state_at();
	ledger->queues = (void *)(mem + queues_at(state_bytes));
}

static void lay_out(struct ledger *ledger)
{
	struct ledger_header *header = ledger->header;

	header->version = LEDGER_VERSION;
	header->n_queues = ledger->n_queues;
	header->queue_size_max = ledger->queue_size_max;
	header->state_bytes = ledger->state_bytes;
	atomic_signal_fence(memory_order_seq_cst);
	header->magic = LEDGER_MAGIC;
}

/* The worker may have been taken over by its guest: the header is copied, and judged in the
 * copy. */
static int judge_header(struct ledger *ledger, size_t has_bytes)
{
	struct ledger_header copy;

	memcpy(&copy, ledger->header, sizeof(copy));
	atomic_signal_fence(memory_order_seq_cst);
	if (copy.magic == 0)
		return -ENODATA;
	if (copy.magic != LEDGER_MAGIC || copy.version != LEDGER_VERSION ||
		!shape_is_sane(copy.n_queues, copy.queue_size_max, copy.state_bytes) ||
		ledger_bytes(copy.n_queues, copy.queue_size_max, copy.state_bytes) > has_bytes)
		return -EPROTO;
	set_shape(ledger, copy.n_queues, copy.queue_size_max, copy.state_bytes);
	return 0;
}

int ledger_open(struct ledger *ret_ledger, int fd, uint32_t n_queues, uint32_t queue_size_max,
	uint32_t state_bytes)
{
	size_t n_bytes = ledger_bytes(n_queues, queue_size_max, state_bytes), has_bytes = 0;
	struct ledger ledger;
	int r;

	if (!shape_is_sane(n_queues, queue_size_max, state_bytes))
		return -EINVAL;
	r = file_bytes(fd, &has_bytes);
	if (r < 0)
		return r;
	if (has_bytes < n_bytes)
		return -EINVAL;
	ledger = map_file(fd, has_bytes, PROT_READ | PROT_WRITE);
	if (!ledger.header)
		return -errno;
	set_shape(&ledger, n_queues, queue_size_max, state_bytes);
	if (ledger.header->magic == 0)
		lay_out(&ledger);
	r = judge_header(&ledger, has_bytes);
	if (r == 0 && (ledger.n_queues != n_queues || ledger.queue_size_max != queue_size_max))
		r = -EPROTO;
	if (r < 0) {
		ledger_close(&ledger);
		return r;
	}
	*ret_ledger = ledger;
	return 0;
}

int ledger_open_existing(struct ledger *ret_ledger, int fd)
{
	struct ledger ledger;
	size_t has_bytes = 0;
	int r = file_bytes(fd, &has_bytes);

	if (r < 0)
		return r;
	if (has_bytes < PART_ALIGN)
		return -EPROTO;
	ledger = map_file(fd, has_bytes, PROT_READ);
	if (!ledger.header)
		return -errno;
	r = judge_header(&ledger, has_bytes);
	if (r < 0) {
		ledger_close(&ledger);
		return r;
	}
	ledger.read_only = true;
	*ret_ledger = ledger;
	return 0;
}

size_t ledger_state_room(const struct ledger *ledger)
{
	return queues_at(ledger->state_bytes) - state_at();
}

void ledger_close(struct ledger *ledger)
{
	if (ledger->header)
		(void)munmap(ledger->header, ledger->size_bytes);
	*ledger = (struct ledger){ 0 };
}

const char *ledger_drop_name(unsigned int drop)
{
	static const char *const names[] = {
		[LEDGER_DROP_CHAIN] = "bad_chain",
		[LEDGER_DROP_DISABLED] = "disabled",
		[LEDGER_DROP_MALFORMED] = "malformed",
		[LEDGER_DROP_HOST] = "host",
		[LEDGER_DROP_ROOM] = "no_room",
		[LEDGER_DROP_MEMORY] = "memory",
	};

	_Static_assert(ARRAY_SIZE(names) == LEDGER_DROPS, "a name for each");
	return drop < LEDGER_DROPS ? names[drop] : "other";
}

void *ledger_inflight(const struct ledger *ledger, uint32_t queue)
{
	if (ledger->read_only || queue >= ledger->n_queues)
		return NULL;
	return (uint8_t *)ledger->header + inflight_at(ledger->n_queues, ledger->state_bytes) +
		queue * ledger_inflight_bytes(ledger->queue_size_max);
}

/* Chains in flight lie between what was used and what was taken: without them the ring stands at
 * what was used, but for what was lost already when it was started there. */
uint32_t ledger_base(const struct ledger_queue *queue)
{
	uint32_t slot = (queue->used_idx & ~PACKED_WRAP) + queue->skew;
	uint32_t wrap = queue->used_idx & PACKED_WRAP;

	if (!queue->packed)
		return (uint16_t)(queue->used_idx + queue->skew);
	if (slot >= queue->size) {
		slot -= queue->size;
		wrap ^= PACKED_WRAP;
	}
	return (slot & ~PACKED_WRAP) | wrap | (uint32_t)queue->used_idx << 16;
}
