/*
 * report.c - what a run has shown.
 *
 * Role:    adds the generators' results, judges them, lays them out.
 * Process: the coordinator, at the end.
 * Blocks:  writing to standard output.
 * Trust:   our own processes. Violations name ids, never content.
 * See:     sheet.c (form), coordinator.c (marks), man/parleyload.1.
 */
#include "config.h"

#include "load/report.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "load/report_priv.h"
#include "load/report_tls.h"
#include "load/report_wire.h"

static void
add_slots(struct report *report)
{
	const struct control *control = report->control;

	report->failure = "";
	for (uint32_t i = 0; i < control->slot_count; i++) {
		const struct slot *slot = &control->slots[i];
		int64_t answer_ns = atomic_load(&slot->last_answer_ns);
		int64_t delivery_ns = atomic_load(&slot->last_delivery_ns);

		if (!report->failure[0])
			report->failure = slot->failure;
		if (!atomic_load(&slot->has_result))
			continue;
		verdict_merge(&report->verdict, &slot->verdict);
		latency_merge(&report->answer_us, &slot->answer_us);
		latency_merge(&report->deliver_us, &slot->deliver_us);
		latency_merge(&report->late_us, &slot->late_us);
		if (answer_ns > report->last_answer_ns)
			report->last_answer_ns = answer_ns;
		if (delivery_ns > report->last_delivery_ns)
			report->last_delivery_ns = delivery_ns;
	}
	for (int id = 0; id < TALLY_END; id++)
		report->tally[id] = control_tally(control, (enum tally_id)id);
}

static void
judge(struct report *report)
{
	const uint64_t *tally = report->tally;
	const struct options *options = report->options;
	uint64_t due = tally[TALLY_scheduled];

	if (options->scenario == SCENARIO_OFFLINE)
		due = options->count * options->messages;
	if (due > tally[TALLY_sent])
		report->unsent = due - tally[TALLY_sent];
	if (report->run->users_wanted > report->run->users_after)
		report->missing_users =
		    report->run->users_wanted - report->run->users_after;
	/* with --churn a lost connection is what the run is about */
	if (!options->churn)
		report->failures += tally[TALLY_logins_failed] +
				    tally[TALLY_drops] +
				    tally[TALLY_refused_for_now];
	else
		report->failures += report->missing_users;
	report->failures += tally[TALLY_refused] + tally[TALLY_errors] +
			    report->verdict.unconfirmed +
			    report->verdict.unproven;
	/* what an absent user should get has to be sent first */
	if (options->scenario == SCENARIO_OFFLINE && !report->run->is_early)
		report->failures += report->unsent;
	if (report->is_broken)
		report->failures++;
	if (report->failures == 0 && report->missing_users > 0)
		report->failures = report->missing_users;
}

static void
put_connections(struct report *report)
{
	const uint64_t *tally = report->tally;
	struct sheet *sheet = &report->sheet;
	const struct mark *from;
	const struct mark *to;

	sheet_section(sheet, "connections", "Connections");
	sheet_count(sheet, "wanted", "wanted", report->run->users_wanted);
	sheet_count(
	    sheet, "up_at_end", "up at the end", report->run->users_after);
	sheet_count(sheet, "logins", "logins", tally[TALLY_logins]);
	sheet_count(sheet, "logins_failed", "failed attempts",
	    tally[TALLY_logins_failed]);
	sheet_count(sheet, "dropped", "dropped", tally[TALLY_drops]);
	sheet_count(sheet, "resumed", "resumed", tally[TALLY_resumed]);
	sheet_count(sheet, "pings", "pings answered", tally[TALLY_pings]);
	if (coordinator_span(report->run, STEP_LOGIN, &from, &to)) {
		double seconds = report_seconds(from, to);
		double logins = (double)(to->tally[TALLY_logins] -
					 from->tally[TALLY_logins]);

		sheet_number(sheet, "login_s", "time of logins", seconds, "s");
		sheet_number(sheet, "logins_per_s", "login rate",
		    report_per(logins, seconds), "/s");
		if (report->options->server_pid)
			sheet_number(sheet, "server_us_per_login",
			    "server CPU per login",
			    report_per((double)(to->cpu.server_us -
						from->cpu.server_us),
				logins),
			    "us");
	}
	sheet_section_end(sheet);
}

static void
put_messages(struct report *report)
{
	const uint64_t *tally = report->tally;
	struct sheet *sheet = &report->sheet;

	sheet_section(sheet, "messages", "Messages, the whole run");
	sheet_count(sheet, "sent", "sent", tally[TALLY_sent]);
	sheet_count(
	    sheet, "acknowledged", "acknowledged", tally[TALLY_acknowledged]);
	sheet_count(sheet, "delivered", "delivered", tally[TALLY_delivered]);
	sheet_count(sheet, "never_sent", "due, but never sent", report->unsent);
	sheet_count(sheet, "retried", "sent again after a resume",
	    tally[TALLY_retried]);
	sheet_count(sheet, "answered_duplicate", "answered DUPLICATE",
	    tally[TALLY_answered_again]);
	sheet_count(sheet, "redelivered", "same Seq again after a resume",
	    tally[TALLY_redelivered]);
	sheet_count(sheet, "refused", "refused", tally[TALLY_refused]);
	sheet_count(sheet, "refused_for_now", "refused for now",
	    tally[TALLY_refused_for_now]);
	sheet_count(sheet, "unconfirmed", "no reply, connection lost",
	    report->verdict.unconfirmed);
	sheet_count(sheet, "unproven", "acknowledged, receiver gone",
	    report->verdict.unproven);
	sheet_count(
	    sheet, "foreign", "of others or older runs", tally[TALLY_foreign]);
	sheet_count(sheet, "acks", "P_ACK sent", tally[TALLY_acks]);
	sheet_count(sheet, "requests_refused", "other requests refused",
	    tally[TALLY_errors]);
	sheet_section_end(sheet);
}

static void
put_rate(struct report *report, const char *key, const char *label,
    enum tally_id id, const struct mark *from, const struct mark *to)
{
	sheet_number(&report->sheet, key, label,
	    report_per((double)(to->tally[id] - from->tally[id]),
		report_seconds(from, to)),
	    "/s");
}

static void
put_measured(struct report *report)
{
	struct sheet *sheet = &report->sheet;
	const struct mark *from;
	const struct mark *to;

	if (!coordinator_span(report->run, STEP_MEASURE, &from, &to))
		return;
	sheet_section(sheet, "measured", "Messages, measured");
	sheet_number(
	    sheet, "seconds", "time measured", report_seconds(from, to), "s");
	if (report->options->rate > 0)
		sheet_number(sheet, "offered_per_s", "offered",
		    report->options->rate, "/s");
	put_rate(report, "sent_per_s", "sent", TALLY_sent, from, to);
	put_rate(report, "acknowledged_per_s", "acknowledged",
	    TALLY_acknowledged, from, to);
	put_rate(
	    report, "delivered_per_s", "delivered", TALLY_delivered, from, to);
	sheet_section_end(sheet);
}

/* offline: each half has its own time, up to its last message. */
static void
put_halves(struct report *report)
{
	struct sheet *sheet = &report->sheet;
	int64_t send_ns = control_step_started_ns(report->control, STEP_SEND);
	int64_t take_ns = control_step_started_ns(report->control, STEP_TAKE);
	double seconds;

	if (report->options->scenario != SCENARIO_OFFLINE || send_ns == 0)
		return;
	sheet_section(sheet, "offline", "Sent to absent users, then taken");
	seconds = (double)(report->last_answer_ns - send_ns) / 1e9;
	if (report->last_answer_ns > send_ns) {
		sheet_number(sheet, "send_s", "time of sending", seconds, "s");
		sheet_number(sheet, "acknowledged_per_s", "acknowledged",
		    report_per(
			(double)report->tally[TALLY_acknowledged], seconds),
		    "/s");
	}
	seconds = (double)(report->last_delivery_ns - take_ns) / 1e9;
	if (take_ns != 0 && report->last_delivery_ns > take_ns) {
		sheet_number(sheet, "take_s", "time of taking, with logins",
		    seconds, "s");
		sheet_number(sheet, "delivered_per_s", "delivered",
		    report_per((double)report->tally[TALLY_delivered], seconds),
		    "/s");
	}
	sheet_section_end(sheet);
}

static void
put_latency(struct sheet *sheet, const char *key, const char *title,
    const struct latency *latency)
{
	static const struct {
		const char *key;
		const char *label;
		double quantile;
	} rows[] = {
	    {"p50_ms", "p50", 0.5},
	    {"p90_ms", "p90", 0.9},
	    {"p99_ms", "p99", 0.99},
	    {"p99_9_ms", "p99.9", 0.999},
	};

	if (latency->count == 0)
		return;
	sheet_section(sheet, key, title);
	sheet_count(sheet, "count", "messages", latency->count);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t us = latency_quantile_us(latency, rows[i].quantile);

		sheet_number(
		    sheet, rows[i].key, rows[i].label, (double)us / 1000, "ms");
	}
	sheet_number(
	    sheet, "max_ms", "max", (double)latency->max_us / 1000, "ms");
	sheet_section_end(sheet);
}

static void
put_traffic(struct report *report)
{
	put_latency(&report->sheet, "latency_delivered",
	    "Latency, intended send to delivered", &report->deliver_us);
	put_latency(&report->sheet, "latency_acknowledged",
	    "Latency, intended send to acknowledged", &report->answer_us);
}

static void
put_presence(struct report *report)
{
	struct sheet *sheet = &report->sheet;
	uint64_t due = report->options->count * report->options->contacts;

	sheet_section(sheet, "presence", "Presence");
	sheet_count(sheet, "due", "who is to know of whom", due);
	sheet_count(
	    sheet, "events", "P_PRESENCE", report->tally[TALLY_presence]);
	sheet_count(sheet, "untold", "of them never told",
	    report->verdict.counts[VIOLATION_UNTOLD]);
	sheet_section_end(sheet);
	put_latency(sheet, "latency_presence",
	    "Latency, a login's request to its contacts' events",
	    &report->deliver_us);
	put_latency(sheet, "latency_login",
	    "Latency, a login's request to its reply", &report->answer_us);
}

static double
memory_bytes(const struct proc_memory *memory)
{
	return (double)memory->pss_bytes + (double)memory->tmpfs_store_bytes;
}

static void
put_memory(struct report *report)
{
	const struct proc_memory *before = &report->run->memory_before;
	const struct proc_memory *ramp = &report->run->memory_ramp;
	const struct proc_memory *after = &report->run->memory_after;
	struct sheet *sheet = &report->sheet;
	double users = (double)report->run->users_after;

	if (report->options->server_pid == 0)
		return;
	sheet_section(sheet, "memory",
	    "Server memory (PSS of its process tree, and stores on a tmpfs)");
	sheet_truth(sheet, "is_complete", "all processes could be read",
	    before->is_complete && after->is_complete);
	sheet_count(sheet, "processes", "processes", after->process_count);
	sheet_number(sheet, "before_kib", "before the connections",
	    memory_bytes(before) / 1024, "KiB");
	if (ramp->process_count > 0)
		sheet_number(sheet, "ramp_kib", "when all had logged in",
		    memory_bytes(ramp) / 1024, "KiB");
	sheet_number(sheet, "after_kib", "with the connections",
	    memory_bytes(after) / 1024, "KiB");
	sheet_number(sheet, "per_connection_bytes", "growth per connection",
	    report_per(memory_bytes(after) - memory_bytes(before), users),
	    "bytes");
	sheet_number(sheet, "whole_per_connection_bytes",
	    "all of it per connection", report_per(memory_bytes(after), users),
	    "bytes");
	sheet_number(sheet, "tmpfs_store_kib", "of it the store on a tmpfs",
	    (double)after->tmpfs_store_bytes / 1024, "KiB");
	sheet_number(sheet, "disk_store_kib", "not of it: store on a disk",
	    (double)after->disk_store_bytes / 1024, "KiB");
	sheet_section_end(sheet);
}

static void
put_context(struct report *report)
{
	const struct proc_context *context = &report->run->context;
	struct sheet *sheet = &report->sheet;
	char keeper[64] = "no process of that name found";

	if (context->keeper_pid != 0)
		snprintf(keeper, sizeof(keeper), "%s, priority %d",
		    proc_policy_name(context->keeper_policy),
		    context->keeper_priority);
	sheet_section(sheet, "context", "Context");
	sheet_count(sheet, "cores", "cores", (uint64_t)context->cores);
	sheet_text(sheet, "kernel", "kernel", context->kernel);
	sheet_text(sheet, "keeper", "keeper's scheduling", keeper);
	sheet_truth(sheet, "keeper_realtime", "keeper has real-time priority",
	    context->keeper_priority > 0);
	sheet_truth(sheet, "interrupts_charged",
	    "interrupts are part of processes' time",
	    context->is_interrupt_charged);
	sheet_count(sheet, "generators", "generator processes",
	    report->options->processes);
	sheet_count(
	    sheet, "pairs_or_connections", "-n", report->options->count);
	if (options_users_per(report->options) > 1)
		sheet_count(sheet, "message_bytes", "bytes per message",
		    report->options->size);
	sheet_section_end(sheet);
}

static void
put_detail(struct sheet *sheet, int number, const struct violation *v)
{
	char key[16];
	char text[256];

	snprintf(key, sizeof(key), "%d", number);
	snprintf(text, sizeof(text),
	    "%s: sender %llu receiver %llu number %llu seq %llu (%llu) "
	    "message %llu (%llu)",
	    violation_key((enum violation_kind)v->kind),
	    (unsigned long long)v->sender, (unsigned long long)v->receiver,
	    (unsigned long long)v->number, (unsigned long long)v->seq,
	    (unsigned long long)v->seq_other, (unsigned long long)v->message_id,
	    (unsigned long long)v->message_id_other);
	if (sheet->is_json)
		sheet_text(sheet, key, key, text);
	else
		buf_printf(&sheet->out, "  %s\n", text);
}

static void
put_details(struct sheet *sheet, const struct verdict *verdict)
{
	int number = 0;

	sheet_section(sheet, "first_violations",
	    "First violations: what came (what was known or expected)");
	for (int kind = 0; kind < VIOLATION_END; kind++) {
		uint32_t count =
		    verdict_detail_count(verdict, (enum violation_kind)kind);

		for (uint32_t i = 0; i < count; i++)
			put_detail(sheet, ++number, &verdict->details[kind][i]);
	}
	sheet_section_end(sheet);
}

static void
put_violations(struct report *report)
{
	const struct verdict *verdict = &report->verdict;
	struct sheet *sheet = &report->sheet;

	sheet_section(sheet, "violations", "Violations");
	for (int kind = 0; kind < VIOLATION_END; kind++) {
		enum violation_kind id = (enum violation_kind)kind;

		if (sheet->is_json || verdict->counts[kind] > 0)
			sheet_count(sheet, violation_key(id),
			    violation_text(id), verdict->counts[kind]);
	}
	if (!sheet->is_json && verdict_total(verdict) == 0)
		sheet_text(sheet, "none", "none", "");
	sheet_section_end(sheet);
	if (verdict_total(verdict) > 0)
		put_details(sheet, verdict);
}

static void
put_result(struct report *report, bool is_ok)
{
	struct sheet *sheet = &report->sheet;

	sheet_section(sheet, "result", "Result");
	sheet_text(sheet, "scenario", "scenario",
	    options_scenario_name(report->options->scenario));
	sheet_truth(sheet, "ok", "sound", is_ok);
	sheet_count(
	    sheet, "violations", "violations", verdict_total(&report->verdict));
	sheet_count(sheet, "failures", "failures", report->failures);
	sheet_truth(sheet, "ended_early", "ended early",
	    report->run->is_early || report->is_broken);
	report_put_limit(report);
	if (report->failure[0] || sheet->is_json)
		sheet_text(
		    sheet, "first_failure", "first failure", report->failure);
	sheet_section_end(sheet);
}

static void
put_all(struct report *report, bool is_ok)
{
	struct sheet *sheet = &report->sheet;
	bool is_connect = options_users_per(report->options) == 1;

	put_connections(report);
	report_tls_put(sheet, report->run);
	if (!is_connect)
		put_messages(report);
	put_measured(report);
	put_halves(report);
	if (report->options->scenario == SCENARIO_PRESENCE)
		put_presence(report);
	else
		put_traffic(report);
	put_latency(sheet, "lateness",
	    "Lateness of parleyload itself (part of the above)",
	    &report->late_us);
	report_wire_put(sheet, report->run);
	report_put_cpu(report);
	put_memory(report);
	put_context(report);
	if (!is_connect || report->options->scenario == SCENARIO_PRESENCE ||
	    verdict_total(&report->verdict) > 0 || sheet->is_json)
		put_violations(report);
	put_result(report, is_ok);
}

bool
report_write(const struct coordinator *coordinator, bool is_broken, FILE *out)
{
	struct report *report = xcalloc(1, sizeof(*report));
	bool is_ok;

	report->run = coordinator;
	report->options = coordinator->options;
	report->control = coordinator->control;
	report->is_broken = is_broken;
	add_slots(report);
	judge(report);
	is_ok = report->failures == 0 && verdict_total(&report->verdict) == 0;
	report_judge_limit(report);
	sheet_begin(&report->sheet, coordinator->options->json);
	if (coordinator->options->json) {
		sheet_text(&report->sheet, "format", "", REPORT_FORMAT);
		sheet_count(
		    &report->sheet, "format_version", "", REPORT_VERSION);
		sheet_text(
		    &report->sheet, "program_version", "", PACKAGE_VERSION);
	}
	put_all(report, is_ok);
	sheet_finish(&report->sheet, out);
	free(report);
	return is_ok;
}
