# Parley::Browser - a story told by browsers: t/browser/*.mjs on a server.
#
#     Parley::Browser::story('chat.mjs');
#
# The server offers its demo page and four demo users who know each other;
# the script (node:test) drives Debian's Chromium through Playwright, which
# ./bootstrap check puts into build/browser. Where one of them is missing the
# story is skipped, and fails in CI.
package Parley::Browser;
use v5.36;

use Mojo::JSON qw(encode_json);
use Test::More ();

use Parley;
use Parley::Node;

my @NAMES = ('Alice Martin', 'Bruno Keller', 'Chiara Rossi', 'David Okafor');

# Where Playwright is: a build folder without one (sanitizers) uses that of
# ./bootstrap.
sub playwright_dir () {
    my ($dir) = grep { -d "$_/node_modules/playwright-core" }
        map {"$_/browser"} Parley::build_dir(), Parley::source_dir() . '/build';
    return $dir;
}

sub chromium () {
    my ($path) = grep { -x && -f } map {"$_/chromium"} split /:/, $ENV{PATH};
    return $path;
}

sub need () {
    Parley::Node::need();
    Parley::Node::give_up('chromium is missing') if !chromium();
    Parley::Node::give_up('Playwright is missing (./bootstrap check gets it)')
        if !playwright_dir();
    return;
}

sub server (%conf) {
    my $server = Parley->prepare(conf => {%conf});
    my $users  = $server->dir . '/demo-users.json';
    my @users  = map {
        {
            UserId   => $_,
            Name     => $NAMES[$_ - 1],
            UserName => "$_",
            Password => "password-$_"
        }
    } 1 .. @NAMES;
    Parley::spew($users, encode_json(\@users));
    $server->set('ops.demo_users' => $users);
    $server->launch;
    for my $user (@users) {
        my ($code, undef, $err) = $server->ctl('user', 'add', $user->@{qw(UserId Name)},
            '--password-stdin', {stdin => "$user->{Password}\n"});
        die "user add: $err" if $code != 0;
        $server->add_contact($_, $user->{UserId}) for 1 .. $user->{UserId} - 1;
    }
    return $server;
}

# What t/browser/lib/stage.mjs reads.
sub environment ($server) {
    return {
        BROWSER_URL      => $server->ops_url . '/',
        BROWSER_CTL      => Parley::program('parleyctl'),
        BROWSER_CONF     => $server->conf,
        BROWSER_PROGRAM  => chromium(),
        BROWSER_MODULES  => playwright_dir(),
        BROWSER_FAILED   => Parley::build_dir() . '/t/failed',
        BROWSER_SLOW     => $ENV{PARLEY_SLOW} // 1,
    };
}

# The whole story file; conf => {...} for the server, seconds => deadline.
sub story ($script, %arg) {
    need();
    my $server = server(($arg{conf} // {})->%*);
    Parley::Node::run_tests([Parley::source_dir() . "/t/browser/$script"],
        env => environment($server), seconds => $arg{seconds} // 120);
    $server->finish;
    Test::More::done_testing();
    return;
}

1;
