# Replies, changes and deletions on the demo page.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Browser;

Parley::Browser::story('edits.mjs');
