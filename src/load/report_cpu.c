/*
 * report_cpu.c - who used the machine, and what it cost per message.
 *
 * Role:    CPU time, switches, wake-ups and commits of each measured step;
 *          says when something else than the server set the pace.
 * Process: the coordinator, at the end.
 * Blocks:  never.
 * Trust:   /proc counts in ticks and processes come and go: differences that
 *          would be negative are 0.
 * See:     proc.c, server.c (where it is from), report.c, parleyload(1).
 */
#include "load/report_priv.h"

#include "base/json.h"

/* Percent of a core: nobody gets more for long, the kernel takes the rest. */
#define CORE_FULL_PERCENT 90
/* Percent of all cores: less is nothing one could have used. */
#define IDLE_FEW_PERCENT 5
/* Percent of all cores: more than that moves figures. */
#define STRANGERS_PERCENT 5
/* Lateness below it does not show in any latency. */
#define LATE_US_MIN 1000

static const char *const limit_texts[] = {
    [LIMIT_UNKNOWN] = "unknown",
    [LIMIT_GENERATOR] = "generator",
    [LIMIT_STRANGERS] = "strangers",
    [LIMIT_SERVER] = "server",
    [LIMIT_CORES] = "cores",
    [LIMIT_NO_CPU] = "not the CPU",
};

static double
grown(uint64_t from, uint64_t to)
{
	return to > from ? (double)(to - from) : 0;
}

/* A group of zeroes for a name that was not there yet. */
static struct proc_group
group_before(const struct mark *mark, const char *name)
{
	struct proc_sample sample = mark->cpu;
	const struct proc_group *group = proc_group_find(&sample, name);

	return group ? *group : (struct proc_group){.count = 0};
}

struct group_row {
	const char *name;
	double cpu_us;
	double voluntary;
	double involuntary;
	double wakeups;
	double written_bytes;
};

static void
put_group_json(struct sheet *sheet, const struct group_row *row)
{
	sheet_section(sheet, row->name, "");
	sheet_number(sheet, "us_per_message", "", row->cpu_us, "");
	sheet_number(sheet, "voluntary_per_message", "", row->voluntary, "");
	sheet_number(
	    sheet, "involuntary_per_message", "", row->involuntary, "");
	sheet_number(sheet, "wakeups_per_message", "", row->wakeups, "");
	sheet_number(
	    sheet, "written_bytes_per_message", "", row->written_bytes, "");
	sheet_section_end(sheet);
}

/* Per message by process name; what idles still stands in the JSON. */
static void
put_groups(struct report *report, const struct mark *from,
    const struct mark *to, double count)
{
	struct sheet *sheet = &report->sheet;

	sheet_section(sheet, "processes", "  per message");
	if (!sheet->is_json)
		buf_printf(&sheet->out, "  %-16s %9s %9s %11s %9s %14s\n", "",
		    "CPU us", "voluntary", "involuntary", "wake-ups",
		    "written bytes");
	for (uint32_t i = 0; i < to->cpu.group_count; i++) {
		const struct proc_group *now = &to->cpu.groups[i];
		struct proc_group then = group_before(from, now->name);
		struct group_row row = {
		    .name = now->name,
		    .cpu_us =
			report_per(grown(then.cpu_us, now->cpu_us), count),
		    .voluntary = report_per(
			grown(then.voluntary, now->voluntary), count),
		    .involuntary = report_per(
			grown(then.involuntary, now->involuntary), count),
		    .wakeups =
			report_per(grown(then.wakeups, now->wakeups), count),
		    .written_bytes = report_per(
			grown(then.written_bytes, now->written_bytes), count),
		};

		if (sheet->is_json)
			put_group_json(sheet, &row);
		else
			buf_printf(&sheet->out,
			    "  %-16s %9.2f %9.3f %11.3f %9.3f %14.0f\n",
			    row.name, row.cpu_us, row.voluntary,
			    row.involuntary, row.wakeups, row.written_bytes);
	}
	sheet_section_end(sheet);
}

static void
put_switches(struct report *report, const struct mark *from,
    const struct mark *to, double count)
{
	struct sheet *sheet = &report->sheet;
	double voluntary = 0;
	double involuntary = 0;

	for (uint32_t i = 0; i < to->cpu.group_count; i++) {
		const struct proc_group *now = &to->cpu.groups[i];
		struct proc_group then = group_before(from, now->name);

		voluntary += grown(then.voluntary, now->voluntary);
		involuntary += grown(then.involuntary, now->involuntary);
	}
	sheet_number(sheet, "voluntary_per_message",
	    "server's voluntary switches per message",
	    report_per(voluntary, count), "");
	sheet_number(sheet, "involuntary_per_message",
	    "server's involuntary ones", report_per(involuntary, count), "");
}

/* What the scoreboard adds. */
static void
put_server_counts(struct report *report, const struct mark *from,
    const struct mark *to, double count)
{
	struct sheet *sheet = &report->sheet;
	double commits = grown(from->server.commits, to->server.commits);
	double messages = grown(from->server.messages, to->server.messages);

	if (!report->run->board)
		return;
	sheet_number(sheet, "wakeups_per_message", "wake-ups per message",
	    report_per(grown(from->server.wakeups, to->server.wakeups), count),
	    "");
	sheet_number(sheet, "commits_per_s", "commits",
	    report_per(commits, report_seconds(from, to)), "/s");
	sheet_number(sheet, "messages_per_commit", "messages per commit",
	    report_per(messages, commits), "");
	sheet_number(sheet, "commit_mean_ms", "mean time of a commit",
	    report_per(
		grown(from->server.commit_us, to->server.commit_us), commits) /
		1000,
	    "ms");
}

static void
shares_of(const struct report *report, const struct mark *from,
    const struct mark *to, struct report_shares *shares)
{
	double total_us = grown(from->cpu.total_us, to->cpu.total_us);
	double busy_us = grown(from->cpu.busy_us, to->cpu.busy_us);
	double server_us = grown(from->cpu.server_us, to->cpu.server_us);
	double own_us = grown(from->cpu.own_us, to->cpu.own_us);
	double interrupt_us =
	    grown(from->cpu.interrupt_us, to->cpu.interrupt_us);
	double charged_us =
	    report->run->context.is_interrupt_charged ? interrupt_us : 0;
	double strangers_us = busy_us + charged_us - server_us - own_us;
	double wall_us = report_seconds(from, to) * 1e6;
	double full = 100 / (total_us > 0 ? total_us : 1);

	*shares = (struct report_shares){
	    .server = server_us * full,
	    .own = own_us * full,
	    .strangers = strangers_us > 0 ? strangers_us * full : 0,
	    .interrupts = interrupt_us * full,
	    .stolen = grown(from->cpu.stolen_us, to->cpu.stolen_us) * full,
	    .own_core = report_per(
		100 * own_us / (double)report->options->processes, wall_us),
	};
	shares->idle =
	    100 - full * busy_us - shares->interrupts - shares->stolen;
	if (shares->idle < 0)
		shares->idle = 0;
	for (uint32_t i = 0; i < to->cpu.group_count; i++) {
		const struct proc_group *now = &to->cpu.groups[i];
		struct proc_group then = group_before(from, now->name);
		double core = report_per(100 * grown(then.cpu_us, now->cpu_us) /
					     (now->count ? now->count : 1),
		    wall_us);

		if (core > shares->server_core)
			shares->server_core = core;
	}
}

/* CPU of one step; count is what the server's time is divided by. */
static void
put_step(struct report *report, enum step_id id, const char *key,
    const char *title, enum tally_id divisor)
{
	struct sheet *sheet = &report->sheet;
	bool has_messages = divisor != TALLY_users_up;
	struct report_shares shares;
	const struct mark *from;
	const struct mark *to;
	double server_us;
	double own_us;
	double wall_us;
	double count;

	if (!coordinator_span(report->run, id, &from, &to))
		return;
	count = (double)(to->tally[divisor] - from->tally[divisor]);
	server_us = grown(from->cpu.server_us, to->cpu.server_us);
	own_us = grown(from->cpu.own_us, to->cpu.own_us);
	wall_us = report_seconds(from, to) * 1e6;
	shares_of(report, from, to, &shares);
	sheet_section(sheet, key, title);
	if (report->options->server_pid) {
		if (has_messages) {
			sheet_number(sheet, "server_us_per_message",
			    "server per message", report_per(server_us, count),
			    "us");
			put_switches(report, from, to, count);
			put_server_counts(report, from, to, count);
		}
		sheet_number(sheet, "server_percent", "server, of one core",
		    report_per(100 * server_us, wall_us), "%");
	}
	sheet_number(sheet, "own_percent", "parleyload, of one core",
	    report_per(100 * own_us, wall_us), "%");
	if (has_messages)
		sheet_number(sheet, "own_us_per_message",
		    "parleyload per message", report_per(own_us, count), "us");
	sheet_number(sheet, "other_percent",
	    report->options->server_pid ? "strangers, of all cores"
					: "strangers and server, of all cores",
	    shares.strangers, "%");
	sheet_number(sheet, "interrupt_percent", "interrupts, of all cores",
	    shares.interrupts, "%");
	sheet_number(sheet, "stolen_percent", "taken by the host, of all cores",
	    shares.stolen, "%");
	sheet_number(
	    sheet, "idle_percent", "idle, of all cores", shares.idle, "%");
	if (report->options->server_pid && has_messages)
		put_groups(report, from, to, count);
	sheet_section_end(sheet);
}

void
report_put_cpu(struct report *report)
{
	put_step(report, STEP_MEASURE, "cpu", "CPU, measured time",
	    TALLY_acknowledged);
	put_step(
	    report, STEP_SEND, "cpu_send", "CPU, sending", TALLY_acknowledged);
	put_step(report, STEP_TAKE, "cpu_take", "CPU, taking", TALLY_delivered);
	put_step(report, STEP_HOLD, "cpu_hold", "CPU, while connections idle",
	    TALLY_users_up);
}

enum report_limit
report_limit_of(const struct report_shares *shares, bool is_server_known)
{
	bool is_full = shares->idle < IDLE_FEW_PERCENT;

	if (shares->own_core >= CORE_FULL_PERCENT)
		return LIMIT_GENERATOR;
	if (!is_server_known)
		return LIMIT_UNKNOWN;
	if (is_full && shares->strangers + shares->stolen >= STRANGERS_PERCENT)
		return LIMIT_STRANGERS;
	if (is_full && shares->own > shares->server)
		return LIMIT_GENERATOR;
	if (shares->server_core >= CORE_FULL_PERCENT)
		return LIMIT_SERVER;
	return is_full ? LIMIT_CORES : LIMIT_NO_CPU;
}

/* The step the figures of the run are from. */
static bool
main_step(const struct report *report, const struct mark **from_out,
    const struct mark **to_out)
{
	static const enum step_id by_scenario[] = {
	    [SCENARIO_CONNECT] = STEP_LOGIN,
	    [SCENARIO_GROUPS] = STEP_MEASURE,
	    [SCENARIO_HANDSHAKES] = STEP_MEASURE,
	    [SCENARIO_OFFLINE] = STEP_SEND,
	    [SCENARIO_PAIRS] = STEP_MEASURE,
	    [SCENARIO_PRESENCE] = STEP_LOGIN,
	};

	return coordinator_span(report->run,
	    by_scenario[report->options->scenario], from_out, to_out);
}

void
report_judge_limit(struct report *report)
{
	bool is_server_known = report->options->server_pid != 0;
	uint64_t late_us = latency_quantile_us(&report->late_us, 0.99);
	const struct mark *from;
	const struct mark *to;

	report->has_shares = main_step(report, &from, &to);
	if (!report->has_shares)
		return;
	shares_of(report, from, to, &report->shares);
	report->limit = report_limit_of(&report->shares, is_server_known);
	report->is_disturbed =
	    is_server_known &&
	    report->shares.strangers + report->shares.stolen >=
		STRANGERS_PERCENT;
	report->is_late =
	    late_us >= LATE_US_MIN &&
	    2 * late_us >= latency_quantile_us(&report->deliver_us, 0.99);
}

void
report_put_limit(struct report *report)
{
	struct sheet *sheet = &report->sheet;

	if (!report->has_shares)
		return;
	sheet_text(
	    sheet, "limited_by", "limited by", limit_texts[report->limit]);
	sheet_truth(sheet, "generator_is_limit",
	    "parleyload was the bottleneck", report->limit == LIMIT_GENERATOR);
	sheet_truth(sheet, "latency_is_own", "latencies are parleyload's own",
	    report->is_late);
	sheet_truth(sheet, "disturbed", "strangers used the machine",
	    report->is_disturbed);
}
