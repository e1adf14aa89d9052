# Processes are killed in each state of a call: it goes on or ends as it should,
# one device wins, each participant has one outcome, and nothing hangs.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(encode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

my $seed = $ENV{CALL_SEED} // time;
diag "CALL_SEED=$seed";
srand $seed;

my $grace  = Parley::scaled(1);
my $ring   = Parley::scaled(3);
my $server = Parley->start(conf => {
    'server.workers'         => 2,
    'calls.reconnect_grace'  => int(1000 * $grace) . 'ms',
    'calls.ring_timeout'     => int(1000 * $ring) . 'ms',
    'policy.presence_grace'  => '100ms',
});
$server->add_users(1 .. 3);

# --- people who come back ---------------------------------------------------

my %device = (alice => [1, 'alice'], phone => [2, 'phone'], laptop => [2, 'laptop'], carla => [3, 'carla']);
my %client;
my $serial = 0;

# Logged in, again if the connection is gone.
sub client_of ($who) {
    my $client = $client{$who};
    Parley::tick();
    return $client if $client && !$client->is_closed;
    my ($id, $name) = $device{$who}->@*;
    my $kept   = $client ? $client->{events} : [];
    $client{$who} = Parley::poll_until(30, sub { eval { $server->client($id, DeviceId => $name) } })
        // die "$who cannot log in\n";
    push $client{$who}{events}->@*, @$kept;
    return $client{$who};
}

# Asked until there is an answer: what was unanswered when the connection broke
# is asked once more.
sub ask ($who, $command, %fields) {
    for (1 .. 10) {
        my $client = client_of($who);
        my $reply  = eval { $client->request("P_COLLABORATION_$command", %fields) };
        return $reply if $reply && $reply->{Reason} !~ /\A(?:UNAVAILABLE|SERVER_ERROR)\z/;
        die $@ if !$reply && !$client->is_closed;
    }
    die "$who: no answer to $command\n";
}

sub make_call (@to) {
    my %request = (ToUserList => [@to], Kind => 'AUDIO', ClientCollaborationId => "$seed-" . ++$serial);
    my $reply = ask('alice', 'CREATE', %request);
    die encode_json($reply) if $reply->{Reason} !~ /\A(?:OK|DUPLICATE)\z/;
    return $reply->{CollaborationId};
}

# The state of a call as its caller finds it in the history, when it is over.
sub past_of ($who, $call) {
    my $reply = eval { client_of($who)->request('P_GET_COLLABORATION_HISTORY', Limit => 5) };
    return if !$reply || $reply->{Reason} ne 'OK';
    my ($past) = grep { $_->{CollaborationId} eq $call } $reply->{Collaborations}->@*;
    return $past && $past->{State} eq 'ENDED' ? $past : undef;
}

sub await_end ($call) {
    return Parley::poll_until($ring + 2 * $grace + 10, sub { past_of('alice', $call) });
}

# Every device gets the outcome, and one only.
sub outcomes_of ($who, $call) {
    my $of = sub ($event) { $event->{CollaborationId} eq $call };
    my @outcomes;
    Parley::poll_until(15, sub {
        my $client = client_of($who);
        my $event  = eval { $client->expect_event('P_COLLABORATION_OUTCOME', 1, $of) } // return 0;
        push @outcomes, $event;
    });
    my $client = client_of($who);
    eval { settle($client) };
    push @outcomes, grep { $_->{Command} eq 'P_COLLABORATION_OUTCOME' && $of->($_) } $client->{events}->@*;
    my %seqs = map { $_->{Seq} => $_->{Outcome} } @outcomes;    # a resumed inbox repeats
    return join ',', values %seqs;
}

sub replace ($name) {
    my $pid = $server->kill9($name);
    $server->await_restart($name, $pid);
    return;
}

# --- what a call goes through while a process dies --------------------------

# Each: brings a call into a state, kills, goes on, and says which outcome there
# must be for the caller and for the called.
my %story = (
    'while it rings' => sub ($victim) {
        my $call = make_call(2);
        replace($victim);
        my $reply = ask('phone', 'ACCEPT', CollaborationId => $call);
        return ($call, "answered: $reply->{Reason}") if $reply->{Reason} ne 'OK';
        ask('alice', 'END', CollaborationId => $call);
        return ($call, undef, 'ANSWERED', 'ANSWERED');
    },
    'while it is made' => sub ($victim) {
        my %request = (ToUserList => [2], Kind => 'AUDIO', ClientCollaborationId => "$seed-" . ++$serial);
        my $id   = client_of('alice')->submit('P_COLLABORATION_CREATE', %request);
        my $pid  = $server->kill9($victim);
        $server->await_restart($victim, $pid);
        my $call = ask('alice', 'CREATE', %request)->{CollaborationId};
        my $first = eval { $client{alice}->wait_reply($id, 'first', 1) };
        return ($call, 'a retry has made another call')
            if $first && $first->{CollaborationId} && $first->{CollaborationId} ne $call;
        ask('phone', 'REJECT', CollaborationId => $call);
        return ($call, undef, 'REJECTED', 'REJECTED');
    },
    'while two devices answer' => sub ($victim) {
        my $call = make_call(2);
        my %ids  = map { $_ => client_of($_)->submit('P_COLLABORATION_ACCEPT', CollaborationId => $call) } qw(phone laptop);
        replace($victim);
        my @won = grep { ask($_, 'ACCEPT', CollaborationId => $call)->{Reason} eq 'OK' } qw(phone laptop);
        return ($call, scalar(@won) . ' devices have answered') if @won != 1;
        ask($won[0], 'LEAVE', CollaborationId => $call);
        return ($call, undef, 'ANSWERED', 'ANSWERED');
    },
    'while they talk' => sub ($victim) {
        my $call = make_call(2);
        ask('phone', 'ACCEPT', CollaborationId => $call);
        my %say = (CollaborationId => $call, Message => 'still there?', ClientMessageId => "say-$call");
        client_of('alice')->submit('P_SEND_MESSAGE', %say);
        replace($victim);
        # whoever was disconnected is back before the grace is over
        client_of($_) for qw(alice phone);
        my $again = client_of('alice')->request('P_SEND_MESSAGE', %say)->{Reason};
        my $page  = client_of('phone')->request('P_GET_MESSAGES', ConversationId => "c$call");
        my $count = scalar(($page->{Messages} // [])->@*);
        return ($call, "said: $again, $count times")
            if $again !~ /\A(?:OK|DUPLICATE)\z/ || $count != 1;
        my $reply = ask('alice', 'INVITE', CollaborationId => $call, ToUserList => [3]);
        return ($call, "invite: $reply->{Reason}") if $reply->{Reason} ne 'OK';
        ask('carla', 'REJECT', CollaborationId => $call);
        ask('alice', 'END',    CollaborationId => $call);
        return ($call, undef, 'ANSWERED', 'ANSWERED');
    },
    'while one is lost' => sub ($victim) {
        my $call = make_call(2);
        ask('phone', 'ACCEPT', CollaborationId => $call);
        client_of('phone')->drop;
        replace($victim);
        client_of('alice');    # the other one does not come back in time
        my $past = await_end($call);
        return ($call, $past ? undef : 'it hangs', 'ANSWERED', 'ANSWERED');
    },
    'while the caller is lost' => sub ($victim) {
        my $call = make_call(2);
        client_of('alice')->drop;
        replace($victim);
        my $past = Parley::poll_until(2 * $grace + 10, sub { past_of('phone', $call) });
        return ($call, $past ? undef : 'it hangs', 'FAILED', 'FAILED');
    },
    'while nobody answers' => sub ($victim) {
        my $call = make_call(2);
        replace($victim);
        return ($call, await_end($call) ? undef : 'it hangs', 'MISSED', 'MISSED');
    },
    'at its end' => sub ($victim) {
        my $call = make_call(2);
        ask('phone', 'ACCEPT', CollaborationId => $call);
        my $id = client_of('alice')->submit('P_COLLABORATION_END', CollaborationId => $call);
        replace($victim);
        my $reply = ask('alice', 'END', CollaborationId => $call);
        return ($call, $reply->{Reason} eq 'OK' ? undef : "end: $reply->{Reason}", 'ANSWERED', 'ANSWERED');
    },
);

sub whole_round ($name, $victim) {
    client_of($_) for qw(alice phone laptop carla);
    my ($call, $why, @wanted) = $story{$name}->($victim);
    return "$name, $victim: $why" if defined $why;
    await_end($call) or return "$name, $victim: it does not end";
    my @outcomes = map { outcomes_of($_, $call) } qw(alice phone);
    return "$name, $victim: outcomes @outcomes" if "@outcomes" ne "@wanted";
    return;
}

my @names   = sort keys %story;
my @victims = qw(keeper worker-0 worker-1);
my $rounds  = fault_rounds(8, 200);
my $done    = 0;
for my $n (0 .. $rounds - 1) {
    # each story first, then whatever the seed says
    my $name   = $n < @names ? $names[$n] : $names[rand @names];
    my $victim = $n < @names ? ($n % 2 ? $victims[1 + rand 2] : 'keeper') : $victims[rand @victims];
    $victim = (qw(directory console))[rand 2] if $n >= @names && rand() < 0.1;
    my $at  = now();
    my $why = eval { whole_round($name, $victim) } // ($@ ? "$name, $victim: $@" : undef);
    diag sprintf '%.1f s: %s, %s', now() - $at, $name, $victim;
    if (defined $why) { diag $why; last }
    $done++;
}
is($done, $rounds, "$rounds kills in all states of a call: it goes on or ends as it should");

# --- the whole server -------------------------------------------------------

$server->set('server.listen' => $server->address);

sub all_killed () {
    my $pids = $server->pids;
    kill KILL => values %$pids;
    Parley::poll_until(10, sub { $server->_reap; !grep { !is_gone($_) } values %$pids }) // die "orphans\n";
    $server->launch;
    return;
}

sub stopped () {
    $server->stop;
    $server->launch;
    return;
}

for my $row (['is killed', \&all_killed], ['is stopped', \&stopped]) {
    my ($name, $stop) = @$row;
    client_of($_) for qw(alice phone laptop);
    my $ringing = make_call(3);
    my $active  = make_call(2);
    ask('phone', 'ACCEPT', CollaborationId => $active);
    $stop->();
    my %open = map { $_->{CollaborationId} => $_ } client_of('alice')->session->{Collaborations}->@*;
    is_deeply([map { $open{$_}{State} } $ringing, $active], ['RINGING', 'ACTIVE'],
        "the server $name: its calls are there after a start");
    is_deeply([map { $_->{State} } $open{$active}{Participants}->@*], ['JOINED', 'RECONNECTING'],
        '... who has logged in is in them again, who has not is waited for');
    is(ask('carla', 'REJECT', CollaborationId => $ringing)->{Reason}, 'OK', '... what rang can be answered');
    my ($again) = client_of('phone')->session->{Collaborations}->@*;
    is_deeply([map { $_->{State} } $again->{Participants}->@*], ['JOINED', 'JOINED'],
        '... the grace begins anew');
    ask('alice', 'END', CollaborationId => $active);
    is(outcomes_of('phone', $active), 'ANSWERED', '... and it ends as ever');
    next if $name eq 'is stopped' && !is_long_run();
    my $lost = make_call(2);
    ask('phone', 'ACCEPT', CollaborationId => $lost);
    $stop->();
    my $past = Parley::poll_until(2 * $grace + 10, sub { past_of('carla', $lost) // past_of('laptop', $lost) });
    is($past && $past->{Outcome}, 'ANSWERED', '... one to which nobody comes back ends by itself');
}

my ($code, $out, $error) = $server->ctl('check');
is($code, 0, 'every row of the store is sound') or diag($out, $error);
$server->finish;
done_testing;
