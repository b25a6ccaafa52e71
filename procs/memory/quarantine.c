/*
 * A device that has killed one of the processes several times in a row is stopped until the
 * operator releases it. The mark of a worker's deaths is in the ledger, and the worker obeys it by
 * itself. The mark of the frontend's deaths is in a file of the frontend, which commits a record
 * that says so. The mark of our own deaths is here: we put the record that says so in force
 * ourselves, and accept no other. Releasing the device clears all of these marks.
 */
#include "quarantine.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "proc/quarantine.h"
#include "record/copy.h"
#include "virtq/ledger.h"
#include "watch.h"

static void name_input(const struct blame_mark *mark, char *buf, size_t n)
{
	const char *what = "descriptors that were deposited";

	if (mark->what == BH__ENVELOPE__BODY_COMMIT_DESIRED)
		what = "a record of the frontend";
	if (mark->what == BH__ENVELOPE__BODY_REPORT_OBSERVED)
		what = "a report of the worker";
	if (mark->what == BH__ENVELOPE__BODY_REPORT_TRANSFER)
		what = "what was reported of a transfer of its state";
	snprintf(buf, n, "%s (message %llu)", what, (unsigned long long)mark->what);
}

/* Counters that continue over all sessions are kept. The generation is the next one, so that the
 * frontend notices that its record is no longer in force. */
static void fill(const struct served *device, char *text, Bh__Desired *ret)
{
	bh__desired__init(ret);
	ret->generation = device->desired->generation + 1;
	ret->session = device->desired->session;
	ret->reset_epoch = device->desired->reset_epoch;
	ret->rarp_seq = device->desired->rarp_seq;
	ret->quarantine = text;
}

int quarantine_enter(struct served *device, const struct proc *proc)
{
	char input[64], text[160];
	Bh__Desired stopped, *copy;
	int r;

	name_input(device->mark, input, sizeof(input));
	quarantine_explain(proc, device->config->name, "memory manager", input, device->mark, text,
		sizeof(text));
	if (*device->desired->quarantine)
		return 0;
	fill(device, text, &stopped);
	copy = record_copy_desired(&stopped);
	if (!copy)
		return -ENOMEM;
	r = served_commit(device, copy);
	if (r < 0)
		bh__desired__free_unpacked(copy, NULL);
	else
		served_settle(device);
	return r;
}

static void clear_ledger_mark(const struct served *device)
{
	const struct blame_mark none = { 0 };

	if (device->ledger_fd >= 0 &&
		pwrite(device->ledger_fd, &none, sizeof(none),
			offsetof(struct ledger_header, blame)) != sizeof(none))
		log_device(LOG_ERR, device->config->name, "cannot clear the mark in the ledger");
}

static void release(struct memory *memory, struct served *device)
{
	log_device(LOG_NOTICE, device->config->name, "released from quarantine (%s)",
		served_quarantine(device));
	clear_ledger_mark(device);
	*device->mark = (struct blame_mark){ 0 };
	if (*device->desired->quarantine)
		device->released = device->desired->generation;
	if (*device->observed->quarantine)
		*device->observed->quarantine = '\0';
	if (device->observed->generation) {
		device->observed->generation++; /* so that the frontend looks at it */
		(void)copies_write_observed(device->copies, device->observed);
	}
	device->wake = true;
	watch_tell_workers(memory, device);
	watch_tell_frontend(memory);
}

int handle_release_device(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	Bh__ReleaseDeviceReply reply = BH__RELEASE_DEVICE_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;
	struct memory *memory = context;
	struct served *device = peer_any_device(memory, msg->release_device->device);

	if (!device)
		return -ENODEV;
	reply.released = served_quarantine(device)[0] != '\0';
	if (reply.released)
		release(memory, device);
	body.body_case = BH__ENVELOPE__BODY_RELEASE_DEVICE_REPLY;
	body.release_device_reply = &reply;
	bus_request_reply(request, &body);
	return 0;
}
