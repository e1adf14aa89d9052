# Who the users are: password logins, changes by the operator and by the
# users, and a directory that does not answer.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use utf8;
use Parley;
use Parley::Story;
use Test::More;

my $server = Parley->start(conf => {'directory.request_timeout' => '300ms'});
$server->add_users(1 .. 3);

sub login ($client, $name, $password, %more) {
    return $client->request('P_AUTHENTICATE', UserName => $name, Password => $password,
        DeviceId => 'by-password', %more);
}

# --- passwords --------------------------------------------------------------

# scrypt takes its time, more so on a busy machine: "not now" is an answer too.
sub login_patiently (@arg) {
    my $reply;
    Parley::poll_until(20, sub { ($reply = login(@arg))->{Reason} ne 'UNAVAILABLE' });
    return $reply;
}

my $client = $server->connect;
my $wrong  = login_patiently($client, '1', 'not-it');
is($wrong->{Reason}, 'AUTH_FAILED', 'a wrong password is refused');
my $nobody = login_patiently($client, '99', 'password-1');
delete @$_{qw(RequestId)} for $wrong, $nobody;
is_deeply($nobody, $wrong, '... exactly like a user who does not exist');
my $reply = login_patiently($client, '1', 'password-1');
is($reply->{Reason}, 'OK', 'the right one is taken, on the same connection');
is_deeply([@$reply{qw(UserId Name)}], [1, 'User 1'], '... for its user');
is_deeply([map { $_->{UserId} } $reply->{Users}->@*], [2, 3], '... with the list');
my ($alice, $alice_login) = ($client, $reply);

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
$reply = $server->connect->request('P_AUTHENTICATE', Token => $server->token(2), DeviceId => 'phone');
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
my %profile = (Title => 'Dr. phil.', Languages => ['de', 'fr'], About => '🌿');
is($carla->request('P_UPDATE_USER', Name => 'Carla Müller', Profile => \%profile)->{Reason},
    'OK', 'a user changes name and profile');
my $user = $alice->request('P_GET_USER', UserId => 3)->{User};
is($user->{Name}, 'Carla Müller', '... which the others see at once');
is_deeply($user->{Profile}, \%profile, '... all of it');
is($alice->request('P_GET_ALL_USER', Refresh => \1)->{Users}[0]{Name}, 'Carla Müller', '... in lists, too');
send_text($carla, [1], 'this is my new name');
is((take_messages($alice, 1))[0]{FromUser}{Name}, 'Carla Müller', '... and on what comes from there');
is($carla->request('P_UPDATE_USER', Profile => {})->{Reason}, 'OK', 'a profile may be emptied');
is_deeply($alice->request('P_GET_USER', UserId => 3)->{User}{Profile}, {}, '... and is');
is($alice->request('P_GET_USER', UserId => 3)->{User}{Name}, 'Carla Müller', '... the name stays');

# Both ways between two workers: the first question after the reply knows.
my (@took, @late);
for my $n (1 .. 40) {
    my ($changed, $asks, $id) = $n % 2 ? ($carla, $alice, 3) : ($alice, $carla, 1);
    $changed->request('P_UPDATE_USER', Name => "Name $n");
    my $at   = now();
    my $one  = $asks->request('P_GET_USER', UserId => $id)->{User}{Name};
    push @took, now() - $at;
    my $list = user_in($asks->request('P_GET_ALL_USER')->{Users}, $id)->{Name};
    push @late, "$n: $one, $list" if $one ne "Name $n" || $list ne "Name $n";
}
is_deeply(\@late, [], '40 new names are seen on the other worker at the first question');
cmp_ok((sort { $a <=> $b } @took)[-1], '<', Parley::scaled(0.1), '... within 100 ms after the reply');
note 'the slowest ' . int((sort { $a <=> $b } @took)[-1] * 1000) . ' ms';
$server->ctl('user', 'add', 19, 'Nina');
$server->add_contact(1, 19);
is($alice->request('P_GET_USER', UserId => 19)->{User}{Name}, 'Nina', 'what parleyctl adds is there at once');
$server->ctl('user', 'remove', 19);
is($alice->request('P_GET_USER', UserId => 19)->{Reason}, 'NOT_FOUND', '... what it removes is gone');
is(user_in($alice->request('P_GET_ALL_USER')->{Users}, 19), undef, '... from lists, too');

# --- a directory that hangs -------------------------------------------------

my $pid = $server->pids->{directory};
kill STOP => $pid;
my $started = now();
my $waiting = $server->connect;
$reply = login($waiting, '1', 'password-1');
is($reply->{Reason}, 'UNAVAILABLE', 'a password login is answered while the directory hangs');
cmp_ok($reply->{RetryAfter}, '>', 0, '... with a time to come back');
cmp_ok(now() - $started, '<', Parley::scaled(5), '... soon');
$reply = $alice->request('P_GET_ALL_USER');
is($reply->{Reason}, 'UNAVAILABLE', 'so is the list');
cmp_ok($reply->{RetryAfter}, '>', 0, '... with a time to ask again');
is($alice->request('P_GET_USER', UserId => 99)->{Reason},
    'UNAVAILABLE', 'nobody is said not to exist without its word');
my $new = $server->client(3, DeviceId => 'new');
is_deeply([map { $_->{UserId} } $new->session->{Users}->@*], [1], 'token logins go on, with the list');
is(send_text($alice, [3], 'messages go on')->{Reason}, 'OK', 'messages go on');
is((take_messages($_, 1))[0]{Message}, 'messages go on', '... and arrive') for $carla, $new;
kill CONT => $pid;
is(login_patiently($waiting, '1', 'password-1')->{Reason}, 'OK', 'it goes on: password logins do, too');
is(Parley::poll_until(10, sub {
    my $reply = $waiting->request('P_GET_ALL_USER');
    $reply->{Reason} eq 'OK' && scalar $reply->{Users}->@*;
}), 1, '... and lists');
is($server->pids->{directory}, $pid, '... and it is the same process');
cmp_ok($server->metric('parley_directory_unavailable_total'), '>=', 3, 'what was refused is counted');

$server->finish;
done_testing;
