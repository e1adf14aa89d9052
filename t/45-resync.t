# A worker that has lost deliveries reads the inboxes of all its sessions, a
# bounded number of them at a time.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Guard;
use Parley::Raw;
use Mojo::JSON qw(decode_json encode_json);
use Parley::Story;
use Test::More;

my $CROWD = 150;    # sessions on the worker in question
my $BOUND = 64;     # DELIVERY_JOBS_MAX, worker/delivery.c
my $KIB   = 1024;

my $server = Parley->start(conf => {'policy.may_message' => 'anyone', 'store.map_size' => '1G'});
is(($server->ctl('user', 'add', '--range', '1-400'))[0], 0, 'some users');

sub entered ($id) {
    my $raw = Parley::Raw->connect($server->address);
    $raw->upgrade;
    $raw->write(Parley::Raw->frame(1, encode_json({Command => 'P_AUTHENTICATE',
        Token => $server->token($id), DeviceId => 'd', RequestId => 'l'})));
    my (undef, $text) = $raw->read_frame;
    my $login = decode_json($text);
    die $text if $login->{Reason} ne 'OK';
    return ($raw, $login);
}

sub next_message ($raw) {
    while (1) {
        my ($opcode, $text) = $raw->read_frame(30);
        die "closed\n" if $opcode == 8;
        return decode_json($text) if $opcode == 1 && $text =~ /"P_MESSAGE"/;
    }
}

my $alice = client_on($server, 'worker-0', 1);
my %crowd;
for my $id (10 .. 400) {
    my ($raw, $login) = entered($id);
    $crowd{$id} = $raw
        if worker_of($server, bless {session => $login}, 'Parley::Client') eq 'worker-1';
    last if keys %crowd == $CROWD;
}
is(scalar keys %crowd, $CROWD, 'a crowd on worker-1');
my @ids    = sort { $a <=> $b } keys %crowd;
my $before = $server->metric('parley_reader_jobs_max', process => 'worker-1');
cmp_ok($before, '<', $BOUND, 'logins one after the other queue few reads');

# --- its ring runs over -------------------------------------------------------

my $pid = $server->process('worker-1')->{pid};
kill STOP => $pid;
my $resyncs = $server->metric('parley_resyncs_total');
my $large   = 'x' x (60 * $KIB);
for my $n (1 .. 200) {
    is(send_text($alice, [$ids[0]], "$n $large")->{Reason}, 'OK', 'stored') if $n == 1;
    send_text($alice, [$ids[0]], "$n $large")                             if $n > 1;
    last if $server->metric('parley_resyncs_total') > $resyncs;
}
cmp_ok($server->metric('parley_resyncs_total'), '>', $resyncs, 'its ring is full');
my $said = send_text($alice, [@ids[1 .. $#ids]], 'to all of you');
is($said->{Reason}, 'OK', 'a message to all of them');
kill CONT => $pid;
is_deeply([grep { next_message($crowd{$_})->{MessageId} ne $said->{MessageId} } @ids[1 .. $#ids]],
    [], 'it has come to each of them');
is(next_message($crowd{$ids[0]})->{Message}, "1 $large", '... the large ones, too, in order');
my $most = $server->metric('parley_reader_jobs_max', process => 'worker-1');
cmp_ok($most, '<=', $BOUND + $before, "with at most $BOUND reads at a time");
cmp_ok($most, '>=', $BOUND / 2,       '... but many');
is($server->process('worker-1')->{pid}, $pid, 'by the same worker');

$server->finish;
done_testing;
