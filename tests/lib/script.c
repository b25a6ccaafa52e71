#include "lib/script.h"

#include <check.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"

static uint32_t mix(uint64_t x)
{
	x = (x ^ x >> 31) * UINT64_C(0x7fb5d329728ea185);
	x = (x ^ x >> 27) * UINT64_C(0x81dadef4bc2dd44d);
	return (uint32_t)(x >> 32);
}

static uint32_t choose(const struct script *script, uint32_t which)
{
	return mix((uint64_t)script->setting.seed << 40 ^ script->index << 3 ^ which);
}

/* Most messages are small, and some are as large as they may be; few carry descriptors, and one in
 * a hundred carries as many as possible. */
static void describe(struct script *script)
{
	uint32_t max = script->setting.max_bytes, size = choose(script, 0), fds = choose(script, 1);

	script->n_bytes = 1 + choose(script, 2) % (size % 8 == 0 ? max : MIN(max, 256u));
	script->n_fds = fds % 4 == 0 ? 1 + fds / 4 % 3 : 0;
	if (fds % 100 == 1)
		script->n_fds = SCRIPT_FDS_MAX;
	if (script->setting.bytes_only)
		script->n_fds = 0;
	script->offset = 0;
}

void script_begin(struct script *script, const struct script_setting *setting)
{
	*script = (struct script){ .setting = *setting };
	if (script->setting.max_bytes == 0)
		script->setting.max_bytes = 20000;
	describe(script);
}

void script_next(struct script *script)
{
	script->index++;
	script->at += script->n_bytes;
	script->file += script->n_fds;
	describe(script);
}

void script_fill(const struct script *script, uint32_t offset, uint8_t *buf, size_t n)
{
	uint64_t at = script->at + offset;

	for (size_t i = 0; i < n; i++)
		buf[i] = (uint8_t)(((at + i) * 2654435761u + script->setting.seed) >> 13);
}

int script_file(uint64_t i)
{
	uint64_t number = i % SCRIPT_FILES;
	int fd = memfd_create("script", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, &number, sizeof(number), 0), sizeof(number));
	return fd;
}

/* --- Verifying --- */

static bool verify_bytes(struct script *script, const uint8_t *data, size_t n)
{
	uint8_t expected[4096];

	for (size_t done = 0; done < n;) {
		size_t part = MIN(n - done, sizeof(expected));

		script_fill(script, script->offset + (uint32_t)done, expected, part);
		for (size_t i = 0; i < part; i++) {
			if (data[done + i] == expected[i])
				continue;
			snprintf(script->why, sizeof(script->why),
				"byte %llu is 0x%02x instead of 0x%02x",
				(unsigned long long)(script->at + script->offset + done + i),
				data[done + i], expected[i]);
			return false;
		}
		done += part;
	}
	return true;
}

static bool verify_file(struct script *script, uint64_t i, int fd)
{
	uint64_t number = UINT64_MAX;

	if (pread(fd, &number, sizeof(number), 0) == sizeof(number) && number == i % SCRIPT_FILES)
		return true;
	snprintf(script->why, sizeof(script->why), "descriptor %llu is number %llu instead of %llu",
		(unsigned long long)i, (unsigned long long)number,
		(unsigned long long)(i % SCRIPT_FILES));
	return false;
}

static bool verify_files(struct script *script, const int *fds, size_t n_fds)
{
	uint64_t due = script->file + (script->offset > 0 ? script->n_fds : 0);

	for (size_t i = 0; i < n_fds; i++)
		if (!verify_file(script, script->seen + i, fds[i]))
			return false;
	script->seen += n_fds;
	if (script->seen == due || (script->seen > due && script->setting.early))
		return true;
	snprintf(script->why, sizeof(script->why),
		"%llu descriptors instead of %llu before byte %llu",
		(unsigned long long)script->seen, (unsigned long long)due,
		(unsigned long long)(script->at + script->offset));
	return false;
}

bool script_verify(struct script *script, const uint8_t *data, size_t n, const int *fds,
	size_t n_fds)
{
	if (!verify_bytes(script, data, n))
		return false;
	for (size_t left = n; left > 0;) {
		uint32_t part = (uint32_t)MIN(left, (size_t)(script->n_bytes - script->offset));

		script->offset += part;
		left -= part;
		if (script->offset == script->n_bytes)
			script_next(script);
	}
	return verify_files(script, fds, n_fds);
}
