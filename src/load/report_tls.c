/*
 * report_tls.c - what a run has shown of handshakes.
 *
 * Role:    a section of the report: how many, how fast, at which cost.
 * Process: the coordinator, at the end.
 * Blocks:  never.
 * Trust:   our own processes.
 * See:     report.c, man/parleyload.1.
 */
#include "load/report_tls.h"

#include "load/options.h"

void
report_tls_put(struct sheet *sheet, const struct coordinator *run)
{
	const struct mark *from;
	const struct mark *to;
	double full;
	double resumed;
	double seconds;

	if (run->options->scenario != SCENARIO_HANDSHAKES ||
	    !coordinator_span(run, STEP_MEASURE, &from, &to))
		return;
	seconds = (double)(to->at_ns - from->at_ns) / 1e9;
	resumed = (double)(to->tally[TALLY_handshakes_resumed] -
			   from->tally[TALLY_handshakes_resumed]);
	full = (double)(to->tally[TALLY_handshakes] -
			from->tally[TALLY_handshakes]) -
	       resumed;
	sheet_section(sheet, "handshakes", "TLS handshakes, measured time");
	sheet_number(sheet, "full_per_s", "full", full / seconds, "/s");
	sheet_number(
	    sheet, "resumed_per_s", "resumed", resumed / seconds, "/s");
	if (run->options->server_pid && full + resumed > 0)
		sheet_number(sheet, "server_us_per_handshake",
		    "server CPU per handshake",
		    (double)(to->cpu.server_us - from->cpu.server_us) /
			(full + resumed),
		    "us");
	sheet_section_end(sheet);
}
