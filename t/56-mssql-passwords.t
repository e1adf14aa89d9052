# Who logs in by password while the database hangs, in whatever step, or is
# away: who was here lately comes in, whoever else is told so in time, and
# nobody can try passwords on the way. PARLEY_FAULT_ROUNDS=long: each step.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Fault;
use Parley::Mssql;
use Parley::Story;
use Test::More;

my $db = Parley::Mssql->start;
plan skip_all => 'a real server cannot be made to hang' if !$db->can_fail;
$db->add_users(1 .. 3);
my $server = Parley->start(
    conf         => {$db->conf, 'mssql.password_cache' => '1h', 'auth.password_attempts' => 4},
    allow_errors => [qr/mssql-/, qr/breaker-state/]);

# Logins of several people at the same time: by name their answers, with Took.
sub login (%password) {
    my $start = now();
    my %client = map { ($_ => $server->connect) } keys %password;
    my %id;
    for my $name (keys %password) {
        $id{$name} = $client{$name}->submit('P_AUTHENTICATE',
            UserName => $name, Password => $password{$name}, DeviceId => 'browser');
    }
    # Who is let in comes first: to wait for the others would be his time, too.
    my %reply;
    for my $name (sort keys %password) {
        $reply{$name} = $client{$name}->wait_reply($id{$name});
        $reply{$name}{Took} = now() - $start;
        $client{$name}->close;
    }
    return \%reply;
}

# user1 was here, user2 was not.
sub both_are_answered ($seconds, $claim) {
    my $reply = login(user1 => 'pass-1', user2 => 'pass-1');
    is($reply->{user1}{Reason}, 'OK', "$claim: who was here comes in");
    is($reply->{user1}{UserId}, 1, '... as himself');
    is($reply->{user2}{Reason}, 'UNAVAILABLE', '... who was not is told to come again');
    for my $name (qw(user1 user2)) {
        cmp_ok($reply->{$name}{Took}, '<', Parley::scaled($seconds), sprintf '... %s after %.2f s', $name, $reply->{$name}{Took});
    }
    return;
}

# A process that knows nothing yet, and then user1 from his one login.
sub start_anew () {
    my $pid = $server->pids->{directory};
    $server->kill9('directory');
    $server->await_restart('directory', $pid);
    ok(Parley::poll_until(20, sub { login(user1 => 'pass-1')->{user1}{Reason} eq 'OK' }), 'the database lets him in');
    return;
}

my @steps = (
    ['COB_Authenticate_Get_User_List', 'it hangs in the call'],
    ['prelogin',                       'it takes connections and says nothing'],
    ['login',                          'it hangs when we log in'],
);
pop @steps if !is_long_run();
for my $step (@steps) {
    my ($at, $claim) = @$step;
    my $before = $db->counters->{faults}{hang} // 0;
    start_anew();
    $db->fault(at => $at, what => 'hang');
    $db->kill_connections if $at =~ /login/;
    both_are_answered(3, $claim);
    cmp_ok($db->counters->{faults}{hang}, '>', $before, '... it was asked');
    $db->clear;
}

start_anew();
$db->kill;
ok(Parley::poll_until(30, sub {
        login(map { ("nobody$_" => 'pass-1') } 1 .. 6);
        return $server->metric('parley_mssql_breaker_primary') == 2;
    }),
    'it is away: that is noticed');
both_are_answered(1, '... and it is spared');
my %count;
$count{login(user1 => 'pass-2')->{user1}{Reason}}++ for 1 .. 5;
is_deeply(\%count, {UNAVAILABLE => 4, RATE_LIMITED => 1}, 'a wrong one is not said to be wrong, but counts');
is($server->metric('parley_mssql_password_cache_hits_total'), @steps + 1, 'who came in without the database is counted');
unlike($server->log_text, qr/pass-[12]/, 'no password is in the log');
$server->finish;
done_testing;
