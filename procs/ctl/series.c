/*
 * Names follow Prometheus' conventions: base units (seconds, bytes), counters end in _total. A
 * name, once released, stays.
 *
 * Texts come from processes of the guest, which may be compromised. They may lie in a value, and no
 * more: the names of guests, processes and devices are those of the guest's file, and a label that
 * is repeated, which would make the whole page unreadable, is left out.
 */
#include "series.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

#define US_PER_S 1e6
#define MS_PER_S 1e3

static bool found(double *ret, double value)
{
	*ret = value;
	return true;
}

/* --- Of a guest --- */

static bool guest_up(const struct subject *subject, double *ret)
{
	return found(ret, subject->guest->status != NULL);
}

static void guest_info(FILE *to, const struct series *series, const struct subject *subject)
{
	struct labels labels;

	if (!subject->guest->status)
		return;
	labels = labels_with(subject->labels, "version", subject->guest->status->version);
	exposition_sample(to, series->name, "", &labels, 1);
}

/* --- Of a process --- */

static bool process_up(const struct subject *subject, double *ret)
{
	return found(ret, subject->process->pid != 0);
}

static bool process_standby(const struct subject *subject, double *ret)
{
	return found(ret, subject->process->standby);
}

static bool process_age(const struct subject *subject, double *ret)
{
	return subject->process->pid &&
		found(ret, (double)subject->process->connected_ms / MS_PER_S);
}

static bool process_restarts(const struct subject *subject, double *ret)
{
	return found(ret, (double)scrape_restarts(subject->guest, subject->process));
}

static bool process_rss(const struct subject *subject, double *ret)
{
	return subject->usage->has_memory && found(ret, (double)subject->usage->rss_bytes);
}

static bool process_pss(const struct subject *subject, double *ret)
{
	return subject->usage->has_memory && found(ret, (double)subject->usage->pss_bytes);
}

static bool process_fds(const struct subject *subject, double *ret)
{
	return subject->usage->has_fds && found(ret, (double)subject->usage->n_fds);
}

static bool process_cpu(const struct subject *subject, double *ret)
{
	return subject->usage->known && found(ret, (double)subject->usage->cpu_ms / MS_PER_S);
}

/* --- Of a device --- */

static void device_info(FILE *to, const struct series *series, const struct subject *subject)
{
	struct labels labels = labels_with(subject->labels, "type", subject->device->type);

	labels = labels_with(labels, "backend", subject->device->observed->backend);
	labels = labels_with(labels, "interface",
		seen_interface(&subject->guest->seen, subject->device));
	exposition_sample(to, series->name, "", &labels, 1);
}

static bool has_worker(const struct subject *subject)
{
	const Bh__GetStatusReply *status = subject->guest->status;

	for (size_t i = 0; i < status->n_peers; i++)
		if (status->peers[i]->pid && !status->peers[i]->standby &&
			strcmp(status->peers[i]->role, subject->device->type) == 0 &&
			strncmp(status->peers[i]->name, subject->device->name,
				strcspn(status->peers[i]->name, "+")) == 0)
			return true;
	return false;
}

static bool device_up(const struct subject *subject, double *ret)
{
	const Bh__DeviceStatus *device = subject->device;

	return found(ret,
		has_worker(subject) && !*device->quarantine && !*device->observed->apply_error &&
			device->observed->applied == device->desired->generation);
}

static bool device_vmm(const struct subject *subject, double *ret)
{
	return found(ret, subject->device->vmm_connected);
}

static bool device_quarantine(const struct subject *subject, double *ret)
{
	return found(ret, *subject->device->quarantine != '\0');
}

static bool device_fds(const struct subject *subject, double *ret)
{
	return found(ret, subject->device->vault_fds);
}

/* A histogram counts what is at most as long as each bound. */
static void write_pauses(FILE *to, const char *name, const struct labels *labels,
	const Bh__Pauses *pauses)
{
	double n = 0;

	for (size_t i = 0; i < pauses->n_counts; i++) {
		char bound[32] = "+Inf";
		struct labels bucket;

		if (i < pauses->n_limit_us)
			snprintf(bound, sizeof(bound), "%g",
				(double)pauses->limit_us[i] / US_PER_S);
		n += (double)pauses->counts[i];
		bucket = labels_with(*labels, "le", bound);
		exposition_sample(to, name, "_bucket", &bucket, n);
	}
	exposition_sample(to, name, "_sum", labels, (double)pauses->sum_us / US_PER_S);
	exposition_sample(to, name, "_count", labels, n);
}

static void device_pauses(FILE *to, const struct series *series, const struct subject *subject)
{
	for (size_t i = 0; i < subject->device->n_pauses; i++) {
		const Bh__Pauses *pauses = subject->device->pauses[i];
		struct labels labels = labels_with(subject->labels, "cause", pauses->cause);

		if (pauses->n_counts == pauses->n_limit_us + 1)
			write_pauses(to, series->name, &labels, pauses);
	}
}

static bool is_repeated(Bh__Figure *const *figures, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (strcmp(figures[j]->name, figures[i]->name) == 0)
			return true;
	return false;
}

static void device_figures(FILE *to, const struct series *series, const struct subject *subject)
{
	const Bh__Observed *observed = subject->device->observed;

	for (size_t i = 0; i < observed->n_figures; i++) {
		struct labels labels =
			labels_with(subject->labels, "figure", observed->figures[i]->name);

		labels = labels_with(labels, "unit", observed->figures[i]->unit);
		if (!is_repeated(observed->figures, i))
			exposition_sample(to, series->name, "", &labels,
				(double)observed->figures[i]->value);
	}
}

/* --- Of a queue --- */

static const Bh__QueueCounters *counters_of(const struct subject *subject)
{
	return scrape_counters(subject->device, subject->ring->index);
}

static bool queue_running(const struct subject *subject, double *ret)
{
	const Bh__RingState *ring = scrape_ring(subject->device, subject->ring->index);

	return found(ret, ring && ring->running);
}

static bool queue_enabled(const struct subject *subject, double *ret)
{
	return found(ret, subject->ring->enabled);
}

static bool queue_frames(const struct subject *subject, double *ret)
{
	const Bh__QueueCounters *counters = counters_of(subject);
	const char *way = scrape_direction(subject->device, subject->ring->index);

	return counters && (*way == 'r' || *way == 't') && found(ret, (double)counters->items);
}

#define COUNTER(field)                                                                             \
	static bool queue_##field(const struct subject *subject, double *ret)                      \
	{                                                                                          \
		const Bh__QueueCounters *counters = counters_of(subject);                          \
                                                                                                   \
		return counters && found(ret, (double)counters->field);                            \
	}

COUNTER(chains)
COUNTER(bytes)
COUNTER(errors)
COUNTER(kicks)
COUNTER(calls)

static void write_drops(FILE *to, const struct series *series, const struct subject *subject,
	const char *reason, uint64_t n)
{
	struct labels labels = labels_with(subject->labels, "reason", reason);

	exposition_sample(to, series->name, "", &labels, (double)n);
}

/* What an earlier release has dropped has no reason. */
static void queue_drops(FILE *to, const struct series *series, const struct subject *subject)
{
	const Bh__QueueCounters *counters = counters_of(subject);
	uint64_t sum = 0;

	for (size_t i = 0; counters && i < counters->n_drops; i++) {
		const Bh__Figure *drop = counters->drops[i];

		if (is_repeated(counters->drops, i) || strcmp(drop->name, "other") == 0)
			continue;
		write_drops(to, series, subject, drop->name, drop->value);
		sum += drop->value;
	}
	if (counters)
		write_drops(to, series, subject, "other",
			counters->dropped > sum ? counters->dropped - sum : 0);
}

/* --- The table --- */

/* clang-format off */
const struct series series_table[] = {
	{ "bulkhead_up", "gauge", "Whether the guest's memory manager answers.", SCOPE_GUEST, guest_up },
	{ "bulkhead_guest_info", "gauge", "The release of the guest's memory manager; always 1.", SCOPE_GUEST, .write = guest_info },

	{ "bulkhead_process_up", "gauge", "Whether the process is connected to the memory manager.", SCOPE_PROCESS, process_up },
	{ "bulkhead_process_standby", "gauge", "Whether the process stands by while another instance serves.", SCOPE_PROCESS, process_standby },
	{ "bulkhead_process_connected_seconds", "gauge", "For how long the process has been connected.", SCOPE_PROCESS, process_age },
	{ "bulkhead_process_restarts_total", "counter", "How often the process was started again, as its service manager knows it.", SCOPE_PROCESS, process_restarts },
	{ "bulkhead_process_resident_memory_bytes", "gauge", "Resident memory, guest memory that it has mapped included.", SCOPE_PROCESS, process_rss },
	{ "bulkhead_process_proportional_memory_bytes", "gauge", "Resident memory, each page divided by the number of processes that share it.", SCOPE_PROCESS, process_pss },
	{ "bulkhead_process_open_fds", "gauge", "Open file descriptors.", SCOPE_PROCESS, process_fds },
	{ "bulkhead_process_cpu_seconds_total", "counter", "Processor time, user and system.", SCOPE_PROCESS, process_cpu },

	{ "bulkhead_device_info", "gauge", "Type, back-end and host interface of the device; always 1.", SCOPE_DEVICE, .write = device_info },
	{ "bulkhead_device_up", "gauge", "Whether a worker serves the device as the VMM wants it.", SCOPE_DEVICE, device_up },
	{ "bulkhead_device_vmm_connected", "gauge", "Whether a VMM is connected.", SCOPE_DEVICE, device_vmm },
	{ "bulkhead_device_quarantined", "gauge", "Whether the device is in quarantine.", SCOPE_DEVICE, device_quarantine },
	{ "bulkhead_device_kept_fds", "gauge", "File descriptors that the memory manager keeps for the device.", SCOPE_DEVICE, device_fds },
	{ "bulkhead_device_pause_seconds", "histogram", "How long restarts of the worker held the device's rings up.", SCOPE_DEVICE, .write = device_pauses },
	{ "bulkhead_device_figure", "gauge", "A figure that the type of device has of its own.", SCOPE_DEVICE, .write = device_figures },

	{ "bulkhead_queue_running", "gauge", "Whether the worker serves the queue.", SCOPE_QUEUE, queue_running },
	{ "bulkhead_queue_enabled", "gauge", "Whether the VMM has enabled the queue.", SCOPE_QUEUE, queue_enabled },
	{ "bulkhead_queue_frames_total", "counter", "Frames moved; of network devices.", SCOPE_QUEUE, queue_frames },
	{ "bulkhead_queue_bytes_total", "counter", "Payload moved.", SCOPE_QUEUE, queue_bytes },
	{ "bulkhead_queue_chains_total", "counter", "Descriptor chains completed.", SCOPE_QUEUE, queue_chains },
	{ "bulkhead_queue_drops_total", "counter", "What was dropped, by reason.", SCOPE_QUEUE, .write = queue_drops },
	{ "bulkhead_queue_errors_total", "counter", "Chains that broke a rule.", SCOPE_QUEUE, queue_errors },
	{ "bulkhead_queue_kicks_total", "counter", "Wake-ups by the driver.", SCOPE_QUEUE, queue_kicks },
	{ "bulkhead_queue_calls_total", "counter", "Notifications sent to the driver.", SCOPE_QUEUE, queue_calls },
};
/* clang-format on */

const size_t n_series = ARRAY_SIZE(series_table);
