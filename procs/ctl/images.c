/* A file of a whole guest is one image behind the other. */
#include "images.h"

#include "base/bytes.h"

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
