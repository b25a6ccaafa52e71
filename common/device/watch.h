#pragma once

struct device;

/* How a worker hears of a newer record. Loop thread. */

/** watch_open() - begin to watch: get the bell, and ask; after the bus is open */
void watch_open(struct device *device);

/** watch_close() - give the bell back; the next record is heard of by the question. Harmless at any
 * time */
void watch_close(struct device *device);

/** watch_ask() - ask for the next record, unless the question is open or it is too early */
void watch_ask(struct device *device);

/** watch_read() - read the record, apply it and report. Nothing happens before the device has
 * settled; a standby maps the memory alone.
 * Errors: 0 | negative errno, logged: the record cannot be read. */
int watch_read(struct device *device);

/** watch_read_again() - as watch_read(), of a worker that runs: it ends if the record cannot be
 * read */
void watch_read_again(struct device *device);

/** watch_memory_is_back() - for vault_watch(): memory was away, and has published the record in
 * another file. If it goes away again meanwhile, this is called again.
 * @data: the struct device */
void watch_memory_is_back(void *data);
