# Signals of a call: what one participant sends another arrives, as it is and
# in order, and with nobody else; whatever cannot be handed on is said to the
# sender.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Guard;
use Parley::Story;
use Test::More;

my $server = Parley->start(conf => {'log.level' => 'debug', 'server.workers' => 3});
$server->add_users(1 .. 5);
my $guard = Parley::Guard->watch($server);
my $alice = client_on($server, 'worker-0', 1);
my $bruno = client_on($server, 'worker-1', 2, DeviceId => 'phone');
my $carla = client_on($server, 'worker-2', 3);
my $david = client_on($server, 'worker-1', 4);
my $emma  = client_on($server, 'worker-0', 5);
my $other = client_on($server, 'worker-1', 2, DeviceId => 'tablet');
my $call;

sub signal ($from, $to, $signal, %more) {
    return $from->request('P_SIGNAL', CollaborationId => $call, ToUserId => $to, Signal => $signal, %more);
}

# Without a RequestId: answered only when it fails.
sub signal_away ($from, $to, $signal, %more) {
    $from->send_command('P_SIGNAL', CollaborationId => $call, ToUserId => $to, Signal => $signal, %more);
    return;
}

sub reason ($from, $to, $signal, %more) {
    my $reply = signal($from, $to, $signal, %more);
    return $reply->{Reason};
}

sub counted ($name) { return $server->metric("parley_${name}_total") // 0 }

sub next_signal ($client) { return $client->expect_event('P_SIGNAL')->{Signal} }

# --- who may --------------------------------------------------------------------

my $created = $alice->request(
    'P_COLLABORATION_CREATE',
    ToUserList            => [2, 3, 5],
    Kind                  => 'VIDEO',
    ClientCollaborationId => 'c-1'
);
is($created->{Reason}, 'OK', 'a call') || diag(encode_json($created));
$call = $created->{CollaborationId};

my $reply = signal($alice, 2, 'offer');
is($reply->{Reason}, 'UNAVAILABLE', 'nothing can be said to one who has not accepted yet');
like($reply->{Message}, qr/\AToUserId: /, '... it says what is the matter');
cmp_ok($reply->{RetryAfter}, '>', 0, '... and when to try again');
$reply = signal($bruno, 1, 'early');
is($reply->{Reason}, 'CONFLICT', '... nor can that one say anything');
is($reply->{State},  'RINGING',  '... while it rings');
is($_->request('P_COLLABORATION_ACCEPT', CollaborationId => $call)->{Reason}, 'OK', 'one accepts') for $bruno, $carla, $emma;

my $offer = {type => 'offer', sdp => $guard->secret("v=0\r\no=- 46117 2 IN IP4 192.0.2.17\r\n")};
$reply = signal($alice, 2, $offer);
is($reply->{Reason}, 'OK', 'an offer from one worker to the other');
is_deeply(
    $bruno->expect_event('P_SIGNAL'),
    {
        Command => 'P_SIGNAL', CollaborationId => $call, FromUserId => 1,
        FromSessionId => $alice->session->{SessionId}, Signal => $offer
    },
    '... arrives with all that the receiver has to know'
);
is(reason($bruno, 1, 'answer', ToSessionId => $alice->session->{SessionId}), 'OK', 'the answer, to that session');
is(next_signal($alice), 'answer', '... arrives');
is(reason($alice, 5, 'same worker'), 'OK', 'within one worker');
is(next_signal($emma), 'same worker', '... it arrives, too');
signal_away($alice, 2, 'no id');
is(next_signal($bruno), 'no id', 'without a RequestId');
ok(!$alice->has_reply(''), '... there is no reply') or diag($alice->pending);
is(scalar($alice->{replies}->@*), 0, '... at all');

my $nobody = decode_json(encode_json(signal($david, 2, 'from a stranger')));
is($nobody->{Reason}, 'NOT_FOUND', 'for a stranger there is no such call');
my $real = $call;
$call = '12345';
is(signal($david, 2, 'x')->{Message}, $nobody->{Message}, '... as if there were none');
$call = $real;
is(reason($alice, 4, 'to a stranger'), 'NOT_FOUND', 'nothing goes to a stranger');
$reply = signal($other, 1, 'other device');
is("$reply->{Reason} $reply->{State}", 'CONFLICT ACTIVE', 'another device of a participant is not in the call');
is(reason($alice, 2, 'wrong session', ToSessionId => $other->session->{SessionId}),
    'UNAVAILABLE', '... and gets nothing');
is(reason($alice, 1, 'to oneself'), 'BAD_REQUEST', 'nobody signals oneself');
ok(none_of($_, 'P_SIGNAL'), 'nobody else has got anything') for $bruno, $carla, $david, $emma, $other;

# --- what -----------------------------------------------------------------------

for my $json ('0', '-1.50', '1e3', 'true', 'false', '""', '"\u0000\ud83d\ude00"', '[]', '{}', '[null,{"a":[1.0]}]', '{"candidate":""}') {
    $alice->send_text(qq({"Command":"P_SIGNAL","RequestId":"json","CollaborationId":"$call","ToUserId":2,"Signal":$json}));
    is($alice->wait_reply('json')->{Reason}, 'OK', "Signal $json");
    my $event = $bruno->expect_event('P_SIGNAL');
    is(encode_json([$event->{Signal}]), encode_json(decode_json("[$json]")), '... arrives');
}
my $largest = 'x' x 65_534;
is(reason($alice, 2, $largest), 'OK', '64 KiB of JSON');
is(next_signal($bruno), $largest, '... arrive whole');
$reply = signal($alice, 2, "$largest+");
is($reply->{Reason}, 'TOO_LARGE', 'one byte more');
like($reply->{Message}, qr/\ASignal: expected at most 65536 bytes/, '... is refused with the limit');
my @burst = map { $alice->submit('P_SIGNAL', CollaborationId => $call, ToUserId => 2, Signal => "$_" . 'y' x 65_000) } 1 .. 16;
is(scalar(grep { $alice->wait_reply($_)->{Reason} eq 'OK' } @burst), 16, 'sixteen large ones at once find room');
is(join(',', map { next_signal($bruno) =~ s/y+//r } @burst), join(',', 1 .. 16), '... and arrive in order');

# --- in order -------------------------------------------------------------------

my $before = counted('signals');
my %way    = (
    'over workers'     => [$alice, $bruno, 2],
    'the other way'    => [$bruno, $alice, 1],
    'on one worker'    => [$alice, $emma,  5],
    'from two at once' => [$carla, $bruno, 2],
);
for my $n (1 .. 1000) {
    signal_away($way{$_}[0], $way{$_}[2], {candidate => $n, way => $_}) for keys %way;
    Parley::tick() if $n % 50 == 0;
}
my %seen;
for my $client ($bruno, $alice, $emma) {
    my $expected = 1000 * grep { $_->[1] == $client } values %way;
    for (1 .. $expected) {
        my $signal = next_signal($client);
        push $seen{$signal->{way}}->@*, $signal->{candidate};
    }
}
is_deeply($seen{$_}, [1 .. 1000], "1,000 candidates $_: all, once, in order") for sort keys %way;
is(counted('signals') - $before, 4000, '... and counted');
is(scalar($_->{replies}->@*), 0, '... without replies') for $alice, $bruno, $carla, $emma;

# --- a worker that does not answer ----------------------------------------------

my $worker = $server->pids->{'worker-1'};
$bruno->{events} = [];
kill STOP => $worker;
is(reason($alice, 2, 'into the void'), 'UNAVAILABLE', 'a worker that stands still');
my $begin = now();
my @void = map { $alice->submit('P_SIGNAL', CollaborationId => $call, ToUserId => 2, Signal => [0, $_]) } 1 .. 8;
is($alice->request('P_HEARTBEAT')->{Reason}, 'OK', '... keeps nobody from being served');
cmp_ok(now() - $begin, '<', 4, '... for longer than a moment');
is(scalar(grep { $alice->wait_reply($_)->{Reason} eq 'UNAVAILABLE' } @void), 8, '... and each is told');
my $dropped = counted('signals_dropped');
signal_away($alice, 2, [$_, 'z' x 60_000]) for 1 .. 30;
Parley::poll_until(10, sub { $alice->{replies}->@* >= 10 });
kill CONT => $worker;
my $lost;
Parley::poll_until(10, sub {
    $lost = counted('signals_dropped') - $dropped;
    return $alice->{replies}->@* + $bruno->{events}->@* + $lost >= 39;
});
my @refused = splice $alice->{replies}->@*;
my @arrived = map { $_->{Signal}[0] } grep { $_->{Command} eq 'P_SIGNAL' } splice $bruno->{events}->@*;
is(scalar(grep { $_->{Reason} ne 'UNAVAILABLE' || exists $_->{RequestId} || !$_->{RetryAfter} } @refused),
    0, 'a full ring is said to the sender, without a RequestId, too');
is(@refused + @arrived + $lost, 39, '... each is refused, or arrives, or is counted, the first ones, too');
is_deeply(\@arrived, [sort { $a <=> $b } @arrived], '... in order');
cmp_ok(scalar(@arrived), '>=', 3, '... and what a connection has room for does arrive');
ok(none_of($bruno, 'P_SIGNAL'), '... and nothing of which UNAVAILABLE was said');

# --- a receiver that does not read ------------------------------------------------

$dropped = counted('signals_dropped');
$bruno->stop_reading;
my (@taken, $is_full);
for my $n (1 .. 400) {
    my $said = reason($alice, 2, [$n, 'w' x 65_000]);
    push @taken, $n if $said eq 'OK';
    $is_full = $said eq 'UNAVAILABLE' and last;
}
ok($is_full, 'who does not read gets no more after a while');
cmp_ok(counted('signals_dropped'), '>', $dropped, '... which is counted');
is(reason($alice, 3, 'still here'), 'OK', '... and nobody else notices');
is(next_signal($carla), 'still here', '... at all');
$bruno->start_reading;
is_deeply([map { next_signal($bruno)->[0] } @taken], \@taken, '... what was OK has arrived');
ok(none_of($bruno, 'P_SIGNAL'), '... and nothing else');
is(reason($alice, 2, 'again'), 'OK', '... and it goes on');
is(next_signal($bruno), 'again', '... from there');

# --- a block -------------------------------------------------------------------------

is($alice->request('P_BLOCK', UserId => 3)->{Reason}, 'OK', 'one blocks another who is in the call');
is(reason($alice, 3, 'to whom I block'), 'UNAVAILABLE', '... nothing passes between the two');
is(reason($carla, 1, 'to who blocks me'), 'UNAVAILABLE', '... in either direction');
ok(none_of($_, 'P_SIGNAL'), '... at all') for $alice, $carla;
is(reason($carla, 2, 'to you'), 'OK', '... but to the others');
is(next_signal($bruno), 'to you', '... as ever');
$alice->request('P_UNBLOCK', UserId => 3);
is(reason($alice, 3, 'again'), 'OK', '... and to each other when the block is over');
is(next_signal($carla), 'again', '... as before');

# --- coming and going -------------------------------------------------------------

is($carla->request('P_COLLABORATION_LEAVE', CollaborationId => $call)->{Reason}, 'OK', 'one leaves');
is(reason($alice, 3, 'too late'), 'UNAVAILABLE', '... gets nothing any more');
is(reason($carla, 1, 'one more thing'), 'CONFLICT', '... and sends nothing');
ok(none_of($_, 'P_SIGNAL'), '... and that holds') for $alice, $carla;

my $was = $bruno->session->{SessionId};
$bruno->drop;
ok(Parley::poll_until(10, sub { reason($alice, 2, 'gone?') eq 'UNAVAILABLE' }), 'one whose connection is lost');
$bruno = $server->client(2, DeviceId => 'phone');    # on whichever worker
ok(Parley::poll_until(10, sub { reason($alice, 2, 'back?') eq 'OK' }), '... and is back');
is(next_signal($bruno), 'back?', '... is reached again');
is(reason($alice, 2, 'for the old one', ToSessionId => $was), 'UNAVAILABLE', '... not by the session of before');
is(reason($bruno, 1, 'here I am'), 'OK', '... and can signal');
is($alice->expect_event('P_SIGNAL', 10, sub ($e) { $e->{Signal} eq 'here I am' })->{FromSessionId},
    $bruno->session->{SessionId}, '... from its new session');

is($alice->request('P_COLLABORATION_END', CollaborationId => $call)->{Reason}, 'OK', 'the call ends');
for my $from ($alice, $bruno) {
    $reply = signal($from, $from == $alice ? 2 : 1, 'after the end');
    is("$reply->{Reason} $reply->{State}", 'CONFLICT ENDED', '... and nothing is relayed any more');
}
ok(none_of($_, 'P_SIGNAL'), '... to anybody') for $alice, $bruno;
cmp_ok(counted('signals_refused'), '>=', 15, 'what was refused is counted');
$guard->finish;
done_testing;
