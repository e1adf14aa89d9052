# Random schedules of clients against a server whose processes are killed;
# what each client saw is checked against the protocol. make check-history
# runs a thousand of them.
use v5.36;
use File::Path qw(remove_tree);
use FindBin;
use Test::More;

my $top   = $ENV{PARLEY_SRC}   // "$FindBin::Bin/..";
my $build = $ENV{PARLEY_BUILD} // $top;

my ($major, $minor) = (`node --version 2>/dev/null` // '') =~ /\Av(\d+)\.(\d+)/;
if (!defined $major || $major < 18 || ($major == 18 && $minor < 15)) {
    my $reason = 'node 18.15 or newer is missing';
    if ($ENV{CI}) {
        fail("$reason, and this is CI");
        done_testing;
        exit;
    }
    plan skip_all => $reason;
}

sub run_node (@command) {
    open my $node, '-|', 'node', @command or die "node: $!\n";
    my @lines = <$node>;
    close $node;
    return ($?, @lines);
}

# The checker itself: it finds each kind of violation in a broken history.
my ($status, @lines) =
    run_node('--test', '--test-reporter=tap', "$top/t/history/check.test.mjs");
my $claims = 0;
for my $line (@lines) {
    my ($verdict, $name) = $line =~ /\A(ok|not ok) \d+ - (.*)$/ or next;
    ok($verdict eq 'ok', "the checker: $name");
    $claims++;
}
is($status, 0, 'the tests of the checker end with success') or diag(@lines);
cmp_ok($claims, '>', 40, 'the checker was tested');

# Histories; the seed is printed so that a failure can be repeated.
my $seed   = $ENV{SEED} // 1 + time % 1_000_000;
my $failed = "$build/t/failed/history";
remove_tree($failed);
note("SEED=$seed");
($status, @lines) = run_node(
    "$top/t/history/main.mjs",
    '--build', $build, '--failed', $failed,
    '--seed', $seed, '--schedules', 40, '--parallel', 10);
my $last = join '', grep {/ schedules from seed /} @lines;
like($last, qr/\A# 40 schedules from seed $seed, 0 failed/,
    'forty histories are as the protocol says')
    or diag(@lines);
is($status, 0, 'no history shows a violation');
done_testing;
