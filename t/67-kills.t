# Processes are killed under load, each kind many times: they are replaced,
# and the ledger of the load is sound.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::IP;
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

my $server = Parley->start(conf => {'store.map_size' => '4G'}, allow_errors => [qr/ error directory\[/]);

# Kill one process again and again, the next time when its successor serves
# and messages flow.
sub kills_of ($name, $rounds) {
    my $load  = Parley::Fault->load($server);
    my $kills = 0;
    my @pauses;
    for my $n (1 .. $rounds) {
        my $victim = $name eq 'worker' ? 'worker-' . $n % 2 : $name;
        my $pid    = $server->kill9($victim);
        my $at     = now();
        $server->await_restart($victim, $pid);
        push @pauses, now() - $at;
        $load->await_messages(20) or last;
        $kills++;
    }
    is($kills, $rounds, "$rounds kills of the $name: each time another one serves");
    diag sprintf '%s: replaced after %.0f ms (median)', $name, 1000 * median(@pauses) if @pauses;
    $load->finish("$name killed");
    return;
}

kills_of('worker',    fault_rounds(5, 200));
kills_of('keeper',    fault_rounds(5, 200));
kills_of('directory', fault_rounds(2, 20));
kills_of('console',   fault_rounds(2, 20));

# --- the supervisor, and all of them ----------------------------------------

sub port_is_free () {
    my ($host, $port) = $server->address =~ /\A(.+):(\d+)\z/;
    my $socket = IO::Socket::IP->new(LocalHost => $host, LocalPort => $port, Listen => 1, ReuseAddr => 1);
    return defined $socket;
}

# What a guardian or systemd does then is a start.
sub restarts_after ($name, $rounds, $victims_of) {
    my $load = Parley::Fault->load($server);
    my ($freed, $ready) = (0, 0);
    my @pauses;
    for my $n (1 .. $rounds) {
        my $pids    = $server->pids;
        my @victims = $victims_of->($pids);
        kill KILL => @victims;
        $freed++ if Parley::poll_until(5, sub {
            $server->_reap;
            return !(grep { !is_gone($_) } values %$pids) && port_is_free();
        });
        my $at = now();
        $server->launch;
        push @pauses, now() - $at;
        $load->await_messages(20) or last;
        $ready++;
    }
    is($freed, $rounds, "$rounds kills of $name: no orphan, and nobody holds the port");
    is($ready, $rounds, '... and a start serves the clients again');
    diag sprintf '%s: ready after %.0f ms (median)', $name, 1000 * median(@pauses) if @pauses;
    cmp_ok(median(@pauses), '<', Parley::scaled(2), '... after less than 2 s');
    $load->finish("$name killed");
    return;
}

# The port must stay the same for those who come back.
$server->set('server.listen' => $server->address);
restarts_after('the supervisor', fault_rounds(3, 50), sub ($pids) { $pids->{supervisor} });
restarts_after('all processes', fault_rounds(3, 50), sub ($pids) { values %$pids });

$server->finish;
done_testing;
