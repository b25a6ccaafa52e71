/*
 * Life cycle of a worker: attach to memory, open the host resource, apply the record, report, and
 * watch for the next generation. A worker that replaces a dead one takes the same path: the record
 * says what the device must be, the ledger says how far its rings had got.
 *
 * The side link (descriptors) answers within one round trip, so start-up waits for it. The bus
 * (watch, report) costs threads, so it is opened only once the guest is being served. Kept
 * descriptors come through the side link, so the worker attaches before it drops its rights. Record
 * and ledger, which other processes wrote, are read after that.
 */
#include "device/calls.h"
#include "device/core.h"
#include "device/log.h"
#include "device/serve.h"
#include "device/shmem-set.h"
#include "device/transfer.h"
#include "device/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "fd/fdstore.h"

#define SETTLE_USEC 5000
#define EPOCHS_AHEAD_MAX 1024

static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct device *device = data;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0)
		return 0;
	blank_look(device);
	apply_broken(device);
	if (device->core->waits)
		watch_read_again(device);
	device_report(device);
	transfer_go_on(device);
	return 0;
}

/* --- Start and end --- */

/* Repeated when this instance gets the turn, to see what the previous holder kept last. */
static int attach(struct device *device)
{
	struct device_core *core = device->core;

	vault_attachment_deinit(&core->attachment);
	return vault_attach(core->vault,
		ledger_bytes(VHOST_USER_MAX_QUEUES, VIRTQ_SIZE_MAX, device->ops->state_first_bytes),
		&core->attachment);
}

static int open_record(struct device *device)
{
	struct device_core *core = device->core;
	Bh__Observed *observed = NULL;
	int r;

	core->record = record_close(core->record);
	core->record_id = core->attachment.record_id;
	r = record_open(&core->record, core->attachment.record_fd);
	if (r < 0)
		return r;
	r = record_read_observed(core->record, &observed);
	if (r < 0)
		return r;
	core->report_generation = observed->generation;
	core->reported_epoch = observed->shmem_epoch;
	device->offer.config_seq = observed->config_seq;
	bh__observed__free_unpacked(observed, NULL);
	return 0;
}

/* A ledger with another version or number of queues cannot be used: its ring positions are lost.
 * The locks are preserved, because standby instances wait on them. */
static int clear_ledger(int fd)
{
	static const uint8_t zero[LEDGER_LOCKS_AT];
	struct stat st;

	if (fstat(fd, &st) < 0 || pwrite(fd, zero, sizeof(zero), 0) != sizeof(zero) ||
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, LEDGER_SHAPED_AT,
			st.st_size - LEDGER_SHAPED_AT) < 0)
		return -errno;
	log_notice("the ledger has a different layout; starting with an empty one");
	return 0;
}

/* The ledger is ahead of the record by what was not reported yet. What is further ahead was not
 * counted by a worker: memory would refuse every report with it. */
static void judge_epoch(struct device *device)
{
	uint64_t *epoch = &device->ledger.header->shmem_epoch;
	uint64_t reported = device->core->reported_epoch;

	if (*epoch > reported && *epoch - reported > EPOCHS_AHEAD_MAX)
		*epoch = reported + 1;
}

static int open_ledger(struct device *device)
{
	int fd = device->core->attachment.ledger_fd;
	uint32_t state_bytes = device->ops->state_first_bytes;
	int r;

	r = ledger_open(&device->ledger, fd, VHOST_USER_MAX_QUEUES, VIRTQ_SIZE_MAX, state_bytes);
	if (r == -EPROTO)
		r = clear_ledger(fd);
	if (r == 0 && !device->ledger.header)
		r = ledger_open(&device->ledger, fd, VHOST_USER_MAX_QUEUES, VIRTQ_SIZE_MAX,
			state_bytes);
	if (r < 0)
		return r;
	judge_epoch(device);
	return device_state_open(device);
}

static int make_queues(struct device *device)
{
	uint32_t n = device->offer.n_queues;

	check(n > 0 && n <= VHOST_USER_MAX_QUEUES &&
		device->offer.config_bytes <= sizeof(device->offer.config));
	device->queues = calloc(n, sizeof(*device->queues));
	device->core->rings = calloc(n, sizeof(*device->core->rings));
	device->core->loop_rings = calloc(n, sizeof(*device->core->loop_rings));
	device->core->broken = calloc(n, sizeof(*device->core->broken));
	if (!device->queues || !device->core->rings || !device->core->loop_rings ||
		!device->core->broken)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		device->queues[i] = (struct device_queue){
			.device = device, .index = i, .kick_fd = -1, .call_fd = -1, .err_fd = -1
		};
	return 0;
}

static struct device *device_new(struct proc *proc, const struct device_ops *ops)
{
	struct device *device = calloc(1, sizeof(*device));

	check(device);
	device->core = calloc(1, sizeof(*device->core));
	device->data = calloc(1, MAX(ops->data_bytes, (size_t)1));
	check(device->core && device->data);
	device->core->attachment = (struct vault_attachment){ .record_fd = -1, .ledger_fd = -1 };
	device->core->wake_fd = device->core->turn.wake_fd = device->core->bell_fd = -1;
	device->core->transfer = transfer_new();
	pthread_mutex_init(&device->core->broken_lock, NULL);
	device->ops = ops;
	device->proc = proc;
	device->event = proc->event;
	device->config = proc->device;
	return device;
}

static int open_link(struct device *device)
{
	_cleanup_free_ char *link = proc_link_path(device->proc, device->proc->peer);
	struct device_core *core = device->core;
	int r;

	core->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (core->wake_fd < 0)
		return -errno;
	r = sd_event_add_io(device->event, NULL, core->wake_fd, EPOLLIN, on_wake, device);
	if (r < 0)
		return r;
	return vault_new(&core->vault, link, device->config->name);
}

static int open_bus(struct device *device)
{
	_cleanup_free_ char *path = proc_bus_path(device->proc, device->proc->peer);
	struct device_core *core = device->core;
	int r = bus_client_listen(&core->bus, device->event, path,
		proc_user(device->proc, "memory"));

	if (r < 0)
		return r;
	if (core->report_due)
		device_report(device);
	watch_open(device);
	return vault_greet(core->vault);
}

static int start_step(const char *what, int r)
{
	if (r < 0)
		log_error("cannot start: %s: %s", what, strerror(-r));
	return r;
}

static void note_leaving(struct device *device)
{
	device->ledger.header->pause_ns = 0;
	device->ledger.header->left_ns = clock_ns();
}

static int open_host(struct device *device)
{
	device->core->serves = true;
	return device->ops->open ? device->ops->open(device) : 0;
}

static int begin(struct device *device)
{
	device->core->settled = true;
	if (device->ops->begin)
		device->ops->begin(device);
	return watch_read(device);
}

static int settle(struct device *device);

static int on_settle_again(sd_event_source *source, uint64_t usec, void *data)
{
	struct device *device = data;

	sd_event_source_unref(source);
	if (start_step("settling", settle(device)) < 0)
		sd_event_exit(device->event, 1);
	else if (device->core->settled && device->core->bus)
		watch_ask(device);
	return 0;
}

/* In-kernel I/O of a dead instance must be over before a ring starts. */
static int settle(struct device *device)
{
	sd_event_source *again = NULL;
	int r = device->ops->settle ? device->ops->settle(device) : 0;

	if (r == 0)
		return begin(device);
	if (r != -EAGAIN)
		return r;
	return MIN(0,
		sd_event_add_time_relative(device->event, &again, CLOCK_MONOTONIC, SETTLE_USEC, 0,
			on_settle_again, device));
}

/* From getting the turn, with the host resource open, to the first report. */
static int serve(struct device *device)
{
	int r = start_step("ledger", open_ledger(device));

	return r < 0 ? r : settle(device);
}

static void on_turn(void *data)
{
	struct device *device = data;

	log_notice("the previous instance is gone; taking over");
	if (start_step("memory manager", attach(device)) < 0 ||
		start_step("record", open_record(device)) < 0 || open_host(device) < 0 ||
		serve(device) < 0)
		sd_event_exit(device->event, 1);
}

/* Does all that does not need the turn. A standby is then ready; a first instance that finds
 * another one serving waits for it to end. */
static int stand_by(struct device *device)
{
	int r = watch_read(device);

	if (r < 0)
		return r;
	proc_status(device->proc, "standing by");
	if (device->config->standby)
		proc_ready(device->proc);
	return turn_wait(&device->core->turn, device->event, on_turn, device);
}

struct device_role {
	struct proc_role role;
	const struct device_ops *ops;
};

static int device_open(struct proc *proc)
{
	const struct device_ops *ops = container_of(proc->role, struct device_role, role)->ops;
	struct device *device = device_new(proc, ops);
	int r;

	proc->data = device;
	if ((r = start_step("link", open_link(device))) < 0 ||
		(r = start_step("memory manager", attach(device))) < 0 ||
		(r = start_step("ledger",
			 turn_open(&device->core->turn, device->core->attachment.ledger_fd))) < 0)
		return r;
	if ((ops->prepare && (r = ops->prepare(device)) < 0) ||
		(r = start_step("groups", serve_new(device))) < 0)
		return r;
	return turn_take(&device->core->turn) ? open_host(device) : 0;
}

static int device_start(struct proc *proc)
{
	struct device *device = proc->data;
	struct device_core *core = device->core;
	int r;

	if ((r = start_step("record", open_record(device))) < 0 ||
		(r = start_step("guest memory map", map_new(&device->map))) < 0 ||
		(r = start_step("SIGBUS guard", map_install_sigbus())) < 0 ||
		(r = start_step("queues", make_queues(device))) < 0 ||
		(r = start_step("threads", serve_start(device))) < 0 ||
		(r = start_step("device", device->ops->start ? device->ops->start(device) : 0)) < 0)
		return r;
	r = start_step("memory manager",
		vault_watch(core->vault, device->event, watch_memory_is_back, device));
	if (r < 0)
		return r;
	r = core->serves ? serve(device) : start_step("standing by", stand_by(device));
	return r < 0 ? r : start_step("bus endpoint", open_bus(device));
}

static void free_queues(struct device *device)
{
	for (uint32_t i = 0; device->queues && i < device->offer.n_queues; i++) {
		struct device_queue *queue = &device->queues[i];

		calls_stop(queue);
		queue->vq = virtq_stop(queue->vq);
		fd_close(queue->kick_fd);
		fd_close(queue->call_fd);
		fd_close(queue->err_fd);
	}
	free(device->queues);
}

static void device_leave(struct proc *proc)
{
	struct device *device = proc->data;

	if (!device)
		return;
	if (device->ledger.header)
		note_leaving(device);
	serve_stop(device);
	if (device->ops->close)
		device->ops->close(device);
	free_queues(device);
	serve_free(device);
	inflight_apply(device, NULL, -1);
	device_state_close(device);
	if (device->ledger.header)
		ledger_close(&device->ledger);
	/* before unmapping guest memory, which is slow */
	turn_give(&device->core->turn);
}

static void device_stop(struct proc *proc)
{
	struct device *device = proc->data;
	struct device_core *core;

	if (!device)
		return;
	core = device->core;
	log_close(device);
	watch_close(device);
	map_free(device->map);
	bus_client_free(core->bus);
	record_close(core->record);
	vault_attachment_deinit(&core->attachment);
	vault_free(core->vault);
	if (core->applied)
		bh__desired__free_unpacked(core->applied, NULL);
	fd_close(core->wake_fd);
	free(core->rings);
	free(core->loop_rings);
	free(core->broken);
	transfer_free(core->transfer);
	shmem_free(core->shmem);
	pthread_mutex_destroy(&core->broken_lock);
	free(core);
	free(device->data);
	free(device);
	proc->data = NULL;
}

int device_main(int argc, char *argv[], const struct device_ops *ops)
{
	const struct device_role role = {
		.role = { .name = ops->type,
			.per_device = true,
			.open = device_open,
			.start = device_start,
			.leave = device_leave,
			.stop = device_stop },
		.ops = ops,
	};

	return proc_main(argc, argv, &role.role);
}
