# Who a connection counts as behind a proxy: what the PROXY header or
# X-Forwarded-For says, when it comes from a trusted proxy and from nobody else.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Guard;
use Parley::Raw;
use Test::More;
use Time::HiRes qw(time);

my $PROXY    = '127.0.0.2';
my $SECOND   = '127.0.0.77';
my $STRANGER = '127.0.0.9';

my $server = Parley->start(
    tls  => 1,
    conf => {
        'server.trusted_proxies'      => "$PROXY, 127.0.0.64/26, 2001:db8::/32",
        'server.header_timeout'       => '1s',
        'auth.password_attempts_peer' => 2,
        'directory.request_timeout'   => '20s',
    }
);
$server->add_users(1, 2);
my $guard = Parley::Guard->watch($server);
my $alice = $server->client(1);

sub opened ($from, %arg) {
    my $raw = Parley::Raw->connect($arg{tls} ? $server->tls_address : $server->address, from => $from);
    $raw->write($arg{header}) if defined $arg{header};
    $raw->start_tls or die "no TLS\n" if $arg{tls};
    return $raw;
}

# Everything that is sent in one piece, and the status that comes back; 0 for
# a connection that was closed without a word.
sub status_of ($from, $bytes) {
    my $raw = Parley::Raw->connect($server->address, from => $from);
    $raw->write($bytes);
    my $answer = eval { $raw->read_until(qr/\r\n\r\n/) } // '';
    $raw->close;
    return $answer =~ m{\AHTTP/1\.1 (\d+) } ? $1 : 0;
}

# How the log names whoever breaks a rule after the upgrade.
sub peer_of ($raw, %headers) {
    my $from = length $server->log_text;
    $raw->upgrade(%headers);
    $raw->write(Parley::Raw->frame(1, 'x', mask => undef));
    $raw->read_close;
    $raw->close;
    my $peer = '';
    Parley::poll_until(10, sub {
        ($peer) = substr($server->log_text, $from) =~ / ws-violation peer=(\S+) why="a client must mask/;
        return defined $peer;
    });
    return $peer // 'nobody';
}

sub header_of ($host, $port, %arg) { return Parley::Raw->proxy_header(from => [$host, $port], %arg) }
my $head = Parley::Raw->upgrade_head;
my $real = header_of('192.0.2.7', 4711);

# --- PROXY, version 2 -------------------------------------------------------------

# The log folds lines that are alike: each client has a port of its own.
my $port = 5000;
for my $tls (0, 1) {
    my $over = $tls ? 'over TLS' : 'plain';
    is(peer_of(opened($PROXY, tls => $tls, header => header_of('192.0.2.7', ++$port))), "192.0.2.7:$port", "$over: the client's address");
    is(peer_of(opened($SECOND, tls => $tls, header => header_of('2001:db9::7', $port))),
        "[2001:db9::7]:$port", '... IPv6, from a proxy of a trusted network');
    is(peer_of(opened($PROXY, tls => $tls, header => header_of('::ffff:192.0.2.9', $port))), "192.0.2.9:$port", '... IPv4 in IPv6');
    is(peer_of(opened($PROXY, tls => $tls, header => header_of('192.0.2.8', $port, tlvs => "\xee\0\3abc\x04\0\0"))),
        "192.0.2.8:$port", '... with extensions that nobody knows');
    like(peer_of(opened($PROXY, tls => $tls, header => Parley::Raw->proxy_header(command => 0))),
        qr/\A\Q$PROXY\E:\d+\z/, '... LOCAL: the proxy itself');
    like(peer_of(opened($PROXY, tls => $tls, header => Parley::Raw->proxy_header(family => 0, tlvs => 'x' x 20))),
        qr/\A\Q$PROXY\E:\d+\z/, '... not known: the proxy itself');
    like(peer_of(opened($PROXY, tls => $tls)), qr/\A\Q$PROXY\E:\d+\z/, '... without one it is an ordinary client');
}
{
    my $raw = opened($PROXY);
    for my $byte (split //, $real . $head) {
        $raw->write($byte);
        Parley::tick() if rand() < 0.1;
    }
    like($raw->read_until(qr/\r\n\r\n/), qr{\AHTTP/1\.1 101 }, 'byte by byte');
    $raw->close;
}

is(status_of($STRANGER, $real . $head), 400, 'from anybody else it is a bad request');
is(status_of('127.0.0.1', $real . $head), 400, '... whoever that is');
is(status_of($PROXY, $real . $real . $head), 400, 'twice is once too often');
is(status_of($PROXY, $real . 'rubbish'), 408, 'what follows is waited for, as any head');
for my $case (
    ['a wrong signature',           "\r\n\r\nX" . substr $real, 5],
    ['version 1',                   "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n", 400],
    ['an unknown command',          Parley::Raw->proxy_header(from => ['192.0.2.7', 1], command => 2)],
    ['UDP',                         header_of('192.0.2.7', 1, family => 0x12)],
    ['IPv6 in the room of IPv4',    header_of('192.0.2.7', 1, family => 0x21)],
    ['a length that is too small',  header_of('192.0.2.7', 1, length => 11)],
    ['a length without end',        header_of('192.0.2.7', 1, length => 65535)],
    ['an extension cut off',        header_of('192.0.2.7', 1, tlvs => "\xee\0\4abc")],
    ['half a signature, and no more', substr($real, 0, 7)],
    ['half of the addresses',       substr($real, 0, -3)],
) {
    my ($name, $bytes, $status) = @$case;
    my $began = time;
    is(status_of($PROXY, $bytes . ($name =~ /half/ ? '' : $head)), $status // 0, "$name: closed");
    cmp_ok(time - $began, '<', Parley::scaled(3), '... within header_timeout');
}
{
    my $raw = opened($PROXY, tls => 0);
    my $tls = Parley::Raw->connect($server->tls_address, from => $STRANGER);
    $tls->write($real);
    ok(!$tls->start_tls, 'on a TLS port a header from anybody else is no handshake');
    my $broken = Parley::Raw->connect($server->tls_address, from => $PROXY);
    $broken->write("\r\n\r\nGET / HTTP/1.1\r\n");
    ok(!$broken->start_tls, '... and a broken one from a proxy the end');
    $raw->close;
}

# --- X-Forwarded-For ----------------------------------------------------------------

sub forwarded ($from, $value, $header = undef) {
    return peer_of(opened($from, header => $header), 'X-Forwarded-For' => $value);
}
is(forwarded($PROXY, '192.0.2.44'), '192.0.2.44', 'X-Forwarded-For of a proxy');
is(forwarded($PROXY, '192.0.2.44:99'), '192.0.2.44:99', '... with a port');
is(forwarded($PROXY, '198.51.100.1, 192.0.2.45, 127.0.0.66,2001:db8::1'), '192.0.2.45',
    '... the right-most one that is no proxy itself');
is(forwarded($PROXY, 'no address, 192.0.2.46'), '192.0.2.46', '... what stands before it is not looked at');
is(forwarded($PROXY, '127.0.0.66, 127.0.0.67'), '127.0.0.66', '... the first proxy, when there are only such');
like(forwarded($STRANGER, '192.0.2.44'), qr/\A\Q$STRANGER\E:\d+\z/, 'of anybody else it means nothing');
like(forwarded($STRANGER, 'rubbish'), qr/\A\Q$STRANGER\E:\d+\z/, '... whatever it says');
is(forwarded($PROXY, '192.0.2.47', header_of('127.0.0.66', 1)), '192.0.2.47', 'a proxy behind a proxy');
is(forwarded($PROXY, '192.0.2.44', $real), '192.0.2.7:4711', '... but not a client that says so');
for my $value ('rubbish', '192.0.2.44,', '192.0.2.300', 'rubbish, 127.0.0.66', '') {
    is(status_of($PROXY, Parley::Raw->upgrade_head('X-Forwarded-For' => $value)), 400, "malformed: \"$value\"");
}

# --- what counts by address ------------------------------------------------------------

sub login ($raw, $password) {
    $raw->upgrade;
    $raw->write(Parley::Raw->frame(1, encode_json({Command => 'P_AUTHENTICATE', UserName => '1',
        Password => $guard->secret($password), DeviceId => 'd'})));
    my (undef, $text) = $raw->read_frame(20);
    $raw->close;
    return decode_json($text)->{Reason};
}
is(login(opened($PROXY, header => header_of('192.0.2.50', $_)), "guess-number-$_"), 'AUTH_FAILED', "a guess, $_") for 1, 2;
is(login(opened($PROXY, header => header_of('192.0.2.50', 3)), 'password-1'), 'RATE_LIMITED', 'then its address has to wait');
is(login(opened($SECOND, header => header_of('192.0.2.50', 3)), 'password-1'), 'RATE_LIMITED', '... by whichever proxy it comes');
is(login(opened($PROXY, header => header_of('192.0.2.51', 3)), 'password-1'), 'OK', 'another one has not');
is(login(opened($PROXY), 'password-1'), 'OK', '... nor has the proxy');

# --- the configuration -------------------------------------------------------------------

for my $value ('10.0.0.0/33', 'proxy.example.org', '10.0.0.1/8') {
    $server->set('server.trusted_proxies' => $value);
    my ($code, undef, $error) = $server->ctl('reload');
    is($code, 1, "$value is refused");
    like($error, qr{:\d+: trusted_proxies: "\Q$value\E" (?:is no address|has a wrong length|has bits)}, '... by name and line');
}
$server->allow_errors(qr/reload-refused/);
is($alice->request('P_HEARTBEAT')->{Reason}, 'OK', 'others are served');
$guard->finish;
done_testing;
