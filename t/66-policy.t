# What the supervisor does with processes that fail or grow: pauses, errored,
# max_memory_restart; under load with a ledger.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

my $server = Parley->start(conf => {
    'server.workers'            => 2,
    'supervisor.max_restarts'   => 4,
    'supervisor.restart_delay'  => '20ms',
    'supervisor.min_uptime'     => '10m',    # whatever dies has failed
}, allow_errors => [qr/process-errored name=/, qr/ adoption-refused /]);
$server->add_users(1 .. 2);
my $load = Parley::Fault->load($server, pairs => 10, rate => 2000);

sub health () { return decode_json(($server->http_get('/health'))[1] || '{}') }
sub state_of ($name) { return ($server->process($name) // {state => ''})->{state} }

# Whenever it shows a new pid it is made to crash. Returns how often.
sub crash_until_errored ($name) {
    my ($last, $crashes) = (0, 0);
    Parley::poll_until(60, sub {
        my $process = $server->process($name) // return 0;
        return 1 if $process->{state} eq 'errored';
        if ($process->{pid} && $process->{pid} != $last) {
            $last = $process->{pid};
            $crashes += kill ABRT => $last;
        }
        return 0;
    });
    return $crashes;
}

# --- a process that crashes at every start ----------------------------------

my @names = qw(worker-1 directory worker-0 console directory);
my $rounds = fault_rounds(3, 5);
for my $n (1 .. $rounds) {
    my $name = $names[($n - 1) % @names];
    is(crash_until_errored($name), 4, "crash loop $n: $name is given up after max_restarts deaths");
    like($server->log_text, qr/process-errored name=$name .*parleyctl restart $name/,
        '... the log says how to clear it');
    if ($name ne 'console') {
        is(health()->{status}, 'degraded', '... /health is degraded');
        is(($server->http_get('/ready'))[0], 200, '... but takes clients');
        ok($load->await_messages(500), '... the rest serves on');
    }
    is(state_of($name), 'errored', '... and it stays down');
    is(($server->ctl('restart', $name))[0], 0, '... until somebody clears it');
    ok(Parley::poll_until(20, sub { health()->{status} eq 'ok' }), '... then all is well');
}

# --- settings apply at once -------------------------------------------------

my $pids = $server->pids;
$server->set('supervisor.max_restarts' => 2);
is(($server->ctl('reload'))[0], 0, 'another max_restarts is taken');
is(crash_until_errored('directory'), 2, '... and counts at once');
delete $pids->{directory};
my $now = $server->pids;
is_deeply({map { $_ => $now->{$_} } keys %$pids}, $pids, '... without new processes');
is(($server->ctl('restart', 'directory'))[0], 0, '... (cleared)');

# --- memory -----------------------------------------------------------------

$server->set('supervisor.max_memory_restart_worker' => '1K');
$pids = $server->pids;
is(($server->ctl('reload'))[0], 0, 'a limit that every worker exceeds');
my $least = 2;
my $done  = Parley::poll_until(60, sub {
    my @workers = grep { $_->{name} =~ /\Aworker/ } ($server->status // return 0)->{processes}->@*;
    my $running = grep { $_->{state} eq 'running' } @workers;
    $least = $running if $running < $least;
    return !grep { !$_->{pid} || $_->{pid} == $pids->{$_->{name}} || $_->{state} ne 'running' } @workers;
});
ok($done, '... all are replaced');
cmp_ok($least, '>=', 1, '... never two at once');
like($server->log_text, qr/memory-restart name=worker-$_ pid=\d+ bytes=\d+ max_bytes=1024 /, "... worker-$_ says why")
    for 0, 1;
$now = $server->pids;
is($now->{$_}, $pids->{$_}, "... $_ has no such limit") for qw(keeper directory console);
my $first = () = $server->log_text =~ /memory-restart name=worker-0/g;
$server->set('supervisor.max_memory_restart_worker' => undef);
is(($server->ctl('reload'))[0], 0, 'the limit is taken away');
is($first, 1, '... one that needs more to serve is not replaced without end');

ok($load->await_messages(500), 'it still flows');
$load->finish('crash loops and memory limits');
$server->finish;
done_testing;
