# The outbox, rehearsed: what happens is written to it with the work itself,
# drained, and forgotten; under load, under kills, switched off, with a full
# disk, with a message that cannot be read any more.
use v5.36;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";
use File::Temp;
use List::Util qw(sum);
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Story;
use Test::More;
use Time::HiRes qw(time);

my $seed = $ENV{SEED} // time ^ $$;
srand $seed;
diag "SEED=$seed";

# What the store says of the outbox.
sub outbox ($server) {
    my ($code, $out) = $server->ctl('outbox', 'list', '--json');
    return $code == 0 ? decode_json($out) : {waiting => -1};
}

sub await_drained ($server) {
    my $state;
    Parley::poll_until(20, sub { $state = outbox($server); $state->{waiting} == 0 });
    return $state;
}

# What the directory has read in its life, told at its end.
sub rehearsed ($server) {
    my ($line) = reverse grep {/ rehearsal-over /} split /\n/, $server->log_text;
    return {($line // '') =~ /(\w+)=(\d+)/g};
}

# Load for some seconds, meanwhile $meanwhile->() again and again.
# @return what parleyload says
sub load ($server, $seconds, $meanwhile) {
    my $report = $server->dir . '/load.json';
    my $pid    = fork // die "fork: $!\n";
    if ($pid == 0) {
        open STDOUT, '>', $report or POSIX::_exit(126);
        exec Parley::program('parleyload'), 'pairs', '--quiet', '--json', '--churn',
            '-n', 20, '--window', 4, '--size', 200, '--duration', $seconds, '--warmup', 0,
            '--drain', 60, '--url', $server->ws_url, '--secret', $server->secret,
            '--first-user', 1000;
        POSIX::_exit(127);
    }
    my $ended;
    until ($ended = waitpid($pid, POSIX::WNOHANG()) == $pid) {
        $meanwhile->();
        Parley::tick();
    }
    is($? >> 8, 0, 'parleyload has found nothing wrong');
    return decode_json(Parley::slurp($report));
}

# Some seconds at full speed are hundreds of thousands of messages.
my %conf = ('auth.auto_provision' => 'yes', 'policy.may_message' => 'anyone',
    'store.map_size' => '8G');

# --- switched off -----------------------------------------------------------

my $server = Parley->start(conf => \%conf);
$server->add_users(1, 2);
my $alice = $server->client(1);
my $bruno = $server->client(2);
is(send_text($alice, [2], 'unheard')->{Reason}, 'OK', 'off: messages are sent');
take_messages($bruno, 1);
is($server->metric('parley_outbox_put_total'), 0, '... nothing is put into an outbox');
my $state = outbox($server);
is_deeply([$state->@{qw(on put waiting)}], [Mojo::JSON->false, 0, 0], '... the store agrees');
is(($server->ctl('outbox', 'retry', '--all'))[0], 1, '... there is nobody to retry for');
is($server->stop, 0, 'it stops');

# --- switched on, without any harm ------------------------------------------

$server->set('directory.rehearse_outbox' => 'yes');
$server->launch;
like($server->log_text, qr/ outbox-on .*last_message=[1-9]/, 'on: the log says from where');
$alice = $server->client(1, LastSeq => 0);
$bruno = $server->client(2);
my ($bytes, $sent) = (0, 200);
for my $n (1 .. $sent) {
    my $text = 'ä' x $n;
    $bytes += 2 * $n;
    die "not sent\n" if send_text($alice, [2], $text)->{Reason} ne 'OK';
}
my @got = take_messages($bruno, $sent);
$bruno->send_command('P_ACK', Seq => $got[-1]{Seq});
is( $bruno->request('P_MARK_READ', ConversationId => $got[0]{ConversationId},
        MessageId => $got[9]{MessageId})->{Reason}, 'OK', 'some are read');
my $group = $alice->request('P_CREATE_GROUP', Name => 'Ward', Members => [2],
    ClientGroupId => 'g')->{GroupId};
is($alice->request('P_UPDATE_GROUP', GroupId => $group, Name => 'Ward 3')->{Reason}, 'OK', 'a group is made');
is($bruno->request('P_LEAVE_GROUP', GroupId => $group)->{Reason}, 'OK', '... and left');
my $call = $alice->request('P_COLLABORATION_CREATE', ToUserList => [2], Kind => 'AUDIO',
    ClientCollaborationId => 'c')->{CollaborationId};
is($alice->request('P_COLLABORATION_CANCEL', CollaborationId => $call)->{Reason}, 'OK', 'a call ends');
$state = await_drained($server);
is($state->{waiting}, 0, 'what was put is drained');
is($state->{put}, $state->{done}, '... all of it');
is($server->metric('parley_outbox_depth'), 0, '... the depth is none');
is($server->metric('parley_outbox_written_total'), $state->{put}, '... each was read once');
is(decode_json(($server->http_get('/health'))[1])->{status}, 'ok', '... all is well');
is($server->status->{outbox}{waiting}, 0, '... parleyctl status has it');
is($server->stop, 0, 'it stops');
my $seen = rehearsed($server);
is($seen->{messages}, $sent,  'as many messages were read as were acknowledged');
is($seen->{bytes},    $bytes, '... every byte of them');
is($seen->{read},     1,      '... and one mark');
cmp_ok($seen->{delivered}, '>=', 1, '... and what was delivered');
is_deeply([$seen->@{qw(groups members calls)}], [2, 3, 1],
    '... both names of the group, who came and left, and the call');

# --- kills ------------------------------------------------------------------

$server->launch;
my (%kills, $deepest);
my $next   = time + 0.5;
my $report = load($server, 8, sub {
    return if time < $next;
    $next = time + 0.15 + rand 0.4;
    my $pids = $server->pids // return;
    my $name = (qw(keeper directory))[rand 2];
    kill KILL => $pids->{$name} and $kills{$name}++ if $pids->{$name};
});
$state = await_drained($server);
diag "kills: keeper=$kills{keeper} directory=$kills{directory}, put=$state->{put}";
cmp_ok($kills{$_}, '>=', 3, "the $_ was killed now and then") for qw(keeper directory);
is($state->{waiting}, 0, 'after kills what was put is drained');
is($state->{put}, $state->{done}, '... all of it');
unlike($server->log_text, qr/outbox-gap/, '... no entry was skipped');
cmp_ok($state->{put}, '>', 1000, '... and it was many');
is($server->stop, 0, 'it stops');

# A keeper alone that dies: then its consumer reads each entry exactly once.
$server->launch;
my $before = $server->metric('parley_messages_total') // 0;
my $put    = outbox($server)->{put};
$next = time + 0.5;
load($server, 5, sub {
    return if time < $next;
    $next = time + 0.2 + rand 0.5;
    my $pids = $server->pids // return;
    kill KILL => $pids->{keeper} if $pids->{keeper};
});
$state = await_drained($server);
is($server->stop, 0, 'it stops');
$seen = rehearsed($server);
delete $seen->{bytes};
is(sum(values %$seen), $state->{put} - $put, 'kills of the keeper: each entry is read exactly once');

# --- switched off with something left ---------------------------------------

$server->launch;
$alice = $server->client(1, LastSeq => 0);
kill STOP => $server->pids->{directory};
my $word = 'unlesbar-' . int rand 1e9;
is(send_text($alice, [2], $word)->{Reason}, 'OK', 'a message while the directory hangs');
my $left = outbox($server)->{waiting};
cmp_ok($left, '>', 0, '... waits');
cmp_ok($server->metric('parley_outbox_depth'), '>=', $left, '... the metrics say so');
$server->_destroy_processes;
$server->set('directory.rehearse_outbox' => 'no');
$server->launch;
like($server->await_log(qr/ outbox-left .*/), qr/waiting=$left/, 'off again: what is left is told');
is(outbox($server)->{waiting}, $left, '... and kept');
is($server->metric('parley_outbox_depth'), $left, '... the metrics have it from the start');
is($server->stop, 0, 'it stops');

# --- a message that cannot be read ------------------------------------------

my $store = $server->dir . '/data/main.mdb';
{
    open my $fh, '+<:raw', $store or die "$store: $!\n";
    my $all = do { local $/; <$fh> };
    my $at  = -1;
    while (($at = index $all, $word, $at + 1) >= 0) {
        seek $fh, $at, 0 or die "seek: $!\n";
        print {$fh} 'X';
    }
    close $fh or die "$store: $!\n";
}
$server->allow_errors(qr/ store-corrupt .*row=log /);
$server->set('directory.rehearse_outbox' => 'yes');
$server->launch;
$state = await_drained($server);
is($state->{waiting}, 0, 'on again: a damaged message does not hold the rest');
is($state->{dead},    1, '... it is a dead letter');
my $dead = $state->{dead_letters}[0];
is($dead->{kind}, 'message', '... that names its kind');
like($dead->{message_id}, qr/\A\d+\z/, '... its message');
like($dead->{error},      qr/damaged/, '... and what was wrong');
my ($code, $out) = $server->ctl('outbox', 'list');
like($out, qr/^\Q$dead->{number}\E\tmessage message=\Q$dead->{message_id}\E /m, '... also in text');
unlike($out . Mojo::JSON::encode_json($state), qr/lesbar/, '... never with what was written');
is($server->status->{outbox}{dead}, 1, '... parleyctl status counts it');
($code, $out) = $server->ctl('outbox', 'retry', $dead->{number});
is($code, 0, 'it is tried again');
$server->await_log(qr/ outbox-refused [^\n]*\n.* outbox-refused /s);
$state = await_drained($server);
is($state->{dead}, 1, '... and refused again');
cmp_ok($state->{dead_letters}[0]{number}, '>', $dead->{number}, '... under a new number');
is(($server->ctl('outbox', 'drop', $dead->{number}))[0], 1, 'the old one is none any more');
is(($server->ctl('outbox', 'drop', '--all'))[0], 0, 'all can be dropped');
is(outbox($server)->{dead}, 0, '... then there is none');
is(($server->ctl('outbox', 'drop'))[0],   2, 'drop needs to know what');
is(($server->ctl('outbox', 'list', '--outbox', 'nobody'))[0], 2, 'an outbox must exist');
is(($server->ctl('outbox', 'forget'))[0], 1, 'what waits in one that is on is not forgotten');

# --- a block whose key is damaged ---------------------------------------------

$alice = $server->client(1, LastSeq => 0);
kill STOP => $server->pids->{directory};
my $done = outbox($server)->{done};
my @held = map { send_text($alice, [2], "held $_") } 1 .. 4;
is_deeply([map { $_->{Reason} } @held], [('OK') x 4], 'messages while the directory hangs');
my $waiting = outbox($server)->{waiting};
$server->_destroy_processes;
my ($lost, $first, $poked);
{
    # Rows of the outbox: length of the key, 1, 1, the number. The second of
    # what waits gets a number that nothing ever had.
    open my $fh, '+<:raw', $store or die "$store: $!\n";
    my $all = do { local $/; <$fh> };
    my @numbers = grep { index($all, pack('vCCQ>', 10, 1, 1, $_)) >= 0 } $done + 1 .. $done + $waiting;
    ($first, $lost) = ($numbers[0] + 1, $numbers[1]);
    my $row = pack 'vCCQ>', 10, 1, 1, $lost;
    for (my $at = -1; ($at = index $all, $row, $at + 1) >= 0; $poked++) {
        seek $fh, $at + 4, 0 or die "seek: $!\n";
        print {$fh} "\x40";
    }
    close $fh or die "$store: $!\n";
}
cmp_ok($poked, '>', 0, 'a key is damaged');
$server->allow_errors(qr/ outbox-gap first=$first last=$lost/);
$server->launch;
$state = await_drained($server);
is($state->{waiting}, 0, 'it does not hold the others');
is($server->metric('parley_outbox_written_total'), $waiting - ($lost - $first + 1),
    '... all of which are read');
is($server->metric('parley_outbox_lost_total'), $lost - $first + 1, '... what is lost is counted');
is($server->metric('parley_outbox_dead'), 1, '... as one dead letter');
$server->_destroy_processes;
$server->launch;
$state = outbox($server);
$dead  = $state->{dead_letters}[0];
is_deeply([$dead->@{qw(kind first number)}], ['damaged', $first, $lost], '... which knows its numbers');
my ($missed) = grep { $_->{MessageId} >= $dead->{first_message_id}
        && $_->{MessageId} <= $dead->{message_id} } @held;
ok($missed, '... and its messages');
is(($server->ctl('outbox', 'retry', $lost))[0], 0, 'it can be tried again');
$state = await_drained($server);
is($state->{dead}, 0, '... then there is none');
cmp_ok($server->metric('parley_outbox_written_total'), '>=', 1, '... its messages are read');
is($server->metric('parley_outbox_refused_total'), 0, '... without a refusal');

# --- a consumer that is late ------------------------------------------------

is($server->stop, 0, 'it stops');
$server->set('directory.outbox_lag_max' => '1s');
$server->launch;
$alice = $server->client(1, LastSeq => 0);
my $hung = $server->pids->{directory};
kill STOP => $hung;
is(send_text($alice, [2], 'late')->{Reason}, 'OK', 'a message while the directory hangs');
my $health;
ok(Parley::poll_until(8, sub {
    $health = decode_json(($server->http_get('/health'))[1]);
    $health->{reason} =~ /outbox is late/;
}), 'a consumer that is late makes the server degraded');
is($health->{status}, 'degraded', '... and no more than that');
cmp_ok($health->{outbox}{lag_seconds}, '>=', 1, '... the lag is told');
kill CONT => $hung;
ok(Parley::poll_until(10, sub { decode_json(($server->http_get('/health'))[1])->{status} eq 'ok' }),
    '... until it has caught up');
is($server->stop, 0, 'it stops');
$server->set('directory.rehearse_outbox' => 'no');
$server->launch;
is(($server->ctl('outbox', 'forget'))[0], 0, 'off: what waits can be forgotten');
is(outbox($server)->{waiting}, 0, '... then nothing waits');
$server->finish;

# --- a full disk ------------------------------------------------------------

SKIP: {
    skip 'needs root to mount a small tmpfs', 7 if $> != 0;
    my $folder = File::Temp->newdir('parley-outbox-XXXXXX', TMPDIR => 1);
    skip 'cannot mount a tmpfs', 7
        if system("mount -t tmpfs -o size=16m tmpfs $folder 2>/dev/null") != 0;
    my $full = Parley->start(
        conf         => {%conf, 'server.data_dir' => "$folder/data", 'directory.rehearse_outbox' => 'yes'},
        allow_errors => [qr/storage-state/, qr/store-failed/]);
    my $writer = $full->client(1, LastSeq => 0);
    my $reader = $full->client(2);
    my $reply;
    for my $n (1 .. 20_000) {
        $reply = $writer->request('P_SEND_MESSAGE', ToUserList => [2], Message => 'x' x 8000,
            ClientMessageId => "m-$n");
        last if $reply->{Reason} ne 'OK';
    }
    is($reply->{Reason}, 'STORAGE_FULL', 'a full disk refuses new messages');
    $state = await_drained($full);
    is($state->{waiting}, 0, '... the outbox is drained all the same');
    is($state->{put}, $state->{done}, '... all of it');
    my $mark = $reader->request('P_GET_MESSAGES', UserId => 1, Limit => 1)->{Messages}[0];
    is( $reader->request('P_MARK_READ', $mark->%{qw(ConversationId MessageId)})->{Reason},
        'OK', 'read marks are kept');
    $full->finish;
    system "umount -l $folder";
}
done_testing;
