# TLS from those who mean no good, or are slow: none of it is noticed by the
# people who are in, and all of it is counted.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::SSL;
use Parley;
use Parley::Raw;
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(time);

my $server = Parley->start(
    tls  => 1,
    conf => {'server.header_timeout' => '5s', 'server.tls_handshakes_max' => 8, 'server.workers' => 1});
$server->add_users(1, 2);
my ($alice, $bob) = map { $server->client($_) } 1, 2;
my $number = 0;

sub raw () { return Parley::Raw->connect($server->tls_address) }

sub counter ($name) { return $server->metric("parley_tls_${name}_total") }

# What a client sends first, as a library makes it.
sub client_hello () {
    my $ctx = Net::SSLeay::CTX_new_with_method(Net::SSLeay::TLS_client_method());
    my $ssl = Net::SSLeay::new($ctx);
    my ($in, $out) = map { Net::SSLeay::BIO_new(Net::SSLeay::BIO_s_mem()) } 1, 2;
    Net::SSLeay::set_bio($ssl, $in, $out);
    Net::SSLeay::connect($ssl);
    my $bytes = Net::SSLeay::BIO_read($out);
    Net::SSLeay::free($ssl);
    Net::SSLeay::CTX_free($ctx);
    return $bytes;
}

# Of any kind: what looks like the begin of a hello may wait for its end.
sub failures () {
    my $sum = 0;
    $sum += counter("failed_$_") for qw(protocol version peer timeout);
    return $sum;
}

sub still_talking ($name) {
    my $id = 'm' . ++$number;
    is($alice->request('P_SEND_MESSAGE', ToUserList => [2], ClientMessageId => $id, Message => $id)->{Reason},
        'OK', "$name: a message is stored");
    is($bob->expect_event('P_MESSAGE')->{Message}, $id, '... and arrives');
    return;
}

# --- no TLS -------------------------------------------------------------------

my %garbage = (
    'HTTP'         => Parley::Raw->upgrade_head,
    'zeros'        => "\0" x 4096,
    'SSLv2'        => "\x80\x2e\x01\x00\x02" . 'x' x 41,
    'a huge hello' => "\x16\x03\x01\x3f\xff\x01\xff\xff\xff" . "\0" x 16_379,
    'an alert'     => "\x15\x03\x01\x00\x02\x02\x28",
    'data first'   => "\x17\x03\x03\x00\x20" . 'x' x 32,
);
for my $name (sort keys %garbage) {
    my $before = failures();
    my $raw    = raw();
    $raw->write($garbage{$name});
    my $answer = eval { $raw->read_all(8) } // '';
    unlike($answer, qr/HTTP/, "$name: no answer but TLS");
    ok(Parley::poll_until(5, sub { failures() > $before }), '... and counted');
}
still_talking('after garbage');

# --- slow ----------------------------------------------------------------------

{
    my $before = counter('failed_timeout');
    my $raw    = raw();
    my $from   = time;
    my $hello  = client_hello();
    while (length $hello && time < $from + 20) {
        last if !$raw->write(substr $hello, 0, 1, '');
        my $id = Mojo::IOLoop->timer(0.05 => sub { });
        Mojo::IOLoop->one_tick;
        Mojo::IOLoop->remove($id);
    }
    ok(Parley::poll_until(10, sub { counter('failed_timeout') > $before }),
        'a hello byte by byte ends at the deadline');
}
{
    my $raw = raw();
    $raw->write($_) for split //, client_hello();
    like($raw->read_bytes(1), qr/\x16/, 'a hello in many pieces, but in time, is answered');
}
{
    # One byte in each record, all at once: must not be one long step.
    my $steps  = sub { $server->metric('parley_tls_handshake_seconds_count') // 0 };
    my $before = $steps->();
    my $raw    = raw();
    $raw->write("\x16\x03\x01\0\1\1\x16\x03\x01\0\1\1" . "\x16\x03\x01\0\1\0" x 20_000);
    ok(Parley::poll_until(10, sub { $steps->() > $before + 500 }), 'a hello of many records takes many steps');
    still_talking('meanwhile');
}
{
    my $before = counter('failed_closed');
    my $raw    = raw();
    $raw->write(client_hello());
    $raw->read_bytes(5);
    close $raw->{socket};
    ok(Parley::poll_until(5, sub { counter('failed_closed') > $before }), 'who leaves half-way is counted');
}
{
    # More than there are places, all of them silent after their hello.
    my $hello = client_hello();
    my @held  = map { my $raw = raw(); $raw->write($hello); $raw } 1 .. 12;
    ok(Parley::poll_until(5, sub { ($server->metric('parley_tls_handshakes_open') // 0) == 8 }),
        'no more handshakes at once than there are places');
    still_talking('with all places taken');
    my $late = $server->connect;
    is($late->request('P_HEARTBEAT')->{Reason}, 'UNAUTHENTICATED', 'who comes then gets in all the same');
    ok(Parley::poll_until(10, sub { ($server->metric('parley_tls_handshakes_open') // 1) == 0 }),
        'in the end all places are free');
}

# --- after the handshake --------------------------------------------------------

{
    my ($host, $port) = split /:/, $server->tls_address;
    for my $bytes ("\x17\x03\x03\x00\x20" . 'x' x 32, "\x17\x03\x03\xff\xff" . 'x' x 64, "\x14\x03\x03\x00\x01\x01") {
        my $before = counter('violations');
        my $ssl    = IO::Socket::SSL->new(PeerHost => $host, PeerPort => $port,
            SSL_verify_mode => SSL_VERIFY_NONE) // die $IO::Socket::SSL::SSL_ERROR;
        print $ssl Parley::Raw->upgrade_head;
        $ssl->sysread(my $answer, 4096);
        like($answer, qr{\AHTTP/1\.1 101 }, 'a connection');
        my $fd = fileno $ssl;
        open my $socket, '>&=', $fd or die "fd: $!\n";
        syswrite $socket, $bytes;    # past OpenSSL
        my $rest = '';
        1 while $ssl->sysread($rest, 4096);
        ok(Parley::poll_until(5, sub { counter('violations') > $before }), '... ends with a forged record');
    }
}
still_talking('after forged records');

# --- the queue is not the client's fault -----------------------------------------

{
    my $narrow = Parley->start(tls => 1,
        conf => {'server.header_timeout' => '20s', 'server.tls_handshakes_max' => 1, 'server.workers' => 1});
    my $silent = Parley::Raw->connect($narrow->tls_address);
    $silent->write("\x16");
    Parley::poll_until(5, sub { ($narrow->metric('parley_tls_handshakes_open') // 0) == 1 });
    my @pids = map {
        my $pid = fork // die "fork: $!\n";
        if ($pid == 0) {
            my ($host, $port) = split /:/, $narrow->tls_address;
            my $ssl = IO::Socket::SSL->new(PeerHost => $host, PeerPort => $port,
                SSL_verify_mode => SSL_VERIFY_NONE);
            POSIX::_exit($ssl ? 0 : 1);
        }
        $pid;
    } 1 .. 6;
    # All but one wait in the queue, and so long that it would be too long.
    Parley::poll_until(5, sub { ($narrow->metric('parley_connections') // 0) == 7 });
    kill STOP => $narrow->pids->{'worker-0'};
    Parley::poll_until(2.5, sub {0});
    kill CONT => $narrow->pids->{'worker-0'};
    for my $pid (@pids) {
        Parley::poll_until(30, sub { waitpid($pid, WNOHANG) == $pid });
    }
    is($narrow->metric('parley_tls_failed_busy_total'), 1, 'only the silent one is sent away');
    $narrow->finish;
}

# --- a stop does not wait for strangers ------------------------------------------

{
    my $slow = Parley->start(tls => 1, conf => {'server.header_timeout' => '60s', 'server.shutdown_timeout' => '30s'});
    my $hello = client_hello();
    my @held  = map { my $raw = Parley::Raw->connect($_->[0]); $raw->write($_->[1]); $raw } map { (
        [$slow->tls_address, ''], [$slow->tls_address, substr $hello, 0, 60], [$slow->tls_address, $hello],
        [$slow->address, ''], [$slow->address, "GET /ws HTTP/1.1\r\n"],
    ) } 1 .. 4;
    ok(Parley::poll_until(10, sub { $slow->metric('parley_connections') == @held }), 'connections without a request');
    my $from = time;
    $slow->finish;
    cmp_ok(time - $from, '<', Parley::scaled(15), '... hold up a stop for a moment only');
}

# --- flood ----------------------------------------------------------------------

{
    my $before = counter('handshakes');
    my $pid    = fork // die "fork: $!\n";
    if ($pid == 0) {
        open STDOUT, '>', '/dev/null';
        open STDERR, '>', '/dev/null';
        { no warnings 'exec'; exec Parley::program('parleyload'), 'handshakes', '-n', 30, '--duration', 4, '--quiet',
            '--url', 'wss://' . $server->tls_address . '/ws' }
        POSIX::_exit(127);
    }
    Parley::poll_until(5, sub { counter('handshakes') > $before + 10 });
    still_talking("in a flood") for 1 .. 20;
    Parley::poll_until(30, sub { waitpid($pid, WNOHANG) == $pid });
    cmp_ok(counter('handshakes'), '>', $before + 10, 'there was a flood');
}
still_talking('after it');
$server->finish;

# --- a flood while others write all the time ----------------------------------------

sub load (@args) {
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        open STDOUT, '>', '/dev/null';
        open STDERR, '>', '/dev/null';
        { no warnings 'exec'; exec Parley::program('parleyload'), @args, '--duration', 600, '--quiet' }
        POSIX::_exit(127);
    }
    return $pid;
}

{
    my $busy = Parley->start(tls => 1, conf => {'policy.may_message' => 'anyone', 'server.workers' => 1});
    $busy->add_users(1 .. 20);
    my @pids = (
        load('pairs', '-n', 10, '--rate', 2000, '--secret', $busy->secret, '--url', $busy->ws_url),
        load('handshakes', '-n', 30, '--url', 'wss://' . $busy->tls_address . '/ws'),
    );
    my $steps = sub { $busy->metric('parley_tls_handshake_seconds_count') // 0 };
    ok(Parley::poll_until(30, sub { $busy->metric('parley_messages_total') > 500 && $steps->() > 100 }),
        'messages in a flood of handshakes');
    # Steps and time are of one clock: the machine's other work is in both.
    my ($from, $in_steps, $count) = (time, $busy->metric('parley_tls_handshake_seconds_sum'), $steps->());
    Parley::poll_until(20, sub { $steps->() > $count + 300 });
    $in_steps = $busy->metric('parley_tls_handshake_seconds_sum') - $in_steps;
    cmp_ok($steps->(), '>', $count + 300, 'the flood is served');
    cmp_ok($in_steps / (time - $from), '<', 0.2, '... in a small part of the time');
    kill KILL => @pids;
    waitpid $_, 0 for @pids;
    $busy->finish;
}
done_testing;
