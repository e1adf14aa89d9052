# Many log in within a minute: each contact is told once of each other, by the
# list of its own login or by an event, soon; nobody hears of a stranger.
# PARLEY_FAULT_ROUNDS=long: 10,000 users with 20 contacts each over 60 s.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP qw(decode_json);
use Parley;
use Parley::Fault;
use Test::More;

my $USERS    = is_long_run() ? 10_000 : 300;
my $SECONDS  = Parley::scaled(is_long_run() ? 60 : 3);
my $CONTACTS = 20;

my $server = Parley->start(conf => {'limits.connections_per_address' => 0});

sub logins ($users, $contacts, $seconds, @more) {
    my ($code, $out, $err) = $server->run(
        [
            Parley::program('parleyload'), 'presence', '--quiet', '--json', '-n', $users,
            '--contacts', $contacts, '--login-rate', $users / $seconds, '--url', $server->ws_url,
            '--secret', $server->secret, '--drain', Parley::scaled(5), @more
        ],
        {timeout => 300}
    );
    my ($json) = $out =~ /^(\{.*)/ms;
    return ($code, eval { decode_json($json) } // {}, $err);
}

my @prepare = ('--prepare', '--parleyctl', Parley::program('parleyctl') . ' -c ' . $server->conf);
my ($code, $run, $err) = logins($USERS, $CONTACTS, $SECONDS, @prepare);
is($code, 0, "$USERS users with $CONTACTS contacts each log in over $SECONDS s: the ledger is right") || diag $err;
is($run->{presence}{due}, $USERS * $CONTACTS, '... all of them are in it');
# Two whose logins are answered at the same moment see each other in their lists.
cmp_ok($run->{presence}{events}, '<=', $USERS * $CONTACTS / 2, '... of two contacts at most the one who came first had an event');
cmp_ok($run->{presence}{events}, '>', $USERS * $CONTACTS / 4, '... most of those had');
is($run->{violations}{$_}, 0, "... $_: none") for qw(stranger untold told_again);
my $p99 = $run->{latency_presence}{p99_ms};
note "p50 $run->{latency_presence}{p50_ms} ms, p99 $p99 ms, max $run->{latency_presence}{max_ms} ms";
cmp_ok($p99, '<', Parley::scaled(200), '... p99 from the login\'s request to the contact\'s event');

# All at once: lists and events of logins that cross each other.
($code, $run, $err) = logins(300, $CONTACTS, 0.15, @prepare, '--first-user', 20_001);
is($code, 0, '300 users log in at once: each is told of each contact once, by list or event') || diag $err;
is($run->{violations}{told_again}, 0, '... never by both');

# The ledger of another circle than that of the contacts finds what it should.
my $first = 50_001;
is((logins(40, 4, 1, @prepare, '--first-user', $first))[0], 0, 'forty others');
($code, $run) = logins(40, 2, 1, '--first-user', $first);
is($code, 1, '... who are told of more than the ledger thinks they know: unsound');
cmp_ok($run->{violations}{stranger}, '>=', 80, '... strangers');
($code, $run) = logins(40, 6, 1, '--first-user', $first, '--drain', 1);
is($code, 1, '... of less: unsound');
is($run->{violations}{untold}, 80, '... untold');

$server->finish;
done_testing;
