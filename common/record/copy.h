#pragma once

#include "record.pb-c.h"

/** record_copy_desired(), .._observed(), .._transfer() - a deep copy, with what fields a later release
 * has put there; free with bh__..__free_unpacked(x, NULL). NULL: there is no memory. */
Bh__Desired *record_copy_desired(const Bh__Desired *desired);
Bh__Observed *record_copy_observed(const Bh__Observed *observed);
Bh__Transfer *record_copy_transfer(const Bh__Transfer *transfer);
