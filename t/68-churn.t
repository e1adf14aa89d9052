# Millions of messages in and out: the store does not grow, and no turn of the
# keeper is long for it. Long form: 10 million messages.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Fault;
use Test::More;
use Time::HiRes qw(time);

my $TOTAL  = $ENV{CHURN}        // fault_rounds(100_000, 10_000_000);
my $PAIRS  = $ENV{CHURN_PAIRS}  // 100;
my $SIZE   = $ENV{CHURN_SIZE}   // 200;
my $KEEP   = $ENV{CHURN_KEEP}   // (is_long_run() ? '20s' : '1s');
my $RATE   = $ENV{CHURN_RATE}   // (is_long_run() ? 0     : 15_000);    # 0: as many as go
my $POINTS = 10;

my $server = Parley->start(
    conf => {
        'store.history_retention' => $KEEP,
        'store.map_size'          => '16G',
        'limits.queries_per_user' => 0,
    },
);

sub file_mb () { return (-s $server->dir . '/data/main.mdb') / 2**20 }

# Slices of retention longer than a bound, us; as exact as the buckets.
sub longer_than ($name, $bound) {
    my ($code, $body) = $server->http_get('/metrics');
    my ($count, $below) = (0, 0);
    while ($body =~ /^\Q$name\E_bucket\{([^}]*)\} (\S+)/mg) {
        my ($labels, $value) = ($1, $2);
        next if $labels !~ /process="keeper"/ || $labels !~ /le="([^"]+)"/;
        my $edge = $1;
        $count = $value if $edge eq '+Inf';
        $below = $value if $edge ne '+Inf' && $edge <= $bound / 1e6;
    }
    return ($count - $below, $count);
}

my $load = Parley::Fault->load($server, pairs => $PAIRS, size => $SIZE,
    $RATE ? (rate => $RATE) : (window => 8));
my @points;
my ($from, $at) = (time, $load->messages);
for my $n (1 .. $POINTS) {
    $load->await_messages($TOTAL / $POINTS, Parley::scaled(600)) or last;
    my ($now, $count) = (time, $load->messages);
    push @points, {
        in   => $count,
        file => file_mb(),
        log  => $server->metric('parley_history_bytes', process => 'keeper') / 2**20,
        gone => $server->metric('parley_retention_messages_total', process => 'keeper'),
    };
    diag sprintf '%.2f M in, %.2f M out: file %.0f MB, log %.0f MB, %.0f messages/s',
        $count / 1e6, $points[-1]{gone} / 1e6, $points[-1]{file}, $points[-1]{log}, ($count - $at) / ($now - $from);
    ($from, $at) = ($now, $count);
}
is(scalar @points, $POINTS, "$TOTAL messages went in");
my $report = $load->finish('... and out again');
diag sprintf 'p99, ms: acknowledged %s, delivered %s',
    map { $report->{"latency_$_"}{p99_ms} // '?' } qw(acknowledged delivered);

ok(Parley::poll_until(60, sub { ($server->metric('parley_history_bytes', process => 'keeper') // 1) == 0 }),
    'when nothing more comes, all of them go');
is($server->metric('parley_retention_messages_total', process => 'keeper'),
    $server->metric('parley_messages_total', process => 'keeper'), '... each of them once');
is($server->metric('parley_retention_events_total', process => 'keeper'), 0, 'no event was taken from anybody');

# Without pages that are used again the file would grow by all that comes.
my $middle = $points[$POINTS / 2 - 1];
my $came   = ($points[-1]{in} - $middle->{in}) * ($SIZE + 140) / 2**20;
cmp_ok($points[-1]{file} - $middle->{file}, '<', $came / 2, 'the file has not grown by what came in the second half');

my ($slow, $slices) = longer_than('parley_retention_seconds', 19_000);
diag "$slices slices";
cmp_ok($slices, '>', 0, 'retention was measured');
# A busy machine may take the processor away in the midst of one.
cmp_ok($slow, '<=', $slices / 100, '... and its slices do not take 20 ms');
diag "$slow slices took 20 ms";
my @longest = map { (longer_than('parley_retention_seconds', $_))[0] } 2_000, 5_000, 10_000;
diag "of these longer than 2, 5, 10 ms: @longest";
diag 'turns longer than 20 ms: ' . join ' of ', longer_than('parley_turn_seconds', 19_000);

$server->finish;
done_testing;
