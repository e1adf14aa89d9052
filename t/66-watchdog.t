# Processes that hang: stopped, or held by a debugger; under load with a ledger. A hang is killed and replaced within 10 s, a short one survived.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

my $server = Parley->start(
    conf => {'server.workers' => 2, 'supervisor.watchdog_timeout' => Parley::scaled(6) . 's'},
    allow_errors => [qr/process-hangs name=/],
);
$server->add_users(1 .. 2);
my $load = Parley::Fault->load($server, pairs => 10, rate => 2000);

# A state letter as the kernel has it.
sub state_of ($pid) {
    my $text = eval { Parley::slurp("/proc/$pid/stat") } // return '';
    return $text =~ /\) (\w)/ ? $1 : '';
}

# Stop it for good. Returns the seconds until a successor serves.
sub hang ($name) {
    my $old = $server->pids->{$name};
    my $at  = time;
    kill STOP => $old or die "no process $name\n";
    my $new = $server->await_restart($name, $old);
    return (time - $at, $old, $new);
}

# --- stopped ----------------------------------------------------------------

my @slow;
for my $name (qw(keeper worker-1)) {
    for my $n (1 .. fault_rounds(1, 10)) {
        my ($seconds, $old, $new) = hang($name);
        push @slow, sprintf '%s %.1f', $name, $seconds if $seconds > Parley::scaled(10);
        diag(sprintf 'SIGSTOP of %s: replaced after %.1f s', $name, $seconds) if $n == 1;
        next if $n > 1;
        my $log = $server->log_text;
        like($log, qr/process-hangs name=$name pid=$old state=T /, "$name is stopped: the log says so");
        like($log, qr/process-died name=$name pid=$old signal=9.*process-start name=$name pid=$new /s,
            '... SIGKILL, and the successor starts only when it has been reaped');
        unlike($log, qr/process-start name=$name pid=\d+ generation=2.*process-died name=$name pid=$old /s,
            '... never before');
        ok($load->await_messages(200), '... it flows again');
    }
}
is_deeply(\@slow, [], 'each was replaced within 10 s');

# --- stopped for three seconds ----------------------------------------------

for my $name (qw(keeper worker-0)) {
    my $pid = $server->pids->{$name};
    kill STOP => $pid;
    my $until = time + 3;
    Parley::poll_until(10, sub { time >= $until });
    kill CONT => $pid;
    ok($load->await_messages(200), "$name is stopped for 3 s: it flows again");
    is($server->pids->{$name}, $pid, '... with the same process');
}

# --- a trace ----------------------------------------------------------------

{
    my $pid = $server->pids->{console};
    kill ABRT => $pid;
    $server->await_restart('console', $pid);
    ok($server->await_log(qr/process-trace name=console pid=$pid signal=6 frames="\S+\+0x[0-9a-f]+ /),
        'SIGABRT leaves a trace of addresses in the log');
    ok($server->await_log(qr/process-died name=console pid=$pid signal=6 /), '... and kills');
    my ($frame) = $server->log_text =~ /process-trace name=console.*? (parleyd\+0x[0-9a-f]+)/;
    ok($frame, '... they name the program, for addr2line');
    is(scalar(() = glob $server->dir . '/core*'), 0, '... no core file');
}

# --- a debugger -------------------------------------------------------------

SKIP: {
    my $pid    = $server->pids->{directory};
    my $tracer = fork // die "fork: $!\n";
    if ($tracer == 0) {
        # PTRACE_SEIZE, then PTRACE_INTERRUPT; see ptrace(2)
        my $number = {x86_64 => 101, aarch64 => 117}->{(POSIX::uname())[4]} // POSIX::_exit(9);
        syscall($number, 0x4206, $pid, 0, 0) == 0 or POSIX::_exit(9);
        syscall($number, 0x4207, $pid, 0, 0) == 0 or POSIX::_exit(9);
        POSIX::pause();
        POSIX::_exit(0);
    }
    my $held = Parley::poll_until(5, sub { waitpid($tracer, POSIX::WNOHANG()) == $tracer ? -1
                : state_of($pid) eq 't' });
    if (($held // 0) != 1) { kill KILL => $tracer; waitpid $tracer, 0; skip 'may not trace', 4 }
    ok($server->await_log(qr/process-waits name=directory pid=$pid for=debugger/, 30),
        'a process that a debugger holds is reported');
    my $health = decode_json(($server->http_get('/health'))[1]);
    is($health->{parts}{directory}{waits_for}, 'debugger', '... in /health, too');
    kill KILL => $tracer;
    waitpid $tracer, 0;
    ok($server->await_log(qr/process-goes-on name=directory pid=$pid/, 30), '... until it lets go');
    is($server->pids->{directory}, $pid, '... and is not killed');
}

ok($load->await_messages(200), 'it still flows');
$load->finish('stopped processes');
$server->finish;
done_testing;
