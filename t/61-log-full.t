# The log cannot be written: its disk is full, its folder is gone, nobody reads
# the pipe. Under load nothing stops or waits for it, no start fails for it;
# what is lost is counted, and said when there is room again. Needs root, for a
# small tmpfs of its own.
use v5.36;
use File::Path qw(make_path remove_tree);
use File::Temp;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Fault;
use Parley::Story;
use POSIX qw(mkfifo);
use Test::More;

plan skip_all => 'needs root to mount a small tmpfs' if $> != 0;
my $folder = File::Temp->newdir('parley-log-XXXXXX', TMPDIR => 1);
plan skip_all => 'cannot mount a tmpfs'
    if system("mount -t tmpfs -o size=1m tmpfs $folder 2>/dev/null") != 0;
END { local $?; system "umount -l $folder" if defined $folder && -d "$folder/mounted" }
mkdir "$folder/mounted" or die "$folder/mounted: $!\n";
my $rounds = fault_rounds(1, 10);

# Its log is this file, which its error_lines are to find as well.
sub server_with_log ($path, %arg) {
    my $server = Parley->prepare(conf => {'log.target' => $path, 'store.map_size' => '4G'}, %arg);
    symlink $path, $server->dir . '/parleyd.log' or die "symlink: $!\n" if $path =~ m{\A/} && !-p $path;
    return $server;
}

sub lost ($server) { return $server->metric('parley_log_lines_lost_total') }

# Is there a process that still writes to a file that was removed?
sub holds_removed ($server) {
    return grep { (readlink $_ // '') =~ /parleyd\.log \(deleted\)\z/ }
        map { glob "/proc/$_/fd/*" } values $server->pids->%*;
}

# Lines of workers and of the supervisor.
sub provoke_lines ($server) {
    $server->client(1 + $_ % 2, DeviceId => "d$_")->close for 1 .. 6;
    $server->await_restart('directory', $server->kill9('directory'));
    return;
}

# Messages, logins and restarts while lines are lost.
sub goes_on ($server, $load, $name) {
    my $before = lost($server);
    ok(Parley::poll_until(30, sub {
        $server->client(1 + $_ % 2, DeviceId => "d$_")->close for 1 .. 5;
        return lost($server) > $before;
    }), "$name: lines are lost, and counted");
    provoke_lines($server);
    ok($load->await_messages(200), '... messages flow');
    is(($server->http_get('/ready'))[0], 200, '... the server serves');
    return;
}

# --- the disk, and the folder -------------------------------------------------

make_path("$folder/log");
my $server = server_with_log("$folder/log/parleyd.log",
    allow_errors => [qr/ log-reopen-failed /]);
$server->launch;
$server->add_users(1, 2);
my $load = Parley::Fault->load($server);

sub told ($server, $process) { return scalar(() = $server->log_text =~ / warn $process\S*\[\d+\] log-lost lines=\d+$/mg) }

for my $round (1 .. $rounds) {
    my %before = map { $_ => told($server, $_) } qw(worker supervisor);
    system "cat /dev/zero > $folder/ballast 2>/dev/null";
    goes_on($server, $load, "the disk is full, round $round");
    unlink "$folder/ballast" or die "$folder/ballast: $!\n";
    ok(Parley::poll_until(10, sub { !grep { told($server, $_) <= $before{$_} } keys %before }),
        '... with room again each says how many it has lost, unasked');

    remove_tree("$folder/log");
    kill USR1 => $server->pid;
    provoke_lines($server);
    ok($load->await_messages(200), "the folder is gone, round $round: messages flow");
    if (!$ENV{PARLEY_WRAPPER}) {
        my ($code, undef, $error) = $server->ctl('upgrade', {timeout => 60});
        is($code, 0, '... another program can take over') or diag($error);
        ok($load->await_messages(200), '... messages flow');
    }
    make_path("$folder/log");
    ok(Parley::poll_until(10, sub { -e "$folder/log/parleyd.log" && !holds_removed($server) }),
        '... the file is made when it can be');
    ok(Parley::poll_until(10, sub {
        $server->client(1)->close;
        return $server->log_text =~ / worker-\d+\[\d+\] session-open /;
    }), '... and all write to it');
}
$load->finish('a log that cannot be written');
$server->finish;

# --- a FIFO --------------------------------------------------------------------

my $fifo = $server->dir . '/fifo';
mkfifo($fifo, 0600) or die "$fifo: $!\n";

# Opened for both: it neither waits for somebody nor ends.
sub open_fifo () {
    open my $file, '+<', $fifo or die "$fifo: $!\n";
    $file->blocking(0);
    return $file;
}

# What is there, now.
sub read_fifo ($file) {
    my $text = '';
    1 while sysread $file, $text, 65_536, length $text;
    return $text;
}

# A pipe of one page, as long as anybody has it open.
sub make_small () {
    my $file = open_fifo();
    Parley::poll_until(10, sub { read_fifo($file); fcntl $file, 1031, 4096 })
        or die "F_SETPIPE_SZ: $!\n";
    return;
}

for my $target ($fifo, 'stderr') {
    # A FIFO that is open for both has no end and never a reader.
    my @wrapper = $target eq 'stderr' ? (wrapper => ['sh', '-c', 'exec "$@" 2<>' . $fifo, 'sh']) : ();
    $server = server_with_log($target, @wrapper);
    $server->set('log.level' => 'debug');
    $server->launch;
    $server->add_users(1, 2);
    $load = Parley::Fault->load($server);
    make_small();
    for my $round (1 .. $rounds) {
        goes_on($server, $load, "nobody reads $target, round $round");
        my $reader = open_fifo();
        my $text = '';
        ok(Parley::poll_until(10, sub { ($text .= read_fifo($reader)) =~ / log-lost lines=\d+$/m }),
            '... a reader hears how much it has missed');
        unlike($text, qr/^(?!\d{4}-\d\d-\d\dT)./m, '... in whole lines');
        close $reader;
        ok($load->await_messages(200), '... it leaves, and messages flow');
    }
    $load->finish("nobody reads $target");
    $server->finish;
}
done_testing;
