# Parley::Node - what `node --test` found, claim by claim, as our own.
#
#     Parley::Node::run_tests(['t/js/a.test.mjs'], env => {...}, seconds => 60);
#
# Every test of a file is a claim here, and so is the success of node itself;
# where node is missing the story is skipped, and fails in CI.
package Parley::Node;
use v5.36;

use Exporter qw(import);
use Test::More ();

our @EXPORT_OK = qw(need run_tests);

# Ends the story: skipped with this reason, or failed where nothing may be
# left out.
sub give_up ($reason) {
    Test::More::plan(skip_all => $reason) if !$ENV{CI};
    Test::More::fail("$reason, and this is CI");
    Test::More::done_testing();
    exit;
}

# Go on only with a node that has what our tests use.
sub need () {
    my $version = `node --version 2>/dev/null` // '';
    my ($major, $minor) = $version =~ /\Av(\d+)\.(\d+)/;
    return if defined $major && ($major > 18 || ($major == 18 && $minor >= 15));
    give_up('node 18.15 or newer is missing');
}

# Arguments: env => {NAME => value}, seconds => deadline of all files together.
sub run_tests ($files, %arg) {
    my $pid = open(my $node, '-|') // die "fork: $!\n";
    if ($pid == 0) {
        setpgrp;
        @ENV{keys $arg{env}->%*} = values $arg{env}->%* if $arg{env};
        exec 'node', '--test', '--test-concurrency=1', '--test-reporter=tap', @$files
            or die "node: $!\n";
    }
    local $SIG{ALRM} = sub { kill KILL => -$pid };
    alarm(($arg{seconds} // 300) * ($ENV{PARLEY_SLOW} // 1));
    my ($count, @told) = (0);
    while (my $line = <$node>) {
        chomp $line;
        push @told, $line if $line !~ /\A\s*(?:duration_ms|---|\.\.\.|# Subtest)/;
        my ($verdict, $name, $directive) =
            $line =~ /\A\s*(ok|not ok) \d+ - (.*?)(?: # (SKIP|TO[D]O)\b.*)?\z/
            or next;
        $count++;
        if ($directive) {
        SKIP: { Test::More::skip("$name: node says $directive", 1) }
            next;
        }
        Test::More::ok($verdict eq 'ok', $name);
    }
    close $node;
    my $status = $?;
    alarm 0;
    Test::More::is($status, 0, 'node --test ends with success')
        or Test::More::diag(join "\n", @told);
    Test::More::cmp_ok($count, '>', 0, 'node ran tests');
    return;
}

1;
