# A short form of make bench: what one message costs, against a yardstick
# measured in the same minute (t/bench/calibrate), and how much goes through at
# a time. Absolute times mean nothing on a machine one does not know; these
# bounds are met by noise and missed by a server that has become twice as
# expensive. doc/performance.md has the figures behind them.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP;
use Parley;
use Test::More;

plan skip_all => 'figures of a sanitizer or of valgrind mean nothing'
    if ($ENV{PARLEY_ASAN} // 'no') eq 'yes' || $ENV{PARLEY_VALGRIND} || $ENV{PARLEY_WRAPPER};

my $ROUNDS = 4;
my $PAIRS  = 100;

my $server = Parley->start(conf => {'policy.may_message' => 'anyone', 'store.map_size' => '4G'});
is(($server->ctl('user', 'add', '--range', '1-' . 2 * $PAIRS))[0], 0, 'users exist');

sub calibrate () {
    my ($code, $out) = $server->run([Parley::build_dir() . '/t/bench/calibrate', '0.3']);
    die "calibrate ended with $code\n" if $code != 0 || $out !~ /\A\d+\.\d+\n\z/;
    return $out + 0;
}

sub load ($server, $pairs, $duration) {
    my ($code, $out, $err) = $server->run(
        [
            Parley::program('parleyload'), 'pairs', '--quiet', '--json', '-n', $pairs, '--size', 200,
            '--window', 8, '--duration', $duration, '--warmup', 0.5, '--url', $server->ws_url,
            '--secret', $server->secret, '--run-dir', $server->run_dir
        ],
        {timeout => 60}
    );
    diag $out, $err if $code != 0;
    return ($code, eval { decode_json($out) });
}

my $sound = 0;
my %least;      # over the rounds: others' work can only add
my %most;
for my $round (1 .. $ROUNDS) {
    my $yard = calibrate();
    my ($code, $run) = load($server, $PAIRS, 1.5);
    $sound++ if $code == 0 && $run;
    next if !$run;
    my %now = (
        yard     => $yard,
        cost     => $run->{cpu}{server_us_per_message},
        switches => $run->{cpu}{voluntary_per_message},
        wakeups  => $run->{cpu}{wakeups_per_message},
        written  => $run->{cpu}{processes}{keeper}{written_bytes_per_message},
        batch    => $run->{cpu}{messages_per_commit},
    );
    diag join ', ', "round $round", map { sprintf "%s %.4g", $_, $now{$_} } sort keys %now;
    for my $name (keys %now) {
        $least{$name} = $now{$name} if !defined $least{$name} || $now{$name} < $least{$name};
        $most{$name}  = $now{$name} if !defined $most{$name}  || $now{$name} > $most{$name};
    }
}
is($sound, $ROUNDS, 'every message arrived once and in order');

# figure, bound, claim
my $ratio = $least{cost} / $least{yard};
diag sprintf 'server CPU per message: %.2f yards', $ratio;
cmp_ok($ratio, '<', 5, 'a message costs less than five yards of CPU');
cmp_ok($most{batch}, '>', 40, 'a commit stores many messages');
cmp_ok($least{switches}, '<', 0.5, 'processes sleep seldom under load');
cmp_ok($least{wakeups}, '<', 0.1, 'and are woken seldom');
cmp_ok($least{written}, '<', 6_144, 'a message writes few pages');

$server->finish;

# One worker that has less than it needs: what it acknowledges it also delivers,
# not when the senders are done.
my $one = Parley->start(
    conf => {'policy.may_message' => 'anyone', 'store.map_size' => '4G', 'server.workers' => 1});
is(($one->ctl('user', 'add', '--range', '1-1000'))[0], 0, 'users of one worker exist');
is(($one->run(['taskset', '-acp', '0', $one->pids->{'worker-0'}]))[0], 0, 'it has a core at most');
my ($code, $run) = load($one, 500, 3);
is($code, 0, 'every message arrived');
my ($in, $out) = map { $run->{measured}{"${_}_per_s"} } qw(acknowledged delivered);
diag sprintf 'acknowledged %.0f/s, delivered %.0f/s', $in, $out;
cmp_ok($out, '>', $in / 2, 'deliveries keep up with what is acknowledged');
$one->finish;
done_testing;
