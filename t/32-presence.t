# Who is told that somebody is there: list members only, once, and not while
# a reconnect is under way.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use utf8;
use Parley;
use Parley::Story;
use Test::More;
use Time::HiRes qw(time);

# Long enough for a reconnect on a busy machine.
my $grace  = Parley::scaled(1);
my $server = Parley->start(conf => {'policy.presence_grace' => int($grace * 1000) . 'ms'});
$server->add_users(1 .. 4);    # contacts of each other
$server->ctl('user', 'add', $_, "User $_") for 5, 6;
$server->ctl('contact', 'add', 5, 2, '--one-way');

sub of ($id) {
    return sub ($event) { $event->{UserId} == $id };
}
sub presence_of ($client, $id) { return $client->expect_event('P_PRESENCE', 10, of($id)) }

# --- coming and going -------------------------------------------------------

my $alice    = client_on($server, 'worker-0', 1);
my $admirer  = $server->client(5);                             # has bruno in the list
my $stranger = client_on($server, 'worker-0', 6);
my $bruno    = client_on($server, 'worker-1', 2, DeviceId => 'phone');
my $event    = presence_of($alice, 2);
is_deeply(
    $event,
    {
        Command => 'P_PRESENCE', UserId => 2, Status => 'ONLINE', StatusText => '',
        LastSeen => $event->{LastSeen}, InCollaboration => Mojo::JSON->false
    },
    'the first session makes one ONLINE for the others, on another worker, too'
);
is(presence_of($admirer, 2)->{Status}, 'ONLINE', 'a list that goes one way is told, too');
ok(none_of($bruno,    'P_PRESENCE', of(5)), '... who is in nobody\'s list is not announced');
ok(none_of($stranger, 'P_PRESENCE'),        'strangers are told nothing');
is(user_in($bruno->session->{Users}, 1)->{Status},
    'ONLINE', 'the login says who is there already');
is(user_in($bruno->session->{Users}, 3)->{Status}, 'OFFLINE', '... and who is not');
is(user_in($bruno->session->{Users}, 3)->{LastSeen}, undef, '... and was never seen');
is(user_in($bruno->session->{Users}, 5), undef, '... nobody else is in the list');

# client_on may have come several times: only what follows counts.
$alice->events_so_far('P_PRESENCE');
$_->{events} = [] for $alice, $admirer;

$bruno->drop;
$bruno = $server->client(2, DeviceId => 'phone');
$bruno->close;
$bruno = $server->client(2, DeviceId => 'tablet');
my ($left_at, $wall) = (now(), time);
$bruno->drop;
$event = presence_of($alice, 2);
is($event->{Status}, 'OFFLINE', 'a reconnect within the grace does not flicker');
cmp_ok(now() - $left_at, '>', $grace * 0.9, '... the end is told after the grace');
cmp_ok(abs($event->{LastSeen} / 1000 - $wall), '<', 60, '... with the time of the last sign');
ok(none_of($alice, 'P_PRESENCE', of(2)), '... once');
is(presence_of($admirer, 2)->{Status}, 'OFFLINE', '... to every list');

# --- status and text --------------------------------------------------------

my $text = 'mit Klienten bis 15:30 – 🌿';
$bruno = $server->client(2, DeviceId => 'phone');
is(presence_of($alice, 2)->{Status}, 'ONLINE', 'back again');
is($bruno->request('P_UPDATE_STATUS', Status => 'BUSY', StatusText => $text)->{Reason},
    'OK', 'a status is taken');
$event = presence_of($alice, 2);
is_deeply([@$event{qw(Status StatusText)}], ['BUSY', $text], '... and told, with its text');
my $user = $alice->request('P_GET_USER', UserId => 2)->{User};
is_deeply([@$user{qw(Name Status StatusText)}], ['User 2', 'BUSY', $text], '... P_GET_USER says so');
$user = user_in($alice->request('P_GET_ALL_USER')->{Users}, 2);
is_deeply([@$user{qw(Status StatusText)}], ['BUSY', $text], '... the list says so');
my $second = $server->client(1, DeviceId => 'second');
$user = user_in($second->session->{Users}, 2);
is_deeply([@$user{qw(Status StatusText)}], ['BUSY', $text], '... so does a login');
$bruno->request('P_UPDATE_STATUS', Status => 'BUSY', StatusText => 'new text');
is(presence_of($alice, 2)->{StatusText}, 'new text', 'a new text is told');
$bruno->request('P_UPDATE_STATUS', Status => 'AWAY');
$event = presence_of($alice, 2);
is_deeply([@$event{qw(Status StatusText)}], ['AWAY', 'new text'], 'without a text it stays');
is(presence_of($second, 2)->{Status}, $_, "each device of the others is told $_")
    for qw(BUSY AWAY);

# --- several devices --------------------------------------------------------

my $tablet = $server->client(2, DeviceId => 'tablet', Status => 'BUSY');
ok(none_of($alice, 'P_PRESENCE', of(2)), 'a less available device changes nothing');
$tablet->request('P_UPDATE_STATUS', Status => 'ONLINE');
is(presence_of($alice, 2)->{Status}, 'ONLINE', 'the most available device counts');
$tablet->close;
is(presence_of($alice, 2)->{Status}, 'AWAY', '... when it goes, the other one');
$tablet = $server->client(2, DeviceId => 'tablet', Status => 'AWAY');
$_->drop for $tablet, $bruno;
is(presence_of($alice, 2)->{Status}, 'OFFLINE', 'when all have gone, OFFLINE is told');
ok(none_of($alice, 'P_PRESENCE', of(2)), '... exactly once');
$user = $alice->request('P_GET_USER', UserId => 2)->{User};
is_deeply([@$user{qw(Status StatusText)}], ['OFFLINE', ''], 'the text goes with its user');

# --- invisible --------------------------------------------------------------

my $seen = $user->{LastSeen};
$bruno = $server->client(2, DeviceId => 'phone', Status => 'INVISIBLE');
$bruno->request('P_UPDATE_STATUS', Status => 'INVISIBLE', StatusText => 'secret');
ok(none_of($alice, 'P_PRESENCE', of(2)), 'who comes INVISIBLE is not announced');
for my $question (['P_GET_USER', UserId => 2], ['P_GET_ALL_USER']) {
    my $reply = $alice->request(@$question);
    $user = $reply->{User} // user_in($reply->{Users}, 2);
    is_deeply([@$user{qw(Status StatusText LastSeen)}],
        ['OFFLINE', '', $seen], "... $question->[0] shows one who is OFFLINE");
}
$second->close;
$second = $server->client(1, DeviceId => 'second');
$user = user_in($second->session->{Users}, 2);
is_deeply([@$user{qw(Status StatusText LastSeen)}],
    ['OFFLINE', '', $seen], '... so does the login');
is(send_text($alice, [2], 'are you there?')->{Reason}, 'OK', '... can be written to');
$bruno->expect_event('P_MESSAGE');
$bruno->request('P_UPDATE_STATUS', Status => 'ONLINE');
$event = presence_of($alice, 2);
is_deeply([@$event{qw(Status StatusText)}], ['ONLINE', 'secret'], 'and may become visible');
$seen = $alice->request('P_GET_USER', UserId => 2)->{User}{LastSeen};
$bruno->request('P_UPDATE_STATUS', Status => 'INVISIBLE', StatusText => 'secret again');
$event = presence_of($alice, 2);
is_deeply([@$event{qw(Status StatusText)}], ['OFFLINE', ''], 'INVISIBLE looks OFFLINE');
cmp_ok($event->{LastSeen}, '>', $seen, '... seen for the last time now');
$seen = $event->{LastSeen};
$bruno->request('P_LOGOUT');
ok(none_of($alice, 'P_PRESENCE', of(2)), '... the real end is not told');
is($alice->request('P_GET_USER', UserId => 2)->{User}{LastSeen}, $seen, '... not by LastSeen either');

# --- processes die ----------------------------------------------------------

$second->close;
$bruno = client_on($server, 'worker-1', 2);
my $carla = client_on($server, 'worker-1', 3);
my $dora  = client_on($server, 'worker-1', 4);
# who changed a moment ago is told of when [policy] presence_interval is over
for my $id (2 .. 4) {
    Parley::poll_until(10, sub { (told($alice, $id)->[-1] // '') eq 'ONLINE' });
}
settle($_) for $alice, $carla;
$_->{events} = [] for $alice, $carla;
my $pid = $server->kill9('worker-1');
$dora->drop;
is(presence_of($alice, 4)->{Status}, 'OFFLINE',
    'who leaves when there is no worker is OFFLINE after the grace');
$server->await_restart('worker-1', $pid);
ok(none_of($alice, 'P_PRESENCE'), '... once; the others of that worker have never been away');

$dora = $server->client(4);
is(presence_of($alice, 4)->{Status}, 'ONLINE', 'and comes back later');
settle($carla);
# A successor tells the state once more before: no change.
is_deeply([(map { $_->{Status} } grep { $_->{UserId} == 4 } $carla->events_so_far('P_PRESENCE'))[-2, -1]],
    [qw(OFFLINE ONLINE)], '... which others are told, too');
$pid = $server->kill9('keeper');
$server->await_restart('keeper', $pid);
# A keeper that starts lets the workers tell the state again: it is the truth,
# and no change.
sub told ($client, $id) {
    settle($client);
    my @told = map { $_->{Status} } grep { $_->{UserId} == $id } $client->events_so_far('P_PRESENCE');
    return [map { $told[$_] } grep { !$_ || $told[$_] ne $told[$_ - 1] } 0 .. $#told];
}
for my $id (2 .. 4) {
    is_deeply([grep { $_ ne 'ONLINE' } told($alice, $id)->@*], [],
        "the death of the keeper takes nobody away: $id");
}
$alice->{events} = [];
$dora->close;
settle($alice);
$pid = $server->kill9('keeper');
$server->await_restart('keeper', $pid);
ok(Parley::poll_until(10, sub { (told($alice, 4)->[-1] // '') eq 'OFFLINE' }), 'a grace outlives the keeper');
is(scalar(grep { $_ eq 'OFFLINE' } told($alice, 4)->@*), 1, '... and ends once');
settle($_) for $bruno, $carla;
$_->{events} = [] for $alice, $bruno, $carla;

# --- blocks -----------------------------------------------------------------

is($alice->request('P_BLOCK', UserId => 2)->{Reason}, 'OK', 'alice blocks bruno');
is(presence_of($bruno, 1)->{Status}, 'OFFLINE', '... for whom she is gone at once');
$alice->request('P_UPDATE_STATUS', Status => 'BUSY');
is(presence_of($carla, 1)->{Status}, 'BUSY', '... others go on seeing her');
ok(none_of($bruno, 'P_PRESENCE', of(1)), '... bruno does not');
is($bruno->request('P_GET_USER', UserId => 1)->{Reason}, 'NOT_FOUND', '... she does not exist');
is(user_in($bruno->request('P_GET_ALL_USER')->{Users}, 1), undef, '... not in the list either');
$bruno->close;
$bruno = $server->client(2);
is(user_in($bruno->session->{Users}, 1), undef, '... nor in that of the login');
$alice->request('P_UNBLOCK', UserId => 2);
is(presence_of($bruno, 1)->{Status}, 'BUSY', 'unblocked, she is seen as she is now');

# --- lists ------------------------------------------------------------------

my @ids;
my $cursor = 0;
do {
    my $page = $alice->request('P_GET_ALL_USER', Limit => 2, $cursor ? (Cursor => $cursor) : ());
    cmp_ok(scalar $page->{Users}->@*, '<=', 2, 'a page has no more than was asked for');
    push @ids, map { $_->{UserId} } $page->{Users}->@*;
    $cursor = $page->{NextCursor};
} while $cursor;
is_deeply(\@ids, [2, 3, 4], 'the pages together are the list');
is($alice->request('P_GET_USER', UserId => 6)->{Reason},
    'NOT_FOUND', 'a stranger cannot be looked at');
is_deeply([sort keys $alice->request('P_GET_USER', UserId => 3)->{User}->%*],
    [qw(InCollaboration LastSeen Name Profile Role Status StatusText UserId)], 'a user has all the fields');

$server->ctl('user', 'add', '--range', '1001-1205');
my ($code, undef, $err) = $server->run(['sh', '-c', 'for id in $(seq 1001 1205); do "$0" -c "$1" contact add 6 $id || exit 1; done',
    Parley::program('parleyctl'), $server->conf]);
is($code, 0, 'a user gets 205 contacts') || diag $err;
$stranger = $server->client(6);
my @page = $stranger->session->{Users}->@*;
is(scalar @page, 200, 'the login brings the first page of a long list');
my $rest = $stranger->request('P_GET_ALL_USER', Cursor => $stranger->session->{NextCursor});
is_deeply([map { $_->{UserId} } @page, $rest->{Users}->@*], [1001 .. 1205],
    '... its NextCursor leads to the rest');
is($rest->{NextCursor}, undef, '... which is the last page');
is($alice->session->{NextCursor}, undef, 'a short list has no NextCursor');

# --- after a restart --------------------------------------------------------

my $before = $alice->request('P_GET_USER', UserId => 4)->{User}{LastSeen};
ok($before, 'LastSeen is known');
$server->stop;
$server->launch;
$alice = $server->client(1);
is(user_in($alice->session->{Users}, 4)->{LastSeen}, $before, '... at a login after a restart, too');
is($alice->request('P_GET_USER', UserId => 4)->{User}{LastSeen}, $before, '... and when asked for');

$server->finish;
done_testing;
