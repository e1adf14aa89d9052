# Whoever guesses passwords has to wait: by user name and by address.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Guard;
use Test::More;

my $server = Parley->start(
    conf => {
        'auth.password_attempts'      => 3,
        'auth.password_attempts_peer' => 8,
        'auth.password_window'        => '10m',
        # within it a password is checked, slowly under a sanitizer
        'directory.request_timeout' => '20s',
    }
);
$server->add_users(1 .. 4);
my $guard = Parley::Guard->watch($server);

sub try_it ($name, $password) {
    my $client = $server->connect;
    my $reply  = $client->request('P_AUTHENTICATE', UserName => $name, DeviceId => 'd',
        Password => $guard->secret($password));
    $client->close;
    return $reply;
}

sub limited ($reply, $most_ms, $name) {
    return subtest $name => sub {
        is($reply->{Reason}, 'RATE_LIMITED', 'the reason');
        ok(length $reply->{Message}, 'with words');
        cmp_ok($reply->{RetryAfter}, '>', 0, 'when to try again');
        cmp_ok($reply->{RetryAfter}, '<=', $most_ms, '... within the time of one try');
    };
}

is(try_it('1', 'password-1')->{Reason}, 'OK', "right, time $_") for 1 .. 10;
is(try_it('1', "guess-number-$_")->{Reason}, 'AUTH_FAILED', "wrong, time $_") for 1 .. 3;
limited(try_it('1', 'guess-number-4'), 200_000, 'and no more');
limited(try_it('1', 'password-1'), 200_000, '... not even the right one');
is(try_it('2', 'password-2')->{Reason}, 'OK', 'another user is let in');
is($server->client(1)->session->{Name}, 'User 1', '... and a token is worth what it was');
my $dead = $server->kill9('directory');
$server->await_restart('directory', $dead);
$guard->renew;
limited(try_it('1', 'password-1'), 200_000, 'the death of the directory forgives nobody');
is(try_it('2', 'password-2')->{Reason}, 'OK', '... and locks nobody out');
is(try_it('nobody', "guess-number-$_")->{Reason}, 'AUTH_FAILED', "a name that nobody has, $_")
    for 5 .. 7;
limited(try_it('nobody', 'guess-number-8'), 200_000, '... is limited just so');
is(try_it($_, 'guess-number-9')->{Reason}, 'AUTH_FAILED', "$_: wrong once") for '2', '3';
limited(try_it('4', 'password-4'), 75_000, 'after eight wrong ones the address waits');
is($server->metric('parley_logins_limited_total'), 5, 'they are counted');

$server->set('auth.password_attempts_peer' => 0);
is(($server->ctl('reload'))[0], 0, 'the limit for addresses is switched off');
ok(Parley::poll_until(20, sub { (eval { try_it('4', 'password-4')->{Reason} } // '') eq 'OK' }), '... by a reload');
ok($server->await_log(qr/ reload-done /), '... without new processes');
$guard->renew;
$guard->finish;
done_testing;
