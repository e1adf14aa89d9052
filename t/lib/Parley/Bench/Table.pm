# Parley::Bench::Table - the results of make bench as Markdown.
package Parley::Bench::Table;
use v5.36;

use Parley::Bench::Items;

# Columns of the table of loads and of that of connections: title, figure.
my @load_columns = (
    ['msg/s',                  'measured.delivered_per_s'],
    ['server CPU per msg, us', 'cpu.server_us_per_message'],
    ['p50, ms',                'latency_delivered.p50_ms'],
    ['p99, ms',                'latency_delivered.p99_ms'],
    ['msgs per commit',        'cpu.messages_per_commit'],
    ['switches per msg',       'cpu.voluntary_per_message'],
    ['wake-ups per msg',       'cpu.wakeups_per_message'],
);
my @machine_columns = (
    ['server, % of a core',     'cpu.server_percent'],
    ['parleyload, % of a core', 'cpu.own_percent'],
    ['parleyload per msg, us',  'cpu.own_us_per_message'],
    ['interrupts, % of all',    'cpu.interrupt_percent'],
    ['strangers, % of all',     'cpu.other_percent'],
    ['idle, % of all',          'cpu.idle_percent'],
);
my @connections_columns = (
    ['logins/s',                'connections.logins_per_s'],
    ['server CPU per login, us', 'connections.server_us_per_login'],
    ['whole daemon, KiB',       'memory.after_kib'],
    ['bytes per connection',    'memory.per_connection_bytes'],
    ['idle: server, % of a core', 'cpu_hold.server_percent'],
    ['dropped',                 'connections.dropped'],
);

my @handshakes_columns = (
    ['full handshakes/s',           'handshakes.full_per_s'],
    ['server CPU per handshake, us', 'handshakes.server_us_per_handshake'],
);
my %ratio_words = (
    'cpu.server_us_per_message'  => 'server CPU per message',
    'latency_delivered.p99_ms'   => 'p99',
    'measured.delivered_per_s'   => 'messages per second',
);

# By its path in a result; undef where there is none.
sub figure ($run, $path) {
    my $at = $run;
    for my $key (split /\./, $path) {
        return if ref $at ne 'HASH';
        $at = $at->{$key} // return;
    }
    return $at;
}

sub values_of ($item, $path) {
    return sort { $a <=> $b } grep {defined} map { figure($_, $path) } $item->{runs}->@*;
}

sub median (@sorted) {
    return if !@sorted;
    return ($sorted[$#sorted / 2] + $sorted[@sorted / 2]) / 2;
}

# Three digits that mean something; thousands with a comma.
sub number ($n) {
    my $size = abs $n;
    my $text = sprintf '%.*f', ($size >= 100 ? 0 : $size >= 10 ? 1 : $size >= 1 ? 2 : 3), $n;
    1 while $text =~ s/^(-?\d+)(\d{3})/$1,$2/;
    return $text;
}

sub _spread (@sorted) {
    return '-' if !@sorted;
    my $median = number(median(@sorted));
    return $median if @sorted == 1;
    return sprintf '%s (%s..%s)', $median, number($sorted[0]), number($sorted[-1]);
}

sub _table ($columns, @items) {
    my @lines = ('| | ' . join(' | ', map { $_->[0] } @$columns) . ' |', '| --- |' . ' --- |' x @$columns);
    for my $item (@items) {
        my @cells = map { _spread(values_of($item, $_->[1])) } @$columns;
        push @lines, '| ' . join(' | ', $item->{title}, @cells) . ' |';
    }
    return join "\n", @lines, '';
}

# Truth values are counted: "5 of 5".
sub _start_table (@items) {
    my @lines = ('| | runs | ready, s | sound | disturbed | limited by |', '| --- | --- | --- | --- | --- | --- |');
    for my $item (@items) {
        my @runs = $item->{runs}->@*;
        my %limits;
        $limits{$_->{result}{limited_by} // '-'}++ for @runs;
        my @limits = sort { $limits{$b} <=> $limits{$a} || $a cmp $b } keys %limits;
        push @lines,
            sprintf '| %s | %d x %g s | %s | %d of %d | %d | %s |', $item->{title}, scalar @runs,
            $item->{seconds}, _spread(values_of($item, 'start.ready_s')),
            scalar(grep { $_->{result}{ok} } @runs), scalar @runs,
            scalar(grep { $_->{result}{disturbed} } @runs), join(', ', @limits);
    }
    return join "\n", @lines, '';
}

sub _verdict ($value, $sense, $least, $goal) {
    my $reaches = sub ($wanted) { $sense eq '>=' ? $value >= $wanted : $value <= $wanted };
    return $reaches->($goal) ? 'goal' : $reaches->($least) ? 'yes' : '**no**';
}

sub _demand_table (@items) {
    my %item  = map { $_->{name} => $_ } @items;
    my @lines = ('| | | median | demanded | goal | reached |', '| --- | --- | --- | --- | --- | --- |');
    for my $demand (Parley::Bench::Items::demands()) {
        my ($name, $path, $sense, $least, $goal, $words) = @$demand;
        my $item = $item{$name} // next;
        my $value = median(values_of($item, $path)) // next;
        push @lines,
            sprintf '| %s | %s | %s | %s %s | %s | %s |', $item->{title}, $words, number($value),
            $sense, number($least), number($goal), _verdict($value, $sense, $least, $goal);
    }
    for my $ratio (Parley::Bench::Items::ratios()) {
        my ($name, $base, $path, $sense, $wanted) = @$ratio;
        next if !$item{$name} || !$item{$base};
        my $value = median(values_of($item{$name}, $path)) // next;
        my $by    = median(values_of($item{$base}, $path)) || next;
        push @lines,
            sprintf '| %s | %s, ratio to %s | %.2f | %s %.2f | | %s |', $item{$name}{title},
            $ratio_words{$path},
            $item{$base}{title}, $value / $by, $sense, $wanted,
            _verdict($value / $by, $sense, $wanted, $wanted);
    }
    return join "\n", @lines, '';
}

sub text ($context, @all) {
    my @items       = grep { $_->{runs}->@* } @all;
    my @loads       = grep { $_->{load}[0] eq 'pairs' } @items;
    my @connections = grep { $_->{load}[0] eq 'connect' } @items;
    my @handshakes  = grep { $_->{load}[0] eq 'handshakes' } @items;
    my @parts       = (
        sprintf("# parley %s, %s\n\n%s, %d cores, %d MiB, Linux %s, store on %s. Medians (min..max).\n",
            $context->@{qw(version date cpu cores memory_mib kernel store_on)}),
        "## What was to be reached\n\n" . _demand_table(@items),
    );
    push @parts, "## Messages\n\n" . _table(\@load_columns, @loads), "## Who used the machine\n\n" . _table(\@machine_columns, @loads)
        if @loads;
    push @parts, "## Connections\n\n" . _table(\@connections_columns, @connections) if @connections;
    push @parts, "## TLS handshakes\n\n" . _table(\@handshakes_columns, @handshakes) if @handshakes;
    push @parts, "## The runs\n\n" . _start_table(@items);
    return join "\n", @parts;
}

1;
