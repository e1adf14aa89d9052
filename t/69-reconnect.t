# A crowd comes back within a second: all are in again soon, and those who are
# served meanwhile hardly notice. Compared is with the same load just before;
# whatever else the machine does disturbs both, so the bounds are wide.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

plan skip_all => 'figures of a sanitizer or of valgrind mean nothing'
    if ($ENV{PARLEY_ASAN} // 'no') eq 'yes' || $ENV{PARLEY_VALGRIND} || $ENV{PARLEY_WRAPPER};

my $rounds = fault_rounds(1, 5);
my $crowd  = is_long_run() ? 10_000 : 1_000;
my $pairs  = 20;
my $server = Parley->start(
    conf => {
        'store.map_size'          => '4G',
        'store.presence_map_size' => '256M',
        'policy.presence_grace'   => '100ms',
        'policy.may_message'      => 'anyone',
    },
);
is(($server->ctl(qw(user add --range), '1-' . (1000 + $crowd), {timeout => 60}))[0], 0, 'users exist');

# parleyload in the background; its report when it has ended.
sub begin (@options) {
    state $serial = 0;
    my $out = $server->dir . '/run-' . ++$serial;
    my @command = (Parley::program('parleyload'), @options, '--quiet', '--json',
        '--url', $server->ws_url, '--secret', $server->secret);
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        Parley::clean_environment();
        open STDOUT, '>', "$out.json"  or POSIX::_exit(126);
        open STDERR, '>', "$out.error" or POSIX::_exit(126);
        exec @command or POSIX::_exit(127);
    }
    return {pid => $pid, out => $out};
}

sub report_of ($run) {
    waitpid $run->{pid}, 0;
    my $status = $?;
    my $report = eval { decode_json(Parley::slurp("$run->{out}.json")) } // {};
    diag Parley::slurp("$run->{out}.error"), Parley::slurp("$run->{out}.json") if $status != 0;
    $report->{status} = $status;
    return $report;
}

sub begin_pairs () {
    return begin('pairs', '-n', $pairs, '--rate', 2000, '--size', 200, '--duration', 3, '--warmup', 1, '--drain', 60);
}

sub connections () { return $server->metric('parley_connections') }

my (@before, @beside, @pauses);
for my $n (1 .. $rounds) {
    my $alone = report_of(begin_pairs());
    my $run   = begin_pairs();
    ok(Parley::poll_until(10, sub { connections() >= 2 * $pairs }), "round $n: some are served");
    my $came   = begin('connect', '-n', $crowd, '--rate', $crowd, '--first-user', 1001, '--hold', 4);
    my $report = report_of($run);
    my $back   = report_of($came);
    is($_->{status}, 0, '... nothing is lost, repeated or out of order') for $alone, $report;
    is($back->{connections}{logins}, $crowd, "... all $crowd of the crowd are in");
    push @pauses, $back->{connections}{login_s};
    push @before, $alone->{latency_delivered}{p99_ms};
    push @beside, $report->{latency_delivered}{p99_ms};
    diag sprintf 'round %d: p99 %.1f ms, beside a crowd %.1f ms (median %.1f, %.1f); all in after %.1f s',
        $n, $before[-1], $beside[-1], (map { $_->{latency_delivered}{p50_ms} } $alone, $report), $pauses[-1];
    ok(Parley::poll_until(30, sub { connections() == 0 }), '... and leave');
}
cmp_ok(median(@pauses), '<=', 30, 'the crowd is in within 30 s');
my $bound = 2 * median(@before);
$bound = Parley::scaled(is_long_run() ? 20 : 100) if $bound < Parley::scaled(is_long_run() ? 20 : 100);
cmp_ok(median(@beside), '<=', $bound, 'who is served waits twice as long at most, in the medians of p99');
is(($server->ctl('check', {timeout => 60}))[0], 0, 'every row of the store is sound');
$server->finish;
done_testing;
