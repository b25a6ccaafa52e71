/* bulkheadctl snapshot and restore: which devices, and in which order. */
#include "snapshot.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "bus/bus.h"
#include "images.h"
#include "query.h"
#include "saved.h"
#include "snapshot/stage.h"
#include "transfer.h"

/** struct choice - the devices of a guest that are meant */
struct choice {
	const char *runtime_dir;
	bool counters; /* false: without them */
	char guest[CONFIG_NAME_MAX + 1];
	char only[CONFIG_NAME_MAX + 1]; /* "" = all */
	struct {
		char name[CONFIG_NAME_MAX + 1], type[CONFIG_NAME_MAX + 1];
		const struct image *image; /* to be loaded; NULL = none */
	} devices[CONFIG_DEVICES_MAX];
	size_t n;
};

/* --- The guest --- */

static int take_name(char to[CONFIG_NAME_MAX + 1], const char *from, size_t n)
{
	snprintf(to, CONFIG_NAME_MAX + 1, "%.*s", (int)n, from);
	if (n <= CONFIG_NAME_MAX && config_check_name(to))
		return 0;
	fprintf(stderr, "%.*s: names have 1 to %d letters, digits, '_', '-' or '.'\n", (int)n, from,
		CONFIG_NAME_MAX);
	return -EINVAL;
}

static int parse(struct choice *choice, const char *which)
{
	const char *colon = strchr(which, ':');
	int r = take_name(choice->guest, which, colon ? (size_t)(colon - which) : strlen(which));

	if (r == 0 && colon)
		r = take_name(choice->only, colon + 1, strlen(colon + 1));
	return r;
}

static void take_devices(const Bh__GetStatusReply *status, void *data)
{
	struct choice *choice = data;

	choice->n = MIN(status->n_devices, ARRAY_SIZE(choice->devices));
	for (size_t i = 0; i < choice->n; i++) {
		snprintf(choice->devices[i].name, sizeof(choice->devices[i].name), "%s",
			status->devices[i]->name);
		snprintf(choice->devices[i].type, sizeof(choice->devices[i].type), "%s",
			status->devices[i]->type);
	}
}

static ssize_t find_device(const struct choice *choice, const char *name)
{
	for (size_t i = 0; i < choice->n; i++)
		if (strcmp(choice->devices[i].name, name) == 0)
			return (ssize_t)i;
	return -1;
}

static int choose(struct choice *choice, const char *runtime_dir, const char *which)
{
	int r = parse(choice, which);

	if (r < 0)
		return r;
	choice->runtime_dir = runtime_dir;
	r = query_status(runtime_dir, choice->guest, BUS_TIMEOUT_MS, take_devices, choice);
	if (r < 0) {
		fprintf(stderr, "guest %s: %s\n", choice->guest, query_why(r));
		return r;
	}
	if (!*choice->only || find_device(choice, choice->only) >= 0)
		return 0;
	fprintf(stderr, "guest %s has no device %s; 'bulkheadctl status %s' shows which it has\n",
		choice->guest, choice->only, choice->guest);
	return -ENODEV;
}

static bool is_chosen(const struct choice *choice, size_t i)
{
	return !*choice->only || strcmp(choice->only, choice->devices[i].name) == 0;
}

static struct target target_of(const struct choice *choice, size_t i)
{
	return (struct target){ choice->runtime_dir, choice->guest, choice->devices[i].name };
}

static int strip(const struct choice *choice, struct saved *image)
{
	return choice->counters ? 0 : image_strip(image, snapshot_stage_counters.name);
}

/* --- Snapshot --- */

static int append(struct saved *file, const struct saved *image)
{
	uint8_t *bytes = realloc(file->bytes, file->n + image->n);

	if (!bytes)
		return -ENOMEM;
	memcpy(bytes + file->n, image->bytes, image->n);
	*file = (struct saved){ bytes, file->n + image->n };
	return 0;
}

static int save_one(const struct choice *choice, size_t i, struct saved *file)
{
	struct target target = target_of(choice, i);
	struct saved image = { 0 };
	int r = transfer_save(&target, &image);

	if (r == 0)
		r = strip(choice, &image);
	if (r == 0)
		r = append(file, &image);
	free(image.bytes);
	return r;
}

static int save_to(const struct choice *choice, const struct place *place)
{
	struct saved file = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < choice->n; i++)
		if (is_chosen(choice, i))
			r = save_one(choice, i, &file);
	if (r == 0)
		r = place_write(place, &file);
	for (size_t i = 0; r == 0 && i < choice->n; i++)
		if (is_chosen(choice, i))
			printf("%s:%s saved\n", choice->guest, choice->devices[i].name);
	free(file.bytes);
	return r;
}

int snapshot_run(const char *runtime_dir, const char *which, const char *path, bool counters)
{
	struct choice choice = { .counters = counters };
	struct place place;
	int r = place_open(&place, path);

	if (r < 0)
		return r;
	r = choose(&choice, runtime_dir, which);
	if (r == 0 && choice.n == 0) {
		fprintf(stderr, "guest %s has no devices\n", choice.guest);
		r = -ENODEV;
	}
	if (r == 0)
		r = save_to(&choice, &place);
	place_close(&place);
	return r;
}

/* --- Restore: what goes where --- */

static int assign(struct choice *choice, const char *path, const struct image *image, size_t i)
{
	const char *name = choice->devices[i].name, *type = choice->devices[i].type;

	if (strcmp(image->state->type, type) != 0)
		return saved_fail(path, -EINVAL,
			"device %s is of type %s there, and %s:%s is of type %s",
			image->state->device, image->state->type, choice->guest, name, type);
	if (choice->devices[i].image)
		return saved_fail(path, -EINVAL, "device %s is there twice", name);
	choice->devices[i].image = image;
	return 0;
}

static int assign_all(struct choice *choice, const char *path, const struct images *images)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < images->n; i++) {
		const struct image *image = &images->list[i];
		ssize_t at = find_device(choice, image->state->device);

		r = at >= 0 ? assign(choice, path, image, (size_t)at)
			    : saved_fail(path, -ENODEV,
				      "it has device %s, and guest %s has none of that name",
				      image->state->device, choice->guest);
	}
	return r;
}

/* The only image of a file may be another device's. */
static int assign_only(struct choice *choice, const char *path, const struct images *images)
{
	size_t at = (size_t)find_device(choice, choice->only);
	int r = 0;

	if (images->n == 1)
		return assign(choice, path, &images->list[0], at);
	for (size_t i = 0; r == 0 && i < images->n; i++)
		if (strcmp(images->list[i].state->device, choice->only) == 0)
			r = assign(choice, path, &images->list[i], at);
	if (r == 0 && !choice->devices[at].image)
		r = saved_fail(path, -ENODEV, "none of its %zu images is of device %s", images->n,
			choice->only);
	return r;
}

/* --- Restore: load --- */

static int load_one(const struct choice *choice, size_t i)
{
	const struct image *image = choice->devices[i].image;
	struct target target = target_of(choice, i);
	struct saved bytes = { 0 };
	int r = append(&bytes, &(struct saved){ (uint8_t *)image->bytes, image->n });

	if (r == 0)
		r = strip(choice, &bytes);
	if (r == 0)
		r = transfer_load(&target, &bytes);
	free(bytes.bytes);
	return r;
}

static void tell_rest(const struct choice *choice, size_t failed)
{
	for (size_t i = failed + 1; i < choice->n; i++)
		if (choice->devices[i].image)
			fprintf(stderr, "%s:%s: not restored: an earlier device has failed\n",
				choice->guest, choice->devices[i].name);
}

static int load_all(const struct choice *choice)
{
	for (size_t i = 0; i < choice->n; i++) {
		int r = choice->devices[i].image ? load_one(choice, i) : 0;

		if (r < 0) {
			tell_rest(choice, i);
			return r;
		}
		if (choice->devices[i].image)
			printf("%s:%s restored\n", choice->guest, choice->devices[i].name);
		else if (!*choice->only)
			printf("%s:%s is not in the file, and stays as it is\n", choice->guest,
				choice->devices[i].name);
		fflush(stdout);
	}
	return 0;
}

static int restore_images(struct choice *choice, const char *path, const struct images *images)
{
	int r = *choice->only ? assign_only(choice, path, images)
			      : assign_all(choice, path, images);

	return r < 0 ? r : load_all(choice);
}

int restore_run(const char *runtime_dir, const char *which, const char *path, bool counters)
{
	struct choice choice = { .counters = counters };
	struct snapshot_fault fault = { "" };
	struct saved saved = { 0 };
	struct images images;
	int r = saved_read(path, &saved);

	if (r < 0)
		return r;
	r = images_find(&saved, &images, &fault);
	if (r)
		r = saved_fail(path, r < 0 ? r : -EBADMSG, "%s", r < 0 ? strerror(-r) : fault.text);
	if (r == 0)
		r = choose(&choice, runtime_dir, which);
	if (r == 0)
		r = restore_images(&choice, path, &images);
	images_free(&images);
	free(saved.bytes);
	return r;
}
