#pragma once

#include "base/bytes.h"
#include "device/device.h"
#include "stream.h"
#include "vfd.h"

/*
 * The Wayland device. The loop thread serves both rings: commands of the guest's (out.c), and what
 * the host sends (in.c).
 *
 * Whatever a command or event changes lies in struct wl_saved, and is changed in this order: what
 * can be done twice, the note, what follows from the note, the used entry, the end of the note. A
 * successor finds the note, and the ring says whether the used entry was published: its base is
 * another one then.
 */

#define WL_RING_SIZE_MAX 1024

/** enum wl_step - what a note of a ring stands for: what follows when its chain is published */
enum wl_step {
	WL_STEP_NONE,
	/* of the out ring */
	WL_STEP_ANSWER,  /* nothing else */
	WL_STEP_OPEN,    /* the VFD in slot is VFD_LIVE */
	WL_STEP_CLOSE,   /* it is closed */
	WL_STEP_SENT,    /* the record with cookie is in its queue */
	WL_STEP_HOLD,    /* the same, and the chain is answered later */
	WL_STEP_RELEASE, /* a chain that was held is answered */
	/* of the in ring */
	WL_STEP_TELL_NEW,  /* the next VFD of the message in slot is told */
	WL_STEP_TELL_DATA, /* the data of that message is told */
	WL_STEP_TELL_HUP,  /* the hang-up of the VFD in slot is told */
	_WL_STEPS,
};

/** struct wl_note - the chain in hand of a ring */
struct wl_note {
	uint8_t step; /* enum wl_step; stored last */
	uint8_t n_remotes;
	uint16_t head; /* of the chain, where it may not be the next one */
	uint16_t slot;
	uint16_t n_answer;
	uint32_t base; /* virtq_base() before it is published */
	uint32_t pad;
	uint64_t cookie;
	uint16_t remotes[VIRTWL_SEND_MAX_ALLOCS]; /* slots of pipes whose other end is sent */
	uint8_t answer[sizeof(struct virtio_wl_ctrl_vfd_new_dmabuf)];
};

#define WL_SAVED_VERSION 1
#define WL_SAVED_FIRST_BYTES 111424

/** struct wl_saved - device->state */
struct wl_saved {
	uint32_t version;               /* 0 = new */
	uint8_t is_fresh[_VIRTWL_VQ_N]; /* the ring has begun anew: see wl.c */
	uint8_t pad[2];
	uint64_t n_records; /* appended to queues so far: the cookie of the last */
	struct wl_note notes[_VIRTWL_VQ_N];
	uint16_t held[WL_RING_SIZE_MAX]; /* by head: 1 + the slot of its queue; 0 = no */
	uint64_t reserved[64];
	struct vfd_saved vfds;
};

_Static_assert(sizeof(struct wl_saved) == WL_SAVED_FIRST_BYTES, "as the first release has it");

/** struct wl_end - a VFD's descriptor, while the process lives (ends.h) */
struct wl_end {
	struct wl *wl;
	sd_event_source *source; /* NULL = it is not watched */
	sd_event_source *retry;
	bool readable;    /* there may be something to read */
	bool full;        /* it takes no more at present */
	bool over;        /* nothing can be sent to it any more */
	uint16_t n_named; /* by records in queues: the VFD stays, as does a pipe's other end: */
	uint16_t n_remote_named;
};

/** struct wl_foreign - what the resource bridge has given for an entry of the SEND in hand */
struct wl_foreign {
	uint32_t kind;
	uint64_t id;
	int fd; /* -1 = nothing */
};

struct wl {
	struct device *device;
	struct wl_saved *saved;
	struct vfd_table vfds;
	struct wl_end ends[VFDS_MAX];
	struct streams streams;
	bool has_streams;
	struct compositors *compositors;
	char *folder;          /* the process's own */
	struct bridge *bridge; /* NULL = none, as is the next */
	struct dmabuf_device *dmabufs;
	struct wl_foreign foreign[VIRTWL_SEND_MAX_ALLOCS];
	struct virtq_chain *held[WL_RING_SIZE_MAX]; /* by head, as saved->held */
	sd_event_source *patience; /* goes off when a command has waited too long */
	bool waits;                /* a command waits */
	bool impatient;            /* it has waited too long */
	uint64_t patience_usec;
	unsigned int turn; /* of the in ring: the slot that is looked at first */
	bool lacks_room;   /* a descriptor from the host waits for room in the table */
	/* the pipe of which a message is open; VFD_NONE = none: there may be only one */
	unsigned int pipe_slot;
};

/** wl_queue() - one of the two rings */
static inline struct device_queue *wl_queue(const struct wl *wl, unsigned int index)
{
	return &wl->device->queues[index];
}

/** wl_wake() - have a ring served soon, if it runs */
static inline void wl_wake(const struct wl *wl, unsigned int index)
{
	if (wl_queue(wl, index)->vq)
		device_queue_wake(wl_queue(wl, index));
}

/** wl_has_trans_flags() - whether TRANS_FLAGS was negotiated */
static inline bool wl_has_trans_flags(const struct wl *wl)
{
	return has_bit(wl->device->features, VIRTIO_WL_F_TRANS_FLAGS);
}

/** wl_ops - the device's table, in wl.c */
extern const struct device_ops wl_ops;
