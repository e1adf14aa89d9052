# The record layer after OpenSSL's handshake, from a client that makes each
# record itself: all that RFC 8446 5, RFC 5246 6 and RFC 7905 allow is
# understood, all that they forbid ends the connection with the alert they name.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Raw;
use Parley::Records;
use Test::More;

my ($ALERT, $HANDSHAKE, $DATA) = (21, 22, 23);
my %alert = (close => 0, unexpected => 10, mac => 20, overflow => 22, failure => 40, illegal => 47, decode => 50);

my $server = Parley->start(tls => 1, conf => {'server.workers' => 1, 'server.header_timeout' => '20s'});
$server->add_users(1, 2);

my @suites = (
    map([1.3, $_], qw(TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256)),
    map([1.2, "ECDHE-ECDSA-$_"], qw(AES128-GCM-SHA256 AES256-GCM-SHA384 CHACHA20-POLY1305)),
);

sub peer ($version, $suite = undef, %arg) {
    return Parley::Records->connect($server->tls_address, version => $version, suite => $suite, %arg);
}

# One that has upgraded.
sub open_peer (@arg) {
    my $peer = peer(@arg);
    $peer->send($DATA, Parley::Raw->upgrade_head);
    $peer->receive_type($DATA) =~ m{\AHTTP/1\.1 101 } or die "no upgrade\n";
    return $peer;
}

sub command ($command, %fields) {
    return Parley::Raw->frame(1, encode_json({Command => $command, %fields}));
}
sub heartbeat ($id, %fields) { return command('P_HEARTBEAT', RequestId => $id, %fields) }

# A request whose frame has this length.
sub padded ($id, $length) {
    my $missing = $length - length heartbeat($id, Pad => 'x' x 1000);
    return heartbeat($id, Pad => 'x' x (1000 + $missing));
}

sub log_in ($peer, $user) {
    $peer->send($DATA, command('P_AUTHENTICATE', RequestId => 'in', Token => $server->token($user), DeviceId => 'd'));
    is_answered($peer, 'in', "... user $user is in");
    return;
}

# The server's data up to the reply to a request.
sub is_answered ($peer, $id, $name) {
    my $text = '';
    while ($text !~ /"RequestId":"?\Q$id\E\b/) {
        $text .= $peer->receive_type($DATA) // last;
    }
    return like($text, qr/"RequestId":"?\Q$id\E\b/, $name);
}

# Nothing but the end, and before it an alert, if one is expected.
sub ends ($peer, $expected, $name) {
    my ($type, $content);
    while (my ($next_type, $next) = $peer->receive) {
        ($type, $content) = ($next_type, $next) if $next_type != $DATA;
    }
    return ok(!defined $type, $name) if !defined $expected;
    return is(unpack('H*', $content // ''), sprintf('%02x%02x', $expected == 0 ? 1 : 2, $expected), $name);
}

# --- what is allowed ------------------------------------------------------------

for my $case (@suites) {
    my ($version, $suite) = @$case;
    my $peer = peer($version, $suite);
    my $head = Parley::Raw->upgrade_head;
    $peer->write(join '', map { $peer->seal($DATA, $_) } split //, $head);
    like($peer->receive_type($DATA), qr{\AHTTP/1\.1 101 }, "$suite: a head of one byte each record");
    log_in($peer, 1);
    $peer->send($DATA, '') for 1 .. 3;
    $peer->send($DATA, heartbeat('empty'));
    is_answered($peer, 'empty', '... empty records are none');

    is(length(my $large = padded('large', 16_384)), 16_384, '... 2^14 bytes');
    $peer->send($DATA, $large);
    is_answered($peer, 'large', '... fit one record');
    $peer->write($_) for split //, $peer->seal($DATA, heartbeat('bytes'));
    is_answered($peer, 'bytes', '... a record may come byte by byte');
    if ($version == 1.3) {
        for my $pad (0, 1, 255, 16_384 - length heartbeat('pad')) {
            $peer->send($DATA, heartbeat('pad'), pad => $pad);
            is_answered($peer, 'pad', "... and may have $pad bytes of padding");
        }
        $peer->send($DATA, '', pad => 16_384);
        $peer->send($ALERT, pack 'CC', 1, 90);
        $peer->send($DATA, heartbeat('padding'));
        is_answered($peer, 'padding', '... padding alone and user_canceled mean nothing');
    } else {
        $peer->send($ALERT, pack 'CC', 1, 90);
        # RFC 5288 3: the client chooses its explicit nonce as it likes
        $peer->send($DATA, heartbeat('nonce'),
            $suite =~ /GCM/ ? (nonce => substr($peer->{out}{iv}, 0, 4) . 'whatever') : ());
        is_answered($peer, 'nonce', '... any explicit nonce');
        is_deeply([grep { $_ > 1 } values(($peer->{explicit} // {})->%*)], [], "... the server's come once");
    }
    $peer->send($ALERT, pack 'CC', 1, 0);
    $peer->send($DATA, heartbeat('after'));
    ends($peer, undef, '... what follows close_notify is not read');
}

for my $version (1.2, 1.3) {
    my $peer = Parley::Records->connect($server->tls_address, version => $version, flight => 1);
    $peer->write($peer->seal($DATA, Parley::Raw->upgrade_head) . $peer->seal($DATA, heartbeat('early')));
    is_answered($peer, 'early', "$version: data on the heels of Finished");
    $peer->send($DATA, Parley::Raw->frame(8, pack 'n', 1000));
    my $answer = $peer->receive_type($DATA);
    is(unpack('H*', $answer), '880203e8', '... a close frame is answered');
    ends($peer, $alert{close}, '... then comes close_notify');
}

# --- key updates ----------------------------------------------------------------

{
    my $peer = open_peer(1.3);
    for my $round (1 .. 20) {
        $peer->write($peer->key_update($round % 2) . $peer->seal($DATA, heartbeat("k$round")));
        if ($round % 2) {
            my ($type, $content) = $peer->receive;
            is($type, $HANDSHAKE, 'a KeyUpdate that is asked for comes before data');
            is(unpack('H*', $content), '1800000100', '... and asks for none');
        }
        my ($type, $content) = $peer->receive;
        is($type, $DATA, 'no other');
        like($content, qr/"k$round"/, '... and the next keys are good');
    }
    my $from = $peer->{in}{secret};
    $peer->write(join '', map { $peer->key_update(1) } 1 .. 10);
    $peer->send($DATA, heartbeat('ten'));
    my ($type) = $peer->receive;
    is($type, $HANDSHAKE, 'ten requests');
    ($type) = $peer->receive;
    is($type, $DATA, '... get one answer (RFC 8446 4.6.3)');
    is($peer->{in}{seq}, 1, '... under the next keys');
}

# --- what is forbidden ------------------------------------------------------------

my @forbidden_13 = (
    ['zeros only',                'unexpected', sub ($p) { $p->seal($DATA, "\0" x 64, no_type => 1) }],
    ['nothing but a tag',         'decode',     sub ($p) { $p->seal($DATA, '', no_type => 1) }],
    ['2^14 + 1 bytes',            'overflow',   sub ($p) { $p->seal($DATA, 'x' x 16_385) }],
    ['padding beyond 2^14 + 1',   'overflow',   sub ($p) { $p->seal($DATA, 'x', pad => 16_384) }],
    ['a ciphertext too long',     'overflow',   sub ($p) { $p->seal($DATA, 'x' x 16_384, pad => 241) }],
    ['an inner ChangeCipherSpec', 'unexpected', sub ($p) { $p->seal(20, "\1") }],
    ['an inner heartbeat',        'unexpected', sub ($p) { $p->seal(24, "\1\0\1x") }],
    ['ChangeCipherSpec',          'unexpected', sub ($p) { "\x14\3\3\0\1\1" }],
    ['an alert in the clear',     'unexpected', sub ($p) { "\x15\3\3\0\2\1\0" }],
    ['data in the clear',         'mac',        sub ($p) { "\x17\3\3\0\x20" . 'x' x 32 }],
    ['an outer type of handshake', 'unexpected', sub ($p) { $p->seal($DATA, 'x', outer => 22) }],
    ['a KeyUpdate of 2',          'illegal',    sub ($p) { $p->seal($HANDSHAKE, pack 'C x n C', 24, 1, 2) }],
    ['more behind a KeyUpdate',   'unexpected', sub ($p) { $p->seal($HANDSHAKE, pack('C x n C', 24, 1, 0) x 2) }],
    ['an empty handshake record', 'unexpected', sub ($p) { $p->seal($HANDSHAKE, '') }],
    ['a second ClientHello',      'unexpected', sub ($p) { $p->seal($HANDSHAKE, pack 'C x n a2', 1, 2, 'xx') }],
    ['a ticket from the client',  'unexpected', sub ($p) { $p->seal($HANDSHAKE, pack 'C x n a9', 4, 9, 'x' x 9) }],
    ['a Certificate',             'unexpected', sub ($p) { $p->seal($HANDSHAKE, pack 'C x n a4', 11, 4, "\0" x 4) }],
    ['a second Finished',         'unexpected', sub ($p) { $p->seal($HANDSHAKE, pack 'C x n a32', 20, 32, 'x' x 32) }],
);
my @forbidden_12 = (
    ['2^14 + 1 bytes',        'overflow',   sub ($p) { $p->seal($DATA, 'x' x 16_385) }],
    ['a ciphertext too long', 'overflow',   sub ($p) { $p->seal($DATA, 'x' x (16_384 + 2048)) }],
    ['ChangeCipherSpec',      'unexpected', sub ($p) { $p->seal(20, "\1") }],
    ['a heartbeat',           'unexpected', sub ($p) { $p->seal(24, "\1\0\1x") }],
    ['a short record',        'decode',     sub ($p) { "\x17\3\3\0\x17" . 'x' x 23 }],
    ['data in the clear',     'mac',        sub ($p) { "\x17\3\3\0\x20" . 'x' x 32 }],
    ['renegotiation',         'failure',    sub ($p) { $p->seal($HANDSHAKE, pack 'C x n a2', 1, 2, 'xx') }],
    ['another type under the same tag', 'mac', sub ($p) { $p->seal($DATA, 'xx', outer => 21) }],
);
push @forbidden_13, map {
    my $make = $_->[1];
    [$_->[0], 'unexpected', sub ($p) { join '', map { $make->($p) } 1 .. 500 }]
} ['a flood of KeyUpdates', sub ($p) { $p->key_update(1) }],
    ['a flood of padding', sub ($p) { $p->seal($DATA, '', pad => 1) }],
    ['a flood of user_canceled', sub ($p) { $p->seal($ALERT, pack 'CC', 1, 90) }];
push @forbidden_12, ['a flood of empty records', 'unexpected', sub ($p) { join '', map { $p->seal($DATA, '') } 1 .. 500 }];
my @forbidden = (
    ['a changed byte of the text', 'mac',      sub ($p) { $p->seal($DATA, heartbeat('x'), flip => 40) }],
    ['a changed tag',              'mac',      sub ($p) { my $r = $p->seal($DATA, 'x'); $r ^. ("\0" x (length($r) - 1) . "\1") }],
    ['the same record twice',      'mac',      sub ($p) { $p->seal($DATA, Parley::Raw->frame(10, 'x')) x 2 }],
    ['one record left out',        'mac',      sub ($p) { $p->seal($DATA, 'x'); $p->seal($DATA, 'x') }],
    ['an alert of one byte',       'decode',   sub ($p) { $p->seal($ALERT, "\1") }],
    ['two alerts in a record',     'decode',   sub ($p) { $p->seal($ALERT, "\1\0\1\0") }],
    ['an empty alert',             'decode',   sub ($p) { $p->seal($ALERT, '') }],
    ['a fatal alert',              undef,      sub ($p) { $p->seal($ALERT, "\2\x14") }],
    ['HTTP',                       'unexpected', sub ($p) { "GET / HTTP/1.1\r\n\r\n" }],
);
for my $case (map({ [1.3, @$_] } @forbidden, @forbidden_13), map { [1.2, @$_] } @forbidden, @forbidden_12) {
    my ($version, $name, $alert, $make) = @$case;
    my $peer = open_peer($version);
    $peer->write($make->($peer));
    ends($peer, $alert && $alert{$alert}, "$version: $name: " . ($alert // 'the end'));
}

# --- an end without close_notify -------------------------------------------------

for my $version (1.2, 1.3) {
    my $bob  = $server->client(2);
    my $peer = open_peer($version);
    log_in($peer, 1);
    my $send = sub ($id) {
        return command('P_SEND_MESSAGE', RequestId => $id, ToUserList => [2], ClientMessageId => "$version$id", Message => $id);
    };
    $peer->send($DATA, $send->('whole'));
    is_answered($peer, 'whole', '... a message');
    my $record = $peer->seal($DATA, $send->('cut'));
    $peer->write(substr $record, 0, -1);
    my $count = $server->metric('parley_connections');
    shutdown $peer->{raw}{socket}, 1;
    ok(Parley::poll_until(5, sub { $server->metric('parley_connections') < $count }), '... cut off in a record');
    my @texts = map { $_->{Message} } $bob->events_so_far('P_MESSAGE');
    ok((grep { $_ eq 'whole' } @texts), '... the message has arrived');
    is_deeply([grep { $_ eq 'cut' } @texts], [], '... the rest counts for nothing');
    $bob->drop;
}

# --- a socket that is full ---------------------------------------------------------

# Messages that nobody takes until the server's socket is full, in the middle of
# a record; requests for new keys meanwhile. What follows must be the rest.
my $alice = $server->client(1);
my $user  = 10;
for my $case (@suites) {
    my ($version, $suite) = @$case;
    my $peer = open_peer($version, $suite, buffer => 65_536);
    $server->add_users(++$user);
    $server->add_contact(1, $user);
    log_in($peer, $user);
    my $before = $server->metric('parley_bytes_out_total');
    my @texts  = map { "$suite $_ " . 'y' x 60_000 } 1 .. 100;
    for my $text (@texts) {
        my $reply = $alice->request('P_SEND_MESSAGE', ToUserList => [$user], ClientMessageId => substr($text, 0, 64), Message => $text);
        $reply->{Reason} eq 'OK' or die encode_json($reply);
        $peer->write($peer->key_update(1)) if $version == 1.3;
    }
    cmp_ok($server->metric('parley_bytes_out_total') - $before, '<', 100 * 60_000, "$suite: a full socket");
    my $bytes = '';
    while (index($bytes, $texts[-1], length($bytes) > 80_000 ? length($bytes) - 80_000 : 0) < 0) {
        $bytes .= $peer->receive_type($DATA) // last;
    }
    my @came = $bytes =~ /(\Q$suite\E \d+ y+)/g;
    is_deeply(\@came, \@texts, '... and what waited for it comes whole and in order');
    $peer->close;
}
$alice->drop;

ok(Parley::poll_until(10, sub { $server->metric('parley_connections') == 0 }), 'nobody is left');
$server->finish;
done_testing;
