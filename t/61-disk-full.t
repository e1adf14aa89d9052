# The disk of the store runs full and gets room again: new messages are
# refused, the rest goes on, nothing acknowledged is lost. Needs root, for a
# small tmpfs of its own.
use v5.36;
use File::Temp;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Test::More;

plan skip_all => 'needs root to mount a small tmpfs' if $> != 0;
my $folder = File::Temp->newdir('parley-disk-XXXXXX', TMPDIR => 1);
plan skip_all => 'cannot mount a tmpfs'
    if system("mount -t tmpfs -o size=24m tmpfs $folder 2>/dev/null") != 0;
END { local $?; system "umount -l $folder" if defined $folder && -d "$folder/data" }

my $server = Parley->start(
    conf         => {'server.data_dir' => "$folder/data"},
    allow_errors => [qr/storage-state/, qr/store-failed/]);
$server->add_users(1, 2);
my $alice = $server->client(1);
my $bruno = $server->client(2);

my (@stored, $refused);
for my $n (1 .. 20_000) {
    my $reply = $alice->request('P_SEND_MESSAGE',
        ToUserList => [2], Message => 'x' x 8000, ClientMessageId => "m-$n");
    if ($reply->{Reason} eq 'OK') {
        push @stored, $reply->{MessageId};
        $bruno->send_command('P_ACK', Seq => $bruno->expect_event('P_MESSAGE')->{Seq});
        next;
    }
    $refused = $reply;
    last;
}
is($refused->{Reason}, 'STORAGE_FULL', 'a full disk refuses new messages');
like($refused->{RetryAfter}, qr/\A\d+\z/, '... and says when to try again');
cmp_ok(scalar @stored, '>', 100, '... after many that were stored');
is($server->metric('parley_store_state', process => 'keeper'), 1, 'the metrics say so');
is($alice->request('P_HEARTBEAT')->{Reason}, 'OK', 'the session goes on');
my $page = $bruno->request('P_GET_MESSAGES', UserId => 1, Limit => 10);
is($page->{Messages}[0]{MessageId}, $stored[-1], 'what was acknowledged can be read');
is( $bruno->request(
        'P_MARK_READ',
        ConversationId => $page->{Messages}[0]{ConversationId},
        MessageId      => $stored[-1]
    )->{Reason},
    'OK',
    'read marks are kept');

is($alice->request('P_EDIT_MESSAGE', MessageId => $stored[-1], Message => 'y')->{Reason}, 'STORAGE_FULL', 'an edit is refused');
is($alice->request('P_DELETE_MESSAGE', MessageId => $stored[-1])->{Reason}, 'OK', 'a deletion is not');
is($bruno->expect_event('P_DELETE_MESSAGE')->{MessageId}, $stored[-1], '... and is told');

is(system("mount -o remount,size=200m $folder"), 0, 'the disk gets room');
my $after;
Parley::poll_until(10, sub {
    $after = $alice->request('P_SEND_MESSAGE',
        ToUserList => [2], Message => 'again', ClientMessageId => 'after');
    return $after->{Reason} eq 'OK';
});
is($after->{Reason}, 'OK', 'messages are taken again');
is($bruno->expect_event('P_MESSAGE')->{MessageId}, $after->{MessageId}, '... and arrive');

my $before = '9' x 18;
my @seen;
while (1) {
    my $older = $bruno->request('P_GET_MESSAGES', UserId => 1, Before => $before, Limit => 200);
    push @seen, map { $_->{MessageId} } $older->{Messages}->@*;
    last if !$older->{HasMore};
    $before = $seen[-1];
}
is_deeply([reverse @seen], [@stored, $after->{MessageId}],
    'the history is what was acknowledged, no more and no less');
$server->finish;

# --- the folder of presence is full -------------------------------------------

my $small = Parley->prepare(allow_errors => [qr/storage-state/, qr/store-failed/]);
my $run   = $small->run_dir;
is(system("mount -t tmpfs -o size=8m tmpfs $run"), 0, 'a small folder for presence');
END { local $?; system "umount -l $run" if defined $run && -e "$run/presence.mdb" }
$small->launch;
$small->ctl(qw(user add --range 1-400));

sub log_in ($id) {
    my $client = $small->connect;
    return ($client->request('P_AUTHENTICATE', Token => $small->token($id), DeviceId => 'd'), $client);
}
my $first = (log_in(1))[1];
system "cat /dev/zero > $run/ballast 2>/dev/null";
my $late;
for my $id (2 .. 400) {
    ($refused) = log_in($late = $id);
    last if $refused->{Reason} ne 'OK';
}
is($refused->{Reason}, 'STORAGE_FULL', 'sooner or later nobody can log in, and is told why');
ok($small->await_log(qr/storage-state state=stuck was=\w+; free space in run_dir/),
    'the log names the folder that is full');
is($first->request('P_HEARTBEAT')->{Reason}, 'OK', 'sessions go on');
unlink "$run/ballast" or die "$run/ballast: $!\n";
ok(Parley::poll_until(10, sub { (log_in($late))[0]{Reason} eq 'OK' }),
    'logins are taken when there is room again');
$small->finish;
done_testing;
