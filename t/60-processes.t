# Processes die, hang behind their work and are replaced: what clients see.
# What the supervisor does with them is told in t/60-ctl.t.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::IP;
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Story;
use Test::More;

my $server = Parley->start(conf => {'directory.request_timeout' => '2s'});
$server->add_users(1 .. 4);
my $alice = client_on($server, 'worker-0', 1);
my $bruno = client_on($server, 'worker-0', 2);
my $carla = client_on($server, 'worker-1', 3);
my $dora  = client_on($server, 'worker-1', 4);

sub milliseconds (@seconds) {
    return join ' ', map { sprintf '%.0f', 1000 * $_ } sort { $a <=> $b } @seconds;
}

# --- the keeper -------------------------------------------------------------

my (@expected, @pauses, @reasons);
my $pid = $server->pids->{keeper};
for my $n (1 .. 9) {
    my @ids = map { $alice->submit('P_SEND_MESSAGE', ToUserList => [3], Message => "keeper $n.$_",
            ClientMessageId => "k-$n.$_") } 1 .. 5;
    kill KILL => $pid;
    my $killed_at = now();
    push @ids, $alice->submit('P_SEND_MESSAGE', ToUserList => [3], Message => "keeper $n.6",
        ClientMessageId => "k-$n.6");
    push @reasons, map { $alice->wait_reply($_)->{Reason} } @ids;
    push @pauses, now() - $killed_at;
    push @expected, map {"keeper $n.$_"} 1 .. 6;
    $pid = $server->await_restart('keeper', $pid);
}
is_deeply(\@reasons, [('OK') x 54], 'nine kills of the keeper: every send is answered OK');
cmp_ok(median(@pauses), '<', Parley::scaled(1), '... after a short pause');
diag('keeper: ms from kill to the next OK: ' . milliseconds(@pauses) . ', median '
        . milliseconds(median(@pauses)));
is_deeply([map { $_->{Message} } take_messages($carla, 54)], \@expected, '... each arrives in order');
ok(none_of($carla, 'P_MESSAGE'), '... once');
is_deeply([grep { $_->is_closed } $alice, $bruno, $carla, $dora], [], '... nobody is disconnected');
is($_->request('P_HEARTBEAT')->{Reason}, 'OK', '... all are answered') for $alice, $bruno, $carla, $dora;

# --- a worker ---------------------------------------------------------------

@pauses   = ();
@expected = ();
@reasons  = ();
my $closed = 0;
$pid      = $server->pids->{'worker-1'};
for my $n (1 .. 5) {
    my @sends = map {
        {ToUserList => [1], Message => "worker $n.$_", ClientMessageId => "w-$n.$_"}
    } 1 .. 20;
    my @ids = map { $carla->submit('P_SEND_MESSAGE', %$_) } @sends;
    Parley::tick() for 1 .. $n - 1;    # some of them are answered before it dies
    kill KILL => $pid;
    my $killed_at = now();
    my $heard = $dora->request('P_HEARTBEAT')->{Reason};
    push @pauses, now() - $killed_at;
    is($heard, 'OK', "kill $n of a worker: who waits for nothing notices a pause") if $n == 1;
    is($alice->request('P_HEARTBEAT')->{Reason}, 'OK', '... those of the others not even that') if $n == 1;
    # Who had a request under way comes back; what was not read yet is read
    # by the successor.
    Parley::poll_until(20, sub { $carla->is_closed || !grep { !$carla->has_reply($_) } @ids });
    $closed++ if $carla->is_closed;
    $carla = client_on($server, 'worker-1', 3) if $carla->is_closed;
    push @reasons, map { $carla->request('P_SEND_MESSAGE', %$_)->{Reason} } @sends;
    push @expected, map { $_->{Message} } @sends;
    $pid = $server->await_restart('worker-1', $pid);
}
is(scalar(grep {/\A(?:OK|DUPLICATE)\z/} @reasons), 100, 'what was under way may be retried');
diag('of 100 retries ' . scalar(grep { $_ eq 'DUPLICATE' } @reasons) . ' were stored already');
is_deeply([map { $_->{Message} } take_messages($alice, 100)], \@expected, '... arrives in order');
ok(none_of($alice, 'P_MESSAGE'), '... once');
cmp_ok(median(@pauses), '<', Parley::scaled(2), 'a killed worker is replaced soon');
diag('worker: ms from kill to an answer: ' . milliseconds(@pauses) . ', median '
        . milliseconds(median(@pauses)) . "; $closed of 5 senders had to come back");
is_deeply([grep { $_->is_closed } $alice, $bruno], [], 'those of the other worker have stayed');

# --- directory and console --------------------------------------------------

$pid = $server->pids->{directory};
for my $n (1 .. 3) {
    my $login = $server->connect;
    my $id    = $login->submit('P_AUTHENTICATE', UserName => '2', Password => 'password-2',
        DeviceId => "by-password-$n");
    my $page  = $alice->submit('P_GET_ALL_USER');
    kill KILL => $pid;
    like($login->wait_reply($id)->{Reason}, qr/\A(?:OK|UNAVAILABLE)\z/,
        "kill $n of the directory: a password login is answered");
    like($alice->wait_reply($page)->{Reason}, qr/\A(?:OK|UNAVAILABLE)\z/, '... so is a list');
    is(send_text($alice, [2], "directory $n")->{Reason}, 'OK', '... messages go on');
    is((take_messages($bruno, 1))[0]{Message}, "directory $n", '... and arrive');
    $pid = $server->await_restart('directory', $pid);
    is(scalar $alice->request('P_GET_ALL_USER')->{Users}->@*, 3, '... the next one knows the users');
    $login->close;
}
for my $n (1 .. 3) {
    $pid = $server->kill9('console');
    is(send_text($alice, [2], "console $n")->{Reason}, 'OK', "kill $n of the console: messages go on");
    is((take_messages($bruno, 1))[0]{Message}, "console $n", '... and arrive');
    $pid = $server->await_restart('console', $pid);
    is(Parley::poll_until(10, sub { ($server->http_get('/live'))[0] }), 200, '... the page is back');
}
is_deeply([grep { $_->is_closed } $alice, $bruno, $carla, $dora], [], 'nobody was disconnected');

# --- one that cannot start --------------------------------------------------

my $store = $server->dir . '/data/main.mdb';
ok(-s $store, 'the store is a file');
rename $store, "$store.aside" or die "$store: $!\n";
Parley::spew($store, "\0" x 65536);
$server->allow_errors(qr/ directory\[/, qr/process-errored name=directory/);
$server->kill9('directory');
ok(Parley::poll_until(30, sub { $server->process('directory')->{state} eq 'errored' }),
    'a process that fails again and again is given up');
my (undef, $health) = $server->http_get('/health');
is(decode_json($health)->{status}, 'degraded', '... the server says that it is degraded');
is(($server->http_get('/ready'))[0], 200, '... but ready');
is(send_text($alice, [2], 'without a directory')->{Reason}, 'OK', '... messages go on');
take_messages($bruno, 1);
$dora->close;
$dora = $server->client(4);
is(scalar $dora->session->{Users}->@*, 3, '... token logins go on');
my $login = $server->connect;
my $reply = $login->request('P_AUTHENTICATE', UserName => '2', Password => 'password-2', DeviceId => 'x');
is($reply->{Reason}, 'UNAVAILABLE', '... password logins are told to wait');
rename "$store.aside", $store or die "$store: $!\n";
is(($server->ctl('restart', 'directory'))[0], 0, 'when the cause is found, restart brings it back');
is($login->request('P_AUTHENTICATE', UserName => '2', Password => 'password-2', DeviceId => 'x')->{Reason},
    'OK', '... and password logins with it');
$login->close;

# --- restart and reload -----------------------------------------------------

$_->close for $alice, $carla;
$alice = client_on($server, 'worker-0', 1);
$carla = client_on($server, 'worker-1', 3);
is(($server->ctl('restart', 'worker-1'))[0], 0, 'a worker is replaced');
is($_->request('P_HEARTBEAT')->{Reason}, 'OK', '... nobody notices') for $alice, $carla;

$server->set('policy.may_message' => 'nobody');
$server->allow_errors(qr/reload-refused/);
kill HUP => $server->pid;
ok($server->await_log(qr/reload-refused.*may_message/), 'a bad configuration is refused');
is($_->request('P_HEARTBEAT')->{Reason}, 'OK', '... nobody notices') for $alice, $carla;
$server->set('policy.may_message' => 'anyone', 'server.deflate' => 'yes');
my $before = $server->pids;
kill HUP => $server->pid;
ok($server->await_log(qr/reload-done/, 60), 'a good one replaces the workers');
is(scalar(grep { $before->{$_} == $server->pids->{$_} } qw(worker-0 worker-1)), 0, '... both');
is($_->request('P_HEARTBEAT')->{Reason}, 'OK', '... nobody notices') for $alice, $carla;
# What was agreed on at the login is other now.
$server->set('server.ping_interval' => '7s');
kill HUP => $server->pid;
is(($_->expect_close(60))[0], 1012, 'another ping_interval: all are told to come back') for $alice, $carla;
ok(Parley::poll_until(60, sub { (() = $server->log_text =~ / reload-done /g) > 1 }), '... until it is done');

# --- the end, in order ------------------------------------------------------

my @many = map { $server->client(2, DeviceId => "many-$_") } 1 .. 8;
$alice = $server->client(1);
my $keeper = $server->pids->{keeper};
kill STOP => $keeper;
my @sends = map {
    {ToUserList => [3], Message => "last $_", ClientMessageId => "l-$_"}
} 1 .. 10;
my @ids = map { $alice->submit('P_SEND_MESSAGE', %$_) } @sends;
$alice->request('P_HEARTBEAT');    # the worker has read them
kill TERM => $server->pid;
ok($server->await_log(qr/ worker-0\S* worker-stopping/), 'SIGTERM stops the workers');
ok($server->await_log(qr/ worker-1\S* worker-stopping/), '... both');
ok(!$alice->is_closed, '... a client with requests under way is not closed yet');
kill CONT => $keeper;
is_deeply([map { $alice->wait_reply($_)->{Reason} } @ids], [('OK') x 10], '... they are answered');
my %after;
for my $client (@many, $alice) {
    $client->expect_close;
    my $event = $client->expect_event('P_CLOSE');
    $after{$event->{RetryAfter}}++;
}
is_deeply([$alice->expect_close], [1012, 'RECONNECT'], '... then closed, 1012');
cmp_ok(scalar keys %after, '>', 1, '... each comes back at another time');
is($server->await_exit, 0, '... exit code 0');
my $address = $server->address;
ok(!IO::Socket::IP->new(PeerHost => '127.0.0.1', PeerPort => $address =~ s/.*://r), 'the port is free');

# --- the supervisor dies ----------------------------------------------------

$server->set('server.listen' => $address);
$server->launch;
is($server->address, $address, 'it comes back on the same port');
$carla = $server->client(3);
my @last = map { $carla->expect_event('P_MESSAGE', 10, sub ($e) { $e->{Message} eq "last $_" }) } 1 .. 10;
is(scalar @last, 10, 'what was acknowledged at the end is there');
kill KILL => $server->pid;
is(($carla->expect_close)[0], 1006, 'when the supervisor dies, all die with it');
is($server->await_exit, 137, '... by kill -9');
ok(Parley::poll_until(10, sub { !kill 0 => -$server->pid }), '... no process is left');
ok(!IO::Socket::IP->new(PeerHost => '127.0.0.1', PeerPort => $address =~ s/.*://r),
    '... nobody holds the port');

# --- all die at once --------------------------------------------------------

my ($from, @acknowledged, @unanswered) = (0);
my $previous = $last[-1]{MessageId};
for my $n (1 .. 3) {
    $server->launch;
    $alice = $server->client(1);
    my %id;
    for (1 .. 60) {
        $from++;
        $id{$alice->submit('P_SEND_MESSAGE', ToUserList => [4], Message => "crash $from",
            ClientMessageId => "c-$from")} = $from;
    }
    # when a third is answered, the plug is pulled
    Parley::poll_until(10, sub { $alice->{replies}->@* >= 20 }) or die "no replies\n";
    kill KILL => -$server->pid;
    $alice->expect_close;
    $server->await_exit;
    push @acknowledged, map { $id{$_->{RequestId}} } grep { $_->{Reason} eq 'OK' } $alice->{replies}->@*;
    $server->launch;
    $alice = $server->client(1);
    for my $number (sort { $a <=> $b } values %id) {
        my $reply = $alice->request('P_SEND_MESSAGE', ToUserList => [4], Message => "crash $number",
            ClientMessageId => "c-$number");
        my $was = grep { $_ == $number } @acknowledged;
        push @unanswered, "$number $reply->{Reason}"
            if $reply->{Reason} ne 'DUPLICATE' && ($was || $reply->{Reason} ne 'OK');
    }
    $server->stop if $n < 3;
}
cmp_ok(scalar @acknowledged, '>=', 60, 'three times all processes die among sends');
is_deeply(\@unanswered, [], '... what was acknowledged is known, the rest is taken now');
$dora = $server->client(4);
my @got = map { $dora->expect_event('P_MESSAGE', 10, sub ($e) { $e->{Message} =~ /\Acrash/ }) } 1 .. 180;
is_deeply([map { $_->{Message} } @got], [map {"crash $_"} 1 .. 180], '... all arrive in order, once');
ok($dora->session->{Recovered}, '... without a hole');
my @numbers = map { $_->{MessageId} } @got;
is_deeply(\@numbers, [sort { $a <=> $b } @numbers], '... ids made later are greater');
cmp_ok($numbers[0], '>', $previous, '... also than those of before');

# --- a damaged store --------------------------------------------------------

$server->stop;
rename $store, "$store.aside" or die "$store: $!\n";
Parley::spew($store, "\0" x 65536);
$server->allow_errors(qr/ (?:keeper|supervisor)\[/);
my ($code, undef, $err) = $server->run([Parley::program('parleyd'), '-c', $server->conf]);
is($code, 1, 'with a damaged store a start in the background fails');
like($err, qr/the store is damaged or gone/, '... and says by what');
is(($server->ctl('stop'))[0], 0, '... it has stayed up for those who ask, and stops');
$server->spawn;
ok(Parley::poll_until(30, sub { ($server->process('keeper') // {state => ''})->{state} eq 'errored' }),
    '... in the foreground it says so to who asks');
is(($server->http_get('/ready'))[0], 503, '... is not ready');
is(($server->http_get('/health'))[0], 503, '... nor healthy');
ok(!-e $store, '... and nobody puts an empty store in its place');
is($server->stop, 0, 'it stops');
mkdir $server->dir . '/kept' or die "mkdir: $!\n";
rename "$store.aside", $server->dir . '/kept/main.mdb' or die "$store: $!\n";
is(($server->ctl('restore', $server->dir . '/kept'))[0], 0, 'the right one is put back');
$server->launch;
is($server->client(1)->request('P_GET_MESSAGES', UserId => 4, Limit => 1)->{Messages}[0]{Message},
    'crash 180', '... and it goes on, with all messages');

$server->finish;
done_testing;
