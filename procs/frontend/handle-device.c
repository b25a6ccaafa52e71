/* What a device adds: announcement, MTU, the channel for our own requests, shared memory regions,
 * configuration space. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "handlers.h"

#define MTU_MIN 68

static void set_net(Bh__Desired *next)
{
	Bh__NetDesired *net = calloc(1, sizeof(*net));

	check(net);
	bh__net_desired__init(net);
	net->mtu = next->mtu;
	net->rarp_seq = next->rarp_seq;
	if (next->rarp_mac.len) {
		net->rarp_mac.data = malloc(next->rarp_mac.len);
		check(net->rarp_mac.data);
		memcpy(net->rarp_mac.data, next->rarp_mac.data, next->rarp_mac.len);
		net->rarp_mac.len = next->rarp_mac.len;
	}
	if (next->net)
		bh__net_desired__free_unpacked(next->net, NULL);
	next->net = net;
}

enum outcome handle_send_rarp(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	desired_set_rarp_mac(next, msg->payload.bytes);
	set_net(next);
	return OUTCOME_CHANGED;
}

enum outcome handle_net_set_mtu(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	if (msg->payload.u64 < MTU_MIN || msg->payload.u64 > UINT16_MAX)
		return exchange_refuse(exchange, "an MTU of %llu; %u to %u are possible",
			(unsigned long long)msg->payload.u64, MTU_MIN, UINT16_MAX);
	next->mtu = (uint32_t)msg->payload.u64;
	set_net(next);
	return OUTCOME_CHANGED;
}

/* The channel stays in this process, and in the fd store. */
enum outcome handle_set_backend_req_fd(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	channel_take(&exchange->channel, fd_steal(&exchange->msg.fds[0]));
	return OUTCOME_DONE;
}

/* --- Shared memory regions --- */

size_t reply_shmem_config(struct exchange *exchange, const struct message *msg, uint8_t *buf)
{
	const Bh__Observed *observed = exchange->view->observed;
	struct shmem_config config = { .n = 0 };

	for (size_t i = 0; i < observed->n_shmem_regions; i++) {
		const Bh__ShmemRegion *region = observed->shmem_regions[i];

		if (region->id >= VHOST_USER_SHMEM_REGIONS || config.sizes[region->id])
			continue;
		config.sizes[region->id] = region->size_bytes;
		config.n++;
	}
	memcpy(buf, &config, sizeof(config));
	return sizeof(config);
}

/* --- Configuration space --- */

static bool in_config(const struct exchange *exchange, const struct message *msg)
{
	const struct config_header *config = &msg->payload.config;
	size_t n = exchange->view->observed->config.len;

	return config->size && msg->header.size == sizeof(*config) + config->size &&
		config->offset <= n && config->size <= n - config->offset;
}

/* No payload at all says that the range does not exist. */
size_t reply_config(struct exchange *exchange, const struct message *msg, uint8_t *buf)
{
	const struct config_header *config = &msg->payload.config;

	if (!in_config(exchange, msg))
		return 0;
	memcpy(buf, config, sizeof(*config));
	memcpy(buf + sizeof(*config), exchange->view->observed->config.data + config->offset,
		config->size);
	return sizeof(*config) + config->size;
}

static bool writable(const struct exchange *exchange, const struct config_header *config)
{
	const ProtobufCBinaryData *mask = &exchange->view->observed->config_writable;

	for (uint32_t i = config->offset; i < config->offset + config->size; i++)
		if (i >= mask->len || !mask->data[i])
			return false;
	return true;
}

/* Whoever reads after this reads what was written: the worker has it before the next message is
 * looked at. */
enum outcome handle_set_config(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	const struct config_header *config = &msg->payload.config;
	Bh__ConfigWrite *write;

	if (config->flags > CONFIG_MIGRATION)
		return exchange_refuse(exchange, "unknown flags 0x%x", config->flags);
	if (!in_config(exchange, msg))
		return exchange_refuse(exchange,
			"%u bytes at offset %u with a payload of %u are not in the configuration space of %zu",
			config->size, config->offset, msg->header.size,
			exchange->view->observed->config.len);
	if (config->flags != CONFIG_MIGRATION && !writable(exchange, config))
		return exchange_refuse(exchange, "the field at offset %u is read-only",
			config->offset);
	write = desired_add_config_write(next, msg->payload.bytes + sizeof(*config), config->size);
	write->offset_bytes = config->offset;
	write->migration = config->flags == CONFIG_MIGRATION;
	return OUTCOME_WAIT;
}
