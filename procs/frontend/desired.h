#pragma once

#include <stdbool.h>

#include "record.pb-c.h"

/*
 * The desired half of a record as a thing to copy and change. What these functions return is part
 * of the record that it is in, but for the records themselves, which are the caller's to free. Out
 * of memory ends the process: a record is small, and a restart finds everything as it was.
 */

/** desired_next() - a copy with the next generation */
Bh__Desired *desired_next(const Bh__Desired *desired);

/** desired_is_same() - whether the two say the same, whatever their generations; next is as it was
 * afterwards */
bool desired_is_same(Bh__Desired *next, const Bh__Desired *desired);

/** desired_empty() - the next generation, of which nothing is left that a VMM asked for or handed
 * over
 * @connected: a new VMM is there: it begins the next session */
Bh__Desired *desired_empty(const Bh__Desired *desired, bool connected);

/** desired_free() - fine with NULL; returns NULL, to be assigned to the owner */
Bh__Desired *desired_free(Bh__Desired *desired);

/** desired_find_ring() - of that index, or NULL */
Bh__Ring *desired_find_ring(const Bh__Desired *desired, uint32_t index);
/** desired_ring() - of that index, made if it is not there */
Bh__Ring *desired_ring(Bh__Desired *desired, uint32_t index);

/** desired_enables_rings() - whether rings are enabled from the start */
bool desired_enables_rings(const Bh__Desired *desired);

/** desired_any_started() - whether the VMM has started any ring */
bool desired_any_started(const Bh__Desired *desired);

/** desired_take_positions() - the device's state was loaded: rings that are not started go on where
 * it says, but for those whose position the VMM has set
 * @n_queues: of the device; rings beyond it are ignored */
void desired_take_positions(Bh__Desired *desired, const Bh__Transfer *transfer, uint32_t n_queues);

/** desired_add_region() - an empty region at the end */
Bh__Region *desired_add_region(Bh__Desired *desired);
/** desired_remove_region() - the i-th, which must be there; the order of the others may change */
void desired_remove_region(Bh__Desired *desired, size_t i);
/** desired_clear_regions() - remove all regions */
void desired_clear_regions(Bh__Desired *desired);

/** desired_new_inflight() - an empty one, in place of what was there */
Bh__Inflight *desired_new_inflight(Bh__Desired *desired);

/** desired_new_log() - an empty one, in place of what was there */
Bh__Log *desired_new_log(Bh__Desired *desired);

/** desired_add_config_write() - data is copied; of many writes the oldest goes */
Bh__ConfigWrite *desired_add_config_write(Bh__Desired *desired, const uint8_t *data, size_t n);

/** desired_set_rarp_mac() - the address that is to be announced */
void desired_set_rarp_mac(Bh__Desired *desired, const uint8_t mac[6]);
