/*
 * sheet.h - a report once, as aligned text or as JSON.
 *
 * Sections hold rows; in JSON a section is an object and a row a member.
 */
#ifndef LOAD_SHEET_H
#define LOAD_SHEET_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"

struct sheet {
	struct buf out;
	bool is_json;
};

void sheet_begin(struct sheet *sheet, bool is_json);
/** @param key, title  JSON name; headline of the text */
void sheet_section(struct sheet *sheet, const char *key, const char *title);
void sheet_section_end(struct sheet *sheet);
void sheet_count(
    struct sheet *sheet, const char *key, const char *label, uint64_t n);
/** @param unit  after the number in the text; the key names it in JSON */
void sheet_number(struct sheet *sheet, const char *key, const char *label,
    double n, const char *unit);
void sheet_text(
    struct sheet *sheet, const char *key, const char *label, const char *text);
void sheet_truth(
    struct sheet *sheet, const char *key, const char *label, bool value);
/** End, write to out and free. */
void sheet_finish(struct sheet *sheet, FILE *out);

#endif
