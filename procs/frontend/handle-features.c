/* Features, protocol features, ownership, status: what both sides agree on before and while
 * rings run. */
#include <string.h>

#include "handlers.h"
#include "rings.h"

#define RING_FEATURES                                                                              \
	(BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |                         \
		BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER))

/* What this process can serve, whatever the device. */
#define SERVED                                                                                     \
	(BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD) |                    \
		BIT(VHOST_USER_PROTOCOL_F_RARP) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |           \
		BIT(VHOST_USER_PROTOCOL_F_MTU) | BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |          \
		BIT(VHOST_USER_PROTOCOL_F_CONFIG) | BIT(VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD) |   \
		BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) |                                        \
		BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |                                          \
		BIT(VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS) |                                  \
		BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |                                   \
		BIT(VHOST_USER_PROTOCOL_F_STATUS) | BIT(VHOST_USER_PROTOCOL_F_DEVICE_STATE) |      \
		BIT(VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT) |                               \
		BIT(VHOST_USER_PROTOCOL_F_GPA_ADDRESSES) | BIT(VHOST_USER_PROTOCOL_F_SHMEM) |      \
		BIT(VHOST_USER_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN))

/* What means nothing without others. */
static const struct prerequisite {
	unsigned int bit;
	uint64_t needs;
	const char *verdict; /* why the session ends without them; NULL = it goes on */
} prerequisites[] = {
	/* by the specification that is the end: such a VMM waits for what nobody can send */
	{ VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS,
		BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ),
		"it wants notifications in band without REPLY_ACK and BACKEND_REQ" },
	{ VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT, BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD),
		NULL },
	{ VHOST_USER_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN,
		BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) |
			BIT(VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT),
		NULL },
};

static size_t put_u64(uint8_t *buf, uint64_t value)
{
	memcpy(buf, &value, sizeof(value));
	return sizeof(value);
}

/* A worker that can share a log can mark all that it writes. */
static uint64_t offered_features(const struct exchange *exchange)
{
	const Bh__Observed *observed = exchange->view->observed;
	uint64_t offered = observed->features | BIT(VHOST_USER_F_PROTOCOL_FEATURES);

	if (has_bit(observed->protocol_features, VHOST_USER_PROTOCOL_F_LOG_SHMFD))
		offered |= BIT(VHOST_F_LOG_ALL);
	return offered;
}

static bool lacks(uint64_t features, const struct prerequisite *prerequisite)
{
	return has_bit(features, prerequisite->bit) &&
		(features & prerequisite->needs) != prerequisite->needs;
}

static uint64_t offered_protocol_features(const struct exchange *exchange)
{
	const Bh__Observed *observed = exchange->view->observed;
	uint64_t offered = observed->protocol_features & SERVED;

	if (!observed->config.len)
		offered &= ~BIT(VHOST_USER_PROTOCOL_F_CONFIG);
	if (!observed->n_shmem_regions)
		offered &= ~BIT(VHOST_USER_PROTOCOL_F_SHMEM);
	for (size_t i = 0; i < ARRAY_SIZE(prerequisites); i++)
		if (lacks(offered, &prerequisites[i]))
			offered &= ~BIT(prerequisites[i].bit);
	return offered;
}

size_t reply_features(struct exchange *exchange, const struct message *msg, uint8_t *buf)
{
	return put_u64(buf, offered_features(exchange));
}

/* May come again at any time. Without bit 30 the front-end will send no SET_VRING_ENABLE: all
 * rings are enabled. Protocol features that were agreed on stay. */
enum outcome handle_set_features(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	uint64_t features = msg->payload.u64;
	uint64_t unknown = features & ~offered_features(exchange);
	bool switches = (next->features ^ features) & BIT(VHOST_F_LOG_ALL);
	int held = 0;

	if (unknown)
		return exchange_refuse(exchange, "feature bits 0x%llx were not offered",
			(unsigned long long)unknown);
	if ((next->features ^ features) & RING_FEATURES)
		held = rings_hold(exchange_desired(exchange), exchange->view->observed, next);
	if (held < 0)
		return exchange_refuse(exchange, "the layout of rings that run cannot change");
	next->features = features;
	next->features_set = true;
	if (log_refuses(exchange, next))
		return OUTCOME_REFUSED;
	for (size_t i = 0; i < next->n_rings && !has_bit(features, VHOST_USER_F_PROTOCOL_FEATURES);
		i++)
		ring_enable(next, next->rings[i], true);
	if (held)
		return OUTCOME_WAIT;
	return switches ? log_outcome(exchange) : OUTCOME_CHANGED;
}

enum outcome handle_set_owner(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	next->owned = true;
	return OUTCOME_CHANGED;
}

/* Deprecated: it disables rings, and takes nothing from the VMM. One that knows no SET_VRING_ENABLE
 * could not enable them again. */
enum outcome handle_reset_owner(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	for (size_t i = 0; i < next->n_rings; i++)
		ring_enable(next, next->rings[i], desired_enables_rings(next));
	return OUTCOME_CHANGED;
}

/* What the driver set is gone, and the place of each ring with it. What the VMM has handed over
 * stays, and so does what both sides agreed on: it says none of that again. */
enum outcome handle_reset_device(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	bool any = rings_begin_anew(next);

	next->reset_epoch++;
	next->status = 0;
	return any ? OUTCOME_WAIT : OUTCOME_CHANGED;
}

size_t reply_protocol_features(struct exchange *exchange, const struct message *msg, uint8_t *buf)
{
	return put_u64(buf, offered_protocol_features(exchange));
}

enum outcome handle_set_protocol_features(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	uint64_t unknown = msg->payload.u64 & ~offered_protocol_features(exchange);

	if (unknown)
		return exchange_refuse(exchange, "protocol feature bits 0x%llx were not offered",
			(unsigned long long)unknown);
	for (size_t i = 0; i < ARRAY_SIZE(prerequisites); i++) {
		const struct prerequisite *row = &prerequisites[i];

		if (!lacks(msg->payload.u64, row))
			continue;
		exchange->verdict = row->verdict;
		return exchange_refuse(exchange, "protocol feature %u needs those of 0x%llx",
			row->bit, (unsigned long long)row->needs);
	}
	next->protocol_features = msg->payload.u64;
	return OUTCOME_CHANGED;
}

size_t reply_queue_num(struct exchange *exchange, const struct message *msg, uint8_t *buf)
{
	exchange->asked_queues = true;
	return put_u64(buf, exchange->view->observed->queue_num);
}

/* Status 0 is the driver's reset: no ring runs any more, but where one stood may be asked for
 * later. It is counted, since the worker may see no record before that with the next status. */
enum outcome handle_set_status(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	bool stops = false;

	if (msg->payload.u64 > UINT8_MAX)
		return exchange_refuse(exchange, "a device status has 8 bits, not 0x%llx",
			(unsigned long long)msg->payload.u64);
	if (next->status && !msg->payload.u64) {
		next->reset_epoch++;
		stops = rings_stop(next);
	}
	next->status = (uint32_t)msg->payload.u64;
	return stops ? OUTCOME_WAIT : OUTCOME_CHANGED;
}

size_t reply_status(struct exchange *exchange, const struct message *msg, uint8_t *buf)
{
	return put_u64(buf, exchange->view->desired->status);
}
