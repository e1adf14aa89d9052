# The database is away for a while, under load: people who have a token log in,
# write, see each other and call; who has a password is told to come again; and
# afterwards everything is in the database, each message once.
#
# OUTAGE=seconds (10 minutes with PARLEY_FAULT_ROUNDS=long).
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Mssql;
use Parley::Story;
use Test::More;

my $db = Parley::Mssql->start(delay => 35);
plan skip_all => 'a real server cannot be killed' if !$db->can_fail;
my $outage = $ENV{OUTAGE} // (is_long_run() ? 600 : 3);
$db->add_users(1 .. 3);
my $server = Parley->start(
    conf         => {$db->conf, 'store.map_size' => '8G', 'directory.outbox_lag_max' => '1s', 'auth.password_attempts' => 0},
    allow_errors => [qr/mssql-/]);

sub health () { return decode_json(($server->http_get('/health'))[1])->{status} }

sub outbox () {
    my ($code, $out) = $server->ctl('outbox', 'list', '--json');
    return $code == 0 ? decode_json($out) : {waiting => -1};
}

# Answer to a login by password, and how long it took.
sub login ($name) {
    my $client = $server->connect;
    my $start  = now();
    my $reply  = $client->request('P_AUTHENTICATE', UserName => $name, Password => 'pass-1', DeviceId => 'browser');
    return ($reply, now() - $start);
}

my $bruno = $server->client(2);
my $load = Parley::Fault->load($server, rate => 1000, db => $db);
is((login('user1'))[0]{Reason}, 'OK', 'before: a password logs in');
is(health(), 'ok', '... all is well');

$db->kill;
my $start = now();
my ($reply, $took) = login('user1');
is($reply->{Reason}, 'UNAVAILABLE', 'the database is gone: a password cannot be checked');
cmp_ok($reply->{RetryAfter}, '>', 0, '... when to come again is said');
cmp_ok($took, '<', Parley::scaled(3), '... within 3 s');
ok(Parley::poll_until(30, sub { health() eq 'degraded' }), '... the server says that it is degraded');

my $round = 0;
my $slowest = 0;
do {
    my $alice = $server->client(1, DeviceId => 'phone');
    $round++;
    die "no message\n" if send_text($alice, [2], "while it is away: $round")->{Reason} ne 'OK';
    my ($message) = take_messages($bruno, 1);
    $bruno->send_command('P_ACK', Seq => $message->{Seq});
    die "no status\n" if $bruno->request('P_UPDATE_STATUS', Status => $round % 2 ? 'AWAY' : 'ONLINE')->{Reason} ne 'OK';
    $alice->expect_event('P_PRESENCE', 10, sub ($event) { $event->{UserId} == 2 && $event->{Status} eq ($round % 2 ? 'AWAY' : 'ONLINE') });
    my $call = $alice->request('P_COLLABORATION_CREATE', ToUserList => [2], Kind => 'AUDIO', ClientCollaborationId => "c-$round");
    die "no call\n" if $call->{Reason} ne 'OK';
    die "no end of a call\n"
        if $alice->request('P_COLLABORATION_CANCEL', CollaborationId => $call->{CollaborationId})->{Reason} ne 'OK';
    # Who acknowledges nothing is sent 256 events, and then no more.
    $alice->send_command('P_ACK', Seq => $_->{Seq})
        for grep { $_->{Seq} } $alice->expect_event('P_COLLABORATION_OUTCOME');
    $alice->request('P_HEARTBEAT');
    $alice->close;
    ($reply, $took) = login('user1');
    die "a password: $reply->{Reason}\n" if $reply->{Reason} ne 'UNAVAILABLE';
    $slowest = $took if $took > $slowest;
    $load->await_messages(200);
} until now() - $start > $outage || !$load->is_alive;
ok($load->is_alive, "for $outage s tokens, messages, statuses and calls are served, $round times");
cmp_ok($slowest, '<', Parley::scaled(3), sprintf '... and passwords are answered, within %.2f s', $slowest);

my $report  = $load->finish('an outage');
my $backlog = outbox()->{waiting};
$db->launch;
ok(Parley::poll_until(60, sub { outbox()->{waiting} < $backlog }), 'it comes back: that is noticed');
my ($left, $from) = (outbox()->{waiting}, now());
ok(Parley::poll_until(300, sub { outbox()->{waiting} == 0 }), 'the backlog is written');
my $rate = $left / (now() - $from);
note(sprintf '%d rows waited, the last %d went at %.0f rows/s', $backlog, $left, $rate);
cmp_ok($rate, '>', 5000 / Parley::scaled(1), '... at more than 5,000 rows/s') if $left > 5000;
is($db->count('Messages'), $report->{messages}{acknowledged} + $round, '... every message once');
is_deeply($db->bodies('1-2'), [map {"while it is away: $_"} 1 .. $round], '... in order');
is($db->sql('SELECT COUNT(*) AS N FROM dbo.Collaborations WHERE CreatorId = 1')->[0]{N}, $round, '... and every call');
ok(Parley::poll_until(60, sub { (login('user1'))[0]{Reason} eq 'OK' }), 'passwords log in again');
ok(Parley::poll_until(30, sub { health() eq 'ok' }), '... and all is well');
$server->finish;
done_testing;
