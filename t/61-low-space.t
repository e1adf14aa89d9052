# Little room is said before it is none, and none is not the last byte: new
# messages are refused while all else has room to go on. Needs root, for a
# small tmpfs of its own.
use v5.36;
use File::Temp;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json);
use Parley;
use Test::More;

plan skip_all => 'needs root to mount a small tmpfs' if $> != 0;
my $folder = File::Temp->newdir('parley-space-XXXXXX', TMPDIR => 1);
plan skip_all => 'cannot mount a tmpfs'
    if system("mount -t tmpfs -o size=100m tmpfs $folder 2>/dev/null") != 0;
END { local $?; system "umount -l $folder" if defined $folder && -e "$folder/ballast" }

sub fill ($megabytes) {
    open my $file, '>', "$folder/ballast" or die "ballast: $!\n";
    print {$file} 'x' x 1_000_000 for 1 .. $megabytes;
    close $file or die "ballast: $!\n";
    return;
}

sub send_one ($client, $id) {
    return $client->request('P_SEND_MESSAGE',
        ToUserList => [2], Message => 'x' x 8000, ClientMessageId => $id);
}

my $server = Parley->start(
    conf => {
        'policy.may_message' => 'anyone',
        'server.data_dir'    => "$folder/data",
        'store.min_free'     => 20,
        'log.target'         => "$folder/parleyd.log",
    },
    allow_errors => [qr/storage-state/, qr/storage-room/]);
sub health () { return decode_json(($server->http_get('/health'))[1]) }
sub log_text () { return Parley::slurp("$folder/parleyd.log") }
$server->add_users(1, 2);
my $alice = $server->client(1);
my $bruno = $server->client(2);
is(send_one($alice, 'one')->{Reason}, 'OK', 'there is room');
my $first = $bruno->expect_event('P_MESSAGE');

fill(70);
ok(Parley::poll_until(10, sub { log_text() =~ / warn .*storage-room room=little disk_free_percent=[23]\d/ }),
    'a warning comes at twice as much');
is(health()->{status}, 'degraded', '... and /health says so');
like(health()->{reason} // '', qr/nearly full/, '... and why');
is(send_one($alice, 'two')->{Reason}, 'OK', '... messages are taken');
my $second = $bruno->expect_event('P_MESSAGE');

fill(85);
ok(Parley::poll_until(10, sub { log_text() =~ / error .*storage-room room=none disk_free_percent=1\d/ }),
    'then it is none');
my $refused = send_one($alice, 'three');
is($refused->{Reason}, 'STORAGE_FULL', '... and messages are refused');
like($refused->{RetryAfter}, qr/\A\d+\z/, '... until later');
is(($server->http_get('/ready'))[0], 200, '... the server serves');
is(health()->{status}, 'degraded', '... as well as it can');
my $late = $server->client(2, DeviceId => 'another');
is($late->session->{Reason}, 'OK', '... logins are taken');
$late->close;
$bruno->send_command('P_ACK', Seq => $second->{Seq});
is( $bruno->request(
        'P_MARK_READ',
        ConversationId => $second->{ConversationId},
        MessageId      => $second->{MessageId}
    )->{Reason},
    'OK',
    '... receipts are kept');

# --- not a byte is left: the log cannot grow ----------------------------------

system "cat /dev/zero > $folder/ballast2 2>/dev/null";
is($alice->request('P_HEARTBEAT')->{Reason}, 'OK', 'a full disk of the log stops nobody');
$server->client($_ % 2 + 1, DeviceId => "d$_")->close for 1 .. 20;
is(($server->http_get('/ready'))[0], 200, '... the server serves');

unlink "$folder/ballast2" or die "ballast2: $!\n";
fill(1);
ok(Parley::poll_until(10, sub { send_one($alice, 'three')->{Reason} =~ /OK|DUPLICATE/ }),
    'with room again messages are taken');
is($bruno->expect_event('P_MESSAGE')->{MessageId} > $second->{MessageId} ? 1 : 0, 1, '... and arrive');
ok(Parley::poll_until(10, sub { log_text() =~ /storage-room room=enough/ }), '... and the log goes on');
ok(Parley::poll_until(30, sub { health()->{status} eq 'ok' }), '... and all is well');
is(($server->ctl('check'))[0], 0, 'every row of the store is sound');
$server->finish;

# --- the map ------------------------------------------------------------------

my $small = Parley->start(
    conf         => {'policy.may_message' => 'anyone', 'store.map_size' => '64M'},
    allow_errors => [qr/storage-state/, qr/storage-room/]);
$small->add_users(1, 2);
$alice = $small->client(1);
my $count = 0;
sub map_used () { return $small->metric('parley_store_map_used_percent', process => 'keeper') }
for my $n (1 .. 20_000) {
    # The keeper looks once a second: not past it unseen.
    if ($n > 6000 && $n % 150 == 0) {
        my $used = map_used();
        Parley::poll_until(3, sub { map_used() != $used });
    }
    $refused = send_one($alice, "m-$n");
    last if $refused->{Reason} ne 'OK';
    $count = $n;
}
is($refused->{Reason}, 'STORAGE_FULL', "after $count messages the map is full enough");
cmp_ok(map_used(), '>=', 90, '... at 90 percent');
ok($small->await_log(qr/ warn .*storage-room room=little .*soon/), '... after a warning');
$small->finish;
done_testing;
