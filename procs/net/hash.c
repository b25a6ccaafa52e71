/*
 * A frame is looked into as far as its head reaches. What is not there, or is not as it must be, is
 * left out: ports, then the whole hash. Fragments have no ports, so that all of a packet have one
 * hash.
 */
#include "hash.h"

#include <stdbool.h>
#include <string.h>

#define TYPES_IPV4 0 /* the first of three types: IP, TCP, UDP */
#define TYPES_IPV6 3
#define TYPES_EX 6
#define TAGS_MAX 2
#define EXTENSIONS_MAX 8

enum { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };

enum {
	NEXT_HOP_BY_HOP = 0,
	NEXT_ROUTING = 43,
	NEXT_FRAGMENT = 44,
	NEXT_DESTINATION = 60,
	OPTION_PAD1 = 0,
	OPTION_HOME_ADDRESS = 0xc9
};

/** struct packet - what a hash is of; pointers into the head */
struct packet {
	size_t n_address; /* bytes of each; 0 = no IP */
	const uint8_t *from, *to;
	const uint8_t *home, *care; /* instead of them, by extension headers */
	const uint8_t *ports;       /* NULL = none */
	bool tcp;                   /* else UDP */
	bool extended;
};

/* --- Toeplitz --- */

/* The 32 bits of the key that an input bit stands for. */
static uint32_t key_at(const uint8_t *key, unsigned int bit)
{
	uint64_t word = 0;

	for (unsigned int i = 0; i < 5; i++)
		word = word << 8 | key[bit / 8 + i];
	return (uint32_t)(word >> (8 - bit % 8));
}

void hash_prepare(struct hash *hash, uint32_t types, const uint8_t *key, size_t n_key)
{
	uint8_t padded[HASH_KEY_MAX + 1] = { 0 };

	memcpy(padded, key, n_key);
	hash->types = types;
	for (unsigned int place = 0; place < 2 * HASH_INPUT_MAX; place++)
		for (unsigned int value = 0; value < 16; value++) {
			uint32_t sum = 0;

			for (unsigned int bit = 0; bit < 4; bit++)
				if (value >> (3 - bit) & 1)
					sum ^= key_at(padded, 4 * place + bit);
			hash->table[place][value] = sum;
		}
}

uint32_t hash_bytes(const struct hash *hash, const uint8_t *input, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum ^= hash->table[2 * i][input[i] >> 4] ^ hash->table[2 * i + 1][input[i] & 15];
	return sum;
}

/* --- Headers --- */

static void find_ports(struct packet *packet, uint8_t protocol, const uint8_t *at, size_t n)
{
	if ((protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP) || n < 4)
		return;
	packet->ports = at;
	packet->tcp = protocol == PROTOCOL_TCP;
}

static void parse_ipv4(struct packet *packet, const uint8_t *at, size_t n)
{
	size_t n_header = n < 20 ? 0 : 4 * (size_t)(at[0] & 15);
	bool fragment;

	if (n_header < 20 || at[0] >> 4 != 4)
		return;
	packet->n_address = 4;
	packet->from = at + 12;
	packet->to = at + 16;
	fragment = at[6] & 0x3f || at[7];
	if (!fragment && n_header <= n)
		find_ports(packet, at[9], at + n_header, n - n_header);
}

static void find_home_address(struct packet *packet, const uint8_t *at, size_t n)
{
	for (size_t i = 2; i + 2 <= n;) {
		if (at[i] == OPTION_PAD1) {
			i++;
			continue;
		}
		if (at[i] == OPTION_HOME_ADDRESS && at[i + 1] == 16 && i + 18 <= n)
			packet->home = at + i + 2;
		i += 2 + (size_t)at[i + 1];
	}
}

/* One extension header, whole: what it says instead of the addresses. */
static void note_extension(struct packet *packet, uint8_t kind, const uint8_t *at, size_t n)
{
	packet->extended = true;
	if (kind == NEXT_DESTINATION)
		find_home_address(packet, at, n);
	else if (kind == NEXT_ROUTING && at[2] == 2 && n == 24)
		packet->care = at + 8;
}

static bool is_extension(uint8_t kind)
{
	return kind == NEXT_HOP_BY_HOP || kind == NEXT_ROUTING || kind == NEXT_FRAGMENT ||
		kind == NEXT_DESTINATION;
}

static void parse_ipv6(struct packet *packet, const uint8_t *at, size_t n)
{
	uint8_t kind;
	bool fragment = false;

	if (n < 40 || at[0] >> 4 != 6)
		return;
	packet->n_address = 16;
	packet->from = packet->home = at + 8;
	packet->to = packet->care = at + 24;
	kind = at[6];
	at += 40;
	n -= 40;
	for (unsigned int i = 0; i < EXTENSIONS_MAX && is_extension(kind); i++) {
		size_t n_header = kind == NEXT_FRAGMENT || n < 2 ? 8 : 8 + 8 * (size_t)at[1];

		packet->extended = true;
		if (n < n_header)
			return;
		note_extension(packet, kind, at, n_header);
		fragment |= kind == NEXT_FRAGMENT;
		kind = at[0];
		at += n_header;
		n -= n_header;
	}
	if (!fragment)
		find_ports(packet, kind, at, n);
}

static void parse_frame(struct packet *packet, const uint8_t *head, size_t n)
{
	size_t at = 12;

	for (unsigned int i = 0; i < TAGS_MAX && at + 6 <= n; i++) {
		if ((head[at] != 0x81 || head[at + 1] != 0x00) &&
			(head[at] != 0x88 || head[at + 1] != 0xa8))
			break;
		at += 4;
	}
	if (at + 2 > n)
		return;
	if (head[at] == 0x08 && head[at + 1] == 0x00)
		parse_ipv4(packet, head + at + 2, n - at - 2);
	else if (head[at] == 0x86 && head[at + 1] == 0xdd)
		parse_ipv6(packet, head + at + 2, n - at - 2);
}

/* --- The hash --- */

/* The type to calculate, of three; -1 = none of them. */
static int choose(uint32_t types, int first, const struct packet *packet)
{
	int with_ports = first + (packet->tcp ? 1 : 2);

	if (packet->ports && (types >> with_ports & 1))
		return with_ports;
	return types >> first & 1 ? first : -1;
}

static int choose_type(uint32_t types, const struct packet *packet)
{
	int type;

	if (packet->n_address == 0)
		return -1;
	if (packet->n_address == 4)
		return choose(types, TYPES_IPV4, packet);
	type = packet->extended ? choose(types, TYPES_EX, packet) : -1;
	return type >= 0 ? type : choose(types, TYPES_IPV6, packet);
}

uint16_t hash_frame(const struct hash *hash, const uint8_t *head, size_t n, uint32_t *ret_value)
{
	uint8_t input[HASH_INPUT_MAX], *end = input;
	struct packet packet = { 0 };
	int type;

	*ret_value = 0;
	parse_frame(&packet, head, n);
	type = choose_type(hash->types, &packet);
	if (type < 0)
		return HASH_REPORT_NONE;
	end = mempcpy(end, type >= TYPES_EX ? packet.home : packet.from, packet.n_address);
	end = mempcpy(end, type >= TYPES_EX ? packet.care : packet.to, packet.n_address);
	if (type % 3)
		end = mempcpy(end, packet.ports, 4);
	*ret_value = hash_bytes(hash, input, (size_t)(end - input));
	return (uint16_t)(type + 1);
}
