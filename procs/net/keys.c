/* The keys of type = net. */
#include "config/keys.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

#define MAC_FORM "a unicast MAC address like 52:54:00:12:34:56"

static const char *const backends[] = { "tap", "echo", "null", NULL };

/* Six bytes, the first of them in the lowest bits. */
static bool parse_mac(const char *text, uint64_t *ret_number)
{
	unsigned int b[6];

	if (strlen(text) != 17)
		return false;
	for (int i = 0; i < 17; i++)
		if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
			return false;
	(void)sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]);
	*ret_number = 0;
	for (int i = 6; i-- > 0;)
		*ret_number = *ret_number << 8 | b[i];
	return !(b[0] & 1) && *ret_number;
}

/* FNV-1a hash, made a unicast address that is locally administered. */
static void derive_mac(const char *identity, char *text, size_t n_text)
{
	uint64_t hash = 0xcbf29ce484222325ULL;
	uint8_t mac[6];

	for (const char *p = identity; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 0x100000001b3ULL;
	memcpy(mac, &hash, sizeof(mac));
	mac[0] = (uint8_t)((mac[0] & ~1) | 2);
	snprintf(text, n_text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
		mac[4], mac[5]);
}

static const struct config_key keys[] = {
	{ "backend", CONFIG_KIND_ENUM, "tap", .words = backends },
	{ "tap", CONFIG_KIND_INTERFACE, NULL },
	{ "mac", CONFIG_KIND_OWN, NULL, .parse = parse_mac, .must_be = MAC_FORM,
		.derive = derive_mac },
	{ "mtu", CONFIG_KIND_NUMBER, NULL, 68, 65535 },
	{ "queue-pairs", CONFIG_KIND_NUMBER, "1", 1, 64 },
	{ "poll-us", CONFIG_KIND_NUMBER, "50", 0, 1000 },
	{ "generate", CONFIG_KIND_NUMBER, NULL, 60, 65535 },
	{ "copy", CONFIG_KIND_BOOL, NULL },
};

static const char *complete_net(const struct config *config, struct config_device *device)
{
	const struct config_value *backend = config_value(device, "backend");

	if (strcmp(backend->text, "tap") == 0 && !config_value(device, "tap")->text)
		return "backend = tap needs 'tap = INTERFACE'";
	if (strcmp(backend->text, "null") != 0 && config_value(device, "generate")->text)
		return "'generate' goes with backend = null only";
	if (strcmp(backend->text, "null") != 0 && config_value(device, "copy")->text)
		return "'copy' goes with backend = null only";
	return NULL;
}

/* A TAP has one reader for each of its queues. */
static const char *tap_of(const struct config_device *device)
{
	return strcmp(config_value(device, "backend")->text, "tap") == 0
		? config_value(device, "tap")->text
		: NULL;
}

const struct config_type config_type_net = { keys, ARRAY_SIZE(keys), complete_net, tap_of, "tap" };
