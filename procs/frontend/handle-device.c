/* The device as a whole: features, ownership, configuration space, status, and what net devices add. */
#include "handlers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "fd/fdstore.h"

#define RING_FEATURES (BIT(28) | BIT(29) | BIT(F_VRING_PACKED) | BIT(35))
#define MTU_MIN 68
#define CONFIG_WRITES_MAX 64

/* What the frontend itself can serve, whatever the device. */
#define OURS                                                                                       \
	(BIT(PF_MQ) | BIT(PF_RARP) | BIT(PF_REPLY_ACK) | BIT(PF_MTU) | BIT(PF_BACKEND_REQ) |          \
		BIT(PF_CONFIG) | BIT(PF_BACKEND_SEND_FD) | BIT(PF_CONFIGURE_MEM_SLOTS) |           \
		BIT(PF_STATUS))

static size_t put_u64(uint8_t *buf, uint64_t value)
{
	memcpy(buf, &value, sizeof(value));
	return sizeof(value);
}

static uint64_t offered_features(const struct session *session)
{
	return session->observed->features | BIT(F_PROTOCOL_FEATURES);
}

uint64_t session_offered(const struct session *session)
{
	return session->observed->protocol_features & OURS;
}

size_t reply_features(struct session *session, const struct message *msg, uint8_t *buf)
{
	return put_u64(buf, offered_features(session));
}

static bool any_started(const Bh__Desired *desired)
{
	for (size_t i = 0; i < desired->n_rings; i++)
		if (desired->rings[i]->started)
			return true;
	return false;
}

int handle_set_features(struct session *session, const struct message *msg, Bh__Desired *next)
{
	uint64_t features = msg->payload.u64;
	uint64_t unknown = features & ~offered_features(session);

	if (unknown)
		return session_refuse(session, "feature bits 0x%llx were not offered",
			(unsigned long long)unknown);
	if (any_started(next) && next->features_set && ((next->features ^ features) & RING_FEATURES))
		return session_refuse(session, "the layout of running rings cannot change");
	next->features = features;
	next->features_set = true;
	if (!has_bit(features, F_PROTOCOL_FEATURES))
		for (size_t i = 0; i < next->n_rings; i++)
			next->rings[i]->enabled = true;
	return OUTCOME_CHANGED;
}

int handle_set_owner(struct session *session, const struct message *msg, Bh__Desired *next)
{
	next->owned = true;
	return OUTCOME_CHANGED;
}

/* Deprecated: rings are disabled, the state of the connection stays. */
int handle_reset_owner(struct session *session, const struct message *msg, Bh__Desired *next)
{
	next->owned = false;
	for (size_t i = 0; i < next->n_rings; i++)
		next->rings[i]->enabled = false;
	return OUTCOME_CHANGED;
}

size_t reply_protocol_features(struct session *session, const struct message *msg, uint8_t *buf)
{
	return put_u64(buf, session_offered(session));
}

int handle_set_protocol_features(struct session *session, const struct message *msg,
	Bh__Desired *next)
{
	uint64_t unknown = msg->payload.u64 & ~session_offered(session);

	if (unknown)
		return session_refuse(session, "protocol feature bits 0x%llx were not offered",
			(unsigned long long)unknown);
	next->protocol_features = msg->payload.u64;
	return OUTCOME_CHANGED;
}

size_t reply_queue_num(struct session *session, const struct message *msg, uint8_t *buf)
{
	return put_u64(buf, session->observed->queue_num);
}

int handle_send_rarp(struct session *session, const struct message *msg, Bh__Desired *next)
{
	uint8_t *mac = malloc(6);

	if (!mac)
		return session_refuse(session, "out of memory");
	memcpy(mac, msg->payload.bytes, 6);
	free(next->rarp_mac.data);
	next->rarp_mac.data = mac;
	next->rarp_mac.len = 6;
	next->rarp_seq++;
	return OUTCOME_CHANGED;
}

int handle_net_set_mtu(struct session *session, const struct message *msg, Bh__Desired *next)
{
	if (msg->payload.u64 < MTU_MIN || msg->payload.u64 > UINT16_MAX)
		return session_refuse(session, "an MTU of %llu; %u to %u are possible",
			(unsigned long long)msg->payload.u64, MTU_MIN, UINT16_MAX);
	next->mtu = (uint32_t)msg->payload.u64;
	return OUTCOME_CHANGED;
}

/* The channel is ours to write to: it stays here, and in the fd store. */
int handle_set_backend_req_fd(struct session *session, const struct message *msg, Bh__Desired *next)
{
	struct message *taken = (struct message *)msg;
	struct stat st;
	char name[64];

	if (fstat(msg->fds[0], &st) < 0 || !S_ISSOCK(st.st_mode))
		return session_refuse(session, "the descriptor is no socket");
	snprintf(name, sizeof(name), "breq.%s", session->config->name);
	if (session->backend_req_fd >= 0)
		(void)fdstore_remove(name);
	fd_close(session->backend_req_fd);
	session->backend_req_fd = fd_steal(&taken->fds[0]);
	(void)fdstore_push(name, session->backend_req_fd);
	return OUTCOME_DONE;
}

static bool config_range_ok(const struct session *session, const struct message *msg)
{
	const struct config_header *config = &msg->payload.config;
	size_t n = session->observed->config.len;

	return config->size && config->size <= CONFIG_SIZE_MAX &&
		msg->header.size == sizeof(*config) + config->size && config->offset <= n &&
		config->size <= n - config->offset;
}

/* A size of 0 in the answer says that the range does not exist. */
size_t reply_config(struct session *session, const struct message *msg, uint8_t *buf)
{
	struct config_header config = msg->payload.config;

	if (!config_range_ok(session, msg))
		config.size = 0;
	memcpy(buf, &config, sizeof(config));
	if (config.size)
		memcpy(buf + sizeof(config), session->observed->config.data + config.offset, config.size);
	return sizeof(config) + config.size;
}

static bool writable(const struct session *session, const struct config_header *config)
{
	const ProtobufCBinaryData *mask = &session->observed->config_writable;

	for (uint32_t i = config->offset; i < config->offset + config->size; i++)
		if (i >= mask->len || !mask->data[i])
			return false;
	return true;
}

static Bh__ConfigWrite *config_write_add(Bh__Desired *next, const uint8_t *data, size_t n)
{
	Bh__ConfigWrite **list =
		reallocarray(next->config_writes, next->n_config_writes + 1, sizeof(*list));
	Bh__ConfigWrite *write = malloc(sizeof(*write));
	uint8_t *copy = malloc(n);

	if (list)
		next->config_writes = list;
	if (!list || !write || !copy) {
		free(write);
		free(copy);
		return NULL;
	}
	bh__config_write__init(write);
	memcpy(copy, data, n);
	write->data.data = copy;
	write->data.len = n;
	/* numbers do not begin anew with a new VMM, so that none is taken for one already done */
	write->seq = next->generation;
	list[next->n_config_writes++] = write;
	return write;
}

int handle_set_config(struct session *session, const struct message *msg, Bh__Desired *next)
{
	const struct config_header *config = &msg->payload.config;
	Bh__ConfigWrite *write;

	if (config->flags > CONFIG_MIGRATION)
		return session_refuse(session, "unknown flags 0x%x", config->flags);
	if (!config_range_ok(session, msg))
		return session_refuse(session,
			"bytes %u to %u are not in the configuration space, which has %zu", config->offset,
			config->offset + config->size, session->observed->config.len);
	if (config->flags != CONFIG_MIGRATION && !writable(session, config))
		return session_refuse(session, "the field at offset %u is read-only", config->offset);
	if (next->n_config_writes == CONFIG_WRITES_MAX) {
		bh__config_write__free_unpacked(next->config_writes[0], NULL);
		memmove(next->config_writes, next->config_writes + 1,
			--next->n_config_writes * sizeof(*next->config_writes));
	}
	write = config_write_add(next, msg->payload.bytes + sizeof(*config), config->size);
	if (!write)
		return session_refuse(session, "out of memory");
	write->offset_bytes = config->offset;
	write->migration = config->flags == CONFIG_MIGRATION;
	return OUTCOME_CHANGED;
}

/* Status 0 resets what the driver set in the device, but no ring: where a ring stood is asked for later. */
int handle_set_status(struct session *session, const struct message *msg, Bh__Desired *next)
{
	if (msg->payload.u64 > UINT8_MAX)
		return session_refuse(session, "a status has 8 bits, not 0x%llx",
			(unsigned long long)msg->payload.u64);
	next->status = (uint32_t)msg->payload.u64;
	return OUTCOME_CHANGED;
}

size_t reply_status(struct session *session, const struct message *msg, uint8_t *buf)
{
	return put_u64(buf, session->desired->status);
}
