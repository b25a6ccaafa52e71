/* A file of a whole guest is one image behind the other. */
#include "images.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"

static int find_one(const struct saved *saved, size_t *at, struct image *ret_image,
	struct snapshot_fault *fault)
{
	struct snapshot_image found;
	size_t start = *at;
	Bh__State *state;
	int r = snapshot_next(saved->bytes, saved->n, at, &found, fault);

	if (r)
		return r;
	r = snapshot_unpack(found.state, found.n_state, &state, fault);
	if (r)
		return r;
	*ret_image = (struct image){ state, saved->bytes + start, *at - start };
	return 0;
}

int images_find(const struct saved *saved, struct images *images, struct snapshot_fault *fault)
{
	struct snapshot_fault inner;
	struct image image;
	size_t at = 0;
	int r;

	images->n = 0;
	while ((r = find_one(saved, &at, &image, &inner)) == 0) {
		if (images->n == ARRAY_SIZE(images->list)) {
			bh__state__free_unpacked(image.state, NULL);
			return snapshot_refuse(fault, "has more than %d images",
				CONFIG_DEVICES_MAX);
		}
		images->list[images->n++] = image;
	}
	if (r == SNAPSHOT_E_REFUSED && images->n == 0)
		*fault = inner;
	else if (r == SNAPSHOT_E_REFUSED)
		snapshot_refuse(fault, "image %zu: %s", images->n + 1, inner.text);
	return r == SNAPSHOT_E_END ? 0 : r;
}

void images_free(struct images *images)
{
	while (images->n)
		bh__state__free_unpacked(images->list[--images->n].state, NULL);
}

/* --- Without a stage --- */

static bool remove_stage(Bh__State *state, const char *name)
{
	for (size_t i = 0; i < state->n_stages; i++) {
		if (strcmp(state->stages[i]->name, name) != 0)
			continue;
		bh__stage__free_unpacked(state->stages[i], NULL);
		state->n_stages--;
		memmove(&state->stages[i], &state->stages[i + 1],
			(state->n_stages - i) * sizeof(*state->stages));
		return true;
	}
	return false;
}

static int pack(const Bh__State *state, struct saved *ret_image)
{
	size_t n = bh__state__get_packed_size(state);
	_cleanup_free_ uint8_t *bytes = malloc(n + 1);

	if (!bytes)
		return -ENOMEM;
	bh__state__pack(state, bytes);
	return snapshot_pack(bytes, n, &ret_image->bytes, &ret_image->n);
}

int image_strip(struct saved *image, const char *stage)
{
	struct snapshot_fault fault;
	struct saved stripped;
	struct image found;
	size_t at = 0;
	int r = find_one(image, &at, &found, &fault);

	check(r <= 0);
	if (r < 0)
		return r;
	if (remove_stage(found.state, stage)) {
		r = pack(found.state, &stripped);
		if (r == 0) {
			free(image->bytes);
			*image = stripped;
		}
	}
	bh__state__free_unpacked(found.state, NULL);
	return r;
}
