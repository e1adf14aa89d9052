#!/bin/sh
# rowlayout.sh - the cells of doc/decisions/001-row-layout.md.
# usage: rowlayout.sh PROGRAM FOLDER [SECONDS]; FOLDER needs 12 GB and is
# left to the caller.
set -eu
program=$1
folder=$2
seconds=${3:-4}

cell() { # label, then arguments
	printf '%-22s ' "$1"
	shift
	"$program" -s "$seconds" "$@"
}

mkdir -p "$folder"
# Lay in the rows of each population once; the first cell is not counted.
for users in 1000 100000 1000000; do
	rows=16
	[ "$users" = 1000000 ] && rows=2
	cell "(laying in)" -d "$folder/real-$users" -u "$users" -r "$rows" -w 1
	cell "(laying in)" -d "$folder/naive-$users" -n -u "$users" -w 1 -b 4096
done
for users in 1000 100000 1000000; do
	for batch in 1 4 16 64 256 1024 4096; do
		cell real -d "$folder/real-$users" -u "$users" -b "$batch"
		cell naive -d "$folder/naive-$users" -n -u "$users" -b "$batch"
	done
done
for writers in 1 2 3 4; do
	cell writers -d "$folder/real-100000" -u 100000 -b 1024 -w "$writers"
done
for batch in 16 256; do
	for without in no-sent no-head no-inbox no-conv no-delivered no-contact \
	    no-log no-meta no-ack lazy-trim; do
		cell "$without" -d "$folder/real-100000" -u 100000 \
		    -b "$batch" -x "$without"
	done
	cell "lazy, no-delivered" -d "$folder/real-100000" -u 100000 \
	    -b "$batch" -x lazy-trim -x no-delivered
	for per_row in 4 8 16 32; do
		# rows of another size live in a store of their own
		rm -rf "$folder/sent"
		"$program" -d "$folder/sent" -u 100000 -w 2 -b 4096 -s 8 \
		    -p "$per_row" >/dev/null
		cell "sent rows of $per_row" -d "$folder/sent" -u 100000 \
		    -b "$batch" -p "$per_row"
	done
done
