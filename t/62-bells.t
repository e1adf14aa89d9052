# A bell that rings for nothing, or late, wakes a process and does no harm: a
# process that finds work just before it would sleep leaves its bell ringing.
# Found as a console that turned inside event_base_loop for ever.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Story;
use POSIX ();
use Test::More;

# Linux numbers of these calls, the same on every architecture since 5.6.
use constant {PIDFD_OPEN => 434, PIDFD_GETFD => 438};

my $server = Parley->start;
my $pids   = $server->pids;
$server->ctl('user', 'add', '--range', '1-700');

# Every process has all the bells, those of the others to ring them.
my @bells = bells($pids->{console});
plan skip_all => 'no right to take descriptors of another process' if !@bells;
cmp_ok(scalar @bells, '>=', 5, 'each process has a bell');

sub bells ($pid) {
    my $pidfd = syscall(PIDFD_OPEN, $pid, 0);
    return if $pidfd < 0;
    my @found;
    for my $fd (map {m{(\d+)\z}} glob "/proc/$pid/fd/*") {
        next if (readlink("/proc/$pid/fd/$fd") // '') ne 'anon_inode:[eventfd]';
        my $own = syscall(PIDFD_GETFD, $pidfd, $fd + 0, 0);
        next if $own < 0;
        open my $bell, '>&=', $own or die "eventfd: $!\n";
        push @found, $bell;
    }
    return @found;
}

my $ringer = fork // die "fork: $!\n";
if ($ringer == 0) {
    my $one = pack 'Q', 1;
    while (getppid != 1) {
        syswrite $_, $one for @bells;
    }
    POSIX::_exit(0);
}
my ($alice, $bob) = map { $server->client($_) } 1, 2;
$server->add_contact(1, 2);

# Several askers at a time: an answer comes while the console is at another.
my $script = 'for id in $(seq $1 $2); do "$0" -c "$3" contact add 1 $id || exit 1; done';
my ($code, undef, $err) = $server->run(['sh', '-c',
    'for n in 1 2 3 4 5 6; do sh -c "$3" "$1" $((n * 100)) $((n * 100 + 80)) "$2" & all="$all $!"; done; '
        . 'for pid in $all; do wait $pid || exit 1; done',
    'sh', Parley::program('parleyctl'), $server->conf, $script]);
is($code, 0, 'the console answers while all bells ring') || diag $err;
for my $n (1 .. 20) {
    is($alice->request('P_SEND_MESSAGE', ToUserList => [2], Message => "m$n",
            ClientMessageId => "m$n")->{Reason}, 'OK', "message $n is stored");
    is($bob->expect_event('P_MESSAGE')->{Message}, "m$n", '... and arrives');
}
kill KILL => $ringer;
waitpid $ringer, 0;
is_deeply($server->pids, $pids, 'no process was replaced');
$server->finish;
done_testing;
