# The disk of the store fails, or is read-only, under load: nothing is
# acknowledged that was not synced, /health says so, and all goes on by itself
# when the disk is well again.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

plan skip_all => 'strace is missing' if system('command -v strace >/dev/null') != 0;

my $server = Parley->start(
    conf         => {'policy.may_message' => 'anyone', 'store.map_size' => '4G'},
    allow_errors => [
        qr/ storage-state /, qr/ store-failed /, qr/ record-set-aside /,
        qr/ panic .*must be opened again/, qr/ process-died /, qr/ store-not-writable /,
    ],
);
$server->add_users(9001, 9002);
my $alice = $server->client(9001);
my $bruno = $server->client(9002);

sub health () { return decode_json(($server->http_get('/health'))[1]) }

sub keeper_attempts () { return scalar(() = Parley::slurp($server->dir . '/trace') =~ /\(INJECTED\)/g) }
sub keeper_deaths ()   { return scalar(() = $server->log_text =~ / process-died name=keeper /g) }

# strace makes these calls of the keeper and of its successors fail for as long
# as it is there.
sub break_disk ($inject) {
    my $keeper = $server->pids->{keeper};
    my $out    = $server->dir . '/strace';
    unlink $out;
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        open STDERR, '>', $out or die "$out: $!\n";
        exec 'strace', '-f', '-o', $server->dir . '/trace', '-e', "trace=fdatasync,pwrite64,pwritev",
            '-e', "inject=$inject", '-p', $keeper, '-p', $server->pids->{supervisor} or die "strace: $!\n";
    }
    my $is_there = Parley::poll_until(10, sub { (() = Parley::slurp($out) =~ / attached/g) >= 2 || Parley::slurp($out) =~ /not permitted/ });
    plan skip_all => 'strace may not trace here' if Parley::slurp($out) =~ /not permitted/;
    ok($is_there, "$inject: it fails from now on");
    return $pid;
}

sub mend_disk ($pid) {
    kill INT => $pid;
    waitpid $pid, 0;
    return;
}

my $load   = Parley::Fault->load($server);
my $rounds = fault_rounds(1, 10);
my @faults = (
    'fdatasync:error=EIO',
    'pwrite64,pwritev:error=EIO',
    'pwrite64,pwritev,fdatasync:error=EROFS',
);
my (@sent, $number);
for my $fault (@faults) {
    for my $round (1 .. $rounds) {
        ok($load->await_messages(200), "$fault, round $round: messages flow");
        my $deaths = keeper_deaths();
        my $tracer = break_disk($fault);
        ok(Parley::poll_until(10, sub { health()->{status} eq 'failed' }), '... /health says so');
        my @message = (
            ToUserList      => [9002],
            Message         => 'kept ' . ++$number,
            ClientMessageId => "r-$number",
        );
        # A keeper that met it in the middle of its last write has ended; its
        # successor says nothing before it can write.
        my $refused = eval { $alice->request('P_SEND_MESSAGE', @message) }
            // {Reason => 'no answer', RetryAfter => 0};
        my $is_waiting = $server->log_text =~ /store-not-writable/;
        like($refused->{Reason}, $is_waiting ? qr/UNAVAILABLE|no answer/ : qr/UNAVAILABLE/,
            '... a message is not acknowledged');
        like($refused->{RetryAfter}, qr/\A\d+\z/, '... but put off');
        is(($server->http_get('/ready'))[0], 503, '... /ready too');
        is($alice->request('P_HEARTBEAT')->{Reason}, 'OK', '... sessions go on');
        my $attempts = keeper_attempts();
        ok(Parley::poll_until(30, sub { keeper_attempts() >= $attempts + 3 }), '... it is tried again and again');
        mend_disk($tracer);
        cmp_ok(keeper_deaths() - $deaths, '<=', 1, '... the keeper waits, it does not die again and again');
        my $again;
        ok(Parley::poll_until(20, sub {
            $again = eval { $alice->request('P_SEND_MESSAGE', @message) } // {Reason => 'no answer'};
            return $again->{Reason} =~ /\A(?:OK|DUPLICATE)\z/;
        }), '... the same message is taken when the disk is well') or diag(explain($again));
        push @sent, "kept $number";
        is($bruno->expect_event('P_MESSAGE')->{Message}, "kept $number", '... and arrives, once');
        ok(Parley::poll_until(20, sub { health()->{status} ne 'failed' }), '... /health is good again');
    }
}
$load->finish('storage trouble');
like($server->log_text, qr/ error .*storage-state state=stuck was=good; the disk of data_dir fails/, 'the log says what is wrong');
is_deeply(
    [map { $_->{Message} } reverse $bruno->request('P_GET_MESSAGES', UserId => 9001, Limit => 100)->{Messages}->@*],
    \@sent, 'the history is what was acknowledged');

# --- nobody is there to try it ----------------------------------------------

$alice->close;
$bruno->close;
my $tracer = break_disk($faults[0]);
my ($late) = eval { $server->connect };
$late->request('P_AUTHENTICATE', Token => $server->token(9001), DeviceId => 'd');
is(health()->{status}, 'failed', 'a login finds the disk broken');
$late->close;
mend_disk($tracer);
ok(Parley::poll_until(30, sub { health()->{status} eq 'ok' }), 'it is found well without anybody');

$server->finish;
done_testing;
