# Keeper and workers are killed while people edit and delete: what was answered
# is as it was answered, on every device and in the history, and no Seq is
# missing.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

my $seed = $ENV{SEED} // int rand 1e9;
srand $seed;
diag "SEED=$seed";

my $server = Parley->start;
$server->add_users(1, 2);
my $alice = $server->client(1);

# A device that listens, and comes back as itself when its worker took it along.
sub listen_as ($user, $device) {
    my $client = $server->client($user, DeviceId => $device);
    return {user => $user, device => $device, client => $client, start => $client->session->{LastSeq},
        seq => $client->session->{LastSeq}, events => []};
}

sub login ($user, %fields) {
    return Parley::poll_until(20, sub { eval { $server->client($user, %fields) } }) // die "no login of $user\n";
}

sub hear ($ear) {
    $ear->{client} = login($ear->{user}, DeviceId => $ear->{device}, LastSeq => $ear->{seq}) if $ear->{client}->is_closed;
    my @new = grep { exists $_->{Seq} } splice $ear->{client}{events}->@*;
    return if !@new;
    push $ear->{events}->@*, @new;
    $ear->{seq} = $new[-1]{Seq};
    $ear->{client}->send_command('P_ACK', Seq => $ear->{seq});
    return;
}

my %ears = ('the other one' => listen_as(2, 'device-2'), 'the other device' => listen_as(1, 'phone'));
my (%last, %count);

# Handed to the keeper, which sleeps; then one of the two is killed. Of a worker
# that dies the request is applied, and nobody is answered.
sub submit_and_kill ($command, %fields) {
    my $pids   = $server->pids;
    my $victim = rand() < 0.4 ? 'keeper' : worker_of($server, $alice);
    kill STOP => $pids->{keeper};
    my $id = $alice->submit($command, %fields);
    $alice->request('P_HEARTBEAT');
    kill KILL => $pids->{$victim};
    kill CONT => $pids->{keeper};
    $server->await_restart($victim, $pids->{$victim});
    return $id;
}

# As a client does: who acknowledges nothing is sent 256 events, and then his
# replies wait as well.
sub ack ($reply) {
    my @seqs = map { $_->{Seq} // () } $reply // (), $alice->{events}->@*;
    $alice->send_command('P_ACK', Seq => (sort { $a <=> $b } @seqs)[-1]) if @seqs && !$alice->is_closed;
    $alice->{events}->@* = ();
    return;
}

# Asked again until it is answered, as a client does. @param $id  of the first try
sub change ($id, $command, %fields) {
    my $reply;
    Parley::poll_until(30, sub {
        hear($_) for values %ears;
        $alice = login(1), undef $id if $alice->is_closed;
        return $reply = eval { defined $id ? $alice->wait_reply($id) : $alice->request($command, %fields) };
    });
    ack($reply);
    return $reply // {Reason => 'none'};
}

sub write_one ($text) {
    my $reply = change(undef, 'P_SEND_MESSAGE', ToUserList => [2], Message => $text, ClientMessageId => $text);
    $last{$reply->{MessageId}} = $text;
    return $reply->{MessageId};
}

my @ids = map { write_one("message $_") } 1 .. 8;
my $rounds = fault_rounds(4, 100);
my $wrong  = 0;
for my $round (1 .. $rounds) {
    my $kill = int rand 16;
    for my $n (0 .. 15) {
        my $at     = int rand @ids;
        my @fields = (MessageId => $ids[$at]);
        my ($command, $text) = ('P_DELETE_MESSAGE');
        ($command, $text) = ('P_EDIT_MESSAGE', "round $round, edit $n") if rand() < 0.8;
        push @fields, Message => $text if defined $text;
        my $id = $n == $kill ? submit_and_kill($command, @fields) : undef;
        $wrong++ if change($id, $command, @fields)->{Reason} ne 'OK';
        $last{$ids[$at]} = $text;
        $count{$command}++;
        $ids[$at] = write_one("another $round-$n") if !defined $text;
    }
}
is($wrong, 0, "$rounds kills: each of $count{P_EDIT_MESSAGE} edits is answered in the end");

# --- the history is what was answered ------------------------------------------

$alice = login(1);
my %shown;
my $before;
do {
    my $page = $alice->request('P_GET_MESSAGES', UserId => 2, Limit => 200, $before ? (Before => $before) : ());
    $shown{$_->{MessageId}} = $_ for $page->{Messages}->@*;
    $before = $page->{HasMore} ? $page->{Messages}[-1]{MessageId} : undef;
} while $before;
is_deeply({map { $_ => $shown{$_}{Message} } keys %last}, \%last, 'every message has the text that was answered last');
is(scalar(grep { !$_->{Deleted} } values %shown), 8, '... and none came back');

# --- and so are the events ---------------------------------------------------------

for my $who (sort keys %ears) {
    my $ear = $ears{$who};
    my $end = login($ear->{user}, DeviceId => 'look')->session->{LastSeq};
    Parley::poll_until(20, sub { hear($ear); $ear->{seq} == $end });
    my @all = $ear->{events}->@*;
    is_deeply(seqs_of(@all), [$ear->{start} + 1 .. $end], "$who has had every Seq, in order");
    for my $command (sort keys %count) {
        is(scalar(grep { $_->{Command} eq $command } @all), $count{$command}, "... each $command once");
    }
    my %told = map { $_->{MessageId} => $_->{Message} } @all;
    is_deeply(\%told, \%last, '... and knows the last text of each message');
}
is(($server->ctl('check'))[0], 0, 'every row is sound');
$server->finish;
done_testing;
