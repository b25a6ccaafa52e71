#pragma once

#include <check.h>

/* Runs the tests of a program that uses libcheck. */

/** run_suite() - run one suite, to which add() adds its cases; returns the number of failures */
int run_suite(const char *name, void (*add)(Suite *suite));

/** run_main() - run_suite() as a whole program; returns the exit status. With TAP output,
 * failures are reported in the lines only, and the status tells whether all lines were printed. */
int run_main(const char *name, void (*add)(Suite *suite));
