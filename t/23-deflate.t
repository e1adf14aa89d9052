# permessage-deflate: two libraries that nobody here wrote talk through it, and
# frames that no library would send close with their code.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use utf8;
use Compress::Raw::Zlib;
use Parley;
use Mojo::JSON qw(decode_json encode_json);
use Mojo::UserAgent;
use Parley::Guard;
use Parley::Raw;
use Parley::Story;
use Test::More;

my $MAX  = 256 * 1024;
my $OURS = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';

my $server = Parley->start(
    conf => {
        'server.deflate'          => 'yes',
        'server.deflate_min_size' => 300,
        'server.max_message_size' => $MAX,
        'log.level'               => 'debug',
    }
);
$server->add_users(1, 2, 3);
my $guard = Parley::Guard->watch($server);
my $said  = $guard->secret('what-is-said-stays-unsaid');

# --- negotiation ----------------------------------------------------------------

sub extensions ($offer) {
    my $raw  = Parley::Raw->connect($server->address);
    my $head = $raw->upgrade('Sec-WebSocket-Extensions' => $offer);
    return $head =~ /^Sec-WebSocket-Extensions: (.*?)\r$/m ? $1 : undef;
}
is(extensions('permessage-deflate'), $OURS, 'an offer is taken');
is(extensions('permessage-deflate; client_max_window_bits'), $OURS, '... that of a browser too');
is(extensions('permessage-deflate; server_max_window_bits=10'),
    "$OURS; server_max_window_bits=10", '... and a window limit answered');
is(extensions('permessage-deflate; server_max_window_bits=8, permessage-deflate'), $OURS,
    'the second of two when the first cannot be met');
is(extensions('permessage-deflate; mystery'), undef, 'what is not understood is declined');
{
    my $raw = Parley::Raw->connect($server->address);
    $raw->write($raw->upgrade_head('Sec-WebSocket-Extensions' => 'permessage-deflate;'));
    like($raw->read_all, qr{\AHTTP/1\.1 400 }, 'a malformed one is refused');
}

# --- frames made by hand ----------------------------------------------------------

sub pack_text ($text, %option) {
    my $deflate = Compress::Raw::Zlib::Deflate->new(-WindowBits => -15, -AppendOutput => 1,
        %option);
    $deflate->deflate($text, my $out);
    $deflate->flush($out, Z_SYNC_FLUSH);
    return substr $out, 0, -4;
}

sub unpack_text ($data) {
    my $inflate = Compress::Raw::Zlib::Inflate->new(-WindowBits => -15, -ConsumeInput => 0);
    my $status  = $inflate->inflate($data . "\0\0\xff\xff", my $out);
    die "inflate: $status\n" if $status != Z_OK && $status != Z_BUF_ERROR;
    return $out;
}

sub opened () {
    my $raw = Parley::Raw->connect($server->address);
    $raw->upgrade('Sec-WebSocket-Extensions' => 'permessage-deflate');
    return $raw;
}

sub packed_frame ($data, %option) { return Parley::Raw->frame(1, $data, rsv => 4, %option) }
sub beat ($id, %more) {
    return encode_json({Command => 'P_HEARTBEAT', RequestId => $id, %more});
}

sub reply_id ($raw) {
    while (1) {
        my ($opcode, $payload) = $raw->read_frame;
        die 'close ' . unpack('n', $payload) . "\n" if $opcode == 8;
        return decode_json($payload)->{RequestId} if $opcode == 1;
    }
}

{
    my $raw    = opened();
    my $packed = pack_text(beat('pieces', X => $said));
    $raw->write(packed_frame(pack_text(beat('whole', X => $said))));
    is(reply_id($raw), 'whole', 'a compressed request is answered');
    $raw->write(Parley::Raw->frame(1, beat('plain')));
    is(reply_id($raw), 'plain', '... a plain one behind it, too');
    $raw->write(packed_frame('', fin => 0));
    $raw->write(Parley::Raw->frame(0, $_, fin => 0) . Parley::Raw->frame(9, 'x'))
        for split //, $packed;
    $raw->write(Parley::Raw->frame(0, ''));
    is(reply_id($raw), 'pieces', '... one in pieces, with pings between them');
    my $final = Compress::Raw::Zlib::Deflate->new(-WindowBits => -15, -AppendOutput => 1);
    $final->deflate(beat('final'), my $out);
    $final->flush($out, Z_FINISH);
    $raw->write(packed_frame("$out\0"));
    is(reply_id($raw), 'final', '... one that ends with a final block');
    $raw->write(packed_frame($out));
    is(reply_id($raw), 'final', '... and without the byte behind it');
    $raw->write(packed_frame(pack_text(beat('long', X => ' ' x ($MAX - 1000)))));
    is(reply_id($raw), 'long', '... one that inflates to nearly all that is permitted');
}

sub violates ($name, $code, @bytes) {
    my $raw = opened();
    $raw->write($_) for @bytes;
    my ($got, $reason) = eval { $raw->read_close } or diag($@);
    is($got, $code, "$name: $code");
    unlike($reason // '', qr/\Q$said\E/, '... and its reason repeats nothing');
    return;
}
violates('an empty payload',           1007, packed_frame(''));
violates('no deflate data',            1007, packed_frame($said));
violates('a message cut off',          1007, packed_frame(substr pack_text(beat('x')), 0, -5));
violates('Latin-1, compressed',        1007, packed_frame(pack_text("{\"X\":\"caf\xe9\"}")));
violates('RSV1 on a continuation',     1002,
    packed_frame('', fin => 0), Parley::Raw->frame(0, '', rsv => 4));
violates('RSV1 on a ping',             1002, Parley::Raw->frame(9, '', rsv => 4));
violates('RSV1 and RSV2',              1002, Parley::Raw->frame(1, "\0", rsv => 6));
violates('binary, compressed',         1003, Parley::Raw->frame(2, "\0", rsv => 4));
violates('a byte too many, inflated',  1009, packed_frame(pack_text(' ' x ($MAX + 1))));
violates('a bomb',                     1009, packed_frame(pack_text(' ' x (64 * $MAX))));
violates('a bomb of final blocks',     1007, packed_frame("\x03\x00" x 20000));
violates('too many bytes on the wire', 1009,
    substr packed_frame('x' x ($MAX + 1)), 0, 14);
{
    my $raw = Parley::Raw->connect($server->address);
    $raw->upgrade;
    $raw->write(packed_frame(pack_text(beat('x'))));
    is(($raw->read_close)[0], 1002, 'RSV1 without an agreement: 1002');
}

# --- what comes back ---------------------------------------------------------------

{
    my $raw = opened();
    $raw->write(packed_frame(pack_text(encode_json({Command => 'P_AUTHENTICATE',
        RequestId => 'l', Token => $guard->token($server->token(3)), DeviceId => 'raw'}))));
    my ($first)  = unpack 'C', $raw->read_bytes(1);
    my ($second) = unpack 'C', $raw->read_bytes(1);
    my $length   = $second == 126 ? unpack('n', $raw->read_bytes(2)) : $second;
    my $payload  = $raw->read_bytes($length);
    is($first, 0xc1, 'a long reply is compressed: one frame, RSV1');
    my $login = decode_json(unpack_text($payload));
    is($login->{Reason}, 'OK', '... and can be inflated');
    cmp_ok($length, '<', length encode_json($login), '... to more than it was');
    $raw->write(Parley::Raw->frame(1, beat('short')));
    is(unpack('C', $raw->read_bytes(1)), 0x81, 'a short one is not');
}

# --- two libraries -------------------------------------------------------------------

my ($python) = grep {
    system("$_ -c 'import websockets' >/dev/null 2>&1") == 0
} '/usr/bin/python3', 'python3';

SKIP: {
    skip 'Python\'s websockets is not installed (python3-websockets)', 1 if !$python;
    my ($perl, @perl_got);
    my $ua = Mojo::UserAgent->new(inactivity_timeout => 0);
    $ua->websocket(
        $server->ws_url => {'Sec-WebSocket-Extensions' => 'permessage-deflate'} =>
            ['parley.v1'] => sub ($ua, $tx) {
            $perl = $tx;
            $tx->on(json => sub ($tx, $message) { push @perl_got, $message })
                if $tx->is_websocket;
        }
    );
    Parley::poll_until(10, sub {$perl});
    ok($perl && $perl->is_websocket && $perl->compressed, 'Mojo::UserAgent agrees to it');

    my $out = $server->dir . '/python';
    open my $in, '|-', "exec $python $FindBin::Bin/lib/other_client.py "
        . $server->ws_url . " >$out"
        or die "fork: $!\n";
    $in->autoflush(1);
    my $seen   = 0;
    my $expect = sub ($matches) {
        return Parley::poll_until(10, sub {
            my @lines = Parley::slurp($out) =~ /(.*)\n/g;
            while ($seen < @lines) {
                my $line = $lines[$seen++];
                return $line if $line =~ $matches;
            }
            return;
        }) // die "no $matches in time:\n" . Parley::slurp($out);
    };
    is($expect->(qr/^open/), 'open parley.v1 permessage-deflate', 'so does Python\'s websockets');

    my $perl_next = sub ($matches) {
        return Parley::poll_until(10, sub {
            for my $i (0 .. $#perl_got) {
                return splice @perl_got, $i, 1 if $matches->($perl_got[$i]);
            }
            return;
        }) // die 'nothing in time: ' . encode_json(\@perl_got) . "\n";
    };
    # Mojo 9.31 keeps its window although client_no_context_takeover was answered
    # (RFC 7692 7.1.1.2): it is given a new one for each message.
    my $perl_send = sub (%fields) {
        delete $perl->{deflate};
        $perl->send({json => \%fields});
    };
    my $perl_request = sub (%fields) {
        $perl_send->(%fields);
        return $perl_next->(sub ($m) { ($m->{RequestId} // '') eq $fields{RequestId} });
    };
    my $python_request = sub ($order, %fields) {
        print {$in} "$order ", encode_json(\%fields), "\n";
        my $line = $expect->(qr/^text .*"RequestId":"\Q$fields{RequestId}\E"/);
        return decode_json(substr $line, 5);
    };
    is($perl_request->(Command => 'P_AUTHENTICATE', RequestId => 'login',
        Token => $server->token(1), DeviceId => 'perl')->{Reason}, 'OK', 'Perl logs in');
    is($python_request->('send', Command => 'P_AUTHENTICATE', RequestId => 'login',
        Token => $server->token(2), DeviceId => 'python')->{Reason}, 'OK', 'Python logs in');

    my $before = $server->metric('parley_deflate_saved_bytes_total');
    for my $length (1, 10, 200, 300, 2000, 21000) {
        my $text = substr "Grüße und Küsse, \x{1f42a} $length " x 3000, 0, $length;
        is($perl_request->(Command => 'P_SEND_MESSAGE', RequestId => "p-$length",
            ToUserList => [2], Message => $text, ClientMessageId => "p-$length")->{Reason}, 'OK',
            "Perl writes $length characters");
        my $event = decode_json(substr $expect->(qr/^text .*"P_MESSAGE"/), 5);
        ok($event->{Message} eq $text, '... Python reads them');
        print {$in} 'send ', encode_json({Command => 'P_ACK', Seq => $event->{Seq}}), "\n";
        is($python_request->($length % 2 ? 'send' : 'fragments', Command => 'P_SEND_MESSAGE',
            RequestId => "y-$length", ToUserList => [1], Message => $text,
            ClientMessageId => "y-$length")->{Reason}, 'OK', '... writes them back');
        $event = $perl_next->(sub ($m) { $m->{Command} eq 'P_MESSAGE' });
        ok($event->{Message} eq $text, '... Perl reads them');
        $perl_send->(Command => 'P_ACK', Seq => $event->{Seq});
    }
    my $saved = $server->metric('parley_deflate_saved_bytes_total') - $before;
    # Of two deliveries of each text of 300 characters and more.
    cmp_ok($saved, '>', 2 * 21000, 'bytes were saved');
    print {$in} "close\n";
    is($expect->(qr/^close/), 'close 1000 ', 'Python says goodbye');
    close $in;
}
cmp_ok($server->metric('parley_inflated_bytes_total'), '>', $MAX - 1000, 'what came is counted');

# --- parleyload, over both kinds of connection -------------------------------------------

my $both = Parley->start(
    tls  => 1,
    conf => {
        'auth.auto_provision' => 'yes',
        'policy.may_message'  => 'anyone',
        'server.deflate'      => 'yes',
        'store.map_size'      => '2G',
    }
);

sub load ($url, @more) {
    my ($code, $out, $err) = $both->run(
        [
            Parley::program('parleyload'), qw(pairs --quiet --json -n 5 --window 2 --size 800),
            qw(--duration 0.5 --warmup 0 --drain 60), '--url', $url, '--secret', $both->secret,
            @more
        ],
        {timeout => 120}
    );
    is($code, 0, 'parleyload has found nothing wrong') or diag($out, $err);
    return decode_json($out);
}
my @urls = ('ws://' . $both->address . '/ws', 'wss://' . $both->tls_address . '/ws');
for my $url (@urls) {
    my ($plain, $packed) = (load($url)->{wire}, load($url, '--deflate')->{wire});
    my ($kind) = $url =~ /\A(\w+)/;
    is($packed->{deflate_agreed}, 10, "$kind: all have compression");
    cmp_ok($packed->{"inflated_${_}_bytes"}, '>', 800, "... $_: texts are compressed") for qw(in out);
    cmp_ok($packed->{"deflate_${_}_ratio"}, '<', 0.6, '... to less') for qw(in out);
    for my $way (qw(to_server from_server)) {
        my $key = "${way}_bytes_per_message";
        cmp_ok($plain->{$key}, '>', 800, "... $way: a message takes its length without");
        cmp_ok($packed->{$key}, '<', 0.7 * $plain->{$key}, '... and less with compression');
    }
}
$both->set('server.deflate' => 'no');
is(($both->ctl('reload'))[0], 0, 'switched off');
ok($both->await_log(qr/ reload-done /, 20), '... for new connections');
is(load($urls[0], '--deflate')->{wire}{deflate_agreed}, 0, '... which is no failure');
$both->finish;

# --- a reload switches it off for new connections ---------------------------------------

$server->set('server.deflate' => 'no');
is(($server->ctl('reload'))[0], 0, 'a reload without it');
ok(Parley::poll_until(20, sub { !defined eval { extensions('permessage-deflate') } }),
    '... new connections are declined');
ok($server->await_log(qr/ reload-done /, 20), '... by new workers');
$guard->renew;
$guard->finish;
done_testing;
