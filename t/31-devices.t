# Several devices of a user: where each begins, whom it replaces, which one
# makes room; ends of sessions and signs of life.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Story;
use Test::More;
use Time::HiRes qw(time);

my $server = Parley->start(conf => {
    'server.heartbeat_interval' => '1s',
    'server.ping_interval'      => '100ms',
});
$server->add_users(1 .. 4);
my $alice = $server->client(1);

# --- where a device begins --------------------------------------------------

my @early = map { send_text($alice, [2], "early $_") } 1 .. 3;
is_deeply([map { $_->{Reason} } @early], [('OK') x 3], 'one may write to who never came');

my $phone = $server->client(2, DeviceId => 'phone');
my $login = $phone->session;
my $first = $login->{FirstSeq};
is($login->{LastSeq}, $first + 2, 'the first login tells how much there is');
ok($login->{Recovered}, '... and that nothing is missing');
my @events = take_messages($phone, 3);
is_deeply(seqs_of(@events), [$first .. $first + 2], 'a first device begins at the oldest event');
is_deeply([map { $_->{MessageId} } @events], [map { $_->{MessageId} } @early], '... in order');

my $tablet = $server->client(2, DeviceId => 'tablet');
is($tablet->session->{LastSeq}, $first + 2, 'a further device learns where the head is');
ok($tablet->session->{Recovered}, '... and misses nothing');
ok(none_of($tablet, 'P_MESSAGE'), '... and begins there');
isnt($tablet->session->{SessionId}, $login->{SessionId}, '... in a session of its own');

send_text($alice, [2], "late $_") for 4 .. 6;
my @on_phone  = take_messages($phone,  3);
my @on_tablet = take_messages($tablet, 3);
is_deeply(\@on_phone, \@on_tablet, 'both devices get the same, with the same Seq');
is_deeply(seqs_of(@on_phone), [$first + 3 .. $first + 5], '... without a gap');

# --- positions --------------------------------------------------------------

# The tablet has acknowledged nothing: from $first + 3 on all is kept.
$phone->send_command('P_ACK', Seq => $first + 4);
$phone->request('P_LOGOUT');

sub phone_with (%fields) {
    $phone->close if !$phone->is_closed;
    $phone = $server->client(2, DeviceId => 'phone', %fields);
    return $phone->session;
}

$login = phone_with();
ok($login->{Recovered}, 'without LastSeq the stored cursor counts');
is_deeply(seqs_of(take_messages($phone, 1)), [$first + 5], '... it comes what was not acknowledged');
ok(none_of($phone, 'P_MESSAGE'), '... and nothing else');
is($login->{FirstSeq}, $first + 3, 'what all devices have acknowledged has left the inbox');

$login = phone_with(LastSeq => $first + 2);
ok($login->{Recovered}, 'LastSeq goes back as far as there is something');
is_deeply(seqs_of(take_messages($phone, 3)), [$first + 3 .. $first + 5], '... all comes again');

$login = phone_with(LastSeq => $first + 5);
ok($login->{Recovered}, 'LastSeq goes forward');
ok(none_of($phone, 'P_MESSAGE'), '... what lies below does not come');

$login = phone_with(LastSeq => $first);
ok(!$login->{Recovered}, 'below what is left: the client is told of the hole');
is_deeply(
    seqs_of(take_messages($phone, 3)),
    [$login->{FirstSeq} .. $login->{LastSeq}],
    '... and gets what there is'
);

$login = phone_with(LastSeq => $first + 1000);
ok(!$login->{Recovered}, 'a cursor above the head is not believed');
is($login->{LastSeq}, $first + 5, '... the reply says where the head is');
ok(none_of($phone, 'P_MESSAGE'), '... nothing comes');
send_text($alice, [2], 'seven');
is_deeply(seqs_of(take_messages($phone, 1)), [$first + 6], '... and the next event does come');

my $epoch = $login->{Epoch};
$login = phone_with(LastSeq => $first + 6, Epoch => $epoch);
ok($login->{Recovered}, 'the right Epoch changes nothing');
is($login->{Epoch}, $epoch, 'the Epoch stays');
$login = phone_with(LastSeq => $first + 3, Epoch => 'of-another-store');
ok(!$login->{Recovered}, 'another Epoch: the client is to load its history again');
ok(none_of($phone, 'P_MESSAGE'), '... LastSeq of another store says nothing here');

# --- the same device again --------------------------------------------------

for my $place (['worker-0', 'the same worker'], ['worker-1', 'another worker']) {
    my ($worker, $name) = @$place;
    my $old = client_on($server, 'worker-0', 3, DeviceId => 'laptop');
    my $new;
    for (1 .. 100) {
        $new = $server->client(3, DeviceId => 'laptop');
        is_deeply([$old->expect_close], [4002, 'REPLACED'], "replaced from $name, close 4002")
            if worker_of($server, $new) eq $worker;
        last if worker_of($server, $new) eq $worker;
        # the wrong worker: this one is the older session of the next try
        $old->expect_close;
        $new->request('P_LOGOUT');
        $old = client_on($server, 'worker-0', 3, DeviceId => 'laptop');
    }
    my $close = $old->expect_event('P_CLOSE');
    is($close->{Reason}, 'REPLACED', '... and in words');
    ok(length $close->{Message}, '... for people, too');
    send_text($alice, [3], "to the one on $worker");
    my ($event) = take_messages($new, 1);
    is($event->{Message}, "to the one on $worker", '... the newer session is served');
    is($new->request('P_HEARTBEAT')->{Reason}, 'OK', '... and answered');
    $new->send_command('P_ACK', Seq => $event->{Seq});
    $new->request('P_LOGOUT');
}

# What the older session has submitted is applied once, whoever is faster.
my $old = client_on($server, 'worker-0', 3, DeviceId => 'laptop');
my @burst = map {
    {ToUserList => [4], Message => "burst $_", ClientMessageId => "burst-$_"}
} 1 .. 40;
$old->submit('P_SEND_MESSAGE', %$_) for @burst;
my $new = $server->client(3, DeviceId => 'laptop');
my @reasons = map { $new->request('P_SEND_MESSAGE', %$_)->{Reason} } @burst;
is(scalar(grep {/\A(?:OK|DUPLICATE)\z/} @reasons), 40, 'the newer session may retry all of it');
my $dora   = $server->client(4);
my @texts = map { $_->{Message} } take_messages($dora, 40);
is_deeply(\@texts, [map {"burst $_"} 1 .. 40], '... each was stored once, in order');
ok(none_of($dora, 'P_MESSAGE'), '... and no second time');

# --- sixteen devices --------------------------------------------------------

$_->close for $new, $dora;
my %device;
my $carla = 3;    # has one device, the laptop
$device{$_} = $server->client($carla, DeviceId => "d-$_") for 2 .. 16;
$device{1} = $server->client($carla, DeviceId => 'laptop');
my $more  = $server->connect;
my @extra = ('P_AUTHENTICATE', Token => $server->token($carla), DeviceId => 'd-17');
my $reply = $more->request(@extra);
is($reply->{Reason}, 'CONFLICT', 'sixteen connected devices leave no room for another');
ok(length $reply->{Message}, '... which it is told');
is($device{$_}->request('P_HEARTBEAT')->{Reason}, 'OK', "... device $_ goes on") for 1, 16;
for my $n (5, 9) {
    is($device{$n}->request('P_LOGOUT')->{Reason}, 'OK', "device $n logs out");
    is(($device{$n}->expect_close)[0], 1000, '... close 1000');
}
is($more->request(@extra)->{Reason}, 'OK', 'then there is room, on the same connection');
my $sent = send_text($alice, [$carla], 'who is still known?');
$device{9} = $server->client($carla, DeviceId => 'd-9');
is(($device{9}->expect_event('P_MESSAGE'))->{MessageId},
    $sent->{MessageId}, 'the device used last of the two is still known');
$reply = $server->connect->request('P_AUTHENTICATE',
    Token => $server->token($carla), DeviceId => 'd-5');
is($reply->{Reason}, 'CONFLICT', 'the one unused longest has made room');
$device{2}->request('P_LOGOUT');
$device{5} = $server->client($carla, DeviceId => 'd-5');
ok(none_of($device{5}, 'P_MESSAGE'), '... it is a new device when it comes back');
$_->close for grep { !$_->is_closed } values %device, $more;

# --- forgetting a device ----------------------------------------------------

my $left = $server->client(2, DeviceId => 'left-behind');
$sent = send_text($alice, [2], 'before it is forgotten');
take_messages($_, 1) for $left, $phone;
$left->request('P_LOGOUT');
$left = $server->client(2, DeviceId => 'left-behind');
is(($left->expect_event('P_MESSAGE'))->{MessageId},
    $sent->{MessageId}, 'a logout keeps the cursor of a device');
is($left->request('P_LOGOUT', Forget => \1)->{Reason}, 'OK', 'a device may be forgotten');
is(($left->expect_close)[0], 1000, '... which ends its session');
$left = $server->client(2, DeviceId => 'left-behind');
ok(none_of($left, 'P_MESSAGE'), '... when it comes again, it begins at the head');

# The others of this user keep what they have not acknowledged.
$tablet->close;
$tablet = $server->client(2, DeviceId => 'tablet');
is_deeply(seqs_of(take_messages($tablet, 5)), [$first + 3 .. $first + 7],
    '... another device has lost nothing');

# --- signs of life ----------------------------------------------------------

$reply = $alice->request('P_HEARTBEAT');
cmp_ok(abs($reply->{ServerTime} - 1000 * time), '<', 5000, 'a heartbeat tells the time');
my $pings = $alice->frame_count(9);
ok(Parley::poll_until(10, sub { $alice->frame_count(9) > $pings + 1 }), 'the server pings');
is($alice->session->{PingInterval},      100,  '... as often as the login says');
is($alice->session->{HeartbeatInterval}, 1000, 'the login says when silence means AWAY');

$_->close for $phone, $tablet, $left;
my $busy = $server->client(4, Status => 'BUSY');
my $idle = $server->client(2, DeviceId => 'tablet', LastSeq => $first + 7);
my $from_bruno = sub ($event) { $event->{UserId} == 2 && $event->{Status} ne 'OFFLINE' };
my $event;
do {
    $alice->request('P_HEARTBEAT');
    $event = $alice->expect_event('P_PRESENCE', 10, $from_bruno);
} while $event->{Status} ne 'AWAY';
is($event->{Status}, 'AWAY', 'who is silent for the heartbeat interval is AWAY');
ok(none_of($alice, 'P_PRESENCE', sub ($e) { $e->{UserId} == 4 && $e->{Status} eq 'AWAY' }),
    '... unless BUSY was chosen');
$idle->request('P_HEARTBEAT');
is($alice->expect_event('P_PRESENCE', 10, $from_bruno)->{Status},
    'ONLINE', '... a command brings ONLINE back');

$server->finish;
done_testing;
