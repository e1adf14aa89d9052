# Descriptors run out, under load: who waits is told so, who is there notices
# nothing, and when there is room again new clients come in by themselves.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Raw;
use Parley::Story;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

my $LIMIT  = 200;            # descriptors of each process
my $rounds = fault_rounds(1, 10);

my $server = Parley->start(
    tls  => 0,
    conf => {
        'server.workers'        => 2,
        'server.header_timeout' => '10m',
        'server.auth_timeout'   => '10m',
        'policy.may_message'    => 'anyone',
        'store.map_size'        => '4G',
    }
);
$server->add_users(1 .. 4);
my $dir = $server->dir;

# prlimit(1): root may raise what it was given, so it is taken away afterwards;
# who is forked later inherits it.
sub limit_all () {
    for my $pid (values $server->pids->%*) {
        system('prlimit', "--pid=$pid", "--nofile=$LIMIT:$LIMIT") == 0 or return 0;
    }
    return 1;
}
plan skip_all => 'prlimit may not be used here' if !limit_all();
for my $n (0, 1) {    # they look at their limit when they begin
    $server->await_restart("worker-$n", $server->kill9("worker-$n"));
}

my $alice = $server->client(1);
my $bruno = $server->client(2);
my $load  = Parley::Fault->load($server);

sub shed ($n) { return $server->metric('parley_connections_shed_total', process => "worker-$n") // 0 }
sub health () { return decode_json(($server->http_get('/health'))[1])->{status} }

sub open_files ($name) {
    my $pid = $server->pids->{$name} // return 0;
    return scalar(() = glob "/proc/$pid/fd/*");
}

# Seconds of CPU that a process has used.
sub cpu_of ($name) {
    my ($rest) = Parley::slurp('/proc/' . $server->pids->{$name} . '/stat') =~ /\) (.*)/s;
    my @field = split ' ', $rest;
    return ($field[11] + $field[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

# One message there and acknowledged: seconds of the round trip.
sub round_trip ($text) {
    my $at    = time;
    my $reply = send_text($alice, [2], $text);
    my $event = $bruno->expect_event('P_MESSAGE', 10, sub ($e) { $e->{Message} eq $text });
    $bruno->send_command('P_ACK', Seq => $event->{Seq});
    return $reply->{Reason} eq 'OK' ? time - $at : 1e9;
}

# Connections, some silent, some with half a request, some upgraded, until both
# workers have refused some: those, or none when that never comes.
sub fill () {
    my @before = map { shed($_) } 0, 1;
    my @heads  = ('', "GET /ws HTTP/1.1\r\nHost: ", Parley::Raw->upgrade_head);
    my @in;
    my $full = Parley::poll_until(30, sub {
        for (1 .. 15) {
            for my $head (@heads) {
                push @in, Parley::Raw->connect($server->address);
                $in[-1]->write($head);
            }
        }
        return 2 == grep { shed($_) > $before[$_] } 0, 1;
    });
    return $full ? @in : ();
}

# What somebody is told who comes now: both workers are full, so it does not
# matter whose he is.
sub told () {
    my $raw = Parley::Raw->connect($server->address);
    $raw->write(Parley::Raw->upgrade_head);
    return $raw->read_all;
}

my @quiet = map { round_trip("quiet, $_") } 1 .. 50;
my @times;
my ($told, $well, $back, $moved) = (0) x 4;
for my $n (1 .. $rounds) {
    my @in = fill() or last;
    $told++ if told() =~ m{\AHTTP/1\.1 503 .*^Retry-After: \d+\r\n.*\r\n\r\n[^\r\n]+\n\z}ms;
    push @times, round_trip("full, $n, $_") for 1 .. 10;
    $well++ if health() eq 'ok' && ($server->ctl('user', 'list'))[0] == 0;
    if ($n == 1) {
        my @before = map { cpu_of("worker-$_") } 0, 1;
        my $at = time;
        my @more = map { Parley::Raw->connect($server->address) } 1 .. 150;
        ok(Parley::poll_until(20, sub { told() =~ /503/ && time > $at + 1 }), 'a crowd that waits is told, too');
        my $used = 0;
        $used += cpu_of("worker-$_") - $before[$_] for 0, 1;
        cmp_ok($used, '<', (time - $at) * 1.2, '... which keeps no worker busy') || diag("$used s of CPU");

        my $worker = worker_of($server, $alice);
        # A new log file takes a descriptor.
        rename "$dir/parleyd.log", "$dir/parleyd.log.1" or die "rename: $!\n";
        kill USR1 => $server->pid;
        my %pids = $server->pids->%*;
        ok(Parley::poll_until(10, sub {
            return 0 == grep { my $pid = $_; grep { (readlink // '') =~ /parleyd\.log\.1\z/ } glob "/proc/$pid/fd/*" } values %pids;
        }), 'the log is rotated');

        # The successor of a worker has room for whom it goes on with.
        my $adopted = $server->metric('parley_connections_adopted_total');
        my $pid     = $server->kill9($worker);
        $server->await_restart($worker, $pid);
        push @times, round_trip('after the death of a worker');
        cmp_ok($server->metric('parley_connections_adopted_total'), '>', $adopted, 'a worker that dies is gone on with');
        @in = (@in, fill());
    }
    $moved++ if $load->await_messages(50);
    $_->close for @in;
    my $late = Parley::poll_until(10, sub { eval { $server->client(3, DeviceId => 'late') } });
    $back++ if $late;
    $late->close if $late;
}
is($told, $rounds, "$rounds times no descriptor was left: who came was told so");
is($well, $rounds, '... /health and parleyctl answered');
is($moved, $rounds, '... the load went on');
is($back, $rounds, '... with room again others came in');
@times = sort { $a <=> $b } @times;
cmp_ok($times[-1], '<', Parley::scaled(2), '... and two who were in talked on');
diag sprintf 'round trip while full: median %.1f ms, worst %.1f ms; before %.1f ms, %.1f ms',
    map { 1000 * $_ } median(@times), $times[-1], median(@quiet), (sort { $a <=> $b } @quiet)[-1];
my $old_log = Parley::slurp("$dir/parleyd.log.1");
like($old_log, qr/ warn worker-\d\[\d+\] accept-paused /, 'the log says so');
unlike($old_log, qr/Z error |panic/, '... and has no error');

# --- the ops port -----------------------------------------------------------------

is(($server->ctl('user', 'list'))[0], 0, 'the console has opened what it needs');
my $quiet_files = open_files('console');
{
    my $ops    = $server->ops_url =~ s{\Ahttp://}{}r;
    my @before = (cpu_of('console'), time);
    my @silent = map { Parley::Raw->connect($ops) } 1 .. 2 * $LIMIT;
    ok(Parley::poll_until(10, sub { open_files('console') > $LIMIT - 40 }), 'silent connections to the ops port fill the console');
    is(($server->ctl('user', 'list'))[0], 0, '... parleyctl is answered');
    my @more = map { Parley::Raw->connect($ops) } 1 .. 50;
    Parley::poll_until(2, sub { time > $before[1] + 1 });
    cmp_ok(cpu_of('console') - $before[0], '<', 0.5 * (time - $before[1]) + 0.3, '... and it does not spin');
    $_->close for @silent, @more;
    ok(Parley::poll_until(20, sub { eval { health() eq 'ok' } }), '... with room again /health answers');
}

# --- not one left for parleyctl -----------------------------------------------------

{
    my $pid   = $server->pids->{console};
    ok(Parley::poll_until(20, sub { open_files('console') <= $quiet_files }), 'the console has closed them');
    my $end   = 0;
    $end++ while -l "/proc/$pid/fd/$end";    # the next one
    my @from  = (cpu_of('console'), time);
    system('prlimit', "--pid=$pid", "--nofile=$end:") == 0 or die "prlimit\n";
    my $ctl = fork // die "fork: $!\n";
    if (!$ctl) {
        open STDOUT, '>', '/dev/null' or POSIX::_exit(126);
        no warnings 'exec';
        exec Parley::program('parleyctl'), '-c', $server->conf, 'user', 'list';
        POSIX::_exit(127);
    }
    ok($server->await_log(qr/ warn console\[\d+\] control-paused /), 'when the console has no descriptor parleyctl waits');
    Parley::poll_until(2, sub { time > $from[1] + 1 });
    cmp_ok(cpu_of('console') - $from[0], '<', 0.5 * (time - $from[1]), '... and it does not spin');
    system('prlimit', "--pid=$pid", "--nofile=$LIMIT:") == 0 or die "prlimit\n";
    ok(Parley::poll_until(10, sub { waitpid($ctl, POSIX::WNOHANG()) == $ctl }) && $? == 0, '... until there is one');
}
$load->finish('no descriptors');
$server->finish;
done_testing;
