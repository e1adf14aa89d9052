# The demo page as a page: size, first paint, keyboard, contrast, narrow screens.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Browser;

Parley::Browser::story('page.mjs');
