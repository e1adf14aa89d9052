# Calls: ringing on all devices, answered by one, ended by those who may, and
# everybody knows how it ended.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use utf8;
use Mojo::JSON qw(encode_json);
use Parley;
use Parley::Story;
use Test::More;

my $grace  = Parley::scaled(1);
my $server = Parley->start(conf => {
    'calls.reconnect_grace' => int($grace * 1000) . 'ms',
    'calls.max_participants' => 4,
    'calls.max_payload'      => 64,
});
$server->add_users(1 .. 6);    # contacts of each other
$server->ctl('user', 'add', $_, "User $_") for 7;

my $alice  = client_on($server, 'worker-0', 1);
my $bruno  = client_on($server, 'worker-1', 2, DeviceId => 'phone');
my $laptop = client_on($server, 'worker-0', 2, DeviceId => 'laptop');
my $carla  = client_on($server, 'worker-1', 3);
my $david  = client_on($server, 'worker-0', 4);

my $serial = 0;

sub call_of ($client, $to, %more) {
    return $client->request(
        'P_COLLABORATION_CREATE',
        ToUserList            => $to,
        Kind                  => 'VIDEO',
        ClientCollaborationId => 'call-' . ++$serial,
        %more
    );
}

sub ask ($client, $what, $call, %more) {
    return $client->request("P_COLLABORATION_$what", CollaborationId => $call, %more);
}

# The next event of that name, about that call.
sub event_of ($client, $name, $call) {
    return $client->expect_event('P_COLLABORATION', 10,
        sub ($e) { $e->{Event} eq $name && $e->{CollaborationId} eq $call });
}

sub outcome_of ($client, $call) {
    my $event = $client->expect_event('P_COLLABORATION_OUTCOME', 10,
        sub ($e) { $e->{CollaborationId} eq $call });
    return $event->{Outcome};
}

# Until others are told that one is in a call, or not any more.
sub presence_of ($client, $id, $is_in) {
    return $client->expect_event('P_PRESENCE', 10, sub ($e) {
        $e->{UserId} == $id && !!$e->{InCollaboration} == !!$is_in && $e->{Status} ne 'OFFLINE';
    });
}

sub states_of ($reply) {
    return join ' ', map {"$_->{UserId}:$_->{State}"} $reply->{Participants}->@*;
}

sub no_more ($client, $call) {
    return none_of($client, 'P_COLLABORATION', sub ($e) { $e->{CollaborationId} eq $call });
}

$_->{events} = [] for $alice, $bruno, $laptop, $carla, $david;

# --- answered on one of two devices -----------------------------------------

my %request = (
    ToUserList => [2], Kind => 'AUDIO', ClientCollaborationId => 'first', Payload => {room => 'é'},
);
my $reply = $alice->request('P_COLLABORATION_CREATE', %request);
is($reply->{Reason}, 'OK', 'a call is made');
my $call = $reply->{CollaborationId};
like($call, qr/\A[1-9]\d*\z/, '... its id is decimal, as a string');
is($reply->{State}, 'RINGING', '... it rings');
is(states_of($reply), '1:JOINED 2:RINGING', '... who calls is in it');
for my $device ($bruno, $laptop) {
    my $event = event_of($device, 'INVITED', $call);
    is_deeply(
        [$event->@{qw(UserId UserIds Kind State FromUser Payload)}],
        [1, [2], 'AUDIO', 'RINGING', {UserId => 1, Name => 'User 1'}, {room => 'é'}],
        'it rings on each device, with who calls and the payload'
    );
    ok(!exists $event->{Seq}, '... live, without a Seq');
}
ok(no_more($carla, $call), 'nobody else hears of it');

my $again = $alice->request('P_COLLABORATION_CREATE', %request);
is_deeply([@$again{qw(Reason CollaborationId)}], ['DUPLICATE', $call], 'a retry makes no second call');
is($alice->request('P_COLLABORATION_CREATE', %request, Kind => 'VIDEO')->{Reason},
    'CONFLICT', '... the same id for another call is a conflict');
ok(no_more($bruno, $call), '... and it does not ring again');

my $late = client_on($server, 'worker-1', 2, DeviceId => 'late');
my ($open) = $late->session->{Collaborations}->@*;
is($open->{CollaborationId}, $call, 'who logs in while it rings finds it in the reply');
is_deeply($open->{Payload}, {room => 'é'}, '... with its payload');

is(ask($carla, 'ACCEPT', $call)->{Reason}, 'NOT_FOUND', 'to somebody else it does not exist');
is(ask($alice, 'ACCEPT', '123')->{Reason}, 'NOT_FOUND', '... as if it had never been made');
is(ask($bruno, 'CANCEL', $call)->{Reason}, 'FORBIDDEN', 'only who calls can cancel');

$reply = ask($bruno, 'ACCEPT', $call);
is($reply->{Reason},  'OK',               'the first one to answer wins');
is($reply->{State},   'ACTIVE',           '... the call is on');
is(states_of($reply), '1:JOINED 2:JOINED', '... both are in it');
my $event = event_of($alice, 'ACCEPTED', $call);
is($event->{UserId}, 2, 'who calls is told by whom it was answered');
is($event->{Participants}[1]{SessionId},
    $bruno->session->{SessionId}, '... and with which session');
event_of($_, 'ANSWERED_ELSEWHERE', $call) for $laptop, $late;
pass('the other devices stop ringing');
$reply = ask($laptop, 'ACCEPT', $call);
is_deeply([@$reply{qw(Reason State)}], ['CONFLICT', 'ACTIVE'], '... and cannot answer any more');
is(ask($bruno,  'ACCEPT', $call)->{Reason}, 'OK', 'the same device may say it again');
is(ask($laptop, 'LEAVE',  $call)->{Reason}, 'CONFLICT', 'another device cannot hang up for it');
is(ask($alice,  'CANCEL', $call)->{State},  'ACTIVE',   'what was answered cannot be cancelled');
ok(presence_of($carla, $_, 1), 'others see that one is in a call') for 1, 2;
is(user_in($carla->request('P_GET_ALL_USER')->{Users}, 2)->{InCollaboration},
    Mojo::JSON->true, '... in the list, too');
$reply = $bruno->request('P_GET_COLLABORATION_HISTORY');
is_deeply($reply->{Collaborations}, [], 'a call that is on is no history');

is(ask($bruno, 'END', $call)->{State}, 'ENDED', 'in a call of two each may end it');
$event = event_of($alice, 'ENDED', $call);
is_deeply([@$event{qw(UserId State)}], [2, 'ENDED'], '... the other one is told');
ok(presence_of($carla, $_, 0), '... and others see that they are free') for 1, 2;
is(ask($alice, 'END', $call)->{Reason}, 'OK', '... who may hang up at the same moment');
is_deeply([@{ask($alice, 'INVITE', $call, ToUserList => [3])}{qw(Reason State)}],
    ['CONFLICT', 'ENDED'], '... but nothing else');
ok(no_more($laptop, $call), 'a device that did not answer hears no more');
$event = $alice->expect_event('P_COLLABORATION_OUTCOME');
is_deeply([@$event{qw(CollaborationId Outcome Kind)}], [$call, 'ANSWERED', 'AUDIO'], 'the outcome is told');
like($event->{Seq}, qr/\A\d+\z/, '... with a Seq');
is($event->{Duration}, $event->{EndedAt} - $event->{AnsweredAt}, '... and how long it was');
is_deeply([map { $_->{Outcome} } $event->{Participants}->@*], ['ANSWERED', 'ANSWERED'], '... for each');
is(outcome_of($_, $call), 'ANSWERED', '... to every device of the other one') for $bruno, $laptop, $late;
$late->close;

# --- not answered -----------------------------------------------------------

$call = call_of($alice, [2])->{CollaborationId};
event_of($_, 'INVITED', $call) for $bruno, $laptop;
is(ask($bruno, 'REJECT', $call)->{Reason}, 'OK', 'a call can be rejected');
is(event_of($laptop, 'REJECTED', $call)->{UserId}, 2, '... the other devices stop ringing');
is(event_of($alice,  'REJECTED', $call)->{State}, 'ENDED', '... and who calls is told');
event_of($alice, 'ENDED', $call);
is(ask($bruno, 'REJECT', $call)->{Reason}, 'OK', '... said again, it is the same');
is(ask($bruno, 'ACCEPT', $call)->{State}, 'ENDED', '... and too late for anything else');
is(outcome_of($_, $call), 'REJECTED', '... the outcome is REJECTED') for $alice, $bruno, $laptop;

$call = call_of($alice, [2])->{CollaborationId};
event_of($_, 'INVITED', $call) for $bruno, $laptop;
is(ask($alice, 'CANCEL', $call)->{Reason}, 'OK', 'a call can be taken back');
is(event_of($_, 'CANCELLED', $call)->{UserId}, 1, '... it stops ringing') for $bruno, $laptop;
is(ask($alice, 'CANCEL', $call)->{Reason}, 'OK', '... said again, it is the same');
is(outcome_of($_, $call), 'CANCELLED', '... the outcome is CANCELLED') for $alice, $bruno, $laptop;

# --- whom one may call ------------------------------------------------------

$reply = call_of($alice, [2, 7, 99]);
is_deeply([@$reply{qw(Reason UserIds)}], ['NOT_FOUND', [7, 99]],
    'strangers and those who do not exist look the same');
is($carla->request('P_BLOCK', UserId => 1)->{Reason}, 'OK', 'one who is blocked');
is_deeply(call_of($alice, [3])->{UserIds}, [3], '... cannot call either');
ok(none_of($carla, 'P_COLLABORATION'), '... nobody is told that he tried');
is($carla->request('P_UNBLOCK', UserId => 1)->{Reason}, 'OK', '... until he is forgiven');
is(call_of($alice, [1])->{Reason}, 'BAD_REQUEST', 'nobody calls himself');
is(call_of($alice, [2 .. 5])->{Reason}, 'BAD_REQUEST', '... nor more than may be in a call');
is(call_of($alice, [2], Kind => 'SMELL')->{Reason}, 'BAD_REQUEST', 'there are four kinds');
is(call_of($alice, [2], Payload => 'x' x 63)->{Reason}, 'TOO_LARGE', 'the payload has a limit');
is(ask($alice, 'ACCEPT', 'abc')->{Reason}, 'BAD_REQUEST', 'an id is a number in a string');

# --- of several -------------------------------------------------------------

$call = call_of($alice, [2, 3])->{CollaborationId};
event_of($_, 'INVITED', $call) for $bruno, $laptop, $carla;
ask($laptop, 'ACCEPT', $call);
event_of($_, 'ACCEPTED', $call) for $alice, $carla;
pass('in a call of several all are told who answers');
is(ask($david, 'INVITE', $call, ToUserList => [5])->{Reason}, 'NOT_FOUND', 'a stranger invites nobody');
is(ask($carla, 'INVITE', $call, ToUserList => [4])->{Reason}, 'CONFLICT', '... nor does one who has not answered');
is(states_of(ask($laptop, 'INVITE', $call, ToUserList => [4])),
    '1:JOINED 2:JOINED 3:RINGING 4:RINGING', 'who is in it invites further people');
is_deeply([event_of($david, 'INVITED', $call)->@{qw(UserId UserIds)}], [2, [4]], '... for whom it rings');
is_deeply(event_of($alice, 'INVITED', $call)->{UserIds}, [4], '... and the others know');
is(ask($alice, 'INVITE', $call, ToUserList => [5])->{Reason}, 'TOO_LARGE', '... as many as may be in it');
ask($carla, 'REJECT', $call);
is(outcome_of($carla, $call), 'REJECTED', 'who rejects has an outcome at once');
ask($david, 'ACCEPT', $call);
is(ask($laptop, 'END', $call)->{Reason}, 'FORBIDDEN', 'of several only who made it ends it for all');
is(ask($laptop, 'LEAVE', $call)->{State}, 'ACTIVE', '... the others leave');
is(event_of($alice, 'LEFT', $call)->{UserId}, 2, '... which is told');
is(outcome_of($laptop, $call), 'ANSWERED', '... and have their outcome');
is(ask($bruno, 'ACCEPT', $call)->{State}, 'ACTIVE', '... and may come back, from another device, too');
is(event_of($david, 'JOINED', $call)->{UserId}, 2, '... which is told as well');
is(ask($alice, 'END', $call)->{State}, 'ENDED', 'who made it ends it');
event_of($_, 'ENDED', $call) for $bruno, $david;
is(outcome_of($_, $call), 'ANSWERED', '... for all') for $alice, $david;
ok(none_of($_, 'P_COLLABORATION_OUTCOME'), 'nobody has two outcomes of one call') for $laptop, $carla;

$call = call_of($alice, [2])->{CollaborationId};
ask($bruno, 'ACCEPT', $call);
ask($alice, 'INVITE', $call, ToUserList => [3]);
is(ask($bruno, 'LEAVE', $call)->{State}, 'ACTIVE', 'while it rings at a third one may wait alone');
ask($carla, 'REJECT', $call);
is(event_of($alice, 'ENDED', $call)->{State}, 'ENDED', '... and not for nobody');

# --- busy -------------------------------------------------------------------

my $other = call_of($carla, [4])->{CollaborationId};
ask($david, 'ACCEPT', $other);
$reply = call_of($alice, [4]);
is($reply->{Reason}, 'OK', 'who is in another call');
is_deeply($reply->{Participants}[1], {UserId => 4, State => 'BUSY', Busy => Mojo::JSON->true},
    '... is busy, which is told');
is($reply->{State}, 'ENDED', '... it does not ring');
is(outcome_of($_, $reply->{CollaborationId}), 'MISSED', '... and is missed') for $alice, $david;
ok(no_more($david, $reply->{CollaborationId}), '... without a sound');
ask($carla, 'END', $other);
is($david->request('P_UPDATE_STATUS', Status => 'BUSY')->{Reason}, 'OK', 'the status BUSY');
is(states_of(call_of($alice, [4])), '1:LEFT 4:BUSY', '... is the same');
$server->set('calls.ring_when_busy' => 'yes');
$server->ctl('reload');
my $ringing = Parley::poll_until(10, sub {
    $reply = call_of($alice, [4]);
    return $reply->{State} eq 'RINGING';
});
ok($ringing, 'it rings where that is configured');
is_deeply($reply->{Participants}[1], {UserId => 4, State => 'RINGING', Busy => Mojo::JSON->true},
    '... and who calls knows that he is busy');
event_of($david, 'INVITED', $reply->{CollaborationId});
ask($alice, 'CANCEL', $reply->{CollaborationId});
$david->request('P_UPDATE_STATUS', Status => 'ONLINE');

# --- lost connections -------------------------------------------------------

$call = call_of($alice, [2])->{CollaborationId};
ask($bruno, 'ACCEPT', $call);
event_of($alice, 'ACCEPTED', $call);
$bruno->drop;
$event = event_of($alice, 'RECONNECTING', $call);
is_deeply([@$event{qw(UserId State)}], [2, 'ACTIVE'], 'who is lost is waited for');
$bruno = $server->client(2, DeviceId => 'phone');
is(event_of($alice, 'REJOINED', $call)->{UserId}, 2, '... and is back with a login of that device');
($open) = $bruno->session->{Collaborations}->@*;
is_deeply([$open->{CollaborationId}, states_of($open)], [$call, '1:JOINED 2:JOINED'],
    '... which finds the call in the reply');
$bruno->drop;
event_of($alice, 'RECONNECTING', $call);
is(event_of($alice, 'LEFT', $call)->{UserId}, 2, 'who does not come back has left');
event_of($alice, 'ENDED', $call);
pass('... and nobody stays in a call alone');
is(outcome_of($alice, $call), 'ANSWERED', '... it was answered, though');
$bruno = $server->client(2, DeviceId => 'phone');
is_deeply($bruno->session->{Collaborations}, [], 'it is not open any more');
is(outcome_of($bruno, $call), 'ANSWERED', '... who was away learns the outcome later');

$call = call_of($alice, [2])->{CollaborationId};
ask($bruno, 'ACCEPT', $call);
$bruno->request('P_LOGOUT');
is(event_of($alice, 'LEFT', $call)->{UserId}, 2, 'who logs out has left at once');
outcome_of($alice, $call);

$server->ctl('user', 'add', 8, 'User 8');
$server->add_contact(1, 8);
my $guest = $server->client(8);
$call = call_of($guest, [1])->{CollaborationId};
ask($alice, 'ACCEPT', $call);
$server->ctl('user', 'remove', 8);
is(event_of($alice, 'LEFT', $call)->{UserId}, 8, 'who is removed has left at once');
is(outcome_of($alice, $call), 'ANSWERED', '... and the call has ended');

my $eve = $server->client(5, DeviceId => 'one');
$call = call_of($eve, [4])->{CollaborationId};
event_of($david, 'INVITED', $call);
$eve->drop;
event_of($david, 'ENDED', $call);
is(outcome_of($david, $call), 'FAILED', 'a call whose caller is lost before it is answered has failed');

# --- missed -----------------------------------------------------------------

$server->set('calls.ring_timeout' => '300ms');
$server->ctl('reload');
my $missed = Parley::poll_until(20, sub {
    my $rung = call_of($alice, [3, 6])->{CollaborationId};
    return eval { $alice->expect_event('P_COLLABORATION', 2,
        sub ($e) { $e->{CollaborationId} eq $rung && $e->{Event} eq 'MISSED' }) };
});
is_deeply($missed->{UserIds}, [3, 6], 'who does not answer in time has missed it');
is(event_of($alice, 'ENDED', $missed->{CollaborationId})->{State}, 'ENDED', '... and it ends');
event_of($carla, 'MISSED', $missed->{CollaborationId});
is(outcome_of($_, $missed->{CollaborationId}), 'MISSED', '... the outcome is MISSED') for $alice, $carla;
my $frank = $server->client(6, LastSeq => 0);
is(outcome_of($frank, $missed->{CollaborationId}), 'MISSED', '... who was away learns it, too');

# --- history ----------------------------------------------------------------

$reply = $alice->request('P_GET_COLLABORATION_HISTORY', Limit => 3);
is($reply->{Reason}, 'OK', 'there is a history');
is($reply->{Collaborations}[0]{CollaborationId}, $missed->{CollaborationId}, '... the newest first');
ok($reply->{HasMore}, '... and more of it');
is_deeply([$reply->{Collaborations}[0]->@{qw(Outcome State)}], ['MISSED', 'ENDED'], '... with the outcome');
my @ids = map { $_->{CollaborationId} } $reply->{Collaborations}->@*;
while ($reply->{HasMore}) {
    $reply = $alice->request('P_GET_COLLABORATION_HISTORY', Limit => 3, Before => $ids[-1]);
    push @ids, map { $_->{CollaborationId} } $reply->{Collaborations}->@*;
}
is_deeply(\@ids, [sort { $b <=> $a } @ids], 'page by page, each once');
my %seen;
ok(!(grep { $seen{$_}++ } @ids), '... and none twice');
$reply = $frank->request('P_GET_COLLABORATION_HISTORY');
ok(!(grep { !grep { $_->{UserId} == 6 } $_->{Participants}->@* } $reply->{Collaborations}->@*),
    'one sees one\'s own calls only');

my ($code, $out, $error) = $server->ctl('check');
is($code, 0, 'every row of the store is sound') or diag($out, $error);

$server->finish;
done_testing;
