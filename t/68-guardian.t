# In the background a guardian starts the supervisor again: under load with a
# ledger, until somebody stops it.
use v5.36;
use FindBin;
use IO::Socket::UNIX;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

plan skip_all => 'a wrapper would be executed once only' if $ENV{PARLEY_WRAPPER};

my $server = Parley->prepare(conf => {'store.map_size' => '4G'});
$server->allow_errors(qr/ supervisor-died /, qr{ start-failed .*/proc/parley});
my @parleyd = (Parley::program('parleyd'), '-c', $server->conf);
my $pid;

sub parent_of ($process) { return (split / /, Parley::slurp("/proc/$process/stat") =~ s/\A.*\) //sr)[1] }
sub pid_file () { return Parley::slurp($server->run_dir . '/parleyd.pid') =~ s/\n//r }

# What the library does for servers that are its own children.
END { kill KILL => grep { $_ } $pid && eval { parent_of($pid) }, $pid if $pid && !is_gone($pid) }

sub start () {
    my ($code, undef, $err) = $server->run([@parleyd]);
    is($code, 0, 'parleyd goes into the background') or BAIL_OUT $err;
    $pid = $server->status->{processes}[0]{pid};
    return;
}

# Another supervisor that serves; its pid.
sub await_another ($old) {
    return Parley::poll_until(30, sub {
        my $status = $server->status // return 0;
        my $now    = $status->{processes}[0]{pid};
        return 0 if $now == $old || !($status->{listen} // [])->@*;
        my ($code) = eval { $server->http_get('/ready') };
        return ($code // 0) == 200 ? $now : 0;
    });
}

# --- the supervisor is killed -----------------------------------------------

start();
$server->set('server.listen' => $server->address, 'ops.listen' => $server->ops_url =~ s{\Ahttp://|/\z}{}gr);
my $guardian = parent_of($pid);
isnt($guardian, 1, 'it has a guardian');
is(pid_file(), $pid, 'the pid file names the supervisor');
my $load   = Parley::Fault->load($server);
my $rounds = fault_rounds(3, 20);
my ($served, @pauses) = 0;
for my $n (1 .. $rounds) {
    my $at = now();
    my @others = grep { $_ != $pid } values $server->pids->%*;
    kill KILL => $pid;
    my $next = await_another($pid) or last;
    push @pauses, now() - $at;
    $served++ if parent_of($next) == $guardian && pid_file() == $next && !grep { !is_gone($_) } @others;
    $pid = $next;
    $load->await_messages(20) or last;
}
is($served, $rounds, "$rounds kills of the supervisor: each time there is another one, and no orphan");
diag sprintf 'served again after %.0f ms (median)', 1000 * median(@pauses) if @pauses;
$load->finish('supervisors killed');

# --- the guardian is killed -------------------------------------------------

kill KILL => $guardian;
ok(Parley::poll_until(10, sub { is_gone($guardian) }), 'the guardian is killed');
is(($server->ctl('status'))[0], 0, '... which nobody notices');
is(($server->ctl('stop'))[0],   0, '... and the server can be stopped');

# --- who stops it means it --------------------------------------------------

start();
$guardian = parent_of($pid);
is(($server->ctl('stop'))[0], 0, 'parleyctl stop');
ok(Parley::poll_until(10, sub { is_gone($guardian) }), '... ends the guardian, too');
start();
$guardian = parent_of($pid);
kill TERM => $guardian;
ok(Parley::poll_until(20, sub { is_gone($guardian) && is_gone($pid) }), 'SIGTERM to the guardian ends both');
ok(!-e $server->run_dir . '/parleyd.pid', '... in order');

# A start that fails is told, and not tried for ever.
$server->set('server.data_dir' => '/proc/parley');
my ($code, undef, $err) = $server->run([@parleyd]);
is($code, 1, 'a start that fails');
like($err, qr{/proc/parley}, '... says why');
$server->set('server.data_dir' => $server->dir . '/data', 'supervisor.guardian' => 'no');
start();
is(parent_of($pid), 1, 'without a guardian, if that is wanted') or diag parent_of($pid);
is(($server->ctl('stop'))[0], 0, '... and it stops');
undef $pid;
is_deeply([$server->error_lines], [], 'the log has no unexpected error');
$server->discard;

# --- systemd does it itself -------------------------------------------------

my $managed = Parley->prepare;
my $path    = $managed->dir . '/notify';
my $manager = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $path) or die "$path: $!\n";

sub told () {
    vec(my $bits = '', $manager->fileno, 1) = 1;
    select $bits, undef, undef, Parley::scaled(10) or return 'nothing';
    $manager->recv(my $text, 100);
    return $text;
}
{
    local $ENV{NOTIFY_SOCKET} = $path;
    $managed->launch;
}
is(told(), 'READY=1', 'a service manager is told when the server serves');
is(parent_of($managed->pid), $$, '... which has no guardian in the foreground');
kill TERM => $managed->pid;
is(told(), 'STOPPING=1', '... and when it stops');
$managed->finish;

my $unit = Parley::slurp(Parley::build_dir() . '/etc/parley.service');
like($unit, qr{^ExecStart=/\S+/parleyd -f -c /\S+/parleyd\.conf$}m, 'the unit has the paths of this build');
unlike($unit, qr/\@\w+\@/, '... all of them');
SKIP: {
    my $verify = Parley::poll_until(1, sub { grep { -x "$_/systemd-analyze" } split /:/, $ENV{PATH} });
    skip 'there is no systemd-analyze', 1 if !$verify;
    # programs that are not installed are no fault of the unit
    my @complaints = grep { !/is not executable|Command 'man/ }
        split /\n/, `systemd-analyze verify @{[Parley::build_dir()]}/etc/parley.service 2>&1`;
    is_deeply([grep {/parley\.service/} @complaints], [], '... and systemd understands it');
}
done_testing;
