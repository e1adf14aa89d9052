# Two tabs with a chat: what a user of the demo page relies on.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Browser;

Parley::Browser::story('chat.mjs');
