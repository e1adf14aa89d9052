/*
 * report.h - what a run has shown.
 */
#ifndef LOAD_REPORT_H
#define LOAD_REPORT_H

#include <stdbool.h>
#include <stdio.h>

struct coordinator;

/* Of the JSON form; parleyload(1), JSON. The version grows when a field
 * changes its meaning or goes; new ones may come at any time. */
#define REPORT_FORMAT  "parleyload"
#define REPORT_VERSION 1

/**
 * Add up all generators' results and write the report.
 *
 * @param is_broken  a generator ended before the plan did
 * @return           true: no violation, no failure
 */
bool report_write(
    const struct coordinator *coordinator, bool is_broken, FILE *out);

#endif
