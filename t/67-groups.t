# Processes are killed while people write to groups and groups are changed: a
# message reaches all members or none, and so does a change; each once, in one
# order.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

my $server = Parley->start(
    conf         => {'store.map_size' => '4G', 'policy.may_message' => 'anyone'},
    allow_errors => [qr/ error directory\[/],
);
my $rounds = fault_rounds(4, 200);

# --- messages, by the ledger ------------------------------------------------

my $load = Parley::Fault->load($server, groups => 2, members => 30, rate => 100);
my $kills = 0;
for my $n (1 .. $rounds) {
    my $victim = $n % 2 ? 'keeper' : 'worker-' . $n / 2 % 2;
    $server->await_restart($victim, $server->kill9($victim));
    $load->await_messages(5) or last;
    $kills++;
}
is($kills, $rounds, "$rounds kills of keeper and workers: each time messages flow again");
$load->finish('groups');

# --- changes ----------------------------------------------------------------

# Member 2..7 of a group that 1 changes; 8 comes and goes.
$server->add_users(1 .. 8);
my %client = map { $_ => $server->client($_) } 1 .. 8;
my $made = $client{1}->request('P_CREATE_GROUP', Name => 'round 0', Members => [2 .. 7], ClientGroupId => 'g');
my $group = $made->{GroupId};
my %wanted = (0 => 'CREATED');

# The keeper is killed at any moment of a change: before it is read, within its
# transaction, before the reply. Nobody's connection ends by that.
sub change_under_kill ($n) {
    my $pid = $server->pids->{keeper};
    my $id  = $client{1}->submit('P_UPDATE_GROUP', GroupId => $group, Name => "round $n",
        ($n % 2 ? 'Add' : 'Remove') => [8]);
    my $until = now() + rand 0.004;
    1 while now() < $until;
    kill KILL => $pid;
    my $reply = $client{1}->wait_reply($id, "reply $n", 20);
    $server->await_restart('keeper', $pid);
    return $reply;
}

my $answered = 0;
for my $n (1 .. $rounds) {
    my $reply = change_under_kill($n);
    $answered++ if $reply->{Reason} eq 'OK' && $reply->{ServerTime};
    $wanted{$n} = 'UPDATED';
}
is($answered, $rounds, "$rounds changes under kills of the keeper: each is answered as done");
my $wanted = join ' ', map {"$wanted{$_}:round $_"} sort { $a <=> $b } keys %wanted;
for my $id (2 .. 7) {
    settle($client{$id});
    Parley::poll_until(20, sub { (grep { ($_->{Name} // '') eq "round $rounds" } $client{$id}{events}->@*) > 0 });
    my @events = $client{$id}->events_so_far('P_GROUP');
    is(join(' ', map {"$_->{Event}:$_->{Name}"} @events), $wanted, "member $id has each of them once, in order");
    is_deeply(seqs_of(@events), [map { $events[0]{Seq} + $_ } 0 .. $#events], '... without a hole');
}
my @own = $client{8}->events_so_far('P_GROUP');
is(scalar @own, $rounds, 'who comes and goes is told of each');
my ($code, $out, $error) = $server->ctl('check', {timeout => Parley::scaled(60)});
is($code, 0, 'every row of the store is sound') or diag($out, $error);
$server->finish;
done_testing;
