#include "guest.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"

static void add_region(struct guest *guest, int fd, uint64_t at, uint64_t n_bytes)
{
	const struct map_region region = { .gpa = { at },
		.uva = GUEST_UVA(at),
		.size_bytes = n_bytes,
		.offset_bytes = at,
		.sealed = true };

	check(map_add(guest->map, &region, fd) == 0);
}

static void make(struct guest *guest)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	check(fd >= 0 && ftruncate(fd, GUEST_BYTES) == 0 && map_new(&guest->map) == 0);
	guest->mem = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(guest->mem != MAP_FAILED);
	add_region(guest, fd, 0, GUEST_REGION_BYTES);
	add_region(guest, fd, GUEST_REGION_BYTES, GUEST_BYTES - GUEST_REGION_BYTES);
	close(fd);
}

struct guest *guest_memory(void)
{
	static struct guest guest;

	if (!guest.mem)
		make(&guest);
	memset(guest.mem, 0, GUEST_BYTES);
	return &guest;
}

uint32_t guest_ring_size(uint8_t dice, bool packed)
{
	return packed ? 1u + dice % GUEST_RING_SIZE_MAX : 1u << dice % 7;
}

static bool lies_in(const struct guest *guest, uint64_t gpa, uint64_t n_bytes,
	const struct iovec *span)
{
	const uint8_t *begin = map_gpa(guest->map, (struct gpa){ gpa }, n_bytes),
		      *at = span->iov_base;

	return at >= begin && span->iov_len <= n_bytes && at + span->iov_len <= begin + n_bytes;
}

static void check_chain(const struct virtq_chain *chain, const struct guest *guest)
{
	uint64_t n_bytes = 0;

	check(!chain->bad == !chain->rule);
	if (chain->bad)
		return;
	check(chain->n_out + chain->n_in <= VIRTQ_CHAIN_SPANS_MAX);
	for (unsigned int i = 0; i < chain->n_out + chain->n_in; i++) {
		check(lies_in(guest, 0, GUEST_REGION_BYTES, &chain->iov[i]) ||
			lies_in(guest, GUEST_REGION_BYTES, GUEST_BYTES - GUEST_REGION_BYTES,
				&chain->iov[i]));
		n_bytes += chain->iov[i].iov_len;
	}
	check(n_bytes == (uint64_t)chain->out_bytes + chain->in_bytes);
}

void guest_check_window(struct virtq *vq, const struct guest *guest,
	const bool taken[GUEST_RING_SIZE_MAX])
{
	bool seen[GUEST_RING_SIZE_MAX];

	memcpy(seen, taken, sizeof(seen));
	for (unsigned int i = 0; i < virtq_window_len(vq); i++) {
		const struct virtq_chain *chain = virtq_window(vq, i);

		check(chain->id < GUEST_RING_SIZE_MAX && !seen[chain->id]);
		seen[chain->id] = true;
		check_chain(chain, guest);
	}
}
