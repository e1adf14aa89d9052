# The JavaScript client's own tests (t/js/*.js), told one by one.
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
done_testing;
