# The JavaScript client's own tests (t/js/*.js), told one by one, and its types.
use v5.36;
use FindBin;
use Test::More;

my $top   = $ENV{PARLEY_SRC} // "$FindBin::Bin/..";
my @files = sort glob "$top/t/js/*.test.js $top/t/js/*.test.mjs $top/t/js/*.test.cjs";
@files = grep {-f} @files;
plan skip_all => 'no tests in t/js' if !@files;

my $version = `node --version 2>/dev/null` // '';
my ($major, $minor) = $version =~ /\Av(\d+)\.(\d+)/;
if (!defined $major || $major < 18 || ($major == 18 && $minor < 15)) {
    my $reason = 'node 18.15 or newer is missing';
    if ($ENV{CI}) {
        fail("$reason, and this is CI");
        done_testing;
        exit;
    }
    plan skip_all => $reason;
}

open my $node, '-|', 'node', '--test', '--test-reporter=tap', @files
    or die "node: $!\n";
my ($count, @told) = (0);
while (my $line = <$node>) {
    chomp $line;
    push @told, $line if $line !~ /\A\s*(?:duration_ms|---|\.\.\.|# Subtest)/;
    my ($verdict, $name, $directive) =
        $line =~ /\A\s*(ok|not ok) \d+ - (.*?)(?: # (SKIP|TO[D]O)\b.*)?\z/
        or next;
    $count++;
    if ($directive) {
    SKIP: { skip "$name: node says $directive", 1 }
        next;
    }
    ok($verdict eq 'ok', $name);
}
close $node;
my $status = $?;
is($status, 0, 'node --test ends with success') or diag(join "\n", @told);
cmp_ok($count, '>', 0, 'node ran tests');

SKIP: {
    my $tsc = `tsc --version 2>/dev/null` // '';
    skip 'tsc (node-typescript) is missing', 1 if $tsc eq '' && !$ENV{CI};
    my $errors = `tsc --noEmit --strict --target es2022 --module nodenext \\
        --moduleResolution nodenext '$top/t/js/types/sample.mts' 2>&1`;
    is($errors, '', 'an application in TypeScript compiles, and wrong ones do not');
}
done_testing;
