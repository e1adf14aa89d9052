# What is not a proper upgrade request is answered in one line and closed.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use MIME::Base64 qw(encode_base64);
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Guard;
use Parley::Raw;
use Test::More;

my $HEAD_MAX  = 8192;
my $LINES_MAX = 64;

my $server = Parley->start(
    conf => {'server.header_timeout' => '400ms', 'log.level' => 'debug'});
$server->add_users(1);
my $guard  = Parley::Guard->watch($server);
my $marker = $guard->secret('marker-that-nobody-may-repeat');

sub raw () { return Parley::Raw->connect($server->address) }
sub head (%headers) { return Parley::Raw->upgrade_head(%headers) }

# The good head with one change: a pattern and what stands there instead.
sub changed ($from, $to) {
    my $text = head();
    $text =~ s/$from/$to/ or die "nothing to change: $from\n";
    return $text;
}

sub refused ($name, $status, $bytes, @also) {
    my $raw = raw();
    $raw->write($bytes);
    my $answer = eval { $raw->read_all } // $@;
    my ($top, $body) = split /\r\n\r\n/, $answer, 2;
    subtest "$name: $status" => sub {
        like($top, qr{\AHTTP/1\.1 $status [ -~]+\r\n}, 'status');
        like($top, qr{^Connection: close}m, 'it says that it closes');
        like($body // '', qr{\A[ -~]+\n\z}, 'one line of text');
        like($top, qr{^Content-Length: @{[length $body // '']}\r?$}m, 'its length');
        unlike($answer, qr/\Q$marker\E/, 'nothing of the request comes back');
        like($top, $_, "$_") for @also;
    };
    return;
}

sub accepted ($name, $bytes) {
    my $raw = raw();
    $raw->write($bytes);
    my $top = eval { $raw->read_until(qr/\r\n\r\n/) } // $@;
    like($top, qr{\AHTTP/1\.1 101 }, $name);
    return ($raw, $top);
}

sub command ($raw, $command, %fields) {
    $raw->write(Parley::Raw->frame(1, encode_json({Command => $command, %fields})));
    my ($opcode, $payload) = $raw->read_frame;
    return decode_json($payload);
}

# --- what it is for ---------------------------------------------------------

{
    # The example of RFC 6455 1.3.
    my (undef, $top) = accepted('the upgrade',
        head('Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ=='));
    like($top, qr{^Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=\r$}m, 'its proof');
    unlike($top, qr/^Sec-WebSocket-Protocol:/mi, 'no subprotocol unless offered');
}
my %offers = (
    'parley.v1'             => 1,
    'chat, parley.v1, x'    => 1,
    'chat'                  => 0,
    'parley.v10'            => 0,
    'PARLEY.V1'             => 0,
);
for my $offer (sort keys %offers) {
    my (undef, $top) = accepted("subprotocol '$offer' is no hindrance",
        head('Sec-WebSocket-Protocol' => $offer));
    is(scalar($top =~ /^Sec-WebSocket-Protocol: parley\.v1\r$/m) ? 1 : 0,
        $offers{$offer}, '... echoed only if it is ours');
}
{
    my (undef, $top) = accepted('an extension may be offered',
        head('Sec-WebSocket-Extensions' => 'permessage-deflate; client_max_window_bits'));
    unlike($top, qr/^Sec-WebSocket-Extensions:/mi, '... and is declined');
}
accepted('names and words in any case', <<"END" =~ s/\n/\r\n/gr);
GET /ws HTTP/1.1
HOST: x
upgrade: WebSocket
CONNECTION: keep-alive, UPGRADE
sec-websocket-KEY: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Version:\t13\t

END
accepted('a target with scheme and host', changed(qr{/ws}, 'http://localhost/ws'));
accepted('another scheme of credentials', head(Authorization => "Basic $marker"));

# --- the wrong request ------------------------------------------------------

for my $method (qw(POST PUT DELETE OPTIONS PATCH get BREW)) {
    refused($method, 405, changed(qr/\AGET/, $method), qr/^Allow: GET\r?$/m);
}
{
    my $raw = raw();
    $raw->write(changed(qr/\AGET/, 'HEAD'));
    my $answer = $raw->read_all;
    like($answer, qr{\AHTTP/1\.1 405 }, 'HEAD: 405');
    like($answer, qr{\r\n\r\n\z},       '... without a body');
}
for my $path ('/', '/wsx', '/ws/', '/WS', '/admin', "/$marker", '//ws', '/ws%20',
    '/./ws', '/../ws', '*', 'ws', 'http://localhost') {
    refused("path $path", 404, changed(qr{/ws}, $path));
}
my @wants = (qr/^Upgrade: websocket\r?$/m, qr/^Sec-WebSocket-Version: 13\r?$/m);
refused('no Upgrade',           426, head(Upgrade => undef),       @wants);
refused('another Upgrade',      426, head(Upgrade => 'h2c'),       @wants);
refused('no Connection',        426, head(Connection => undef),    @wants);
refused('another Connection',   426, head(Connection => 'close'),  @wants);
refused('no version',           426, head('Sec-WebSocket-Version' => undef), @wants);
refused("version $_",           426, head('Sec-WebSocket-Version' => $_), @wants)
    for 0, 8, 12, 14, 130, '13,8', '+13', '013', 'x';
refused('HTTP/1.0',             426, changed(qr{HTTP/1\.1}, 'HTTP/1.0'), @wants);

# --- malformed --------------------------------------------------------------

refused("version $_", 400, changed(qr{HTTP/1\.1}, $_))
    for 'HTTP/2.0', 'HTTP/1.2', 'HTTP/1.10', 'HTTP/11', 'http/1.1', 'HTTP/1.1 ', 'ICY';
my %key = (
    'too short'  => encode_base64('0123456789abcde',   ''),
    'too long'   => encode_base64('0123456789abcdefg', ''),
    'empty'      => '',
    'no base64'  => '0123456789abcdef012345==' =~ s/5/-/r,
    'no padding' => '0123456789abcdef01234567',
);
refused("key: $_", 400, head('Sec-WebSocket-Key' => $key{$_})) for sort keys %key;
refused('no key', 400, head('Sec-WebSocket-Key' => undef));
for my $twice ('Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Version: 13',
    'Host: other', "Authorization: Bearer $marker\r\nAuthorization: Bearer $marker") {
    my ($what) = $twice =~ /\A([^:]+)/;
    refused("two of $what", 400, changed(qr/\r\n\r\n\z/, "\r\n$twice\r\n\r\n"));
}
refused('no Host',             400, head(Host => undef));
refused("Host '$_'",           400, head(Host => $_)) for '', 'a b', 'a/b', 'a@b', "a\x80b";
refused('Content-Length 5',    400, head('Content-Length' => 5) . 'hello');
refused('Content-Length -1',   400, head('Content-Length' => -1));
refused('chunked',             400, head('Transfer-Encoding' => 'chunked') . "0\r\n\r\n");
accepted('Content-Length 0',   head('Content-Length' => 0));
refused("Authorization '$_'",  400, head(Authorization => $_))
    for 'Bearer', 'Bearer ', "Bearer a b $marker", 'Bearer a"b', 'bearer {}';

my %bytes = (
    'blank line first'     => "\r\n" . head(),
    'bare LF'              => head() =~ s/\r\n/\n/gr,
    'bare CR'              => head() =~ s/\r\n/\r/gr . "\n",
    'NUL in a value'       => head('X-A' => "a\0b"),
    'DEL in a value'       => head('X-A' => "a\x7fb"),
    'CR in a value'        => head('X-A' => "a\rb"),
    'folded line'          => head('X-A' => "a\r\n b"),
    'blank before colon'   => changed(qr/Host:/, 'Host :'),
    'no colon'             => changed(qr/Host: localhost/, 'Host localhost'),
    'empty name'           => changed(qr/Host:/, ': x'),
    'blank in a name'      => changed(qr/Host:/, "X Y: z\r\nHost:"),
    '8 bits in a name'     => changed(qr/Host:/, "X\xff: z\r\nHost:"),
    'two blanks'           => changed(qr/GET /,  'GET  '),
    'no target'            => changed(qr{GET /ws }, 'GET '),
    'control in target'    => changed(qr{/ws}, "/ws\t"),
    '8 bits in target'     => changed(qr{/ws}, "/w\xc3\xa9"),
    'request line only'    => "GET /ws\r\n\r\n",
    'TLS'                  => "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . ("\xaa" x 64),
    'HTTP/2 preface'       => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    'a frame'              => Parley::Raw->frame(1, '{"Command":"P_HEARTBEAT"}'),
    'binary zeros'         => "\0" x 100,
);
refused($_, 400, $bytes{$_}) for sort keys %bytes;

# --- sizes ------------------------------------------------------------------

sub padded ($length) {
    my $base = head('X-Pad' => 'x');
    return head('X-Pad' => 'x' x ($length - length($base) + 1));
}
accepted("a head of $HEAD_MAX bytes", padded($HEAD_MAX));
refused('one byte more', 431, padded($HEAD_MAX + 1));
refused('a line without an end', 431, 'GET /' . 'a' x 20_000);
sub lines ($count) {    # five header lines are there already
    return changed(qr/\r\n\r\n\z/,
        join('', map {"\r\nX-$_: $_"} 6 .. $count) . "\r\n\r\n");
}
accepted("$LINES_MAX header lines", lines($LINES_MAX));
refused('one line more', 431, lines($LINES_MAX + 1));

# --- tokens where they do not belong -----------------------------------------

{
    my $token = $guard->token($server->token(1));
    my ($raw) = accepted('a token in the address is no error',
        changed(qr{/ws}, "/ws?token=$token&access_token=$token&Authorization=Bearer%20$token"));
    is(command($raw, 'P_HEARTBEAT')->{Reason}, 'UNAUTHENTICATED', '... and no login');
    is(command($raw, 'P_AUTHENTICATE', DeviceId => 'd')->{Reason},
        'BAD_REQUEST', '... nor of any help to one');
    refused('... and not repeated', 404, changed(qr{/ws}, "/x?token=$token$marker"));
}

# --- pieces and time ----------------------------------------------------------

{
    my $raw = raw();
    $raw->write($_) for split //, head();
    like($raw->read_until(qr/\r\n\r\n/), qr{\AHTTP/1\.1 101 }, 'a head byte by byte');
    is(command($raw, 'P_HEARTBEAT', RequestId => 7)->{RequestId}, 7, '... opens a connection');
}
{
    my @pings = map { Parley::Raw->frame(1,
        encode_json({Command => 'P_HEARTBEAT', RequestId => $_})) } 1 .. 100;
    my ($raw) = accepted('frames in the segment of the head', join '', head(), @pings);
    my @ids   = map { decode_json(($raw->read_frame)[1])->{RequestId} } @pings;
    is_deeply(\@ids, [1 .. 100], '... are answered in order');
}
{
    my $raw = raw();
    $raw->write((changed(qr{/ws}, '/1')) . head() . head());
    my $answer = $raw->read_all;
    is(scalar(() = $answer =~ m{^HTTP/1\.1 }mg), 1, 'behind a refusal nothing is read');
}
{
    my @raw = map { raw() } 1 .. 3;
    $raw[0]->write("GET /ws HTTP/1.1\r\nHost: x\r\n");
    $raw[1]->write('G');
    like($raw[0]->read_all(5), qr{\AHTTP/1\.1 408 [^\n]*\n.*\r\n\r\n[ -~]+\n\z}s,
        'a head without an end: 408');
    like($raw[1]->read_all(5), qr{\AHTTP/1\.1 408 }, '... after one byte too');
    is($raw[2]->read_all(5), '', 'a connection that says nothing is just closed');
}
{
    my $raw = raw();
    $raw->write("GET /ws HTTP/1.1\r\n");
    $raw->{socket}->shutdown(1);
    is($raw->read_all(5), '', 'half of a head, then the end: closed');
}

is(raw()->upgrade =~ m{ 101 } ? 1 : 0, 1, 'after all that it upgrades as before');
$guard->finish;
done_testing;
