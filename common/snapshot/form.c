/* The form of a State: its own fields, and its stages by the rows of the table. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "config/config.h"
#include "snapshot/message.h"
#include "snapshot/snapshot.h"
#include "snapshot/stage.h"

#define RELEASE_MAX 64 /* bytes */

static int judge_name(const char *what, const char *name, struct snapshot_fault *fault)
{
	if (config_check_name(name))
		return 0;
	return snapshot_refuse(fault,
		"%s is \"%.48s\"; names have 1 to %d letters, digits, '_', '-' or '.'", what, name,
		CONFIG_NAME_MAX);
}

static int judge_release(const char *release, struct snapshot_fault *fault)
{
	char text[RELEASE_MAX + 1];
	size_t n = strlen(release);

	if (n > RELEASE_MAX)
		return snapshot_refuse(fault, "release has %zu bytes; at most %d are possible", n,
			RELEASE_MAX);
	memcpy(text, release, n + 1);
	if (strcmp(text_clean(text), release) != 0)
		return snapshot_refuse(fault,
			"release contains characters that cannot be printed: \"%s\"", text);
	return 0;
}

static int judge_head(const Bh__State *state, struct snapshot_fault *fault)
{
	int r = judge_name("type", state->type, fault);

	if (r == 0)
		r = judge_name("device", state->device, fault);
	if (r == 0)
		r = judge_name("guest", state->guest, fault);
	if (r == 0)
		r = judge_release(state->release, fault);
	if (r == 0 && state->n_stages > SNAPSHOT_STAGES_MAX)
		r = snapshot_refuse(fault, "there are %zu stages; at most %d are possible",
			state->n_stages, SNAPSHOT_STAGES_MAX);
	return r;
}

/* --- Stages --- */

static int judge_names(const Bh__State *state, struct snapshot_fault *fault)
{
	for (size_t i = 0; i < state->n_stages; i++) {
		const Bh__Stage *stage = state->stages[i];
		int r = judge_name("a stage's name", stage->name, fault);

		if (r)
			return r;
		if (snapshot_stage_find(state, stage->name) != stage)
			return snapshot_refuse(fault, "stage %s is there twice", stage->name);
		if (stage->version == 0)
			return snapshot_refuse(fault, "stage %s has version 0; the first one is 1",
				stage->name);
	}
	return 0;
}

static int judge_absence(const struct snapshot_stage *row, struct snapshot_fault *fault)
{
	return row->required ? snapshot_refuse(fault, "stage %s is missing", row->name) : 0;
}

static int judge_stage(const Bh__State *state, const struct snapshot_stage *row,
	const struct snapshot_context *context, struct snapshot_fault *fault)
{
	struct snapshot_fault inner;
	ProtobufCMessage *msg = NULL;
	int r = snapshot_stage_unpack(state, row, &msg);

	if (r == -ENOENT)
		return judge_absence(row, fault);
	if (r == -EBADMSG)
		return snapshot_refuse(fault, "stage %s is malformed", row->name);
	if (r < 0)
		return r == -EPROTONOSUPPORT ? 0 : r;
	r = row->judge(msg, context, &inner);
	protobuf_c_message_free_unpacked(msg, NULL);
	return r ? snapshot_refuse(fault, "stage %s: %s", row->name, inner.text) : 0;
}

static int take_features(const Bh__State *state, struct snapshot_context *context)
{
	ProtobufCMessage *msg = NULL;
	int r = snapshot_stage_unpack(state, &snapshot_stage_features, &msg);

	if (r < 0)
		return r == -ENOMEM ? r : 0;
	context->features_known = true;
	context->features = ((const Bh__FeaturesStage *)(const void *)msg)->features;
	protobuf_c_message_free_unpacked(msg, NULL);
	return 0;
}

static int judge_stages(const Bh__State *state, struct snapshot_fault *fault)
{
	struct snapshot_context context = { .suspended = state->suspended };
	int r = judge_names(state, fault);

	if (r == 0)
		r = take_features(state, &context);
	for (size_t i = 0; r == 0 && snapshot_stage_at(i); i++)
		r = judge_stage(state, snapshot_stage_at(i), &context, fault);
	return r;
}

int snapshot_unpack(const uint8_t *bytes, size_t n, Bh__State **ret_state,
	struct snapshot_fault *fault)
{
	ProtobufCMessage *msg;
	Bh__State *state;
	int r = snapshot_parse(&bh__state__descriptor, bytes, n, &msg);

	if (r == -EBADMSG)
		return snapshot_refuse(fault, "its body is no message State");
	if (r < 0)
		return r;
	state = (Bh__State *)(void *)msg;
	r = judge_head(state, fault);
	if (r == 0)
		r = judge_stages(state, fault);
	if (r == 0)
		*ret_state = state;
	else
		bh__state__free_unpacked(state, NULL);
	return r;
}
