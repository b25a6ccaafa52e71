#pragma once

#include "record.pb-c.h"

/** record_copy_desired() - a deep copy, with what fields a later release has put there; free with
 * bh__..__free_unpacked(x, NULL). NULL: there is no memory. */
Bh__Desired *record_copy_desired(const Bh__Desired *desired);
/** record_copy_observed() - as record_copy_desired() */
Bh__Observed *record_copy_observed(const Bh__Observed *observed);
/** record_copy_transfer() - as record_copy_desired() */
Bh__Transfer *record_copy_transfer(const Bh__Transfer *transfer);
