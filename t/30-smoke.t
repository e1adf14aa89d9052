# The shortest way through everything: two users, one message, a dead keeper,
# a retry, a restart. When this fails, look no further.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Test::More;

my $server = Parley->start;
$server->add_users(1, 2);
my $alice = $server->client(1);
my $bruno = $server->client(2);
is($alice->protocol, 'parley.v1', 'the subprotocol is echoed');
is_deeply([map { $_->{UserId} } $alice->session->{Users}->@*],
    [2], 'the login brings the list of users');

my %message = (ToUserList => [2], Message => 'Bonjour', ClientMessageId => 'm-1');
my $first   = $alice->request('P_SEND_MESSAGE', %message);
is($first->{Reason}, 'OK', 'a message is taken');
my $event = $bruno->expect_event('P_MESSAGE');
is($event->{Message},          'Bonjour',          'it arrives');
is($event->{MessageId},        $first->{MessageId}, '... with the id the sender got');
is($event->{FromUser}{UserId}, 1,                  '... and says from whom');
ok(!exists $event->{Reason} && !exists $event->{RequestId}, '... as an event');

my $old = $server->kill9('keeper');
$server->await_restart('keeper', $old);
my $retry = $alice->request('P_SEND_MESSAGE', %message);
is($retry->{Reason},    'DUPLICATE',         'a retry after the keeper died is recognised');
is($retry->{MessageId}, $first->{MessageId}, '... with the first id');
is(scalar $bruno->events_so_far('P_MESSAGE'), 0, '... and arrives no second time');

is($server->stop, 0, 'it stops');
is(($bruno->expect_close)[0], 1012, '... and tells a client to come back');
is($bruno->expect_event('P_CLOSE')->{Reason}, 'RECONNECT', '... in words too');
$server->launch;

# Nothing was acknowledged: what is in the inbox comes again, once.
$bruno = $server->client(2);
is($bruno->expect_event('P_MESSAGE')->{MessageId},
    $first->{MessageId}, 'after a restart the inbox still has the message');
ok($bruno->session->{Recovered}, '... and the session says that nothing is missing');
is(scalar $bruno->events_so_far('P_MESSAGE'), 0, '... nor twice');

$server->finish;
done_testing;
