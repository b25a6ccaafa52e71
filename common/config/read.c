/* All of a file at once, so that what is judged is what is copied (config/force.h). */
#include "config/read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"

#define TEXT_BYTES_MAX (1u << 20)

static int read_all(int fd, char *text, size_t *ret_n)
{
	size_t n = 0;
	ssize_t r;

	while ((r = read(fd, text + n, TEXT_BYTES_MAX + 1 - n)) > 0)
		n += (size_t)r;
	if (r < 0)
		return -errno;
	if (n == 0)
		text[n++] = '\n';
	*ret_n = n;
	return n > TEXT_BYTES_MAX ? -EISDIR : 0;
}

int read_text(const char *path, char **ret_text, size_t *ret_n)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	_cleanup_free_ char *text = NULL;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EISDIR;
	text = malloc(TEXT_BYTES_MAX + 1);
	check(text);
	r = read_all(fd, text, ret_n);
	if (r < 0)
		return r;
	*ret_text = realloc(text, *ret_n);
	check(*ret_text);
	(void)ptr_steal(&text);
	return 0;
}
