#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/fault.h"
#include "state.pb-c.h"

/* The table of stages: the parts of a device's state. A device of a type adds its own with a file
 * procs/TYPE/form.c, which defines snapshot_stage_TYPE. */

/** struct snapshot_context - what one stage must know of another to be judged */
struct snapshot_context {
	bool suspended;
	bool features_known; /* false: the stage of features is of a newer version */
	uint64_t features;
};

/** struct snapshot_stage - a row */
struct snapshot_stage {
	const char *name;
	uint32_t version; /* the newest that is known; all from 1 up to it can be read */
	bool required;    /* a state without it is refused */
	const ProtobufCMessageDescriptor *type; /* of its data */
	/* 0 | SNAPSHOT_E_REFUSED, with fault; the message is borrowed. The text begins with the
	 * field: the stage's name is put before it */
	int (*judge)(const ProtobufCMessage *msg, const struct snapshot_context *context,
		struct snapshot_fault *fault);
};

extern const struct snapshot_stage snapshot_stage_features, snapshot_stage_rings,
	snapshot_stage_counters;

#define TYPE(name) extern const struct snapshot_stage snapshot_stage_##name;
#include "snapshot-types.def"
#undef TYPE

/** snapshot_stage_at() - the rows, in the order in which they are judged; NULL behind the last */
const struct snapshot_stage *snapshot_stage_at(size_t i);

/** snapshot_stage_find() - a state's stage of that name; borrowed; NULL = it has none */
const Bh__Stage *snapshot_stage_find(const Bh__State *state, const char *name);

/**
 * snapshot_stage_unpack() - parse the data of a stage
 * @ret_msg: [out] a message of row->type, the caller's; protobuf_c_message_free_unpacked(msg, NULL)
 *
 * Errors: 0 | -ENOENT: the state has no such stage | -EPROTONOSUPPORT: its version is newer than
 *         the row's | -EBADMSG: it is malformed, which snapshot_unpack() has ruled out | -ENOMEM.
 */
int snapshot_stage_unpack(const Bh__State *state, const struct snapshot_stage *row,
	ProtobufCMessage **ret_msg);
