# Twenty clients that send as fast as they can, of each kind, beside one who
# talks: he notices little, and the worker has time left.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Select;
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Guard;
use Parley::Raw;
use Parley::Story;
use POSIX ();
use Socket qw(SOL_SOCKET SO_LINGER);
use Test::More;

my $FLOODERS = 20;
my $SECONDS  = 0.5;
my $ROOM     = 48 * 1024;    # KiB
$ROOM = 1024 * 1024 if ($ENV{PARLEY_ASAN} // '') eq 'yes';

my $server = Parley->start(tls => 0, conf => {
    'server.workers'     => 1,
    'policy.may_message' => 'anyone',
    'limits.exempt'      => '',
    # As much as a program of this speed (sanitizers) can do in the time.
    map { ("limits.$_->[0]" => int $_->[1] / Parley::scaled(1)) }
        [commands_per_connection => 100_000], [commands_per_user => 100_000], [frames_per_connection => 50_000],
        [queries_per_user => 2000], [bad_tokens_per_address => 200],
});
$server->add_users(1, 2, 3);
is(($server->ctl('user', 'add', '--range', '1000-1239'))[0], 0, 'those who flood');
my $guard = Parley::Guard->watch($server);
my $alice = $server->client(1);
my $bruno = $server->client(2);

sub text_frame ($command, %fields) {
    return Parley::Raw->frame(1, encode_json({Command => $command, %fields}));
}

sub entered ($id) {
    my $raw = Parley::Raw->connect($server->address);
    # When it goes, what the server has not read is dropped, and it sees so.
    setsockopt $raw->{socket}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0 or die "SO_LINGER: $!\n";
    $raw->upgrade;
    return $raw if !$id;
    $raw->write(text_frame('P_AUTHENTICATE', Token => $server->token($id), DeviceId => 'd'));
    $raw->read_until(qr/"Command":"P_AUTHENTICATE".*?\}/s);
    return $raw;
}

# Write as fast as the server reads, throw away what it says.
sub flood_on (@raw) {
    my %of = map { $_->{socket}->blocking(0); ("$_->{socket}" => $_) } @raw;
    my $all = IO::Select->new(map { $_->{socket} } @raw);
    while ($all->count) {
        my ($in, $out) = IO::Select->select($all, $all, undef, 1);
        for my $socket (($in // [])->@*) {
            my $n = sysread $socket, my $waste, 1 << 20;
            $all->remove($socket) if defined $n ? !$n : !$!{EAGAIN};
        }
        for my $socket (grep { $all->exists($_) } ($out // [])->@*) {
            my $raw = $of{$socket};
            my $n   = syswrite $socket, $raw->{flood}, length($raw->{flood}) - $raw->{at}, $raw->{at};
            $raw->{at} = ($raw->{at} + $n) % length $raw->{flood} if $n;
            $all->remove($socket) if !defined $n && !$!{EAGAIN};
        }
    }
    return;
}

# Seconds of processor that the worker has had.
sub worker_cpu () {
    my $stat = Parley::slurp('/proc/' . $server->pids->{'worker-0'} . '/stat');
    my @field = split ' ', $stat =~ s/.*\) //r;
    return ($field[11] + $field[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

my $said      = 0;
my $next_user = 1000;

# $flood->($n): what number n sends again and again. start: what it sends once.
sub beside_a_flood ($name, $most_cpu, $flood, %arg) {
    my @raw = map { entered($arg{stranger} ? 0 : $next_user++) } 1 .. $FLOODERS;
    for my $n (0 .. $#raw) {
        $raw[$n]{flood} = $flood->($n);
        $raw[$n]{at}    = 0;
        $raw[$n]->write($arg{start}) if $arg{start};
    }
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        flood_on(@raw);
        POSIX::_exit(0);
    }
    $_->close for @raw;
    my ($cpu, $start, @took) = (worker_cpu(), now());
    while (now() - $start < Parley::scaled($SECONDS) || @took < 10) {
        my $at = now();
        my $id = $alice->submit('P_SEND_MESSAGE', ToUserList => [2], Message => 'm ' . ++$said, ClientMessageId => "m-$said");
        my $event = $bruno->expect_event('P_MESSAGE', 20, sub ($event) { $event->{Message} eq "m $said" });
        $bruno->send_command('P_ACK', Seq => $event->{Seq}) if !($said % 50);
        $alice->wait_reply($id);
        push @took, now() - $at;
    }
    my $share = (worker_cpu() - $cpu) / (now() - $start);
    my ($ms, $worst) = map { sprintf '%.1f', 1000 * $_ } median(@took), (sort { $a <=> $b } @took)[-1];
    note(sprintf '%s: %d messages, median %s ms, worst %s ms, worker %d %% busy', $name, scalar @took, $ms, $worst, 100 * $share);
    cmp_ok($ms, '<', Parley::scaled(60), "$name: a message arrives in time");
    cmp_ok($share, '<', $most_cpu, '... and the worker has time left');
    kill KILL => $pid;
    waitpid $pid, 0;
    return;
}

my $idle_kib = $guard->workers_kib;
my $raw      = 'Parley::Raw';
beside_a_flood('pings',           0.5, sub ($n) { $raw->frame(9,  '') x 5000 });
beside_a_flood('long pings',      0.5, sub ($n) { $raw->frame(9,  'p' x 125) x 1000 });
beside_a_flood('pongs',           0.5, sub ($n) { $raw->frame(10, '') x 5000 });
beside_a_flood('empty fragments', 0.5, sub ($n) { $raw->frame(0,  '', fin => 0) x 5000 }, start => $raw->frame(1, '', fin => 0));
beside_a_flood('fragments of a byte', 0.5, sub ($n) { $raw->frame(0, 'x', fin => 0) x 5000 }, start => $raw->frame(1, 'x', fin => 0));
beside_a_flood('heartbeats',      0.8, sub ($n) { text_frame('P_HEARTBEAT', RequestId => 1) x 1000 });
beside_a_flood('rubbish',         0.8, sub ($n) { $raw->frame(1, 'x') x 5000 });
beside_a_flood('typing',          0.8, sub ($n) { text_frame('P_TYPING', ToUserList => [3], State => 'STARTED') x 1000 });
beside_a_flood('commands of strangers', 0.8, sub ($n) { text_frame('P_HEARTBEAT', RequestId => 1) x 1000 }, stranger => 1);
beside_a_flood('history',         0.9, sub ($n) { text_frame('P_GET_MESSAGES', UserId => 2, Limit => 200, RequestId => 1) x 500 });
my $wrong = $guard->secret(Parley::sign({alg => 'HS256'}, {sub => '3', exp => int(time) + 60}, 'not the secret'));
beside_a_flood('wrong tokens',    0.8, sub ($n) { text_frame('P_AUTHENTICATE', Token => $wrong, DeviceId => 'd', RequestId => 1) x 500 },
    stranger => 1);
# One who is in, and neither reads nor acknowledges.
my $deaf = Parley::Raw->connect($server->address, buffer => 4096);
$deaf->upgrade;
$deaf->write(text_frame('P_AUTHENTICATE', Token => $server->token(3), DeviceId => 'deaf'));
$deaf->read_until(qr/"Command":"P_AUTHENTICATE".*?\}/s);
beside_a_flood('messages to one reader', 1.1, sub ($n) {
    join '', map { text_frame('P_SEND_MESSAGE', ToUserList => [3], Message => 'x' x 200, ClientMessageId => "$n-$_", RequestId => $_) } 1 .. 500;
});
cmp_ok($guard->workers_kib - $idle_kib, '<', $ROOM, 'all of that took little memory');
my $gone = Parley::poll_until(30, sub { ($server->metric('parley_connections') // 99) == 3 });
ok($gone, '... and when they have gone nothing of them remains');
cmp_ok($server->metric("parley_$_"), '>', 0, "$_ says so")
    for qw(commands_delayed_total frames_delayed_total queries_limited_total tokens_limited_total);
$guard->finish;
done_testing;
