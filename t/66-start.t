# A start that comes to no end: stopped as a hang, and tried again.
use v5.36;
use Fcntl qw(F_SETLK F_WRLCK SEEK_SET);
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP qw(decode_json);
use Parley;
use Test::More;

my $server = Parley->start(
    conf => {
        'supervisor.start_timeout'    => Parley::scaled(2) . 's',
        'supervisor.watchdog_timeout' => Parley::scaled(1) . 's',
    },
    allow_errors => [qr/process-hangs name=keeper/],
);
is($server->stop, 0, 'a server has been there');

# LMDB waits for this lock when it opens the store. The struct flock is that of
# 64 bits, fcntl(2).
my $path = $server->{dir} . '/data/main.mdb-lock';
open my $lock, '+<', $path or die "$path: $!\n";
my $range = pack 's s x4 q q l x4', F_WRLCK, SEEK_SET, 0, 1, 0;
fcntl $lock, F_SETLK, $range or die "fcntl: $!\n";
$server->spawn;
my $pid = $server->await_log(qr/process-hangs name=keeper pid=(\d+) state=S /, 20);
ok($pid, 'a keeper whose start comes to no end is found to hang');
ok($server->await_log(qr/process-start name=keeper pid=(?!$pid )\d+ generation=2/, 20),
    '... and another one tries');
close $lock;
$server->await_ready;
is(decode_json(($server->http_get('/health'))[1])->{status}, 'ok', 'it serves when nothing holds it up');

$server->finish;
done_testing;
