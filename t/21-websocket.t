# Frames as RFC 6455 permits them work; all others close with their code.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Guard;
use Parley::Raw;
use Test::More;

my $MAX = 64 * 1024;

my $server = Parley->start(
    conf => {
        'server.max_message_size' => $MAX,
        'server.ping_interval'    => '200ms',
        'log.level'               => 'debug',
    }
);
$server->add_users(1, 2);
my $guard  = Parley::Guard->watch($server);
my $marker = $guard->secret('what-is-said-stays-unsaid');

my %OPCODE = (continuation => 0, text => 1, binary => 2, close => 8, ping => 9, pong => 10);

sub frame ($kind, $payload = '', %option) {
    return Parley::Raw->frame($OPCODE{$kind} // $kind, $payload, %option);
}

sub beat ($id) {
    return encode_json({Command => 'P_HEARTBEAT', RequestId => $id});
}

sub opened () {
    my $raw = Parley::Raw->connect($server->address);
    $raw->upgrade;
    return $raw;
}

# The next frame that is none of the server's own pings.
sub next_frame ($raw) {
    while (1) {
        my ($opcode, $payload, $fin) = $raw->read_frame;
        return ($opcode, $payload, $fin) if $opcode != $OPCODE{ping};
    }
}

sub reply_id ($raw) {
    my ($opcode, $payload) = next_frame($raw);
    return "opcode $opcode" if $opcode != $OPCODE{text};
    return decode_json($payload)->{RequestId};
}

# Bytes that break a rule: a close frame with the code, then the end.
sub violates ($name, $code, @bytes) {
    my $raw = opened();
    $raw->write($_) for @bytes;
    my ($got, $reason) = eval { $raw->read_close } or diag($@);
    subtest "$name: $code" => sub {
        is($got, $code, 'the code');
        like($reason // '', qr/\A[ -~]{5,}\z/, 'and a reason to read');
        unlike($reason // '', qr/\Q$marker\E/, '... which repeats nothing');
        is(eval { $raw->read_all } // $@, '', 'then the end');
    };
    return;
}

sub works ($name, @bytes) {
    my $raw = opened();
    $raw->write($_) for @bytes, frame('text', beat('after'));
    is(reply_id($raw), 'after', $name);
    return;
}

# A connection that will say nothing while all else is tried.
my $silent = opened();

# --- what must be refused ------------------------------------------------------

violates('a frame without a mask', 1002, frame('text', beat(1), mask => undef));
violates('a ping without a mask',  1002, frame('ping', 'x',     mask => undef));
violates("reserved bits $_", 1002, frame('text', beat(1), rsv => $_)) for 1 .. 7;
violates("reserved bits $_ on a ping", 1002, frame('ping', '', rsv => $_)) for 1, 2, 4;
violates("opcode $_", 1002, frame($_, 'x')) for 3 .. 7, 11 .. 15;
for my $kind (qw(close ping pong)) {
    violates("$kind in fragments", 1002, frame($kind, '', fin => 0));
    violates("$kind of 126 bytes", 1002, frame($kind, 'x' x 126));
    violates("$kind with a 64-bit length", 1002, frame($kind, 'x', wide => 8));
}
violates("length $_ in 16 bits", 1002, frame('text', ' ' x $_, wide => 2)) for 0, 1, 125;
violates("length $_ in 64 bits", 1002, frame('text', ' ' x $_, wide => 8)) for 0, 125, 126, 65535;
violates('highest bit of the length', 1002, pack('CCQ>', 0x81, 0xff, 1 << 63) . 'mask');
violates('continuation of nothing', 1002, frame('continuation', 'x'));
violates('continuation after the end', 1002,
    frame('text', '{', fin => 0), frame('continuation', '}'), frame('continuation', 'x'));
violates('a message inside another', 1002,
    frame('text', '{', fin => 0), frame('text', beat(1)));
violates('binary', 1003, frame('binary', beat(1)));
violates('empty binary', 1003, frame('binary'));
violates('binary in fragments', 1003, frame('binary', 'x', fin => 0));
violates('binary, announced only', 1003, substr frame('binary', $marker), 0, 6);

my %text = (
    'a lone continuation byte'      => "\x80",
    'no second byte'                => "\xc3(",
    'an overlong slash'             => "\xc0\xaf",
    'an overlong NUL'               => "\xc0\x80",
    'an overlong of three'          => "\xe0\x80\xaf",
    'an overlong of four'           => "\xf0\x80\x80\xaf",
    'a surrogate'                   => "\xed\xa0\x80",
    'a surrogate pair'              => "\xed\xa0\xbd\xed\xb8\x80",
    'beyond U+10FFFF'               => "\xf4\x90\x80\x80",
    'F5'                            => "\xf5\x80\x80\x80",
    'FE and FF'                     => "\xfe\xff",
    'five bytes'                    => "\xf8\x88\x80\x80\x80",
    'Latin-1'                       => "caf\xe9",
    'an end within a character'     => "\xe2\x82",
    'an end within one of four'     => "\xf0\x9f\x98",
);
for my $name (sort keys %text) {
    my $bad = qq({"Command":"P_HEARTBEAT","X":") . $text{$name};
    violates("UTF-8: $name", 1007, frame('text', $bad));
    violates("UTF-8: $name, byte by byte in fragments", 1007,
        frame('text', '', fin => 0),
        (map { frame('continuation', $_, fin => 0) } split //, $bad),
        frame('continuation'));
}
violates('bad UTF-8, before its frame is whole', 1007,
    substr frame('text', "\xff" . ' ' x 1000), 0, 100);
violates('bad UTF-8, before its message ends', 1007, frame('text', "{\xc0", fin => 0));

violates('one byte too many, as soon as announced', 1009,
    substr frame('text', ' ' x ($MAX + 1)), 0, 14);
violates("a length of $_", 1009, pack('CCQ>', 0x81, 0xff, $_) . 'mask')
    for 1 << 24, 1 << 32, (1 << 63) - 1;
violates('fragments that add up to too much', 1009,
    frame('text', ' ' x $MAX, fin => 0), substr frame('continuation', ' '), 0, 6);
violates('many small ones that do', 1009,
    frame('text', '', fin => 0),
    join('', map { frame('continuation', ' ' x 1024, fin => 0) } 1 .. $MAX / 1024 + 1));

# --- closing ---------------------------------------------------------------------

violates('a close with half a code', 1002, frame('close', "\x03"));
violates("close code $_", 1002, frame('close', pack 'n', $_))
    for 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535;
violates('a close reason in Latin-1', 1007, frame('close', pack 'na*', 1000, "\xe9"));
for my $code (1000 .. 1003, 1007 .. 1014, 3000, 3999, 4000, 4999) {
    my $raw = opened();
    $raw->write(frame('close', pack 'na*', $code, "r\xc3\xa9sum\xc3\xa9"));
    is(($raw->read_close)[0], $code, "close $code is echoed");
    is($raw->read_all, '', '... and is the end');
}
{
    my $raw = opened();
    $raw->write(frame('close'));
    is(($raw->read_close)[0], 1005, 'a close without a code is echoed without one');
    is($raw->read_all, '', '... and is the end');
}
{
    my $raw = opened();
    $raw->write(frame('text', beat(1)) . frame('close', pack 'n', 1000)
            . frame('text', beat(2)) . frame(3, 'x', mask => undef));
    is(reply_id($raw), 1, 'what came before the close is answered');
    is(($raw->read_close)[0], 1000, '... then the close');
    is($raw->read_all, '', '... and nothing behind it');
}
{
    my $raw = opened();
    $raw->write(frame('text', '{', fin => 0) . frame('close', pack 'n', 1001));
    is(($raw->read_close)[0], 1001, 'a close inside a message');
}

# --- what must work ---------------------------------------------------------------

for my $size (0, 1, 125) {
    my $raw = opened();
    $raw->write(frame('ping', 'p' x $size));
    my ($opcode, $payload) = next_frame($raw);
    is($opcode, $OPCODE{pong}, "a ping of $size bytes gets a pong");
    is($payload, 'p' x $size, '... with the same');
}
works('a pong nobody asked for', frame('pong', 'x'), frame('pong'));
{
    my $raw = opened();
    $raw->write(frame('text') . frame('text', beat(2)));
    my $reply = decode_json((next_frame($raw))[1]);
    is($reply->{Command}, 'P_ERROR', 'an empty text: P_ERROR');
    is($reply->{Reason}, 'BAD_REQUEST', '... BAD_REQUEST');
    is(reply_id($raw), 2, '... and it goes on');
}
{
    my $raw  = opened();
    my $text = beat(1) . ' ' x ($MAX - length beat(1));
    $raw->write(frame('text', $text));
    is(reply_id($raw), 1, 'a message of exactly the largest size');
    $raw->write(join '', frame('text', substr($text, 0, 1), fin => 0),
        frame('continuation', substr($text, 1), fin => 0), frame('continuation'));
    is(reply_id($raw), 1, '... in fragments too');
}
{
    # Every byte a frame, with pings and empty fragments between, at once and
    # then byte by byte.
    my $text = encode_json({Command => 'P_HEARTBEAT', RequestId => 'f', X => "\x{1f600}\x{e9}"});
    my $bytes = join '', frame('text', '', fin => 0),
        (map { (frame('continuation', $_, fin => 0), frame('continuation', '', fin => 0),
                frame('pong', 'x')) } split //, $text),
        frame('continuation');
    my $raw = opened();
    $raw->write($bytes);
    is(reply_id($raw), 'f', 'a message in fragments of one byte');
    $raw->write($_) for split //, $bytes;
    is(reply_id($raw), 'f', '... and each of those byte by byte');
}
{
    my $raw = opened();
    $raw->write(frame('text', '{"Command":', fin => 0) . frame('ping', 'mid'));
    my ($opcode, $payload) = next_frame($raw);
    is("$opcode $payload", "$OPCODE{pong} mid", 'a ping inside a message is answered at once');
    $raw->write(frame('continuation', '"P_HEARTBEAT","RequestId":1}'));
    is(reply_id($raw), 1, '... and the message goes on');
}
{
    my $raw = opened();
    $raw->write(join '', map { frame('text', beat($_), mask => pack 'N', $_ * 0x01234567 % 2**32) } 1 .. 500);
    is_deeply([map { reply_id($raw) } 1 .. 500], [1 .. 500], '500 messages in one go, in order');
}
{
    my $raw = opened();
    $raw->write(frame('text', beat(1), mask => "\0\0\0\0"));
    is(reply_id($raw), 1, 'a mask of zeros is a mask');
}
{
    # The close must follow the last reply, however much was asked for.
    my $raw = opened();
    $raw->write(join('', map { frame('text', beat($_)) } 1 .. 2000) . frame('close', pack 'n', 1000));
    my $count = 0;
    while (1) {
        my ($opcode) = next_frame($raw);
        last if $opcode == $OPCODE{close};
        $count++;
    }
    is($count, 2000, 'replies under way are sent before the close');
}

# --- one's violation is nobody else's ------------------------------------------------

{
    my $alice = $server->client(1);
    my $bruno = $server->client(2);
    my $sent  = $alice->submit('P_SEND_MESSAGE', ToUserList => [2],
        Message => $marker, ClientMessageId => 'm');
    violates('meanwhile', 1002, frame(5, $marker));
    is($bruno->expect_event('P_MESSAGE')->{Message}, $marker, 'others talk on');
    is($alice->wait_reply($sent)->{Reason}, 'OK', '... both ways');
    $_->close for $alice, $bruno;
}

# --- signs of life ------------------------------------------------------------------

{
    my ($opcode, $payload, $fin) = $silent->read_frame;
    is($opcode, $OPCODE{ping}, 'the server pings a silent client');
    is($fin, 1, '... in one frame');
    my $alive = opened();
    my $end = eval { $silent->read_all(20) } // $@;
    like($end, qr/\A(?:\x89\x00)+\z/, 'silence for too long: an end, nothing but pings before it');
    # By the server's own clock: a ping each 200 ms and what its timer rounds
    # up, for 8.2 s; whoever forgets the 8 s sends one or two.
    my $pings = 1 + length($end) / 2;
    cmp_ok($pings, '>=', 20, '... not before 8 s have passed');
    cmp_ok($pings, '<=', 45, '... nor long after');
    $alive->write(frame('text', beat('late')));
    is(reply_id($alive), 'late', 'a younger one lives');
}

$guard->finish;
done_testing;
