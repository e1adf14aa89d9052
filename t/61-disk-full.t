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
END { system "umount -l $folder" if defined $folder && -d "$folder/data" }

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
done_testing;
