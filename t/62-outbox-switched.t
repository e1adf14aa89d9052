# From a rehearsal to SQL Server, which is away, and back: each has an outbox of
# its own, and what happens while one is off is not in it.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Story;
use Test::More;

sub outbox ($server, @options) {
    my ($code, $out) = $server->ctl('outbox', 'list', @options, '--json');
    return $code == 0 ? decode_json($out) : {waiting => -1};
}

sub health ($server) { return decode_json(($server->http_get('/health'))[1]) }

# The database's port: ours, and nobody listens there.
my $nobody = IO::Socket::INET->new(Proto => 'tcp', LocalAddr => '127.0.0.1')
    // die "socket: $!\n";

my $server = Parley->start(
    conf => {
        'directory.rehearse_outbox' => 'yes',
        'directory.outbox_lag_max'  => '1s',
        'mssql.server'              => '127.0.0.1',
        'mssql.port'                => $nobody->sockport,
        'mssql.encryption'          => 'off',
        'mssql.database'            => 'Chat',
        'mssql.user'                => 'parley',
        'mssql.password'            => 'no secret',
        'policy.may_message'        => 'anyone',
    });
$server->add_users(1, 2);
my $alice = $server->client(1);
is(send_text($alice, [2], 'rehearsed')->{Reason}, 'OK', 'rehearsed: a message is sent');
ok(Parley::poll_until(10, sub { my $o = outbox($server); $o->{put} > 0 && $o->{waiting} == 0 }),
    '... and drained');
is(outbox($server)->{outbox}, 'rehearsal', '... from the outbox that is on');
is(outbox($server, '--outbox', 'mssql')->{put}, 0, '... the other one has nothing');
is($server->stop, 0, 'it stops');

# --- a database that is away ------------------------------------------------

$server->set('directory.backend' => 'mssql');
$server->launch;
like($server->await_log(qr/ outbox-on .*/),  qr/outbox=mssql/,     'mssql: its outbox is on');
like($server->await_log(qr/ outbox-off .*/), qr/outbox=rehearsal/, '... the rehearsal is off');
$alice = $server->client(1, LastSeq => 0);
is(send_text($alice, [2], 'kept')->{Reason}, 'OK', '... nobody waits for the database');
my $group = $alice->request('P_CREATE_GROUP', Name => 'Ward', Members => [2], ClientGroupId => 'g');
is($group->{Reason}, 'OK', '... not for a group, either');
my $state = outbox($server);
is_deeply([$state->@{qw(outbox on done)}], ['mssql', Mojo::JSON->true, 0], 'what happens is kept');
cmp_ok($state->{waiting}, '>=', 4, '... the message, the group and its members');
my $health;
ok(Parley::poll_until(10, sub { ($health = health($server))->{reason} =~ /outbox is late/ }),
    '/health says that it is late');
is($health->{status}, 'degraded', '... and no more than that');
is($health->{outbox}{waiting}, $server->status->{outbox}{waiting}, '... as many as parleyctl status');
cmp_ok(outbox($server)->{lag_seconds}, '>=', 1, '... as parleyctl outbox list');
is($server->metric('parley_outbox_depth'), outbox($server)->{waiting}, '... and the metrics');
is(outbox($server, '--outbox', 'rehearsal')->{waiting}, 0, '... the other one has nothing of it');
is($server->stop, 0, 'it stops');

# --- and back ---------------------------------------------------------------

my $left = do {
    $server->set('directory.backend' => 'embedded');
    $server->launch;
    $server->await_log(qr/ outbox-left .*/);
};
like($left, qr/outbox=mssql waiting=\d+/, 'back: what is left for the database is told');
($left) = $left =~ /waiting=(\d+)/;
$alice = $server->client(1, LastSeq => 0);
is(send_text($alice, [2], 'rehearsed again')->{Reason}, 'OK', '... a message is sent');
ok(Parley::poll_until(10, sub { outbox($server)->{waiting} == 0 }), '... and drained');
$state = outbox($server, '--outbox', 'mssql');
is_deeply([$state->@{qw(on waiting)}], [Mojo::JSON->false, $left], '... the database is kept what waited');
is($server->metric('parley_outbox_depth'), $left, '... and it is counted');
is(health($server)->{status}, 'ok', '... but not late: nobody wants it');
is(($server->ctl('outbox', 'retry', '--all', '--outbox', 'mssql'))[0], 1, '... nothing is tried again there');
is(($server->ctl('outbox', 'forget'))[0], 1, 'the one that is on is not forgotten');
is(($server->ctl('outbox', 'forget', '--outbox', 'mssql'))[0], 0, '... the other one is');
is(outbox($server, '--outbox', 'mssql')->{waiting}, 0, '... then nothing waits there');
ok(Parley::poll_until(5, sub { $server->metric('parley_outbox_depth') == 0 }), '... nor is counted');
$server->finish;
done_testing;
