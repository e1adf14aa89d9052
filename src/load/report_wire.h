/*
 * report_wire.h - bytes on the wire in the report.
 */
#ifndef LOAD_REPORT_WIRE_H
#define LOAD_REPORT_WIRE_H

#include "load/coordinator.h"
#include "load/sheet.h"

/** Per message where messages were measured; of compression if offered. */
void report_wire_put(struct sheet *sheet, const struct coordinator *run);

#endif
