/*
 * Streams and files with snapshots, and what bulkheadctl shows of them. An input is a file as it
 * is, or the body of an image whose header is made right for it: no fuzzer finds a checksum. What
 * passes is the same when it is packed again, and is displayed without a character that a terminal
 * obeys.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "ctl/inspect.h"
#include "input.h"
#include "snapshot/snapshot.h"
#include "virtio/vhost-user.h"
#include "virtio/virtio.h"

static void check_text(const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++)
		check((*p >= ' ' && *p != 0x7f) || *p == '\n');
}

/* protobuf-c cannot read all unknown fields that it has written. */
static bool has_unknown_fields(const Bh__State *state)
{
	unsigned int n = state->base.n_unknown_fields;

	for (size_t i = 0; i < state->n_stages; i++)
		n += state->stages[i]->base.n_unknown_fields;
	return n > 0;
}

static void check_again(const Bh__State *state)
{
	size_t n = bh__state__get_packed_size(state);
	_cleanup_free_ uint8_t *bytes = malloc(n + 1);
	struct snapshot_fault fault;
	Bh__State *again;

	check(bytes);
	bh__state__pack(state, bytes);
	check(snapshot_unpack(bytes, n, &again, &fault) == 0);
	check(again->n_stages == state->n_stages);
	bh__state__free_unpacked(again, NULL);
}

/* Whoever uses a stage of rings relies on this. */
static void check_rings(const Bh__State *state)
{
	ProtobufCMessage *msg = NULL;
	const Bh__RingsStage *rings;

	if (snapshot_stage_unpack(state, &snapshot_stage_rings, &msg) < 0)
		return;
	rings = (const void *)msg;
	for (size_t i = 0; i < rings->n_rings; i++) {
		const Bh__RingStage *ring = rings->rings[i];

		check(ring->index < VHOST_USER_MAX_QUEUES && ring->size <= VIRTQUEUE_SIZE_MAX);
		check(ring->n_in_flight <= ring->size);
		for (size_t k = 0; k < ring->n_in_flight; k++)
			check(ring->in_flight[k] < ring->size);
	}
	protobuf_c_message_free_unpacked(msg, NULL);
}

static void print(const struct sheet *sheet, const struct images *images, const char *error)
{
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);

	check(to);
	inspect_print(to, sheet, "file", images, error);
	check(fclose(to) == 0);
	check(strlen(text) == n);
	check_text(text);
	free(text);
}

static void look(uint8_t *bytes, size_t n)
{
	struct saved saved = { bytes, n };
	struct snapshot_fault fault = { "" };
	struct snapshot_image image;
	static struct images images;
	int r = images_find(&saved, &images, &fault);

	check(r == 0 || (r == SNAPSHOT_E_REFUSED && *fault.text));
	check_text(fault.text);
	for (size_t i = 0; i < images.n; i++) {
		if (!has_unknown_fields(images.list[i].state))
			check_again(images.list[i].state);
		check_rings(images.list[i].state);
	}
	if (r == 0 && images.n == 1)
		check(snapshot_check(bytes, n, &image, &fault) == 0);
	else
		check(snapshot_check(bytes, n, &image, &fault) == SNAPSHOT_E_REFUSED);
	print(&sheet_table, &images, fault.text);
	print(&sheet_json, &images, fault.text);
	images_free(&images);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	uint8_t *bytes;
	size_t n_bytes;

	if (input_u8(&in) & 1) {
		if (snapshot_pack(in.data, in.n, &bytes, &n_bytes) < 0)
			return 0;
	} else {
		n_bytes = in.n;
		bytes = malloc(n_bytes + 1);
		check(bytes);
		input_bytes(&in, bytes, n_bytes);
	}
	look(bytes, n_bytes);
	free(bytes);
	return 0;
}
