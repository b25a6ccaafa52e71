#pragma once

#include <check.h>

/* What is around the tests of a program that uses libcheck. */

/** run_suite() - one suite, to which add() adds its cases; returns how many tests failed */
int run_suite(const char *name, void (*add)(Suite *suite));

/** run_main() - the same as a whole program: returns its exit status. Where the Test Anything
 * Protocol is spoken, the lines say what failed, and the status only whether they are all there. */
int run_main(const char *name, void (*add)(Suite *suite));
