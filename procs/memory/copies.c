/*
 * There are three files with the same content:
 *
 *   t.NAME in the fd store: the authoritative one. It is written first, and only the next memory
 *              manager reads it.
 *   r.NAME     in the fd store: a copy for a memory manager of the former release, in case of a
 *              downgrade. That release knows no other name, drops t.NAME, and hands r.NAME to its
 *              workers. After an upgrade its workers still map that file, and a different one would
 *              tell them that everything is lost. The inode of this file is the record's identity,
 *              which therefore survives upgrades in both directions.
 *   published  made at each start for the workers, and sealed: only our mapping can write it.
 *
 * F_SEAL_SEAL tells a file that a former release handed out: our own files do not have that seal.
 */
#include "copies.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "fd/fdstore.h"
#include "judge.h"
#include "record/record.h"

struct copies {
	const char *device;
	struct record_file *truth, *former, *published;
	int truth_fd, former_fd, published_fd;
	int handed_out_fd; /* to read the former copy by; -1: no former release has handed it out */
};

/* --- Reading, judged --- */

static void say_unusable(const char *device, const char *why)
{
	log_device(LOG_ERR, device, "the stored record is unusable; starting with an empty one: %s",
		why);
}

static int read_desired(const struct record_file *file, const char *device, Bh__Desired **ret)
{
	Bh__Desired *desired = NULL;
	char text[256] = "it is no record";
	int r = record_read_desired(file, &desired);

	if (r == 0 && judge_desired(desired, desired->generation, text, sizeof(text)) == 0) {
		*ret = desired;
		return 0;
	}
	if (r == 0)
		bh__desired__free_unpacked(desired, NULL);
	if (r == 0 || r == -EBADMSG)
		say_unusable(device, text);
	return r < 0 ? r : -EBADMSG;
}

/* The worker reports again soon. Until then its offer is kept, and what cannot be true is
 * dropped. */
static int read_observed(const struct record_file *file, const char *device, uint64_t generation,
	Bh__Observed **ret)
{
	Bh__Observed *observed = NULL;
	char text[256] = "it is no report";
	int r = record_read_observed(file, &observed);

	if (r == 0 && observed->applied > generation) {
		log_device(LOG_WARNING, device,
			"ignoring the stored report: it claims generation %llu, and the last one is %llu",
			(unsigned long long)observed->applied, (unsigned long long)generation);
		observed->applied = 0;
	}
	if (r == 0 && observed->generation <= INT64_MAX &&
		judge_observed(observed, generation, text, sizeof(text)) == 0) {
		*ret = observed;
		return 0;
	}
	if (r == 0)
		bh__observed__free_unpacked(observed, NULL);
	if (r < 0 && r != -EBADMSG)
		return r;
	log_device(LOG_WARNING, device,
		"the stored report is unusable; the worker will make another: %s", text);
	*ret = bh__observed__unpack(NULL, 0, NULL);
	return *ret ? 0 : -ENOMEM;
}

/* --- Files --- */

/* Take a file from the fd store. *ret_file stays NULL if there is none, or if it cannot be used. */
static int take_file(const char *prefix, const char *device, int *ret_fd,
	struct record_file **ret_file)
{
	char name[128];
	int r;

	snprintf(name, sizeof(name), "%s.%s", prefix, device);
	*ret_fd = fdstore_take(name);
	r = *ret_fd < 0 ? 0 : record_open(ret_file, *ret_fd);
	if (r != -EBADMSG)
		return r;
	log_device(LOG_ERR, device, "%s in the fd store is not a record; creating a new one", name);
	(void)fdstore_remove(name);
	*ret_fd = fd_close(*ret_fd);
	return 0;
}

/* The halves that a new file begins with. */
struct halves {
	const Bh__Desired *desired;
	const Bh__Observed *observed;
};

static int write_halves(struct record_file *file, const struct halves *halves)
{
	int r = record_write_desired(file, halves->desired);

	return r < 0 ? r : record_write_observed(file, halves->observed);
}

/* Make a new file, and replace the present one in the fd store. It is complete before it is there:
 * after a death in between, the next memory manager believes what it finds.
 * halves: NULL = none, the record is empty */
static int make_file(const char *prefix, const char *device, const struct halves *halves,
	int *ret_fd, struct record_file **ret_file)
{
	char name[128];
	int r;

	snprintf(name, sizeof(name), "%s.%s", prefix, device);
	*ret_file = record_close(*ret_file);
	if (*ret_fd >= 0)
		(void)fdstore_remove(name);
	*ret_fd = fd_close(*ret_fd);
	*ret_fd = record_create(device);
	if (*ret_fd < 0)
		return *ret_fd;
	r = record_open(ret_file, *ret_fd);
	if (r == 0 && halves)
		r = write_halves(*ret_file, halves);
	return r < 0 ? r : fdstore_push(name, *ret_fd);
}

/* --- Open --- */

static int read_halves(const struct record_file *file, const char *device,
	Bh__Desired **ret_desired, Bh__Observed **ret_observed)
{
	Bh__Desired *desired = NULL;
	int r = read_desired(file, device, &desired);

	if (r == 0)
		r = read_observed(file, device, desired->generation, ret_observed);
	if (r < 0) {
		if (desired)
			bh__desired__free_unpacked(desired, NULL);
		return r;
	}
	*ret_desired = desired;
	return 0;
}

/* An empty record gets a new identity, so that workers that know the former one start anew as
 * well. */
static int begin_anew(struct copies *copies)
{
	int r = make_file("t", copies->device, NULL, &copies->truth_fd, &copies->truth);

	return r < 0 ? r
		     : make_file("r", copies->device, NULL, &copies->former_fd, &copies->former);
}

/* A copy may be behind after a kill between two writes; writing the same twice is harmless. */
static int write_all(struct copies *copies, const Bh__Desired *desired,
	const Bh__Observed *observed)
{
	int r = copies_write_desired(copies, desired);

	return r < 0 ? r : copies_write_observed(copies, observed);
}

static int open_halves(struct copies *copies, Bh__Desired **ret_desired,
	Bh__Observed **ret_observed)
{
	const struct record_file *from = copies->truth ?: copies->former;
	struct halves halves;
	int r = from ? read_halves(from, copies->device, ret_desired, ret_observed) : -EBADMSG;

	if (r == -EBADMSG) {
		r = begin_anew(copies);
		return r < 0
			? r
			: read_halves(copies->truth, copies->device, ret_desired, ret_observed);
	}
	halves = (struct halves){ r == 0 ? *ret_desired : NULL, r == 0 ? *ret_observed : NULL };
	if (r == 0 && !copies->truth)
		r = make_file("t", copies->device, &halves, &copies->truth_fd, &copies->truth);
	if (r == 0 && !copies->former)
		r = make_file("r", copies->device, &halves, &copies->former_fd, &copies->former);
	return r;
}

static int note_handed_out(struct copies *copies)
{
	int seals = fcntl(copies->former_fd, F_GET_SEALS);

	if (seals < 0 || !(seals & F_SEAL_SEAL))
		return 0;
	copies->handed_out_fd = file_open_again(copies->former_fd, O_RDONLY);
	return copies->handed_out_fd < 0 ? copies->handed_out_fd : 0;
}

int copies_open(struct copies **ret_copies, const char *device, Bh__Desired **ret_desired,
	Bh__Observed **ret_observed)
{
	struct copies *copies = calloc(1, sizeof(*copies));
	int r;

	if (!copies)
		return -ENOMEM;
	*copies = (struct copies){ .device = device,
		.truth_fd = -1,
		.former_fd = -1,
		.published_fd = -1,
		.handed_out_fd = -1 };
	*ret_copies = copies;
	r = take_file("t", device, &copies->truth_fd, &copies->truth);
	if (r == 0)
		r = take_file("r", device, &copies->former_fd, &copies->former);
	if (r == 0)
		r = open_halves(copies, ret_desired, ret_observed);
	if (r == 0)
		r = note_handed_out(copies);
	if (r == 0)
		r = record_publish(&copies->published, &copies->published_fd, device);
	return r < 0 ? r : write_all(copies, *ret_desired, *ret_observed);
}

struct copies *copies_close(struct copies *copies)
{
	if (!copies)
		return NULL;
	record_close(copies->truth);
	record_close(copies->former);
	record_close(copies->published);
	fd_close(copies->truth_fd);
	fd_close(copies->former_fd);
	fd_close(copies->published_fd);
	fd_close(copies->handed_out_fd);
	free(copies);
	return NULL;
}

/* --- Use --- */

int copies_write_desired(struct copies *copies, const Bh__Desired *desired)
{
	int r = record_write_desired(copies->truth, desired);

	if (r == 0)
		r = record_write_desired(copies->former, desired);
	return r < 0 ? r : record_write_desired(copies->published, desired);
}

int copies_write_observed(struct copies *copies, const Bh__Observed *observed)
{
	int r = record_write_observed(copies->truth, observed);

	if (r == 0)
		r = record_write_observed(copies->former, observed);
	return r < 0 ? r : record_write_observed(copies->published, observed);
}

uint64_t copies_id(const struct copies *copies)
{
	struct stat st;

	return fstat(copies->former_fd, &st) < 0 ? 0 : st.st_ino;
}

int copies_fd(const struct copies *copies, bool by_id)
{
	return copies->handed_out_fd >= 0 && !by_id ? copies->handed_out_fd : copies->published_fd;
}
