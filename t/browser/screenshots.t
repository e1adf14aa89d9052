# The pictures of the README, in doc/: make screenshots.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Parley;
use Parley::Browser;

$ENV{BROWSER_SCREENSHOTS} = Parley::source_dir() . '/doc';
Parley::Browser::story('screenshots.mjs');
