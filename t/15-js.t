# The JavaScript client's own tests (t/js/*.js), told one by one, and its types.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley::Node;
use Test::More;

my $top   = $ENV{PARLEY_SRC} // "$FindBin::Bin/..";
my @files = grep {-f} sort glob "$top/t/js/*.test.js $top/t/js/*.test.mjs $top/t/js/*.test.cjs";
plan skip_all => 'no tests in t/js' if !@files;

Parley::Node::need();
Parley::Node::run_tests(\@files);

SKIP: {
    my $tsc = `tsc --version 2>/dev/null` // '';
    skip 'tsc (node-typescript) is missing', 1 if $tsc eq '' && !$ENV{CI};
    my $errors = `tsc --noEmit --strict --target es2022 --module nodenext \\
        --moduleResolution nodenext '$top/t/js/types/sample.mts' 2>&1`;
    is($errors, '', 'an application in TypeScript compiles, and wrong ones do not');
}
done_testing;
