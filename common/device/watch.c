/*
 * A worker watches its record: it asks memory for a newer one, applies that, and asks again. While
 * memory is away, what was applied stays in force. The watch still asks for the generation after
 * it, and is answered once memory is back.
 *
 * In a handshake one record follows the other, and the VMM waits for each. So a bell (fd/bell.h)
 * tells of them. The question is then answered for other reasons: there is a transfer, or the
 * record was newer before the bell was there.
 */
#include "device/watch.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "device/core.h"
#include "device/shmem-set.h"
#include "device/transfer.h"
#include "fd/bell.h"

/* Notes how long the guest went unserved since the previous worker's clean exit. */
static void note_pause(struct device *device)
{
	struct ledger_header *header = device->ledger.header;

	if (header->left_ns) {
		header->pause_ns = clock_ns() - header->left_ns;
		device->core->was_left = true;
	}
	header->left_ns = 0;
}

int watch_read(struct device *device)
{
	Bh__Desired *desired = NULL;
	int r;

	if (device->core->serves && !device->core->settled)
		return 0;
	r = record_read_desired(device->core->record, &desired);
	if (r < 0) {
		log_error("the record of this device cannot be read: %s", strerror(-r));
		return r;
	}
	if (!device->core->serves) {
		(void)apply_memory(device, desired);
		return 0;
	}
	if (quarantine_holds(device))
		apply_note(device->core, desired);
	else if (apply_desired(device, desired) < 0)
		return 0;
	note_pause(device);
	log_debug("generation %llu of the record is applied: %s",
		(unsigned long long)device->core->generation,
		device->core->apply_error ?: "completely");
	device_report(device);
	return 0;
}

static void start_anew(struct device *device, int error)
{
	if (error == -ESTALE)
		LOG_EVENT(ANEW,
			log_notice(
				"the memory manager was stopped, and has begun with an empty record; this worker begins anew as well"));
	else
		log_error("lost the record: %s; restarting", strerror(-error));
	sd_event_exit(device->event, 1);
}

void watch_read_again(struct device *device)
{
	int r = watch_read(device);

	if (r < 0)
		start_anew(device, r);
}

/* --- The bell --- */

static void read_newer(struct device *device)
{
	const struct device_core *core = device->core;

	if (record_generation(core->record, RECORD_DESIRED) > core->generation)
		watch_read_again(device);
}

static int on_bell(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct device *device = data;

	if (bell_hear(fd) < 0)
		watch_close(device);
	read_newer(device);
	return 0;
}

/* Without one, the question is answered. */
static void get_bell(struct device *device)
{
	struct device_core *core = device->core;

	watch_close(device);
	if (vault_bell(core->vault, &core->bell_fd) == 0 &&
		sd_event_add_io(device->event, &core->bell_source, core->bell_fd, EPOLLIN, on_bell,
			device) < 0)
		watch_close(device);
}

void watch_close(struct device *device)
{
	struct device_core *core = device->core;

	core->bell_source = sd_event_source_disable_unref(core->bell_source);
	core->bell_fd = fd_close(core->bell_fd);
}

/* --- A memory that is started again --- */

/* A restarted memory manager publishes the record in a new file. A different record ID means
 * that it was stopped, not killed, and lost its contents: this worker's state is void, too. */
static int attach_again(struct device *device)
{
	struct device_core *core = device->core;
	struct vault_attachment attachment = { .record_fd = -1, .ledger_fd = -1 };
	struct record_file *record = NULL;
	int r;

	r = vault_attach(core->vault,
		ledger_bytes(VHOST_USER_MAX_QUEUES, VIRTQ_SIZE_MAX, device->ops->state_first_bytes),
		&attachment);
	if (r < 0)
		return r;
	r = attachment.record_id == core->record_id ? record_open(&record, attachment.record_fd)
						    : -ESTALE;
	vault_attachment_deinit(&attachment);
	if (r < 0)
		return r;
	record_close(core->record);
	core->record = record;
	return 0;
}

void watch_memory_is_back(void *data)
{
	struct device *device = data;
	int r = attach_again(device);

	if (r < 0 && r != -ETIMEDOUT)
		start_anew(device, r);
	else if (r == 0 && shmem_deposit_again(device))
		device_report(device);
	if (r < 0)
		return;
	get_bell(device);
	/* what could not be applied while memory was away */
	read_newer(device);
}

/* A watch may have timed out because its reply was lost. */
static bool has_moved_on(struct device *device)
{
	Bh__Desired *desired = NULL;
	bool moved;

	if (record_read_desired(device->core->record, &desired) < 0)
		return true;
	moved = desired->generation != device->core->generation;
	bh__desired__free_unpacked(desired, NULL);
	return moved;
}

static void on_desired(void *data, int error, const Bh__Envelope *reply)
{
	struct device *device = data;
	bool news_of_record;

	device->core->watch_open = false;
	/* sent by a restarted memory manager, before this worker learned of the restart */
	if (error == 0 &&
		reply->watch_desired_reply->generation >
			record_generation(device->core->record, RECORD_DESIRED))
		watch_memory_is_back(device);
	if (error)
		transfer_unheard(device);
	news_of_record = error == 0 && !reply->watch_desired_reply->unchanged &&
		!transfer_hear(device, reply->watch_desired_reply);
	if (error == -ETIMEDOUT ? has_moved_on(device) : news_of_record)
		watch_read_again(device);
	if (error == -ECONNRESET)
		device_report(device);
	transfer_go_on(device);
	watch_ask(device);
}

void watch_ask(struct device *device)
{
	struct device_core *core = device->core;
	Bh__WatchDesired request = BH__WATCH_DESIRED__INIT;
	Bh__Envelope msg = BH__ENVELOPE__INIT;
	int r;

	if (core->watch_open || (core->serves && !core->settled))
		return;
	request.device = device->config->name;
	request.generation = core->generation;
	request.patient = true;
	transfer_ask(device, &request);
	msg.body_case = BH__ENVELOPE__BODY_WATCH_DESIRED;
	msg.watch_desired = &request;
	r = bus_client_call(core->bus, &msg, BUS_WATCH_MS, on_desired, device);
	if (r < 0) {
		log_error("cannot watch the record: %s", strerror(-r));
		sd_event_exit(device->event, 1);
		return;
	}
	core->watch_open = true;
}

void watch_open(struct device *device)
{
	get_bell(device);
	watch_ask(device);
}
