/*
 * report_tls.h - handshakes in the report.
 */
#ifndef LOAD_REPORT_TLS_H
#define LOAD_REPORT_TLS_H

#include "load/coordinator.h"
#include "load/sheet.h"

/** The section of the scenario handshakes; nothing for others. */
void report_tls_put(struct sheet *sheet, const struct coordinator *run);

#endif
