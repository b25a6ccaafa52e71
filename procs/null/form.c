/* The stage that null devices have in a snapshot. It is a part of common/snapshot. */
#include "snapshot/stage.h"

/* There is nothing in it. */
static int judge_null(const ProtobufCMessage *msg, const struct snapshot_context *context,
	struct snapshot_fault *fault)
{
	return 0;
}

const struct snapshot_stage snapshot_stage_null = {
	.name = "null",
	.version = 1,
	.type = &bh__empty_stage__descriptor,
	.judge = judge_null,
};
