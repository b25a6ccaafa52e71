#include "virtq/payload.h"

#include <string.h>

#include "base/bytes.h"

unsigned int virtq_slice(const struct iovec *iov, unsigned int n_iov, size_t skip, size_t max_bytes,
	struct iovec *ret)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < n_iov && max_bytes; i++) {
		size_t part;

		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - skip, max_bytes);
		ret[n++] = (struct iovec){ .iov_base = (uint8_t *)iov[i].iov_base + skip,
			.iov_len = part };
		max_bytes -= part;
		skip = 0;
	}
	return n;
}

static size_t copy(const struct iovec *iov, unsigned int n_iov, size_t offset, uint8_t *buf,
	size_t n, bool to_guest)
{
	size_t done = 0;

	for (unsigned int i = 0; i < n_iov && done < n; i++) {
		uint8_t *at = iov[i].iov_base;
		size_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - offset, n - done);
		if (to_guest)
			memcpy(at + offset, buf + done, part);
		else
			memcpy(buf + done, at + offset, part);
		done += part;
		offset = 0;
	}
	return done;
}

size_t virtq_read(const struct virtq_chain *chain, size_t offset, void *buf, size_t n)
{
	return copy(chain->iov, chain->n_out, offset, buf, n, false);
}

size_t virtq_write(const struct virtq_chain *chain, size_t offset, const void *buf, size_t n)
{
	return copy(chain->iov + chain->n_out, chain->n_in, offset, (uint8_t *)buf, n, true);
}
