# Stop and drain where connections cannot outlive their worker (TLS; t/69-hold.t
# has the others): clients are never driven into a herd, those of the other
# workers notice nothing; under load with a ledger.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Fault;
use Parley::Story;
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(time);

my $WINDOW = 4;
my $server = Parley->start(tls => 1, conf => {
    'server.workers'      => 2,
    'server.drain_window' => "${WINDOW}s",
});
$server->add_users(1 .. 2);
my $load = Parley::Fault->load($server, pairs => 10, rate => 2000);


sub many_on ($worker, $count) {
    return map { client_on($server, $worker, 1 + $_ % 2, DeviceId => "$worker-$_") } 1 .. $count;
}

# The order without waiting for its end; the clients of this process live on.
sub order ($verb, @args) {
    my @command = (Parley::program('parleyctl'), '-c', $server->conf, $verb, @args);
    my $pid     = fork // die "fork: $!\n";
    if ($pid == 0) {
        Parley::clean_environment();
        { no warnings 'exec'; exec @command }
        POSIX::_exit(127);
    }
    return sub {
        Parley::poll_until(60, sub { waitpid($pid, WNOHANG) == $pid }) or return -1;
        return $? >> 8;
    };
}

# --- drain ------------------------------------------------------------------

my $COUNT = 8;
for my $n (1 .. fault_rounds(1, 5)) {
    my @stay = many_on('worker-0', 3);
    my @go   = many_on('worker-1', $COUNT);
    my $old  = $server->pids->{'worker-1'};
    my $at   = time;
    my $end  = order('drain', 'worker-1');
    my (@left, %seen);
    Parley::poll_until(60, sub {
        for my $client (grep { !$seen{$_} && $_->is_closed } @go) {
            $seen{$client} = 1;
            push @left, time - $at;
        }
        # those whose turn has not come are served as ever
        my ($one) = grep { !$seen{$_} } @go;
        eval { $one->request('P_HEARTBEAT') } if $one && @left;
        return @left == @go;
    });
    is(scalar @left, $COUNT, "drain $n: all clients of the worker are sent away");
    cmp_ok($left[0], '<', Parley::scaled(2), '... the first at once');
    # the load's clients there share the window
    cmp_ok($left[-1] - $left[0], '>', $WINDOW / 6, '... one after the other, over drain_window');
    my @events = map { $_->expect_event('P_CLOSE') } @go;
    is_deeply([grep { $_->{Reason} ne 'RECONNECT' } @events], [], '... by RECONNECT');
    is_deeply([grep { $_->{RetryAfter} < 1 || $_->{RetryAfter} > 1000 } @events], [],
        '... and may come back soon: the others serve them');
    is($end->(), 0, '... the order ends when a successor serves');
    my $new = $server->pids->{'worker-1'};
    isnt($new, $old, '... another process');
    like($server->log_text, qr/process-end name=worker-1 pid=$old status=0/, '... the old one ended in order');
    is_deeply([map { $_->request('P_HEARTBEAT')->{Reason} } @stay], [('OK') x 3],
        '... the clients of the other one have stayed');
    ok($load->await_messages(200), '... it flows');
    $_->close for @stay;
    $_->close for many_on('worker-1', 1);
}

# Nobody is refused meanwhile: connections come and go all the time.
{
    my ($refused, $made) = (0, 0);
    my $end  = order('drain', 'worker-0');
    ok($server->await_log(qr/ worker-0\S* worker-draining/), 'a drain under a stream of connections');
    my $until = time + $WINDOW / 2;
    while (time < $until) {
        my $client = eval { $server->client(1, DeviceId => 'stream') };
        $refused++ if !$client;
        $made++    if $client;
        $client->close if $client;
    }
    cmp_ok($made, '>=', 5, "... $made meanwhile");
    is($refused, 0, '... none is refused');
    # ordered twice: it is on its way already
    my ($code, undef, $error) = $server->ctl('drain', 'worker-0');
    is($code, 1, '... a second order is refused');
    like($error, qr/worker-0 is stopping/, '... in words');
    is($end->(), 0, '... until it is done');
}
for ([keeper => qr/no worker/], ['worker-9' => qr/worker-9/]) {
    my ($code, undef, $error) = $server->ctl('drain', $_->[0]);
    is($code, 1, "$_->[0] cannot be drained");
    like($error, $_->[1], '... in words');
}

$load->finish('drains');

# --- stop -------------------------------------------------------------------

my @clients = (many_on('worker-0', 10), many_on('worker-1', 10));
kill TERM => $server->pid;
$_->expect_close for @clients;
my @after = sort { $a <=> $b } map { $_->expect_event('P_CLOSE')->{RetryAfter} } @clients;
cmp_ok($after[0], '>=', 500, 'SIGTERM: nobody comes back before the successor can be there');
cmp_ok($after[-1], '<', 1000 * $WINDOW, '... all within drain_window');
cmp_ok($after[-1] - $after[0], '>', 1000 * $WINDOW / 4, '... spread');
is($server->await_exit, 0, '... exit code 0');

# --- a stop during a drain, and in a hurry ----------------------------------

$server->set('server.drain_window' => '10m', 'server.shutdown_timeout' => Parley::scaled(20) . 's');
$server->launch;
@clients = (many_on('worker-0', 2), many_on('worker-1', 2));
my $end = order('drain', 'worker-1');
ok($server->await_log(qr/ worker-1\S* worker-draining .* window_ms=600000/), 'a drain that takes ten minutes');
my $at = time;
kill TERM => $server->pid;
is($server->await_exit, 0, '... ends with the server');
cmp_ok(time - $at, '<', Parley::scaled(15), '... at once');
is($end->(), 3, '... and so does the order');

$server->launch;
@clients = many_on('worker-0', 1);
my ($keeper, $worker) = $server->pids->@{qw(keeper worker-0)};
kill STOP => $keeper;
$clients[0]->submit('P_SEND_MESSAGE', ToUserList => [2], Message => 'x', ClientMessageId => 'last');
$clients[0]->request('P_HEARTBEAT');
kill TERM => $server->pid;
ok($server->await_log(qr/ worker-0\[$worker\] worker-stopping/), 'a stop that waits for a request');
$at = time;
kill TERM => $server->pid;
ok($server->await_log(qr/stop-hurried/), '... a second SIGTERM hurries');
kill CONT => $keeper;
is($server->await_exit, 0, '... and it ends in order');
cmp_ok(time - $at, '<', Parley::scaled(15), '... without waiting for its time to pass');

$server->finish;
done_testing;
