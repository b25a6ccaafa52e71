/*
 * Slots are looked up by device name, because the set of devices may change between two instances
 * of the process, and a mark must not pass from one device to another. Slots without a death are
 * reassigned by each instance.
 */
#include "proc/marks.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "config/config.h"
#include "fd/fdstore.h"

#define STORED "marks"
#define SLOTS_MAX (4 * CONFIG_DEVICES_MAX)

struct slot {
	char device[64];
	struct blame_mark mark;
};

struct marks {
	struct slot slots[SLOTS_MAX];
};

static int make_file(void)
{
	int fd = file_sealed("bulkhead-marks", sizeof(struct marks));

	if (fd >= 0)
		(void)fdstore_push(STORED, fd);
	return fd;
}

/* The slot was written by a dying process, so nothing in it is trusted. */
static void judge_slot(struct slot *slot)
{
	slot->device[sizeof(slot->device) - 1] = '\0';
	if (slot->mark.deaths == 0 || !config_check_name(slot->device) || slot->mark.signal >= NSIG)
		*slot = (struct slot){ 0 };
}

int marks_open(struct marks **ret_marks)
{
	_cleanup_close_ int fd = fdstore_take(STORED);
	struct stat st;
	void *mem;

	if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_size != sizeof(struct marks))) {
		(void)fdstore_remove(STORED); /* from another release */
		fd = fd_close(fd);
	}
	if (fd < 0)
		fd = make_file();
	if (fd < 0)
		return fd;
	mem = mmap(NULL, sizeof(struct marks), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	*ret_marks = mem;
	for (size_t i = 0; i < SLOTS_MAX; i++)
		judge_slot(&(*ret_marks)->slots[i]);
	return 0;
}

struct blame_mark *marks_of(struct marks *marks, const char *device)
{
	struct slot *slot = NULL;

	for (size_t i = 0; i < SLOTS_MAX; i++) {
		if (strcmp(marks->slots[i].device, device) == 0)
			return &marks->slots[i].mark;
		if (!slot && !marks->slots[i].device[0])
			slot = &marks->slots[i];
	}
	check(slot);
	(void)snprintf(slot->device, sizeof(slot->device), "%s", device);
	return &slot->mark;
}
