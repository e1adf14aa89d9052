# [limits] connections_per_address: how many connections one address may have,
# over all workers, direct or behind a proxy, plain or TLS, over the death of a
# worker; and who is not counted.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(encode_json decode_json);
use Parley;
use Parley::Guard;
use Parley::Raw;
use Test::More;

my $MAX    = 20;
my $PROXY  = '127.0.0.2';
my $EXEMPT = '127.0.0.5';

my $server = Parley->start(
    tls  => 1,
    conf => {
        'server.workers'                 => 3,
        'server.trusted_proxies'         => $PROXY,
        'limits.connections_per_address' => $MAX,
        'limits.exempt'                  => "127.0.0.1, $EXEMPT/32",
        'policy.may_message'             => 'anyone',
    }
);
is(($server->ctl('user', 'add', '--range', '1-30'))[0], 0, 'users');
my $guard = Parley::Guard->watch($server);
my $alice = $server->client(1);
my $refused = 0;

sub over_limit () { return $server->metric('parley_connections_over_limit_total') }
sub connected ($from) { return Parley::Raw->connect($server->address, from => $from) }

# The status of the answer, and the connection.
sub status_of ($raw) {
    my $answer = eval { $raw->read_until(qr/\r\n\r\n/) } // '';
    my ($status) = $answer =~ m{\AHTTP/1\.1 (\d+) };
    $refused++ if ($status // 0) == 429;
    return $status // 0;
}

sub opened ($from, %arg) {
    my $raw = connected($from);
    $raw->write(($arg{header} // '') . Parley::Raw->upgrade_head(($arg{headers} // {})->%*));
    return ($raw, status_of($raw));
}

# As many as there may be, each upgraded; then one more.
sub fill ($name, $from, %arg) {
    my (@raw, @status);
    for (1 .. $arg{count} // $MAX) {
        my ($raw, $status) = opened($from, %arg);
        push @raw, $raw;
        push @status, $status if $status != 101;
    }
    is("@status", '', "$name: all of them are in");
    is((opened($from, %arg))[1], 429, '... one more is not');
    return @raw;
}

# --- direct ones ------------------------------------------------------------------

my @crowd = fill("$MAX connections of one address, on three workers", '127.0.0.9');
{
    my $raw = connected('127.0.0.9');
    my $answer = $raw->read_all;
    $refused++;
    like($answer, qr{\AHTTP/1\.1 429 Too Many Requests\r\n}, 'further ones are told so before they ask');
    like($answer, qr/^Retry-After: \d+\r$/m, '... and when to come again');
    like($answer, qr/\r\n\r\n[^\r\n]+\n\z/, '... in one line');
}
is((opened('127.0.0.10'))[1], 101, 'another address is served');
{
    my @other = map { (opened($EXEMPT))[1] } 1 .. 2 * $MAX;
    is(scalar(grep { $_ == 101 } @other), 2 * $MAX, 'one that is exempt may have more');
}
(shift @crowd)->close;
my $next;
ok(Parley::poll_until(10, sub { ($next, my $status) = opened('127.0.0.9'); return $status == 101 }),
    'when one goes another one may come');
push @crowd, $next;
{
    my $tls = Parley::Raw->connect($server->tls_address, from => '127.0.0.9');
    ok(!$tls->start_tls, 'over TLS there is no answer, just the end');
    $refused++;
    $tls = Parley::Raw->connect($server->tls_address, from => '127.0.0.12');
    ok($tls->start_tls, '... for whom there is room there is a handshake');
}
is(over_limit(), $refused, 'they are counted');
like($server->log_text, qr/connection-refused peer=127\.0\.0\.9:\d+ why="the address has too many connections"/, '... and logged');

# --- behind a proxy ---------------------------------------------------------------

sub header_of ($host) { return Parley::Raw->proxy_header(from => [$host, 4711]) }

my @behind = fill('clients of one address behind a proxy', $PROXY, header => header_of('192.0.2.7'));
is((opened($PROXY, header => header_of('192.0.2.8')))[1], 101, '... another one behind it is served');
push @behind, fill('... by X-Forwarded-For', $PROXY, headers => {'X-Forwarded-For' => '192.0.2.9'});
is((opened($PROXY, headers => {'X-Forwarded-For' => '192.0.2.10'}))[1], 101, '... another one behind it is served');
is((opened($PROXY, headers => {'X-Forwarded-For' => '192.0.2.7'}))[1], 429, '... both ways count together');
is((opened('127.0.0.13', headers => {'X-Forwarded-For' => '192.0.2.7'}))[1], 101, '... but nobody says of himself who he is');
{
    my @silent = map { connected($PROXY) } 1 .. 2 * $MAX;
    is((opened($PROXY, header => header_of('192.0.2.11')))[1], 101, 'connections of a proxy that say nothing are nobody\'s');
}
{
    my @raw;
    my @status = map { my ($raw, $status) = opened($PROXY, header => header_of("2001:db8:0:1::$_")); push @raw, $raw; $status } 1 .. $MAX;
    is_deeply(\@status, [(101) x $MAX], 'IPv6');
    is((opened($PROXY, header => header_of('2001:db8:0:1:ffff::1')))[1], 429, '... a /64 counts as one');
    is((opened($PROXY, header => header_of('2001:db8:0:2::1')))[1], 101, '... the next one as another');
}
is(over_limit(), $refused, 'all are counted');

# --- the limit changes ---------------------------------------------------------------

$server->set('limits.connections_per_address' => $MAX + 2);
is(($server->ctl('reload'))[0], 0, 'a higher limit');
ok($server->await_log(qr/ reload-done /), '... without new processes');
push @crowd, map { my ($raw, $status) = opened('127.0.0.9'); is($status, 101, '... for two more'); $raw } 1, 2;
is((opened('127.0.0.9'))[1], 429, '... and no more');
$server->set('limits.connections_per_address' => 0);
is(($server->ctl('reload'))[0], 0, 'none at all');
ok(Parley::poll_until(10, sub { (opened('127.0.0.9'))[1] == 101 }), '... and anybody may come');
$server->set('limits.connections_per_address' => $MAX);
is(($server->ctl('reload'))[0], 0, 'the old one');
ok(Parley::poll_until(10, sub { (opened('127.0.0.9'))[1] == 429 }), '... counts those, too');

# --- a flood of them -------------------------------------------------------------------

{
    my @flood = map { connected('127.0.0.9') } 1 .. 1000;
    is($alice->request('P_HEARTBEAT')->{Reason}, 'OK', '1000 at once that stay: others are served');
    my $most = 0;
    ok(Parley::poll_until(20, sub {
            my $now = $server->metric('parley_connections');
            $most = $now if $now > $most;
            return over_limit() >= $refused + 1000 && $now < 150;
        }), '... and soon they are gone, whether they like it or not');
    cmp_ok($most, '<', 150 + 3 * 256, '... a few at a time with an answer, the others without');
}

# --- over the death of a worker ------------------------------------------------------------

$_->close for @crowd, @behind;
ok(Parley::poll_until(10, sub { my ($raw, $status) = opened('127.0.0.9'); $status == 101 }), 'all have gone');
{
    my @sessions;
    for my $id (2 .. 1 + $MAX / 2) {
        my ($raw) = opened('127.0.0.20');
        $raw->write(Parley::Raw->frame(1, encode_json({Command => 'P_AUTHENTICATE', RequestId => 1,
            Token => $guard->token($server->token($id)), DeviceId => "d$id"})));
        is(decode_json(($raw->read_frame)[1])->{Reason}, 'OK', "a session, $id");
        push @sessions, $raw;
    }
    my @silent = map { (opened('127.0.0.20'))[0] } 1 .. $MAX / 2;
    is((opened('127.0.0.20'))[1], 429, 'sessions and others are enough');
    ok(Parley::poll_until(20, sub {
        return ($server->metric('parley_movable_connections') // 0) == ($server->metric('parley_held_connections') // -1);
    }), 'the sessions would outlive a worker');
    for my $n (0 .. 2) {
        my $pid = $server->kill9("worker-$n");
        $server->await_restart("worker-$n", $pid);
    }
    $guard->renew;
    my @more = fill('after the death of all workers the silent ones are gone, and as many may come', '127.0.0.20', count => $MAX / 2);
    for my $raw (@sessions) {
        $raw->write(Parley::Raw->frame(1, encode_json({Command => 'P_HEARTBEAT', RequestId => 2})));
    }
    my @alive = grep {
        my $raw = $_;
        my $reply = eval {
            my $message = {};
            while (($message->{RequestId} // 0) != 2) {
                my ($opcode, $text) = $raw->read_frame;
                $message = decode_json($text) if $opcode == 1;
            }
            $message->{Reason};
        };
        ($reply // '') eq 'OK';
    } @sessions;
    is(scalar @alive, scalar @sessions, '... the sessions live on, and count');
}

# --- the configuration -------------------------------------------------------------------

$server->set('limits.exempt' => '127.0.0.1/8');
my ($code, undef, $error) = $server->ctl('reload');
is($code, 1, 'a network with bits behind its prefix is refused');
like($error, qr{:\d+: exempt: "127\.0\.0\.1/8" has bits behind its prefix}, '... by name and line');
$server->allow_errors(qr/reload-refused/);
$guard->finish;
done_testing;
