# commands.awk - the table of commands of doc/protocol.md from commands.def.
#
#     awk -f doc/commands.awk src/worker/commands.def

BEGIN {
	print "| command | | when | answered | cost | as a query |"
	print "| --- | --- | --- | --- | --- | --- |"
	when["NEW"] = "before the login"
	when["READY"] = "after the login"
	when["ANY"] = "always"
}

/^COMMAND\(/ {
	match($0, /"[^"]*"/)
	doc = substr($0, RSTART + 1, RLENGTH - 2)
	split(substr($0, 9), field, /, */)
	link = tolower(field[1])
	printf "| [`%s`](#%s) | %s | %s | %s | %s | %s |\n", field[1], link, doc,
	    when[field[3]], field[4] ? "always" : "on errors", field[5],
	    field[6] == 0 ? "" : field[6]
}
