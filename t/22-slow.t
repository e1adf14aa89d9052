# People who are slow on purpose: request heads and frames that trickle in, byte
# by byte, from hundreds at once. They are ended in time or cost next to nothing,
# and two neighbours do not notice.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Guard;
use Parley::Raw;
use Parley::Story;
use Test::More;
use Time::HiRes qw(time);

my $CROWD   = 500;    # connections
my $IS_ASAN = ($ENV{PARLEY_ASAN} // '') eq 'yes';

my $server = Parley->start(
    tls  => 0,
    conf => {
        'server.header_timeout' => '2s',
        'server.auth_timeout'   => '2s',
        'policy.may_message'    => 'anyone',
        # every connection of this test is from one address
        'limits.connections_per_address' => 0,
    }
);
$server->add_users(1 .. 3);
my $guard = Parley::Guard->watch($server);
my $alice = $server->client(1);
my $bruno = $server->client(2);
my $said  = 0;

# One message there and acknowledged: seconds of the round trip.
sub round_trip () {
    my $text  = $guard->secret('a neighbour says something, ' . ++$said);
    my $at    = time;
    my $reply = send_text($alice, [2], $text);
    my $event = $bruno->expect_event('P_MESSAGE', 10, sub ($e) { $e->{Message} eq $text });
    $bruno->send_command('P_ACK', Seq => $event->{Seq});
    die encode_json($reply) if $reply->{Reason} ne 'OK';
    return time - $at;
}

# Each of them sends its next byte, in turn, until $until is true; neighbours
# talk all the while. Returns their times.
sub trickle ($bytes, $until, @crowd) {
    my ($at, @times) = (0);
    until ($until->()) {
        my $byte = substr $bytes, $at++ % length $bytes, 1;
        $_->write($byte) for @crowd;
        push @times, round_trip();
    }
    return @times;
}

sub noticed_nothing ($name, @times) {
    my @sorted = sort { $a <=> $b } @times;
    my $most   = $sorted[0.95 * $#sorted];
    diag sprintf '%s: round trip of two neighbours: median %.1f ms, 95 in 100 %.1f ms, of %d',
        $name, 1000 * median(@times), 1000 * $most, scalar @times;
    cmp_ok(median(@times), '<', Parley::scaled(0.1), "$name: neighbours notice nothing");
    cmp_ok($most, '<', Parley::scaled(0.5), '... hardly ever');
    return;
}

my $seconds = sub ($seconds) {
    my $end = time + $seconds;
    return sub () { time >= $end };
};
noticed_nothing('nobody else', trickle('x', $seconds->(1)));

# --- the head ------------------------------------------------------------------

my $before = $guard->workers_kib;
my $head   = "GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Slow: " . 'a' x 7000;
{
    my $began = time;
    my @crowd = map { Parley::Raw->connect($server->address) } 1 .. $CROWD;
    ok(Parley::poll_until(10, sub { $server->metric('parley_connections') == $CROWD + 2 }), "$CROWD strangers");
    my $opened = time - $began;
    my $gone;
    noticed_nothing("$CROWD heads that trickle", trickle($head, sub () {
        $gone = ($server->metric('parley_connections') // 999) <= 2;
        return $gone || time > $began + Parley::scaled(10);
    }, @crowd));
    ok($gone, '... a byte more wins no time: all are gone');
    cmp_ok(time - $began, '<', $opened + Parley::scaled(2 + 3), '... soon after header_timeout');
    my %answer;
    for my $raw (@crowd) {
        my ($status) = (eval { $raw->read_all } // '') =~ m{\AHTTP/1\.1 (\d+) };
        $answer{$status // 'none'}++;
    }
    is($answer{408} // 0, $CROWD, '... and were told why') || diag(encode_json(\%answer));
    cmp_ok($guard->workers_kib - $before, '<', ($IS_ASAN ? 256 : 16) * 1024, '... they took little memory');
}

# --- frames, before a login ------------------------------------------------------

my $frame = Parley::Raw->frame(1, encode_json({Command => 'P_HEARTBEAT', RequestId => 'slow'}));
{
    my @crowd = map { Parley::Raw->connect($server->address) } 1 .. $CROWD;
    $_->write(Parley::Raw->upgrade_head) for @crowd;
    $_->read_until(qr/\r\n\r\n/) for @crowd;
    my $began = time;
    my $gone;
    # a fragment without end: no message ever comes of it
    $_->write(Parley::Raw->frame(1, 'x', fin => 0)) for @crowd;
    noticed_nothing("$CROWD frames that trickle", trickle(Parley::Raw->frame(0, 'x' x 100, fin => 0), sub () {
        $gone = ($server->metric('parley_connections') // 999) <= 2;
        return $gone || time > $began + Parley::scaled(12);
    }, @crowd));
    ok($gone, '... who does not log in in time is gone, whatever he sends');
    is(scalar(grep { (eval { $_->read_close } // 0) == 1008 } @crowd), $CROWD, '... with 1008');
}

# --- frames, after one ---------------------------------------------------------------

{
    my $raw = Parley::Raw->connect($server->address);
    $raw->upgrade;
    $raw->write(Parley::Raw->frame(1, encode_json({Command => 'P_AUTHENTICATE', DeviceId => 'slow',
        Token => $guard->token($server->token(3)), RequestId => 'login'})));
    my $wait_for = sub ($id) {
        while (1) {
            my ($opcode, $text) = $raw->read_frame;
            return decode_json($text) if $opcode == 1 && (decode_json($text)->{RequestId} // '') eq $id;
        }
    };
    is($wait_for->('login')->{Reason}, 'OK', 'a session');
    # as long as its frame is
    my $left = length $frame;
    noticed_nothing('a request, byte by byte', trickle($frame, sub () { return $left-- == 0 }, $raw));
    is($wait_for->('slow')->{Reason}, 'OK', '... is answered, as late as it is');
    $raw->close;
}
cmp_ok($guard->workers_kib - $before, '<', ($IS_ASAN ? 512 : 24) * 1024, 'nothing of it remains');
$guard->finish;
done_testing;
