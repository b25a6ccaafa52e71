/*
 * A half of the record is always replaced whole, and the record file is written first: a kill after
 * that write finds the change committed, a kill before it finds nothing changed.
 */
#include "served.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "fd/fdstore.h"
#include "record/copy.h"
#include "record/record.h"

/* A ledger that could shrink would kill its readers. */
static bool is_ledger(int fd, const struct stat *st)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_SHRINK) && st->st_size > 0 &&
		st->st_size <= SERVED_LEDGER_BYTES_MAX;
}

static void take_ledger(struct served *device)
{
	char name[128];
	struct stat st;

	snprintf(name, sizeof(name), "l.%s", device->config->name);
	device->ledger_fd = fdstore_take(name);
	if (device->ledger_fd < 0)
		return;
	if (fstat(device->ledger_fd, &st) == 0 && is_ledger(device->ledger_fd, &st)) {
		device->ledger_bytes = (uint64_t)st.st_size;
		return;
	}
	log_device(LOG_ERR, device->config->name,
		"the stored ledger is unusable; starting with an empty one");
	(void)fdstore_remove(name);
	device->ledger_fd = fd_close(device->ledger_fd);
}

int served_open(struct served *device)
{
	int r;

	device->ledger_fd = -1;
	r = vault_open(&device->vault, device->config->name);
	if (r < 0)
		return r;
	vault_restore(device->vault);
	take_ledger(device);
	r = copies_open(&device->copies, device->config->name, &device->desired, &device->observed);
	if (r == 0)
		vault_adopt(device->vault, device->desired, device->observed);
	return r;
}

void served_close(struct served *device)
{
	if (device->desired)
		bh__desired__free_unpacked(device->desired, NULL);
	if (device->observed)
		bh__observed__free_unpacked(device->observed, NULL);
	copies_close(device->copies);
	vault_close(device->vault);
	free(device->suspended.state);
	fd_close(device->ledger_fd);
}

int served_commit(struct served *device, Bh__Desired *desired)
{
	int r = copies_write_desired(device->copies, desired);

	if (r < 0)
		return r;
	bh__desired__free_unpacked(device->desired, NULL);
	device->desired = desired;
	return 0;
}

void served_settle(struct served *device)
{
	vault_committed(device->vault, device->desired);
}

int served_report(struct served *device, const Bh__Observed *report)
{
	Bh__Observed *observed = record_copy_observed(report);
	int r;

	if (!observed)
		return -ENOMEM;
	observed->generation = device->observed->generation + 1;
	r = copies_write_observed(device->copies, observed);
	if (r < 0) {
		bh__observed__free_unpacked(observed, NULL);
		return r;
	}
	bh__observed__free_unpacked(device->observed, NULL);
	device->observed = observed;
	vault_reported(device->vault, observed);
	return 0;
}

void served_suspend(struct served *device, uint64_t generation, const ProtobufCBinaryData *state)
{
	struct suspended *suspended = &device->suspended;

	free(suspended->state);
	*suspended = (struct suspended){ .generation = generation };
	if (state->len == 0 || state->len > RECORD_STATE_BYTES_MAX)
		return;
	suspended->state = malloc(state->len);
	if (!suspended->state)
		return; /* then the worker is asked */
	memcpy(suspended->state, state->data, state->len);
	suspended->n_state = state->len;
}

bool served_is_deadly(const struct served *device)
{
	return device->mark->deaths >= BLAME_LIMIT;
}

const char *served_quarantine(const struct served *device)
{
	return *device->desired->quarantine ? device->desired->quarantine
					    : device->observed->quarantine;
}
