/* One validator per kind of value, whose error says what the value must be; and look-up. */
#include "config/values.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "config/nearest.h"

/** struct verdict - where the error goes */
struct verdict {
	char *text;
	size_t n_text;
};

__attribute__((format(printf, 2, 3))) static bool refuse(const struct verdict *verdict,
	const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(verdict->text, verdict->n_text, fmt, ap);
	va_end(ap);
	return false;
}

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	char *end;
	unsigned long long n;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || *end || n < min || n > max)
		return false;
	*ret = n;
	return true;
}

static bool judge_number(const struct config_key *key, struct config_value *value,
	const struct verdict *verdict)
{
	if (parse_number(value->text, key->min, key->max, &value->number))
		return true;
	return refuse(verdict, "must be a number from %llu to %llu", (unsigned long long)key->min,
		(unsigned long long)key->max);
}

static bool judge_own(const struct config_key *key, struct config_value *value,
	const struct verdict *verdict)
{
	if (key->parse(value->text, &value->number))
		return true;
	return refuse(verdict, "must be %s", key->must_be);
}

static bool judge_interface(const struct config_key *key, struct config_value *value,
	const struct verdict *verdict)
{
	if (*value->text && strlen(value->text) < IF_NAMESIZE && !strpbrk(value->text, "/ \t:%"))
		return true;
	return refuse(verdict, "must be an interface name of at most %d characters",
		IF_NAMESIZE - 1);
}

static bool judge_enum(const struct config_key *key, struct config_value *value,
	const struct verdict *verdict)
{
	char advice[256];
	size_t n = 0;

	while (key->words[n]) {
		if (strcmp(key->words[n], value->text) == 0)
			return true;
		n++;
	}
	return refuse(verdict, "not a %s; %s", key->name,
		nearest_advice(value->text, key->words, n, advice, sizeof(advice)));
}

static bool judge_path(const struct config_key *key, struct config_value *value,
	const struct verdict *verdict)
{
	if (*value->text == '/' && strlen(value->text) < PATH_MAX)
		return true;
	return refuse(verdict, "must be an absolute path of at most %d characters", PATH_MAX - 1);
}

static bool judge_bool(const struct config_key *key, struct config_value *value,
	const struct verdict *verdict)
{
	value->number = strcmp(value->text, "yes") == 0;
	return value->number || strcmp(value->text, "no") == 0 ||
		refuse(verdict, "must be 'yes' or 'no'");
}

/* --- Sizes --- */

/* The power of two for a suffix; -1 = unknown suffix. */
static int shift_of(const char *suffix)
{
	static const char letters[] = "KMG";
	const char *at = *suffix ? strchr(letters, *suffix) : NULL;

	if (!*suffix)
		return 0;
	return at && !suffix[1] ? (int)(at - letters + 1) * 10 : -1;
}

static bool parse_size(const char *text, uint64_t *ret)
{
	size_t n_digits = strspn(text, "0123456789");
	int shift = shift_of(text + n_digits);
	unsigned long long n;

	if (n_digits == 0 || shift < 0)
		return false;
	errno = 0;
	n = strtoull(text, NULL, 10);
	if (errno || n > UINT64_MAX >> shift)
		return false;
	*ret = n << shift;
	return true;
}

/* The shortest form that is exact. */
static const char *write_size(uint64_t n_bytes, char *buf, size_t n)
{
	static const char letters[] = { '\0', 'K', 'M', 'G' };
	size_t i = 0;

	while (n_bytes && n_bytes % 1024 == 0 && i + 1 < ARRAY_SIZE(letters)) {
		n_bytes /= 1024;
		i++;
	}
	snprintf(buf, n, "%llu%.1s", (unsigned long long)n_bytes, &letters[i]);
	return buf;
}

static bool judge_size(const struct config_key *key, struct config_value *value,
	const struct verdict *verdict)
{
	char min[32], max[32];

	if (parse_size(value->text, &value->number) && value->number >= key->min &&
		value->number <= key->max)
		return true;
	return refuse(verdict,
		"must be a size from %s to %s, in bytes or with K, M or G behind the number",
		write_size(key->min, min, sizeof(min)), write_size(key->max, max, sizeof(max)));
}

/* --- All kinds --- */

static bool (*const judges[])(const struct config_key *key, struct config_value *value,
	const struct verdict *verdict) = {
	[CONFIG_KIND_NUMBER] = judge_number,
	[CONFIG_KIND_INTERFACE] = judge_interface,
	[CONFIG_KIND_ENUM] = judge_enum,
	[CONFIG_KIND_PATH] = judge_path,
	[CONFIG_KIND_SIZE] = judge_size,
	[CONFIG_KIND_BOOL] = judge_bool,
	[CONFIG_KIND_OWN] = judge_own,
};
_Static_assert(ARRAY_SIZE(judges) == _CONFIG_KINDS, "a judge for each kind");

bool value_judge(const struct config_key *key, struct config_value *value, char *text,
	size_t n_text)
{
	const struct verdict verdict = { .text = text, .n_text = n_text };

	return judges[key->kind](key, value, &verdict);
}

const struct config_value *config_value(const struct config_device *device, const char *key)
{
	for (size_t i = 0; i < device->n_values; i++)
		if (strcmp(device->values[i].key, key) == 0 && !device->values[i].member)
			return &device->values[i];
	check(!"a key of the type's table");
	return NULL;
}

const struct config_value *config_member(const struct config_device *device, const char *key,
	const struct config_value *last)
{
	size_t i = last ? (size_t)(last - device->values) + 1 : 0;

	for (; i < device->n_values; i++)
		if (device->values[i].member && strcmp(device->values[i].key, key) == 0)
			return &device->values[i];
	return NULL;
}
