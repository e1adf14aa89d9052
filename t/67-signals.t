# A worker dies while signals of a call pass through it: what was answered OK
# has arrived, once and in order, and the call's signals go on.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(encode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

my $seed = $ENV{PARLEY_SEED} // int rand 1_000_000;
srand $seed;
note "PARLEY_SEED=$seed";
my $rounds = fault_rounds(4, 60);
my $server = Parley->start(
    conf => {
        # who waits for a worker that is gone hears it before that
        'directory.request_timeout' => '1m',
        'supervisor.min_uptime'     => '100ms',
    }
);
$server->add_users(1, 2);
my %client = (
    alice => client_on($server, 'worker-0', 1, DeviceId => 'alice'),
    bruno => client_on($server, 'worker-1', 2, DeviceId => 'bruno'),
);
my $call = $client{alice}->request(
    'P_COLLABORATION_CREATE',
    ToUserList            => [2],
    Kind                  => 'VIDEO',
    ClientCollaborationId => 'c-1'
)->{CollaborationId};
is($client{bruno}->request('P_COLLABORATION_ACCEPT', CollaborationId => $call)->{Reason}, 'OK', 'a call over two workers');

my ($next, %asked, %ok, @arrived) = (0);

# What has come for the two of them; who was disconnected comes back.
sub look () {
    Parley::tick();
    for my $reply (splice $client{alice}{replies}->@*) {
        my $n = delete $asked{$reply->{RequestId}} // next;
        $ok{$n} = 1 if $reply->{Reason} eq 'OK';
    }
    push @arrived, map { $_->{Signal}{n} } grep { $_->{Command} eq 'P_SIGNAL' } splice $client{bruno}{events}->@*;
    for my $name (grep { $client{$_}->is_closed } sort keys %client) {
        %asked = () if $name eq 'alice';
        $client{$name} = $server->client($name eq 'alice' ? 1 : 2, DeviceId => $name);
    }
    return;
}

# Four at a time, each longer than the one before it.
sub send_more () {
    while (keys %asked < 4) {
        my $n = ++$next;
        $asked{"s-$n"} = $n;
        $client{alice}->send_command('P_SIGNAL', RequestId => "s-$n", CollaborationId => $call, ToUserId => 2,
            Signal => {n => $n, sdp => 'x' x ($n * 37 % 9000)});
    }
    return;
}

# So many more that were OK.
sub until_ok ($count) {
    my $goal = keys(%ok) + $count;
    return Parley::poll_until(20, sub { send_more(); look(); return keys %ok >= $goal });
}

for my $round (1 .. $rounds) {
    my $name = $round % 2 ? 'worker-1' : 'worker-0';
    my $pid  = $server->pids->{$name};
    ok(until_ok(20 + int rand 50), "round $round: signals pass") or last;
    send_more();
    look() for 1 .. int rand 3;
    kill KILL => $pid or last;    # with some under way
    ok(until_ok(20), "... and pass again after a kill of $name") or last;
    $server->await_restart($name, $pid);
}
Parley::poll_until(10, sub { look(); return !%asked });
my %here = map { $_ => 1 } @arrived;
is_deeply([grep { !$here{$_} } sort { $a <=> $b } keys %ok], [], 'all ' . keys(%ok) . ' that were OK have arrived');
is_deeply(\@arrived, [sort { $a <=> $b } keys %here], '... once, in order');
cmp_ok(scalar(@arrived), '<=', $next, "... and nothing else ($next were sent)");
$server->finish;
done_testing;
