/*
 * The table of VFDs. A slot is in use while ids[] has an id for it: that is the last thing that is
 * stored for a new VFD, and the first that is cleared. What is counted is counted anew when the
 * table is opened.
 */
#include "vfd.h"

#include <stdatomic.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "space.h"

_Static_assert(SPACE_PAGE_BYTES == 1 << VIRTWL_PFN_SHIFT,
	"places are counted in the guest's pages");

/* --- Counting --- */

static bool is_context(const struct vfd *vfd)
{
	return vfd->kind == VFD_SOCKET && vfd_is_guests_id(vfd->id);
}

static void count(struct vfd_table *table, const struct vfd *vfd, int sign)
{
	table->n_vfds += (uint32_t)sign;
	table->n_contexts += is_context(vfd) ? (uint32_t)sign : 0;
	if (vfd->map_seq)
		table->mapped_bytes += sign > 0 ? vfd->size_bytes : -vfd->size_bytes;
}

/* --- Opening --- */

static bool message_is_sound(const struct vfd_message *message)
{
	if (message->n_vfds > VIRTWL_SEND_MAX_ALLOCS || message->n_made > message->n_vfds ||
		message->n_told > message->n_made || message->n_bytes > VIRTWL_RECV_DATA_MAX)
		return false;
	for (size_t i = 0; i < message->n_made; i++)
		if (message->vfds[i] >= VFDS_MAX)
			return false;
	return true;
}

static bool place_is_sound(const struct vfd *vfd)
{
	if (!vfd->map_seq)
		return vfd->map == VFD_UNMAPPED || vfd->map == VFD_MAP_REFUSED;
	return vfd->size_bytes && vfd->size_bytes <= SPACE_BYTES &&
		vfd->offset_bytes <= SPACE_BYTES - vfd->size_bytes &&
		(vfd->size_bytes | vfd->offset_bytes) % SPACE_PAGE_BYTES == 0;
}

static bool overlaps(const struct vfd_saved *saved, unsigned int slot)
{
	const struct vfd *vfd = &saved->vfds[slot];

	for (unsigned int i = 0; i < slot; i++) {
		const struct vfd *other = &saved->vfds[i];

		if (saved->ids[i] == saved->ids[slot])
			return true;
		if (saved->ids[i] && other->map_seq && vfd->map_seq &&
			vfd->offset_bytes < other->offset_bytes + other->size_bytes &&
			other->offset_bytes < vfd->offset_bytes + vfd->size_bytes)
			return true;
	}
	return false;
}

static bool is_sound(const struct vfd_saved *saved, unsigned int slot)
{
	const struct vfd *vfd = &saved->vfds[slot];

	return vfd->state < _VFD_STATES && vfd->kind < _VFD_KINDS && vfd->map < _VFD_MAPS &&
		vfd->hup < _VFD_HUPS && message_is_sound(&vfd->message) && place_is_sound(vfd) &&
		!overlaps(saved, slot);
}

/* What follows from the id in ids[], which is stored first. */
static void finish_hiding(struct vfd *vfd, uint32_t id)
{
	vfd->id = id;
	vfd->state = VFD_CLOSED;
	vfd->map_seq = 0;
	vfd->map = VFD_UNMAPPED;
}

/* A former instance may have died between the two that say whether there is a map. */
static void finish_mapping(struct vfd *vfd)
{
	if (!vfd->map_seq && (vfd->map == VFD_MAP_ASKED || vfd->map == VFD_MAPPED))
		vfd->map = VFD_UNMAPPED;
	if (vfd->map == VFD_UNMAPPED)
		vfd->map_seq = 0;
}

static void open_slot(struct vfd_table *table, unsigned int slot)
{
	struct vfd_saved *saved = table->saved;
	struct vfd *vfd = &saved->vfds[slot];

	table->files[slot] = (struct vfd_files){ -1, -1 };
	vfd->id = saved->ids[slot];
	if (vfd->id & VIRTWL_VFD_ID_ILLEGAL_MASK)
		finish_hiding(vfd, vfd->id);
	finish_mapping(vfd);
	if (vfd->id && !is_sound(saved, slot))
		saved->ids[slot] = 0;
	if (saved->ids[slot])
		count(table, vfd, 1);
}

void vfd_open(struct vfd_table *table, struct vfd_saved *saved, const struct vfd_quota *quota)
{
	*table = (struct vfd_table){ .saved = saved, .quota = *quota };
	saved->next_host_id &= ~(VIRTWL_VFD_ID_HOST_MASK | VIRTWL_VFD_ID_ILLEGAL_MASK);
	for (unsigned int i = 0; i < VFDS_MAX; i++)
		open_slot(table, i);
}

/* --- Finding --- */

struct vfd *vfd_find(const struct vfd_table *table, uint32_t id)
{
	if (!id || id & VIRTWL_VFD_ID_ILLEGAL_MASK)
		return NULL;
	for (unsigned int i = 0; i < VFDS_MAX; i++)
		if (table->saved->ids[i] == id)
			return &table->saved->vfds[i];
	return NULL;
}

struct vfd *vfd_at(const struct vfd_table *table, unsigned int slot)
{
	return table->saved->ids[slot] ? &table->saved->vfds[slot] : NULL;
}

unsigned int vfd_slot(const struct vfd_table *table, const struct vfd *vfd)
{
	return (unsigned int)(vfd - table->saved->vfds);
}

struct vfd_files *vfd_files(struct vfd_table *table, const struct vfd *vfd)
{
	return &table->files[vfd_slot(table, vfd)];
}

bool vfd_is_guests_id(uint32_t id)
{
	return id && !(id & (VIRTWL_VFD_ID_HOST_MASK | VIRTWL_VFD_ID_ILLEGAL_MASK));
}

uint32_t vfd_host_id(struct vfd_table *table)
{
	struct vfd_saved *saved = table->saved;
	uint32_t id;

	do {
		id = VIRTWL_VFD_ID_HOST_MASK | saved->next_host_id;
		saved->next_host_id = (saved->next_host_id + 1) & (VIRTWL_VFD_ID_HOST_MASK - 1);
	} while (vfd_find(table, id));
	return id;
}

/* --- Coming and going --- */

static unsigned int free_slot(const struct vfd_table *table)
{
	unsigned int i = 0;

	while (table->saved->ids[i])
		i++;
	return i;
}

struct vfd *vfd_add(struct vfd_table *table, uint32_t id, enum vfd_kind kind)
{
	struct vfd new = { .id = id, .kind = (uint8_t)kind };
	unsigned int slot;

	if (table->n_vfds >= VFDS_MAX ||
		(vfd_is_guests_id(id) && table->n_vfds >= table->quota.n_vfds) ||
		(is_context(&new) && table->n_contexts >= table->quota.n_contexts))
		return NULL;
	slot = free_slot(table);
	table->saved->vfds[slot] = new;
	atomic_signal_fence(memory_order_seq_cst);
	table->saved->ids[slot] = id;
	count(table, &new, 1);
	return &table->saved->vfds[slot];
}

bool vfd_map(struct vfd_table *table, struct vfd *vfd, uint64_t n_bytes)
{
	struct space_extent extents[VFDS_MAX];
	uint64_t offset;
	size_t n = 0;

	check(!vfd->map_seq);
	if (n_bytes == 0 || n_bytes > SPACE_BYTES ||
		table->mapped_bytes + n_bytes > table->quota.mapped_bytes)
		return false;
	for (unsigned int i = 0; i < VFDS_MAX; i++) {
		const struct vfd *other = vfd_at(table, i);

		if (other && other->map_seq)
			extents[n++] =
				(struct space_extent){ other->offset_bytes, other->size_bytes };
	}
	offset = space_find(extents, n, n_bytes);
	if (offset == SPACE_FULL)
		return false;
	vfd->size_bytes = n_bytes;
	vfd->offset_bytes = offset;
	vfd->map = VFD_MAP_ASKED;
	atomic_signal_fence(memory_order_seq_cst);
	vfd->map_seq = ++table->saved->last_map_seq;
	table->mapped_bytes += n_bytes;
	return true;
}

void vfd_unmap(struct vfd_table *table, struct vfd *vfd)
{
	if (!vfd->map_seq)
		return;
	vfd->map = VFD_UNMAPPED;
	atomic_signal_fence(memory_order_seq_cst);
	vfd->map_seq = 0;
	table->mapped_bytes -= vfd->size_bytes;
}

void vfd_hide(struct vfd_table *table, struct vfd *vfd)
{
	unsigned int slot = vfd_slot(table, vfd);
	uint32_t id = VIRTWL_VFD_ID_ILLEGAL_MASK | slot;

	count(table, vfd, -1);
	table->saved->ids[slot] = id;
	atomic_signal_fence(memory_order_seq_cst);
	finish_hiding(vfd, id);
	count(table, vfd, 1);
}

void vfd_remove(struct vfd_table *table, struct vfd *vfd)
{
	struct vfd_files *files = vfd_files(table, vfd);

	table->saved->ids[vfd_slot(table, vfd)] = 0;
	count(table, vfd, -1);
	files->fd = fd_close(files->fd);
	files->remote_fd = fd_close(files->remote_fd);
}
