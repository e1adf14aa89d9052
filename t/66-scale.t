# More and fewer workers while the server runs; the clients of those that stay
# notice nothing. Under load with a ledger.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

my $server = Parley->start(conf => {'server.workers' => 2, 'server.drain_window' => '2s'},
    allow_errors => [qr/reload-refused/]);
$server->add_users(1 .. 3);
my $load = Parley::Fault->load($server, pairs => 10, rate => 2000);
my @stay = (client_on($server, 'worker-0', 1), client_on($server, 'worker-1', 2));
my $pids = $server->pids;

sub workers () {
    my @names = map { $_->{name} } grep { $_->{name} =~ /\Aworker/ } $server->status->{processes}->@*;
    return join ' ', sort @names;
}
sub staying () { return join ' ', map { $_->request('P_HEARTBEAT')->{Reason} } @stay }
sub health () { return decode_json(($server->http_get('/health'))[1])->{status} }

my ($code, undef, $error) = $server->ctl('scale', 4);
is($code, 0, 'four workers instead of two') or diag $error;
is(workers(), 'worker-0 worker-1 worker-2 worker-3', '... all are there');
is(health(), 'ok', '... and well');
my $new = client_on($server, 'worker-3', 3);
is(send_text($new, [1], 'from a new worker')->{Reason}, 'OK', '... a new one serves');
is((take_messages($stay[0], 1))[0]{Message}, 'from a new worker', '... to clients of an old one');
is(send_text($stay[0], [3], 'to a new worker')->{Reason}, 'OK', '... and the other way');
is((take_messages($new, 1))[0]{Message}, 'to a new worker', '... round');
ok($load->await_messages(500), '... it flows');

($code, undef, $error) = $server->ctl('scale', 9);
is($code, 1, 'nine workers are refused');
like($error, qr/room for 8 workers.*restart/, '... with the limit, and why');
for my $bad ('0', '-1', 'x', '2x', '65') {
    is(($server->ctl('scale', '--', $bad))[0], 1, "$bad workers are refused");
}

# A reload keeps the number, unless the setting has changed.
$server->set('policy.may_message' => 'anyone');
is(($server->ctl('reload'))[0], 0, 'a reload of something else');
is(workers(), 'worker-0 worker-1 worker-2 worker-3', '... keeps the number');
$server->set('server.workers' => 3);
is(($server->ctl('reload'))[0], 0, 'a reload with three workers');
is_deeply([$new->expect_close(20)], [1012, 'RECONNECT'], '... clients of the fourth are told to come back');
ok(Parley::poll_until(30, sub { workers() eq 'worker-0 worker-1 worker-2' }), '... it goes');
is(health(), 'ok', '... and is not missed');
$server->set('server.workers' => 9);
($code, undef, $error) = $server->ctl('reload');
is($code, 1, 'a reload with nine is refused');
like($error, qr/\[server\] workers: there is room for 8/, '... in words');
$server->set('server.workers' => 3);

# Down and up again at once: the one that leaves comes back.
for my $n (1 .. fault_rounds(1, 10)) {
    is(($server->ctl('scale', 2))[0], 0, "round $n: two workers");
    is(workers(), 'worker-0 worker-1', '... are left');
    is(health(), 'ok', '... and well');
    my @refused = grep { !eval { $server->client(3, DeviceId => "d$_"); 1 } } 1 .. 20;
    is_deeply(\@refused, [], '... whoever comes is served');
    is(($server->ctl('scale', 3))[0], 0, '... three again');
}
is(staying(), 'OK OK', 'the clients of those that stayed have noticed nothing');
my $now = $server->pids;
is($now->{$_}, $pids->{$_}, "... $_ is the same process") for sort keys %$pids;

# The last one of a kind goes at once, and somebody always serves.
is(($server->ctl('scale', 1))[0], 0, 'one worker');
is($stay[0]->request('P_HEARTBEAT')->{Reason}, 'OK', '... serves on');
is_deeply([$stay[1]->expect_close(20)], [1012, 'RECONNECT'], '... the clients of the other are told');
ok($load->await_messages(500), '... it flows');

# One that is errored is not missed when it is taken away.
is(($server->ctl('scale', 2))[0], 0, 'two');
kill KILL => $server->pids->{'worker-1'};
ok($load->await_messages(200), '... one is killed');
is(($server->ctl('scale', 1))[0], 0, '... and taken away meanwhile');
is(workers(), 'worker-0', '... for good');

# Another program comes while one still takes its leave.
$server->set('server.workers' => 2, 'server.drain_window' => '6s');
is(($server->ctl('reload'))[0], 0, 'two workers');
my @leave = map { client_on($server, 'worker-1', 3, DeviceId => "leaves-$_") } 1 .. 3;
$server->set('server.workers' => 1);
my $drains = () = $server->log_text =~ / worker-draining /g;
kill HUP => $server->pids->{supervisor};
ok(Parley::poll_until(20, sub { (() = $server->log_text =~ / worker-draining /g) > $drains }),
    'one of two takes its leave');
is(($server->ctl('upgrade', {timeout => 120}))[0], 0, '... another program comes meanwhile');
is_deeply([map { ($_->expect_close(90))[0] } @leave], [1012, 1012, 1012], '... its clients leave');
ok(Parley::poll_until(90, sub { workers() eq 'worker-0' }), '... and so does it');

$load->finish('scaled up and down');

# A new program goes on with the number that was set, not with the setting.
$server->set('server.workers' => 3);
is(($server->ctl('reload'))[0], 0, 'three are configured');
is(($server->ctl('scale', 2))[0], 0, '... and two set');
($code, undef, $error) = $server->ctl('upgrade', {timeout => 120});
is($code, 0, '... and a new program') or diag $error;
is(workers(), 'worker-0 worker-1', '... keeps them');
is(($server->ctl('scale', 3))[0], 0, '... and can have more');
is(health(), 'ok', '... all is well');
$server->finish;
done_testing;
