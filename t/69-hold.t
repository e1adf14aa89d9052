# Connections that outlive their worker: whoever is at a boundary notices
# nothing when it is killed, replaced or upgraded; whoever is not comes back.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(encode_json);
use Parley;
use Parley::Fault;
use Parley::Raw;
use Parley::Story;
use Test::More;

my $rounds = fault_rounds(3, 20);
my $IDLE   = is_long_run() ? 10_000 : 500;
my $server = Parley->start(tls => 0, conf => {
    'server.workers'              => 2,
    'server.heartbeat_interval'   => '1s',
    'auth.auto_provision'         => 'yes',
    'policy.may_message'          => 'anyone',
    'supervisor.watchdog_timeout' => '60s',
});
$server->add_users(1 .. 4);

sub metric_of ($name, $process) { return $server->metric($name, process => $process) // 0 }

# The holder has them all: what a successor would find.
sub await_held () {
    return Parley::poll_until(20, sub {
        for my $n (0, 1) {
            my $movable = metric_of('parley_movable_connections', "worker-$n");
            return 0 if $movable != metric_of('parley_held_connections', "holder-$n");
        }
        return 1;
    });
}

sub replace ($name) { return $server->await_restart($name, $server->kill9($name)) }

# --- many idle ones ---------------------------------------------------------

my $idle  = idle_clients($server, $IDLE);
my $alice = client_on($server, 'worker-0', 1);
my $bruno = client_on($server, 'worker-1', 2);
my @watch = map { client_on($server, 'worker-0', 3, DeviceId => "watch-$_") } 1 .. 4;
my $text  = 0;

# Both ways, and to clients that have not said a word since.
sub they_talk ($name) {
    my $at = now();
    my $to = 'message ' . ++$text;
    send_text($bruno, [1, 3], $to);
    my @late = grep {
        my $got = eval { $_->expect_event('P_MESSAGE', 10, sub ($event) { $event->{Message} eq $to }) };
        !$got
    } $alice, @watch;
    is(scalar @late, 0, "$name: messages arrive over the connections that are there");
    cmp_ok(now() - $at, '<', Parley::scaled(1), '... within a second');
    is(send_text($alice, [2], "answer $text")->{Reason}, 'OK', '... and go out');
    ok(eval { $bruno->expect_event('P_MESSAGE', 10, sub ($event) { $event->{Message} eq "answer $text" }) },
        '... to the other');
    return;
}

they_talk('before');
for my $n (1 .. $rounds) {
    ok(await_held(), "kill -9 of a worker, $n");
    my $adopted = metric_of('parley_connections_adopted_total', 'worker-0');
    replace('worker-0');
    cmp_ok(metric_of('parley_connections_adopted_total', 'worker-0') - $adopted, '>', $IDLE / 4,
        '... its successor goes on with its connections');
    they_talk("... after kill $n");
}
replace('worker-1');
they_talk('the other one killed');

# --- seen by others ---------------------------------------------------------

$server->add_contact(1, 2);
settle($bruno);
$bruno->events_so_far('P_PRESENCE');
replace('worker-0');
they_talk('a contact of one who is gone on with');
is_deeply([map { $_->{Status} } grep { $_->{Status} eq 'OFFLINE' } $bruno->events_so_far('P_PRESENCE')],
    [], '... nobody saw it go');

# --- away, and there again --------------------------------------------------

# Nobody says a word to her: her row is as old as her login.
{
    my $carla = client_on($server, 'worker-0', 5);
    $server->add_contact(2, 5);
    $bruno->request('P_UPDATE_STATUS', Status => 'BUSY');
    my $is_seen = sub ($wanted, $seconds) {
        my $event = eval {
            $bruno->expect_event('P_PRESENCE', $seconds, sub ($event) { $event->{Status} eq $wanted && $event->{UserId} == 5 })
        };
        $bruno->{events}->@* = grep { $_->{Command} ne 'P_PRESENCE' } $bruno->{events}->@*;
        return defined $event;
    };
    my $is_away = Parley::poll_until(30, sub {
        $carla->request('P_HEARTBEAT');
        $is_seen->('OFFLINE', 0);    # forget what was seen before
        return $is_seen->('AWAY', 3);
    });
    ok($is_away, 'one who is silent is away');
    my $worker = $server->pids->{'worker-0'};
    kill STOP => $worker;
    my $id = $carla->submit('P_HEARTBEAT');
    Parley::tick();
    kill KILL => $worker;
    ok(eval { $carla->wait_reply($id) }, '... what it says while there is no worker');
    ok($is_seen->('ONLINE', 10), '... says that it is there again');
    $server->await_restart('worker-0', $worker);
    $bruno->request('P_UPDATE_STATUS', Status => 'ONLINE');
    $carla->close;
}

# --- no word is lost that was said meanwhile --------------------------------

{
    ok(await_held(), 'messages while there is no worker');
    my $worker = $server->pids->{'worker-0'};
    kill STOP => $worker;
    my @sent = map {"while it is away $_"} 1 .. 20;
    send_text($bruno, [1], $_) for @sent;
    kill KILL => $worker;
    $server->await_restart('worker-0', $worker);
    my @got = map { $_->{Message} } map { $alice->expect_event('P_MESSAGE') } @sent;
    is_deeply(\@got, \@sent, '... arrive each once and in order');
    send_text($bruno, [1], 'the next one');
    is($alice->expect_event('P_MESSAGE')->{Message}, 'the next one', '... and so does the next');
    $alice->request('P_HEARTBEAT');
}

# --- by order ---------------------------------------------------------------

for my $order ([restart => 'worker-0'], [drain => 'worker-1'], [restart => 'holder-0'], ['reload']) {
    ok(await_held(), "parleyctl @$order");
    is(($server->ctl(@$order))[0], 0, '... done');
    they_talk("... parleyctl @$order");
}
ok(await_held(), 'parleyctl upgrade');
is(($server->ctl('upgrade', {timeout => 120}))[0], 0, '... done');
they_talk('... parleyctl upgrade') if !$ENV{PARLEY_WRAPPER};

# --- the holder -------------------------------------------------------------

replace('holder-0');
they_talk('a holder killed');
ok(await_held(), '... its successor has all of them');
replace('worker-0');
they_talk('... and then the worker');

# Its loop has turned since.
sub has_turned ($name) {
    my $beat = sub { now() * 1000 - ($server->process($name)->{heartbeat_age_ms} // 0) };
    my $from = $beat->();
    return Parley::poll_until(10, sub { $beat->() > $from + 50 });
}

{
    ok(await_held(), 'a holder killed when it has given all');
    my ($worker, $holder) = $server->pids->@{qw(worker-0 holder-0)};
    kill STOP => $holder;
    kill KILL => $worker;
    my $next = Parley::poll_until(10, sub {
        my $process = $server->process('worker-0');
        return $process->{state} eq 'starting' && $process->{pid} != $worker ? $process->{pid} : 0;
    });
    ok(has_turned('worker-0'), '... to a worker that waits for it');
    kill STOP => $next;
    kill CONT => $holder;
    ok(has_turned('holder-0'), '... and is slow');
    kill KILL => $holder;
    $server->await_restart('holder-0', $holder);
    # longer than the worker waits for a holder and the keeper for a worker
    Parley::poll_until(11, sub {0}) if is_long_run();
    kill CONT => $next;
    $server->await_restart('worker-0', $worker);
    they_talk('... its clients stay');
    ok(await_held(), '... and the next holder has all of them');
    replace('worker-0');
    they_talk('... for the next worker');
}

my $connections = $idle->();
cmp_ok($connections->{dropped}, '<=', $IDLE / 100,
    "$connections->{dropped} of $IDLE idle clients were disconnected in all of this");

# --- those that are not at a boundary ---------------------------------------

sub raw_on ($worker, $id, $device) {
    for (1 .. 100) {
        my $before = metric_of('parley_sessions', $worker);
        my $raw    = Parley::Raw->connect($server->address);
        $raw->upgrade;
        $raw->write(Parley::Raw->frame(1, encode_json({
            Command => 'P_AUTHENTICATE', Token => $server->token($id), DeviceId => $device})));
        $raw->read_frame;
        return $raw if metric_of('parley_sessions', $worker) > $before;
        $raw->close;
        Parley::poll_until(10, sub { metric_of('parley_sessions', $worker) <= $before });
    }
    die "100 connections and none on $worker\n";
}

{
    my $half = raw_on('worker-0', 4, 'half');
    my $whole = Parley::Raw->frame(1, encode_json({Command => 'P_HEARTBEAT', RequestId => 1}));
    $half->write(substr $whole, 0, 9);
    # a round trip over the same worker: it has read that, too
    settle($alice);
    replace('worker-0');
    my ($code) = eval { $half->read_close };
    is($code, 1012, 'half a frame was read: its sender is told to come back');
    they_talk('... the others stay');
}
{
    my $sender = client_on($server, 'worker-0', 4, DeviceId => 'sender');
    my $keeper = $server->pids->{keeper};
    ok(await_held(), 'a request that is not answered');
    kill STOP => $keeper;
    my %message = (ToUserList => [2], Message => 'under way', ClientMessageId => 'under way');
    $sender->submit('P_SEND_MESSAGE', %message);
    $sender->request('P_HEARTBEAT');
    my $worker = $server->kill9('worker-0');
    kill CONT => $keeper;
    $server->await_restart('worker-0', $worker);
    is(($sender->expect_close)[0], 1012, '... its sender is told to come back');
    $sender = $server->client(4, DeviceId => 'sender');
    is($sender->request('P_SEND_MESSAGE', %message)->{Reason}, 'DUPLICATE', '... what it had sent is there');
    is(scalar(grep { $_->{Message} eq 'under way' } take_messages($bruno, 1)), 1, '... once');
    they_talk('... the others stay');
    $sender->close;
}

{
    my $sender = client_on($server, 'worker-0', 4, DeviceId => 'sender');
    my $keeper = $server->pids->{keeper};
    ok(await_held(), 'a request that is not answered, and an order');
    kill STOP => $keeper;
    my %message = (ToUserList => [2], Message => 'nor this one', ClientMessageId => 'nor this one');
    $sender->submit('P_SEND_MESSAGE', %message);
    $sender->request('P_HEARTBEAT');
    my $at = now();
    is(($server->ctl('restart', 'worker-0'))[0], 0, '... the worker is replaced');
    is($alice->request('P_HEARTBEAT')->{Reason}, 'OK', '... who waits for nothing waits for a moment');
    cmp_ok(now() - $at, '<', Parley::scaled(4), '... not for the one whose answer is missing');
    kill CONT => $keeper;
    is(($sender->expect_close)[0], 1012, '... which is told to come back');
    $sender = $server->client(4, DeviceId => 'sender');
    like($sender->request('P_SEND_MESSAGE', %message)->{Reason}, qr/\A(?:OK|DUPLICATE)\z/, '... and tries again');
    take_messages($bruno, 1);
    they_talk('... the others stay');
    $sender->close;
}

# --- a holder that sleeps ---------------------------------------------------

# The worker gives up after 5 s.
if (is_long_run()) {
    $server->allow_errors(qr/ holder-silent /);
    ok(await_held(), 'a holder that does not answer');
    my ($worker, $holder) = $server->pids->@{qw(worker-0 holder-0)};
    kill STOP => $holder;
    kill KILL => $worker;
    $server->await_restart('worker-0', $worker);
    my $late = client_on($server, 'worker-0', 4, DeviceId => 'late');
    kill CONT => $holder;
    is(($alice->expect_close)[0], 1006, '... until nobody waits for it: who is asked for too late is closed');
    ok(await_held(), '... and not kept');
    settle($late);
    is($late->request('P_HEARTBEAT')->{Reason}, 'OK', '... who has come since stays');
    ok(await_held(), '... and is held');
    replace('worker-0');
    is($late->request('P_HEARTBEAT')->{Reason}, 'OK', '... and gone on with');
    $late->close;
    $alice = client_on($server, 'worker-0', 1);
}

# --- one that does not come back --------------------------------------------

$server->allow_errors(qr/ panic /, qr/ process-errored /);
{
    my $worker = $server->pids->{'worker-0'};
    my $gone   = client_on($server, 'worker-0', 4, DeviceId => 'gone');
    ok(await_held(), 'a worker that is scaled away');
    is(($server->ctl('scale', 1))[0], 0, '... is');
    is(scalar(grep { $_ eq 'holder-1' } keys $server->pids->%*), 0, '... with its holder');
    ok($bruno->is_closed || eval { $bruno->expect_close; 1 }, '... its clients come back elsewhere');
    is(($server->ctl('scale', 2))[0], 0, '... and one more again');
    ok($server->pids->{'holder-1'}, '... with a holder');
    $gone->close;
}

$server->finish;
done_testing;
