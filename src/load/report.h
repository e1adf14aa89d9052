/*
 * report.h - what a run has shown.
 */
#ifndef LOAD_REPORT_H
#define LOAD_REPORT_H

#include <stdbool.h>
#include <stdio.h>

struct coordinator;

/**
 * Add up all generators' results and write the report.
 *
 * @param is_broken  a generator ended before the plan did
 * @return           true: no violation, no failure
 */
bool report_write(
    const struct coordinator *coordinator, bool is_broken, FILE *out);

#endif
