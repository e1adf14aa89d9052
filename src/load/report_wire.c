/*
 * report_wire.c - what went over the connections.
 *
 * Role:    a section of the report: bytes per message, and what compression
 *          made of them.
 * Process: the coordinator, at the end.
 * Blocks:  never.
 * Trust:   our own processes.
 * See:     report.c, deflate.c, man/parleyload.1.
 */
#include "load/report_wire.h"

#include "load/options.h"
#include "load/report_priv.h"

static void
put_ratio(struct sheet *sheet, const char *key, const char *label,
    uint64_t deflated, uint64_t inflated)
{
	sheet_number(sheet, key, label,
	    report_per((double)deflated, (double)inflated), "");
}

static void
put_deflate(struct sheet *sheet, const struct control *control)
{
	sheet_count(sheet, "deflate_agreed", "connections with compression",
	    control_tally(control, TALLY_deflate_agreed));
	sheet_count(sheet, "inflated_in_bytes",
	    "texts that came compressed, inflated",
	    control_tally(control, TALLY_inflated_in));
	put_ratio(sheet, "deflate_in_ratio", "... their size on the wire",
	    control_tally(control, TALLY_deflated_in),
	    control_tally(control, TALLY_inflated_in));
	sheet_count(sheet, "inflated_out_bytes",
	    "texts sent compressed, before",
	    control_tally(control, TALLY_inflated_out));
	put_ratio(sheet, "deflate_out_ratio", "... their size on the wire",
	    control_tally(control, TALLY_deflated_out),
	    control_tally(control, TALLY_inflated_out));
}

static void
put_per_message(
    struct sheet *sheet, const struct mark *from, const struct mark *to)
{
	double messages = (double)(to->tally[TALLY_acknowledged] -
				   from->tally[TALLY_acknowledged]);

	sheet_number(sheet, "to_server_bytes_per_message",
	    "to the server, per message",
	    report_per((double)(to->tally[TALLY_bytes_out] -
				from->tally[TALLY_bytes_out]),
		messages),
	    "bytes");
	sheet_number(sheet, "from_server_bytes_per_message",
	    "from the server, per message",
	    report_per((double)(to->tally[TALLY_bytes_in] -
				from->tally[TALLY_bytes_in]),
		messages),
	    "bytes");
}

void
report_wire_put(struct sheet *sheet, const struct coordinator *run)
{
	const struct mark *from;
	const struct mark *to;
	bool is_measured = run->options->scenario == SCENARIO_PAIRS &&
			   coordinator_span(run, STEP_MEASURE, &from, &to);

	if (!is_measured && !run->options->deflate)
		return;
	sheet_section(sheet, "wire", "Bytes on the wire (before TLS)");
	if (is_measured)
		put_per_message(sheet, from, to);
	if (run->options->deflate)
		put_deflate(sheet, run->control);
	sheet_section_end(sheet);
}
