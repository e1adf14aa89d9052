# Chance, but the same each time: bytes, frames and requests that are nearly
# right, from several connections at once. Nothing may crash, hang or be told
# to a third; afterwards two people talk as before.
#
#     PARLEY_FUZZ_SEED=7 PARLEY_FUZZ_ROUNDS=20000 t/run-tests t/43-fuzz.t
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(encode_json);
use Parley;
use Parley::Guard;
use Parley::Raw;
use Test::More;

my $SEED   = $ENV{PARLEY_FUZZ_SEED}   // 20_240_229;
my $ROUNDS = $ENV{PARLEY_FUZZ_ROUNDS} // 1500;
my $PEERS  = 8;

my $server = Parley->start(conf => {'server.auth_timeout' => '5s', 'policy.inbox_window' => 4096});
$server->add_users(1 .. 4);
my $guard = Parley::Guard->watch($server);
srand $SEED;
note("seed $SEED, $ROUNDS rounds");

my $alice = $server->client(1);
my $bruno = $server->client(2);
my $told  = $guard->secret('between Alice and Bruno');
is($alice->request('P_SEND_MESSAGE', ToUserList => [2], Message => $told, ClientMessageId => 'a')->{Reason}, 'OK', 'two talk');
my $first = $bruno->expect_event('P_MESSAGE');

# All that there are; of messages more.
my @commands = Parley::slurp(Parley::source_dir() . '/src/worker/commands.def') =~ /^COMMAND\((\w+)/mg;
push @commands, qw(P_SEND_MESSAGE P_SEND_MESSAGE P_NONE);
my @fields = qw(Seq Token DeviceId LastSeq Epoch Status StatusText UserId Cursor Limit Refresh ConversationId Before After
    Forget MessageId ToUserList GroupId CollaborationId Message ClientMessageId Type ClientInitiationTime ReplyTo Attachment
    State Name Profile RequestId Command X Kind ClientCollaborationId Payload ToUserId ToSessionId Signal);

sub pick (@list) { return $list[rand @list] }

my @values = (
    sub { int rand 5 }, sub { 3 + int rand 2 }, sub { -1 }, sub { '9007199254740991' }, sub { '1e5' }, sub { '"' . int(rand 5) . '"' },
    sub { '"' . 'x' x rand(80) . '"' }, sub { '"\u0000\ud83d\ude00\n"' }, sub {'""'}, sub {'null'}, sub { pick(qw(true false)) },
    sub { '[' . join(',', map { 1 + int rand 4 } 0 .. rand 5) . ']' }, sub {'[]'}, sub {'{}'}, sub {'{"Url":"u","Size":1}'},
    sub { pick(qw("ONLINE" "AWAY" "INVISIBLE" "STARTED" "STOPPED" "VIDEO" "681f9d19b9c66c8b")) }, sub { pick(qw("1-2" "1-3" "3-4")) },
    sub { qq("$first->{MessageId}") }, sub { '"' . $server->token(3 + int rand 2) . '"' },
);

sub random_json () {
    my %all = (Command => '"' . pick(@commands) . '"', RequestId => int rand 100);
    $all{pick(@fields)} = pick(@values)->() for 0 .. rand 6;
    # Half of them have what they need.
    %all = (ToUserList => '[' . (3 + int rand 2) . ']', Message => '"m"', ClientMessageId => '"' . int(rand 50) . '"',
        UserId => 3, ToUserId => 4, Kind => '"AUDIO"', ClientCollaborationId => '"' . int(rand 50) . '"',
        ($all{Command} =~ /SIGNAL|COLLAB/ ? (CollaborationId => '"5"') : ()), Signal => '{"sdp":"v=0"}', State => '"STARTED"', Status => '"ONLINE"', Seq => 0, %all) if rand() < 0.5;
    my $text = '{' . join(',', map {qq("$_":$all{$_})} sort keys %all) . '}';
    if (rand() < 0.2) {
        my $at = int rand length $text;
        pick(
            sub { substr $text, $at, 1, chr rand 128 },
            sub { substr $text, $at },
            sub { substr $text, $at, 0, pick('{', '[', '"', '\\', ',', "\0", "\xc3\xa9") },
        )->();
        $text = substr $text, 0, $at if rand() < 0.2;
    }
    return $text;
}

sub random_bytes ($max) { return join '', map { chr rand 256 } 1 .. rand $max }

sub random_frame () {
    my $chance = rand;
    return Parley::Raw->frame(1, random_json()) if $chance < 0.80;
    if ($chance < 0.90) {
        my $text = random_json();
        my $cut  = int rand length $text;
        return Parley::Raw->frame(1, substr($text, 0, $cut), fin => 0) . pick('', Parley::Raw->frame(9, random_bytes(125)))
            . Parley::Raw->frame(0, substr $text, $cut);
    }
    return Parley::Raw->frame(pick(9, 10), random_bytes(126)) if $chance < 0.96;
    return Parley::Raw->frame(int rand 16, random_bytes(200), fin => int rand 2, rsv => pick(0, 0, int rand 8), length => pick(map { int rand $_ } 5, 200, 2**20, 2**40))
        if $chance < 0.99;
    return random_bytes(100);
}

# A connection with what it is to send; often logged in, as user 3 or 4.
sub peer () {
    my $raw = Parley::Raw->connect($server->address);
    $raw->{socket}->blocking(0);
    my $bytes = rand() < 0.05 ? random_bytes(300) : Parley::Raw->upgrade_head;
    $bytes .= Parley::Raw->frame(1, encode_json({Command => 'P_AUTHENTICATE', DeviceId => 'd' . int rand 3, Token => $server->token(3 + int rand 2)}))
        if rand() < 0.8;
    return {raw => $raw, out => $bytes, left => 5 + int rand 40, seen => ''};
}

# What may come in is read and searched; false at the end of the stream.
sub drain ($peer) {
    while (1) {
        my $n = sysread $peer->{raw}{socket}, my $bytes, 65_536;
        return 1 if !defined $n && $!{EAGAIN};
        return 0 if !$n;
        $peer->{seen} = substr($peer->{seen}, -100) . $bytes;
        $peer->{has_leak} = 1 if index($peer->{seen}, $told) >= 0;
    }
}

my ($ended, $leaks) = (0, 0);
my @peers = map { peer() } 1 .. $PEERS;
for my $round (1 .. $ROUNDS) {
    my $peer = $peers[rand @peers];
    $peer->{out} .= random_frame();
    my $n = syswrite $peer->{raw}{socket}, $peer->{out}, rand() < 0.3 ? 1 + int rand length $peer->{out} : length $peer->{out};
    substr $peer->{out}, 0, $n, '' if $n;
    my $is_open = rand() < 0.7 ? drain($peer) : 1;
    $is_open = 0 if !defined $n && !$!{EAGAIN};
    next if $is_open && $peer->{left}-- > 0;
    $leaks++ if $peer->{has_leak};
    $ended++;
    $peer->{raw}->close;
    @peers = ((grep { $_ != $peer } @peers), peer());
    Parley::tick();
}
cmp_ok($ended, '>', $ROUNDS / 60, "$ended connections came and went");
is($leaks, 0, 'none of them saw what two others said');
$_->{raw}->close for @peers;

my $after = $alice->request('P_SEND_MESSAGE', ToUserList => [2], Message => 'after', ClientMessageId => 'z');
is($after->{Reason}, 'OK', 'the two talk on');
# 3 and 4 may write to them, too.
is($bruno->expect_event('P_MESSAGE', 10, sub ($e) { $e->{Message} eq 'after' })->{FromUser}{UserId}, 1, '... and hear each other');
is_deeply([map { $_->{Message} } $bruno->request('P_GET_MESSAGES', UserId => 1)->{Messages}->@*], ['after', $told], '... nothing has come between');
my $left = Parley::poll_until(20, sub { ($server->metric('parley_connections') // 99) <= 2 });
ok($left, 'no connection is left over');
$guard->finish;
done_testing;
