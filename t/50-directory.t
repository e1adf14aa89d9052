# Who the users are: password logins, changes by the operator and by the
# users, and a directory that does not answer.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use utf8;
use Parley;
use Parley::Directory;
use Parley::Story;
use Test::More;

# Patience takes attempts where hashing is slow: no limit on them here.
my $server = Parley->start(conf => {'directory.request_timeout' => '300ms', 'auth.password_attempts' => 0});
$server->add_users(1 .. 3);

my $directory = Parley::Directory->new(
    server => $server, name => sub ($id) {"$id"}, password => sub ($id) {"password-$id"});

sub login_patiently (@arg) { return $directory->login_patiently(@arg) }

my ($alice, $alice_login) = $directory->passwords;

is(($server->ctl('user', 'add', 9, 'Nora'))[0], 0, 'a user may have no password');
is(login_patiently($server->connect, '9', $_)->{Reason}, 'AUTH_FAILED', "... and \"$_\" is none")
    for 'password-9', 'x';
is($server->client(9)->session->{Name}, 'Nora', '... but logs in by token');

# --- changes by the operator ------------------------------------------------

my $bruno  = $server->client(2, DeviceId => 'phone');
my $tablet = $server->client(2, DeviceId => 'tablet');
is(($server->ctl('user', 'passwd', 2, '--password-stdin', {stdin => "new one\n"}))[0],
    0, 'a password is changed');
is(login_patiently($server->connect, '2', 'password-2')->{Reason}, 'AUTH_FAILED', '... the old one is gone');
is(login_patiently($server->connect, '2', 'new one')->{Reason}, 'OK', '... the new one counts');
is($bruno->request('P_HEARTBEAT')->{Reason}, 'OK', '... sessions go on');

is(($server->ctl('user', 'remove', 2))[0], 0, 'a user is removed');
for my $device ($bruno, $tablet) {
    is_deeply([$device->expect_close], [4003, 'KICKED'], '... all sessions end, close 4003');
    my $event = $device->expect_event('P_CLOSE');
    is($event->{Reason}, 'KICKED', '... and in words');
    ok(!exists $event->{RetryAfter}, '... without a word of coming back');
}
my $reply = $server->connect->request('P_AUTHENTICATE', Token => $server->token(2), DeviceId => 'phone');
is($reply->{Reason}, 'AUTH_FAILED', '... a valid token helps no more');
is(login_patiently($server->connect, '2', 'new one')->{Reason}, 'AUTH_FAILED', '... nor the password');
is_deeply([map { $_->{UserId} } $alice->request('P_GET_ALL_USER')->{Users}->@*],
    [3], '... it is in no list');
is(send_text($alice, [2], 'still there?')->{Reason}, 'NOT_FOUND', '... and cannot be written to');
is(($server->ctl('user', 'remove', 2))[0], 1, '... nor removed again');

# --- changes by the users ---------------------------------------------------

$alice->{session} = $alice_login;
my $other = worker_of($server, $alice) eq 'worker-0' ? 'worker-1' : 'worker-0';
my $carla = client_on($server, $other, 3);
$directory->changes($alice, $carla);
$server->ctl('user', 'add', 19, 'Nina');
$server->add_contact(1, 19);
is($alice->request('P_GET_USER', UserId => 19)->{User}{Name}, 'Nina', 'what parleyctl adds is there at once');
$server->ctl('user', 'remove', 19);
is($alice->request('P_GET_USER', UserId => 19)->{Reason}, 'NOT_FOUND', '... what it removes is gone');
is(user_in($alice->request('P_GET_ALL_USER')->{Users}, 19), undef, '... from lists, too');
$directory->blocks($alice, $carla);

# --- a directory that hangs -------------------------------------------------

$directory->hangs($alice, $carla);
$server->finish;
done_testing;
