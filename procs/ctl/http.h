#pragma once

#include <stddef.h>

/**
 * http_answer() - read one request from a connection, and answer it: with the page, where it asks
 *                 for /metrics; the caller closes the connection
 * @fd:   [in] a stream socket, which is another's end of an HTTP/1 connection; hostile
 * @page: [in] n bytes of text in Prometheus' format
 *
 * Errors: 0: it was answered | -ETIMEDOUT, -ECONNRESET: the other side is too slow, or gone | -EIO.
 * Cost:   10 s at the most, and 4 KiB.
 */
int http_answer(int fd, const char *page, size_t n);
