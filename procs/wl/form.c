/* The stage that Wayland devices have in a snapshot. It is a part of common/snapshot. */
#include "snapshot/stage.h"
#include "snapshot/snapshot.h"
#include "virtio/wl.h"

static int judge_wl(const ProtobufCMessage *msg, const struct snapshot_context *context,
	struct snapshot_fault *fault)
{
	const Bh__WlStage *wl = (const void *)msg;

	if (wl->next_host_id >= VIRTWL_VFD_ID_HOST_MASK)
		return snapshot_refuse(fault, "next_host_id is 0x%x; it is below 0x%x",
			wl->next_host_id, VIRTWL_VFD_ID_HOST_MASK);
	return 0;
}

const struct snapshot_stage snapshot_stage_wl = {
	.name = "wl",
	.version = 1,
	.type = &bh__wl_stage__descriptor,
	.judge = judge_wl,
};
