#!/bin/sh
# rowlayout.sh - the cells of doc/decisions/001-row-layout.md.
# usage: rowlayout.sh PROGRAM FOLDER [SECONDS [REPEATS]]
# FOLDER needs 10 GB of the disk that is measured. Each cell starts from a copy
# of the same store, because the free lists of a used one cost pages, too.
set -eu
program=$1
folder=$2
seconds=${3:-4}
repeats=${4:-3}

cell() { # label, store, arguments
	label=$1
	store=$2
	shift 2
	for n in $(seq "$repeats"); do
		rm -rf "$folder/cell"
		cp -r "$folder/$store" "$folder/cell"
		sync
		printf '%-20s ' "$label"
		"$program" -s "$seconds" -d "$folder/cell" "$@"
	done
	rm -rf "$folder/cell"
}

lay_in() { # store, arguments
	store=$1
	shift
	[ -e "$folder/$store" ] || "$program" -s 0 -d "$folder/$store" "$@"
}

mkdir -p "$folder"
# a million devices with 128 sends each would be 5 GB of rows: 16 each
for population in 1000:16 10000:16 100000:16 1000000:2; do
	users=${population%:*}
	lay_in "real-$users" -u "$users" -r "${population#*:}"
	lay_in "naive-$users" -n -u "$users" -r "${population#*:}"
done
for users in 1000 10000 100000 1000000; do
	for batch in 1 16 256 4096; do
		cell real "real-$users" -u "$users" -b "$batch"
		cell naive "naive-$users" -n -u "$users" -b "$batch"
	done
done
for writers in 1 2 4; do
	cell "writers $writers" real-100000 -u 100000 -b 1024 -w "$writers"
done
for without in no-sent no-head no-inbox no-conv no-delivered no-contact \
    no-log no-meta no-ack lazy-trim; do
	cell "$without" real-100000 -u 100000 -b 256 -x "$without"
done
cell "lazy, no-delivered" real-100000 -u 100000 -b 256 -x lazy-trim \
    -x no-delivered
# doc/decisions/005
for batch in 1 16 256 4096; do
	cell "without outbox" real-10000 -u 10000 -b "$batch"
	for with in outbox outbox-rows outbox-kept; do
		cell "$with" real-10000 -u 10000 -b "$batch" -x "$with"
	done
done
