#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/wl.h"

/*
 * The table of VFDs. It lies in device->state, so it outlives the process, and its layout only
 * grows. The descriptors of a VFD are kept by the memory manager under names of its slot, and are
 * in struct vfd_files while the process lives.
 */

#define VFDS_MAX 512
#define VFD_NONE UINT16_MAX /* instead of a slot */

enum vfd_state {
	VFD_COMING, /* the guest has not been told of it: it may wait for the VMM to map it */
	VFD_LIVE,
	VFD_CLOSED, /* by the guest, and still to be sent: a queue names it. It has no id */
	_VFD_STATES,
};

enum vfd_kind {
	VFD_MEMORY,
	VFD_DMABUF,
	VFD_SOCKET,     /* a context, or a socket that came over one */
	VFD_PIPE_READ,  /* the guest reads what others write */
	VFD_PIPE_WRITE, /* the guest writes */
	VFD_FENCE,
	_VFD_KINDS,
};

enum vfd_map {
	VFD_UNMAPPED,
	VFD_MAP_ASKED,
	VFD_MAPPED,
	VFD_MAP_REFUSED,
	_VFD_MAPS,
};

enum vfd_hup {
	VFD_UP,
	VFD_HUP_DUE, /* the other end is gone, and all that it sent was delivered */
	VFD_HUP_TOLD,
	_VFD_HUPS,
};

/** struct vfd_message - what was received and is being delivered to the guest: first each VFD that
 * came along, then the data; nothing of it was consumed yet */
struct vfd_message {
	uint32_t n_bytes;
	uint8_t is_open;
	uint8_t n_vfds;  /* that came along */
	uint8_t n_made;  /* of them: vfds[] has their slots */
	uint8_t n_told;  /* of them: the guest knows them */
	uint8_t is_told; /* the data is delivered: it must only be consumed */
	uint8_t pad[7];
	uint16_t vfds[VIRTWL_SEND_MAX_ALLOCS];
};

/** struct vfd - a VFD, as it is saved */
struct vfd {
	uint32_t id;
	uint8_t state;   /* enum vfd_state */
	uint8_t kind;    /* enum vfd_kind */
	uint8_t map;     /* enum vfd_map */
	uint8_t hup;     /* enum vfd_hup */
	uint32_t flags;  /* as told to the guest */
	uint8_t is_sent; /* a pipe's other end was sent, or is queued: that can be done once */
	uint8_t is_connecting; /* a context that waits for the compositor of this name: */
	uint8_t is_readonly;   /* memory that came from the host, as is the next */
	uint8_t is_copied;     /* the VMM cannot map the file itself */
	char name[VIRTWL_NAME_MAX];
	uint64_t file_bytes;             /* of memory that came from the host */
	uint64_t size_bytes;             /* whole pages, while it has a map */
	uint64_t offset_bytes;           /* in the shared memory region, likewise */
	uint64_t map_seq;                /* 0 = it has none */
	uint32_t strides[3], offsets[3]; /* of a dmabuf */
	struct vfd_message message;
	uint64_t reserved[4];
};

/** struct vfd_files - a VFD's descriptors; owned by the table; -1 = none */
struct vfd_files {
	int fd;        /* memory, socket, the local end of a pipe, fence */
	int remote_fd; /* a pipe's other end, until it is sent */
};

/** struct vfd_saved - the table, as it is saved */
struct vfd_saved {
	uint32_t next_host_id; /* below VIRTWL_VFD_ID_HOST_MASK */
	uint32_t pad;
	uint64_t last_map_seq;
	uint32_t ids[VFDS_MAX]; /* by slot; 0 = free; illegal ones of VFD_CLOSED */
	struct vfd vfds[VFDS_MAX];
};

/** struct vfd_quota - what one guest may have. VFDs that the host makes can use the whole table: a
 * message that brings them cannot be refused. */
struct vfd_quota {
	uint32_t n_vfds, n_contexts;
	uint64_t mapped_bytes;
};

struct vfd_table {
	struct vfd_saved *saved;
	struct vfd_quota quota;
	struct vfd_files files[VFDS_MAX];
	uint32_t n_vfds, n_contexts; /* in use, as is the next */
	uint64_t mapped_bytes;
};

/** vfd_open() - begin with a saved table, or a new one (all zeros). It may come from another
 * release, or from a process that a guest has taken over: what cannot be is dropped. There are no
 * files yet. */
void vfd_open(struct vfd_table *table, struct vfd_saved *saved, const struct vfd_quota *quota);

/** vfd_find() - the VFD of this id; NULL = there is none. Cost: O(VFDS_MAX), 2 KiB are read */
struct vfd *vfd_find(const struct vfd_table *table, uint32_t id);

/** vfd_at() - the VFD in this slot, which is below VFDS_MAX; NULL = the slot is free */
struct vfd *vfd_at(const struct vfd_table *table, unsigned int slot);

/** vfd_slot(), vfd_files() - its slot, and its descriptors */
unsigned int vfd_slot(const struct vfd_table *table, const struct vfd *vfd);
struct vfd_files *vfd_files(struct vfd_table *table, const struct vfd *vfd);

/** vfd_is_guests_id() - whether a driver may choose this id */
bool vfd_is_guests_id(uint32_t id);
/** vfd_host_id() - an id for a VFD that the host makes; no other VFD has it */
uint32_t vfd_host_id(struct vfd_table *table);

/** vfd_add() - a new VFD, VFD_COMING, under an id that no other has; NULL = there are too many */
struct vfd *vfd_add(struct vfd_table *table, uint32_t id, enum vfd_kind kind);

/** vfd_map() - give it a place of so many bytes (whole pages) in the region and a new map_seq;
 * false: there is no room, or the quota is used up */
bool vfd_map(struct vfd_table *table, struct vfd *vfd, uint64_t n_bytes);

/** vfd_unmap() - the place is free again: VFD_UNMAPPED */
void vfd_unmap(struct vfd_table *table, struct vfd *vfd);

/** vfd_hide() - the guest closed it, but its descriptors are still needed: VFD_CLOSED. It has no
 * place in the region any more. */
void vfd_hide(struct vfd_table *table, struct vfd *vfd);

/** vfd_remove() - free the slot; the files are closed */
void vfd_remove(struct vfd_table *table, struct vfd *vfd);
