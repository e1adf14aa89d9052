# What happens to calls while the ring of a worker is full: its devices learn the
# present state afterwards, and a full store keeps no call from ending.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Story;
use Test::More;

my $KIB    = 1024;
my $server = Parley->start(
    conf         => {'store.map_size' => '64M', 'calls.ring_timeout' => '60s', 'calls.max_payload' => '64K'},
    allow_errors => [qr/ error keeper\[\d+\] storage-/],
);
$server->add_users(1 .. 7);

my $alice  = client_on($server, 'worker-0', 1);
my $bruno  = client_on($server, 'worker-1', 2, DeviceId => 'phone');
my $tablet = client_on($server, 'worker-0', 2, DeviceId => 'tablet');
my $laptop = client_on($server, 'worker-1', 2, DeviceId => 'laptop');
my $carla  = client_on($server, 'worker-1', 3);
my $david  = client_on($server, 'worker-0', 4);
my $frank  = client_on($server, 'worker-1', 7);
my $eve    = client_on($server, 'worker-1', 5);

my $serial = 0;

sub call_of ($client, $to, $payload = undef) {
    my $reply = $client->request('P_COLLABORATION_CREATE', ToUserList => [$to], Kind => 'AUDIO', Payload => $payload,
        ClientCollaborationId => 'call-' . ++$serial);
    die $reply->{Message} if $reply->{Reason} ne 'OK';
    return $reply->{CollaborationId};
}

sub ask ($client, $what, $call) {
    return $client->request("P_COLLABORATION_$what", CollaborationId => $call)->{Reason};
}

sub event_of ($client, $call) {
    my $event = $client->expect_event('P_COLLABORATION', 20, sub ($e) { $e->{CollaborationId} eq $call });
    return $event->{Event};
}

# --- a worker that does not read --------------------------------------------

my $answered = call_of($alice, 2);
my $on       = call_of($david, 3);
is(ask($carla, 'ACCEPT', $on), 'OK', 'one is in a call');
my $gone = call_of($alice, 5);
event_of($_, $answered) for $bruno, $laptop;
event_of($carla, $on);
event_of($eve, $gone);

my $pid = $server->process('worker-1')->{pid};
kill STOP => $pid;
my $resyncs = $server->metric('parley_resyncs_total');
my $large   = 'x' x (60 * $KIB);
for my $n (1 .. 200) {
    send_text($alice, [6, 3], "$n $large");
    last if $server->metric('parley_resyncs_total') > $resyncs;
}
cmp_ok($server->metric('parley_resyncs_total'), '>', $resyncs, 'the ring of a worker is full');
is(ask($tablet, 'ACCEPT', $answered), 'OK', 'meanwhile a device elsewhere answers');
is(ask($alice,  'CANCEL', $gone),     'OK', '... a call is taken back');
my $new = call_of($david, 5);
ok($new, '... and another one is made');
my %many = map { call_of($alice, 7, 'p' x 60_000) => 1 } 1 .. 12;
kill CONT => $pid;

is(event_of($_, $answered), 'ANSWERED_ELSEWHERE', 'the devices of that worker stop ringing') for $bruno, $laptop;
is(event_of($carla, $on), 'JOINED', 'who is in a call hears that he is');
is(event_of($eve, $new), 'INVITED', 'it rings for what was made meanwhile');
my $outcome = $eve->expect_event('P_COLLABORATION_OUTCOME', 20);
is_deeply([@$outcome{qw(CollaborationId Outcome)}], [$gone, 'CANCELLED'],
    'what has ended meanwhile is told by its outcome');
is($server->process('worker-1')->{pid}, $pid, '... by the same worker');
my @rung = map { $frank->expect_event('P_COLLABORATION', 20)->{CollaborationId} } 1 .. 12;
is_deeply([sort @rung], [sort keys %many], 'calls that are more than fits the output ring all the same, each once');
is(ask($carla, 'LEAVE', $on),       'OK', 'the call goes on as ever');
is(ask($alice, 'END',   $answered), 'OK', '... as does the other one');
$_->{events} = [] for $bruno, $laptop;

# --- a store without room ---------------------------------------------------

my $late = call_of($alice, 2);
event_of($bruno, $late);
$server->set('store.map_high_water' => 10);
$server->ctl('reload');
my $refused = Parley::poll_until(20, sub {
    send_text($alice, [6], $large)->{Reason} eq 'STORAGE_FULL';
});
ok($refused, 'the store is full');
my $reply = $alice->request('P_COLLABORATION_CREATE', ToUserList => [3], Kind => 'AUDIO', ClientCollaborationId => 'full');
is($reply->{Reason}, 'STORAGE_FULL', '... no call is made');
cmp_ok($reply->{RetryAfter}, '>', 0, '... and it is said when to try again');
is(ask($bruno, 'ACCEPT', $late), 'OK', '... but one that rings is answered');
is(ask($alice, 'END',    $late), 'OK', '... and ends');
is(event_of($bruno, $late), 'ENDED', '... which is told');
my $of = sub ($event) { $event->{CollaborationId} eq $late };
ok(none_of($bruno, 'P_COLLABORATION_OUTCOME', $of), 'the outcome is put off');
$server->set('store.map_high_water' => 90);
$server->ctl('reload');
is($_->expect_event('P_COLLABORATION_OUTCOME', 20, $of)->{Outcome}, 'ANSWERED', '... until there is room')
    for $alice, $bruno, $laptop;

my ($code, $out, $error) = $server->ctl('check');
is($code, 0, 'every row of the store is sound') or diag($out, $error);
$server->finish;
done_testing;
