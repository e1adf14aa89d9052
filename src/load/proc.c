/*
 * proc.c - what the machine says.
 *
 * Role:    walks the server's process tree by /proc/PID/task/TID/children,
 *          which costs a fraction of reading all of /proc.
 * Process: the coordinator, outside of what is measured where possible.
 * Blocks:  in /proc only.
 * Trust:   processes come and go while we read: what is gone counts nothing;
 *          its time stays in its parent's.
 * See:     coordinator.c, report.c; proc(5).
 */
#include "config.h"

#include "load/proc.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/magic.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define TREE_MAX 512

/* About a millisecond each. */
#define CHARGE_SLICES    20
#define CHARGE_DATAGRAMS 500
#define CHARGE_PERCENT   92

struct tree {
	pid_t pids[TREE_MAX];
	uint32_t count;
};

struct times {
	char name[PROC_NAME_MAX];
	uint64_t own_us;
	uint64_t dead_us;
};

static uint64_t
ticks_to_us(uint64_t ticks)
{
	return ticks * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

static FILE *
open_of(pid_t pid, const char *what)
{
	char path[96];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	return fopen(path, "re");
}

static void
add_children(struct tree *tree, pid_t pid, const char *task)
{
	char what[64];
	FILE *file;
	int child;

	snprintf(what, sizeof(what), "task/%.20s/children", task);
	file = open_of(pid, what);
	if (!file)
		return;
	while (tree->count < TREE_MAX && fscanf(file, "%d", &child) == 1)
		tree->pids[tree->count++] = child;
	fclose(file);
}

/* Root first; every thread may have forked. */
static void
tree_read(struct tree *tree, pid_t root)
{
	tree->count = 0;
	if (root > 0)
		tree->pids[tree->count++] = root;
	for (uint32_t i = 0; i < tree->count; i++) {
		const struct dirent *entry;
		char path[48];
		DIR *dir;

		snprintf(
		    path, sizeof(path), "/proc/%d/task", (int)tree->pids[i]);
		dir = opendir(path);
		if (!dir)
			continue;
		while ((entry = readdir(dir)) != NULL) {
			if (entry->d_name[0] != '.')
				add_children(
				    tree, tree->pids[i], entry->d_name);
		}
		closedir(dir);
	}
}

/* Fields of /proc/PID/stat; the name may hold anything, even ')'. */
static bool
times_read(pid_t pid, struct times *times_out)
{
	unsigned long long user;
	unsigned long long system;
	long long dead_user;
	long long dead_system;
	char line[1024];
	FILE *file = open_of(pid, "stat");
	const char *open;
	char *close;
	bool is_read;

	if (!file)
		return false;
	is_read = fgets(line, sizeof(line), file) != NULL;
	fclose(file);
	if (!is_read)
		return false;
	open = strchr(line, '(');
	close = strrchr(line, ')');
	if (!open || !close || close < open)
		return false;
	if (sscanf(close + 1,
		" %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u"
		" %llu %llu %lld %lld",
		&user, &system, &dead_user, &dead_system) != 4)
		return false;
	*close = '\0';
	snprintf(times_out->name, sizeof(times_out->name), "%.15s", open + 1);
	times_out->own_us = ticks_to_us(user + system);
	times_out->dead_us = ticks_to_us((uint64_t)(dead_user + dead_system));
	return true;
}

/* "field: 123" of a file in /proc, 0 when it is not there. */
static uint64_t
field_sum(FILE *file, const char *field)
{
	size_t len = strlen(field);
	char line[256];
	uint64_t sum = 0;

	rewind(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, field, len) == 0 && line[len] == ':')
			sum += strtoull(line + len + 1, NULL, 10);
	}
	return sum;
}

/* The switches stand with each thread. */
static void
switches_read(pid_t pid, const char *task, struct proc_group *group)
{
	char what[64];
	FILE *file;

	snprintf(what, sizeof(what), "task/%.20s/status", task);
	file = open_of(pid, what);
	if (!file)
		return;
	group->voluntary += field_sum(file, "voluntary_ctxt_switches");
	group->involuntary += field_sum(file, "nonvoluntary_ctxt_switches");
	fclose(file);
}

static void
group_add_activity(struct proc_group *group, pid_t pid)
{
	const struct dirent *entry;
	char path[48];
	FILE *file = open_of(pid, "io"); /* root or the same user only */
	DIR *dir;

	if (file) {
		group->written_bytes += field_sum(file, "wchar");
		fclose(file);
	}
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.')
			switches_read(pid, entry->d_name, group);
	}
	closedir(dir);
}

struct proc_group *
proc_group_find(struct proc_sample *sample, const char *name)
{
	for (uint32_t i = 0; i < sample->group_count; i++) {
		if (strcmp(sample->groups[i].name, name) == 0)
			return &sample->groups[i];
	}
	return NULL;
}

static void
group_add(struct proc_sample *sample, pid_t pid, const struct times *times)
{
	struct proc_group *group = proc_group_find(sample, times->name);

	if (!group) {
		if (sample->group_count == PROC_GROUP_MAX)
			return;
		group = &sample->groups[sample->group_count++];
		memcpy(group->name, times->name, sizeof(group->name));
	}
	group->cpu_us += times->own_us;
	group->count++;
	group_add_activity(group, pid);
}

static void
machine_read(struct proc_sample *sample)
{
	unsigned long long user;
	unsigned long long nice;
	unsigned long long system;
	unsigned long long idle;
	unsigned long long wait;
	unsigned long long irq;
	unsigned long long soft;
	unsigned long long steal;
	FILE *file = fopen("/proc/stat", "re");

	if (!file)
		return;
	if (fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user,
		&nice, &system, &idle, &wait, &irq, &soft, &steal) == 8) {
		sample->busy_us = ticks_to_us(user + nice + system);
		sample->interrupt_us = ticks_to_us(irq + soft);
		sample->stolen_us = ticks_to_us(steal);
		sample->total_us = sample->busy_us + sample->interrupt_us +
				   sample->stolen_us + ticks_to_us(idle + wait);
	}
	fclose(file);
}

void
proc_sample_take(pid_t server_pid, struct proc_sample *sample_out)
{
	struct times times;
	struct tree tree;

	*sample_out = (struct proc_sample){0};
	tree_read(&tree, server_pid);
	for (uint32_t i = 0; i < tree.count; i++) {
		if (!times_read(tree.pids[i], &times))
			continue;
		sample_out->server_us += times.own_us + times.dead_us;
		sample_out->dead_us += times.dead_us;
		group_add(sample_out, tree.pids[i], &times);
	}
	tree_read(&tree, getpid());
	for (uint32_t i = 0; i < tree.count; i++) {
		if (times_read(tree.pids[i], &times))
			sample_out->own_us += times.own_us + times.dead_us;
	}
	machine_read(sample_out);
}

/* "55d0c0a000-55d0c0b000 r--p ... path\n": the path of an LMDB file, else
 * NULL. */
static const char *
lmdb_path(char *line)
{
	size_t len = strcspn(line, "\n");

	if (len <= 4 || memcmp(line + len - 4, ".mdb", 4) != 0)
		return NULL;
	line[len] = '\0';
	return strchr(line, '/');
}

/*
 * A store on a tmpfs is memory, all of it, whoever has it mapped; one on a
 * disk is the page cache's business and only told.
 */
static void
store_add(struct proc_memory *memory, const char *path)
{
	struct statfs system;
	struct stat file;
	uint64_t bytes;

	if (stat(path, &file) != 0 || statfs(path, &system) != 0)
		return;
	bytes = (uint64_t)file.st_blocks * 512;
	if (system.f_type == TMPFS_MAGIC)
		memory->tmpfs_store_bytes = bytes;
	else
		memory->disk_store_bytes = bytes;
}

static bool
memory_read(pid_t pid, struct proc_memory *memory)
{
	FILE *file = open_of(pid, "smaps");
	unsigned long long kib;
	const char *path;
	bool is_counted = false;
	bool is_store = false;
	char *line = NULL;
	size_t cap = 0;

	if (!file)
		return false;
	while (getline(&line, &cap, file) > 0) {
		/* a mapping's line, then lines "Field: n kB" */
		if (line[0] < 'A' || line[0] > 'Z') {
			path = lmdb_path(line);
			is_store = path != NULL;
			if (is_store)
				store_add(memory, path);
		} else if (sscanf(line, "Pss: %llu kB", &kib) == 1) {
			is_counted = true;
			if (!is_store)
				memory->pss_bytes += kib * 1024;
		}
	}
	free(line);
	fclose(file);
	return is_counted;
}

void
proc_memory_take(pid_t server_pid, struct proc_memory *memory_out)
{
	struct tree tree;

	*memory_out = (struct proc_memory){.is_complete = server_pid > 0};
	tree_read(&tree, server_pid);
	memory_out->process_count = tree.count;
	for (uint32_t i = 0; i < tree.count; i++) {
		if (!memory_read(tree.pids[i], memory_out))
			memory_out->is_complete = false;
	}
}

/* Every process of the machine, as far as a tree holds. */
static void
tree_read_all(struct tree *tree)
{
	const struct dirent *entry;
	DIR *dir = opendir("/proc");

	tree->count = 0;
	if (!dir)
		return;
	while (tree->count < TREE_MAX && (entry = readdir(dir)) != NULL) {
		int pid = atoi(entry->d_name);

		if (pid > 0)
			tree->pids[tree->count++] = pid;
	}
	closedir(dir);
}

static int64_t
clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/*
 * Kernels differ in whether the network's soft interrupts are part of a
 * process' time (CONFIG_IRQ_TIME_ACCOUNTING: not), and no file says so. A
 * datagram to oneself is half soft interrupt: is time missing while one does
 * nothing else? The best slice counts, in the others somebody else ran.
 */
static bool
is_interrupt_charged(void)
{
	struct sockaddr_in self = {.sin_family = AF_INET};
	socklen_t len = sizeof(self);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool is_charged = false;
	char bytes[512] = "";

	self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd == -1 || bind(fd, (struct sockaddr *)&self, len) != 0 ||
	    getsockname(fd, (struct sockaddr *)&self, &len) != 0 ||
	    connect(fd, (struct sockaddr *)&self, len) != 0)
		goto out;
	for (int i = 0; i < CHARGE_SLICES && !is_charged; i++) {
		int64_t wall_ns = clock_ns(CLOCK_MONOTONIC);
		int64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);

		for (int k = 0; k < CHARGE_DATAGRAMS; k++) {
			if (send(fd, bytes, sizeof(bytes), 0) > 0)
				(void)!recv(fd, bytes, sizeof(bytes), 0);
		}
		cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
		wall_ns = clock_ns(CLOCK_MONOTONIC) - wall_ns;
		is_charged = 100 * cpu_ns > CHARGE_PERCENT * wall_ns;
	}
out:
	if (fd != -1)
		close(fd);
	return is_charged;
}

void
proc_context_take(pid_t server_pid, struct proc_context *context_out)
{
	struct sched_param param = {0};
	struct utsname names;
	struct times times;
	struct tree tree;

	*context_out = (struct proc_context){
	    .cores = (int)sysconf(_SC_NPROCESSORS_ONLN),
	    .keeper_policy = -1,
	    .is_interrupt_charged = is_interrupt_charged(),
	};
	if (uname(&names) == 0)
		snprintf(context_out->kernel, sizeof(context_out->kernel),
		    "%.15s %.40s", names.sysname, names.release);
	if (server_pid > 0)
		tree_read(&tree, server_pid);
	else
		tree_read_all(&tree);
	for (uint32_t i = 0; i < tree.count; i++) {
		if (times_read(tree.pids[i], &times) &&
		    strcmp(times.name, "keeper") == 0)
			context_out->keeper_pid = tree.pids[i];
	}
	if (context_out->keeper_pid == 0)
		return;
	context_out->keeper_policy =
	    sched_getscheduler(context_out->keeper_pid);
	if (sched_getparam(context_out->keeper_pid, &param) == 0)
		context_out->keeper_priority = param.sched_priority;
}

bool
proc_exists(pid_t pid)
{
	struct times times;

	return times_read(pid, &times);
}

const char *
proc_policy_name(int policy)
{
	/* the flag says that children do not inherit it; sched(7) */
	switch (policy & ~SCHED_RESET_ON_FORK) {
	case SCHED_OTHER:
		return "SCHED_OTHER";
	case SCHED_BATCH:
		return "SCHED_BATCH";
	case SCHED_IDLE:
		return "SCHED_IDLE";
	case SCHED_FIFO:
		return "SCHED_FIFO";
	case SCHED_RR:
		return "SCHED_RR";
	default:
		return "unknown";
	}
}
