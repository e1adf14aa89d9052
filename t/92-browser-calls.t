# Video calls on the demo page; Chromium has a camera that shows a test picture.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Browser;

Parley::Browser::story('calls.mjs', conf => {'calls.ring_timeout' => Parley::scaled(8) . 's'});
