# Who has gone is told as gone once to each who watches, whatever process dies
# meanwhile; and a client that flaps is told of now and then, its last state in
# any case.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

my $ROUNDS   = fault_rounds(5, 200);
my @WATCHERS = 1 .. 3;
my @SUBJECTS = 4 .. 9;
my $SEED     = $ENV{PARLEY_SEED} // time % 1_000_000;
note "PARLEY_SEED=$SEED";
srand $SEED;

my $server = Parley->start(conf => {'policy.presence_grace' => '200ms'});
$server->add_users(@WATCHERS, @SUBJECTS);    # contacts of each other

# --- the ledger -------------------------------------------------------------

# Of each watcher: {client, told => {subject => [status, ...]}}, from the list
# of its login on.
my (%watch, %subject, %came);
my ($told, $repeated) = (0, 0);

# Perhaps he comes and nobody answers: that counts, too.
sub come ($user) {
    $came{$user}++;
    return $server->client($user);
}

sub watch ($id) {
    my $client = $server->client($id);
    $watch{$id} = {client => $client, told => {}};
    for my $user ($client->session->{Users}->@*) {
        $watch{$id}{told}{$user->{UserId}} = [$user->{Status}];
        $watch{$id}{may_go}{$user->{UserId}} = ($user->{Status} ne 'OFFLINE') - ($came{$user->{UserId}} // 0);
    }
    return;
}

sub read_events ($id) {
    my $watcher = $watch{$id};
    return watch($id) if !eval { settle($watcher->{client}); 1 };
    for my $event ($watcher->{client}->events_so_far('P_PRESENCE')) {
        my $user = $event->{UserId};
        my $told = $watcher->{told}{$user};
        # Who came while the watcher's worker was dead may have gone before its
        # successor could tell that he had come: OFFLINE behind OFFLINE is wrong
        # only if it is not about another time.
        if ($event->{Status} eq 'OFFLINE' && --$watcher->{may_go}{$user} + ($came{$user} // 0) < 0) {
            $repeated++;
            diag "watcher $id of $user: @$told, then OFFLINE again";
        }
        push @$told, $event->{Status};
    }
    $watcher->{client}{events} = [];
    return;
}

# Does each watcher know the state as it is?
sub agrees () {
    for my $id (@WATCHERS) {
        read_events($id);
        for my $user (@SUBJECTS) {
            my $is = $subject{$user} && !$subject{$user}->is_closed ? $subject{$user}{status} : 'OFFLINE';
            return 0 if $watch{$id}{told}{$user}[-1] ne $is;
        }
    }
    return 1;
}

# --- what subjects do -------------------------------------------------------

sub act ($user) {
    my $client = $subject{$user};
    if (!$client || $client->is_closed) {
        $subject{$user} = eval { come($user) } or return;
        $subject{$user}{status} = 'ONLINE';
    }
    elsif (rand() < 0.6) {
        $client->drop;
        delete $subject{$user};
    }
    else {
        my $status = (qw(ONLINE AWAY BUSY))[rand 3];
        my $reply  = eval { $client->request('P_UPDATE_STATUS', Status => $status) };
        # not answered: nobody can say which it is
        return delete($subject{$user})->drop if !$reply || $reply->{Reason} ne 'OK';
        $client->{status} = $status;
    }
    return;
}

# --- nobody dies ------------------------------------------------------------

watch($_) for @WATCHERS;
{
    my $flapper = come(4);
    ok(Parley::poll_until(10, sub { read_events(1); $watch{1}{told}{4}[-1] eq 'ONLINE' }), 'one comes');
    my $before   = $watch{1}{told}{4}->@*;
    my $began_at = now();
    my @answers  = map { $flapper->submit('P_UPDATE_STATUS', Status => $_ % 2 ? 'BUSY' : 'AWAY') } 1 .. 301;
    $flapper->wait_reply($_) for @answers;
    ok(Parley::poll_until(10, sub { read_events(1); $watch{1}{told}{4}[-1] eq 'BUSY' }),
        '... changes its status 301 times: the last is told');
    # What is under way comes at the end of the interval.
    $flapper->request('P_UPDATE_STATUS', Status => 'ONLINE');
    Parley::poll_until(10, sub { read_events(1); $watch{1}{told}{4}[-1] eq 'ONLINE' });
    my $events = $watch{1}{told}{4}->@* - $before;
    my $most   = int((now() - $began_at) / 0.1) + 2;
    cmp_ok($events, '<=', $most, "... at most one event in 100 ms: $events in " . int((now() - $began_at) * 1000) . ' ms');
    $flapper->drop;
    ok(Parley::poll_until(10, \&agrees), '... and goes');
}

# A keeper that dies between a change and telling it.
$server->set('policy.presence_interval' => '1s');
$server->ctl('reload');
{
    my $client = come(5);
    $subject{5} = $client;
    $client->{status} = 'ONLINE';
    ok(Parley::poll_until(10, \&agrees), 'a change is told');
    $client->request('P_UPDATE_STATUS', Status => $_) for qw(BUSY AWAY);
    $client->{status} = 'AWAY';
    my $pid = $server->kill9('keeper');
    $server->await_restart('keeper', $pid);
    ok(Parley::poll_until(10, \&agrees), '... one that had to wait when the keeper was killed, too');
    is_deeply([$watch{1}{told}{5}->@[-2, -1]], [qw(ONLINE AWAY)], '... and nothing of what was between');
    $client->drop;
    delete $subject{5};
    ok(Parley::poll_until(10, \&agrees), '... the end as well');
}
$server->set('policy.presence_interval' => '100ms');
$server->ctl('reload');

# --- processes die ----------------------------------------------------------

my @kinds = qw(keeper worker-0 worker-1);
for my $round (1 .. $ROUNDS) {
    my $name = $kinds[$round % @kinds];
    act($SUBJECTS[rand @SUBJECTS]) for 1 .. 4;
    my $pid = $server->kill9($name);
    act($SUBJECTS[rand @SUBJECTS]) for 1 .. 4;
    $server->await_restart($name, $pid);
    ok(Parley::poll_until(30, \&agrees), "kill -9 of $name, $round: all know who is there");
}
$told += map { @$_ } values $_->{told}->%* for values %watch;
cmp_ok($told, '>', $ROUNDS, "... $told states told");
is($repeated, 0, '... nobody was told twice that somebody had gone');

$server->finish;
done_testing;
