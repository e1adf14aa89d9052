/*
 * sheet.c - a report once, as aligned text or as JSON.
 *
 * Role:    layout of what report.c has to say.
 * Process: the coordinator, at the end.
 * Blocks:  writing to standard output.
 * Trust:   texts may hold a process' name: JSON-escaped, printable in text.
 * See:     report.c.
 */
#include "load/sheet.h"

#include <string.h>

#include "base/json.h"

#define LABEL_WIDTH 34

void
sheet_begin(struct sheet *sheet, bool is_json)
{
	*sheet = (struct sheet){.is_json = is_json};
	if (is_json)
		json_object_begin(&sheet->out);
}

void
sheet_section(struct sheet *sheet, const char *key, const char *title)
{
	if (sheet->is_json) {
		json_key(&sheet->out, key);
		json_object_begin(&sheet->out);
	} else {
		buf_printf(
		    &sheet->out, "%s%s\n", sheet->out.len ? "\n" : "", title);
	}
}

void
sheet_section_end(struct sheet *sheet)
{
	if (sheet->is_json)
		json_object_end(&sheet->out);
}

void
sheet_count(struct sheet *sheet, const char *key, const char *label, uint64_t n)
{
	if (sheet->is_json)
		json_put_u64(&sheet->out, key, n);
	else
		buf_printf(&sheet->out, "  %-*s %14llu\n", LABEL_WIDTH, label,
		    (unsigned long long)n);
}

void
sheet_number(struct sheet *sheet, const char *key, const char *label, double n,
    const char *unit)
{
	char text[64];
	int len;

	if (sheet->is_json) {
		len = snprintf(text, sizeof(text), "%.9g", n);
		json_put_raw(&sheet->out, key, text, (size_t)len);
	} else {
		buf_printf(&sheet->out, "  %-*s %14.2f %s\n", LABEL_WIDTH,
		    label, n, unit);
	}
}

void
sheet_text(
    struct sheet *sheet, const char *key, const char *label, const char *text)
{
	if (sheet->is_json) {
		json_put_text(&sheet->out, key, text);
		return;
	}
	buf_printf(&sheet->out, "  %-*s ", LABEL_WIDTH, label);
	for (; *text; text++)
		buf_add_char(
		    &sheet->out, *text >= ' ' && *text != 0x7f ? *text : '?');
	buf_add_char(&sheet->out, '\n');
}

void
sheet_truth(struct sheet *sheet, const char *key, const char *label, bool value)
{
	if (sheet->is_json)
		json_put_bool(&sheet->out, key, value);
	else
		sheet_text(sheet, key, label, value ? "yes" : "no");
}

void
sheet_finish(struct sheet *sheet, FILE *out)
{
	if (sheet->is_json) {
		json_object_end(&sheet->out);
		buf_add_char(&sheet->out, '\n');
	}
	fwrite(sheet->out.data, 1, sheet->out.len, out);
	fflush(out);
	buf_fini(&sheet->out);
}
