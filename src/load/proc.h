/*
 * proc.h - what the machine says: CPU time and memory of the server's process
 * tree, and what else was going on. From /proc only.
 */
#ifndef LOAD_PROC_H
#define LOAD_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_GROUP_MAX 80
#define PROC_NAME_MAX  16

/** What the processes with one name have used since they began. */
struct proc_group {
	char name[PROC_NAME_MAX];
	uint32_t count;
	uint64_t cpu_us;
	uint64_t voluntary;     /* switches: it had to wait */
	uint64_t involuntary;   /* switches: others were let run */
	uint64_t written_bytes; /* by write(2) and its kin, not to sockets */
	uint64_t wakeups;       /* of others, from the scoreboard */
};

struct proc_sample {
	uint64_t server_us; /* the whole tree, with its dead children */
	uint64_t dead_us;   /* children that ended and were waited for */
	uint64_t own_us;    /* parleyload, all its processes */
	/* of all CPUs together */
	uint64_t busy_us;      /* user and system, everybody's */
	uint64_t interrupt_us; /* network work, mostly; see context */
	uint64_t stolen_us;    /* taken by the host of a virtual machine */
	uint64_t total_us;     /* all of it, idle included */
	struct proc_group groups[PROC_GROUP_MAX];
	uint32_t group_count;
};

struct proc_memory {
	uint64_t pss_bytes;         /* without mappings of *.mdb files */
	uint64_t tmpfs_store_bytes; /* *.mdb on a tmpfs: memory, too */
	uint64_t disk_store_bytes;  /* *.mdb on a disk */
	uint32_t process_count;
	bool is_complete; /* every process could be read */
};

struct proc_context {
	int cores;
	char kernel[80];
	pid_t keeper_pid;  /* 0: none found */
	int keeper_policy; /* SCHED_*; -1: cannot be asked */
	int keeper_priority;
	/* interrupts count as time of the process they came upon, too */
	bool is_interrupt_charged;
};

/** @param server_pid  root of the tree, or 0: its part stays empty */
void proc_sample_take(pid_t server_pid, struct proc_sample *sample_out);
/** The group of that name, NULL for none. */
struct proc_group *proc_group_find(
    struct proc_sample *sample, const char *name);
void proc_memory_take(pid_t server_pid, struct proc_memory *memory_out);
/** The keeper is the process of that name in the tree, or on the machine. */
void proc_context_take(pid_t server_pid, struct proc_context *context_out);
bool proc_exists(pid_t pid);
/** "SCHED_RR"; "unknown" for what has no name here. */
const char *proc_policy_name(int policy);

#endif
