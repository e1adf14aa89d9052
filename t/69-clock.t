# The wall clock jumps, by an hour and by a day, to and fro, under load: nothing
# closes, nothing is told or forgotten too early, ids rise all the same.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Clock;
use Parley::Fault;
use Parley::Story;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'libfaketime is missing' if !Parley::Clock->is_there;
plan skip_all => 'a wrapper of its own'   if $ENV{PARLEY_WRAPPER};
plan skip_all => 'a sanitizer wants to be the first library'
    if `ldd ${\ Parley::program('parleyd')}` =~ /lib[a-z]+san/;

my $grace  = Parley::scaled(1);
my $clock  = Parley::Clock->new;
my $server = Parley->start(
    wrapper => [$clock->wrapper],
    conf    => {
        'policy.presence_grace'  => int($grace * 1000) . 'ms',
        'auth.password_attempts' => 2,
        'store.map_size'         => '4G',
    },
);
$server->add_users(1 .. 4);    # contacts of each other

my $DAY  = 86_400;
my $ever = time + 10_000 * $DAY;
sub client ($id, %fields) { return $server->client($id, Token => $server->token($id, exp => int $ever), %fields) }
sub status_of ($id) { return sub ($event) { $event->{UserId} == $id } }

sub guess () {
    my $guesser = $server->connect;
    my $reply   = $guesser->request('P_AUTHENTICATE', UserName => '4', Password => 'wrong', DeviceId => 'd');
    $guesser->close;
    return $reply->{Reason};
}

my $alice  = client(1);
my $bruno  = client(2);
my $last   = 0;
my @texts;

sub ids_rise ($name) {
    my $reply = send_text($alice, [2], $name);
    push @texts, $name;
    cmp_ok($reply->{MessageId} // 0, '>', $last, "$name: ids rise");
    $last = $reply->{MessageId};
    my $event = $bruno->expect_event('P_MESSAGE');
    is($event->{MessageId}, $last, '... and the message arrives');
    $bruno->send_command('P_ACK', Seq => $event->{Seq});
    settle($bruno);
    return;
}

is(guess(), 'AUTH_FAILED', 'a wrong password') for 1 .. 2;
is(guess(), 'RATE_LIMITED', '... and no more');

my $load   = Parley::Fault->load($server);
my $rounds = fault_rounds(1, 10);
my $offset = 0;
for my $round (1 .. $rounds) {
    for my $next (3600, 0, $DAY, 0) {
        my $name    = sprintf 'round %d, by %+d s', $round, $next - $offset;
        my $leaver  = client(3);
        my $flicker = client(4);
        is($alice->expect_event('P_PRESENCE', 10, status_of($_))->{Status}, 'ONLINE', "$name: $_ is there") for 3, 4;
        my $left_at = now();
        $_->drop for $leaver, $flicker;
        $clock->set(sprintf '%+d', $offset = $next);
        $flicker = client(4);
        ids_rise($name);
        cmp_ok(abs($alice->request('P_HEARTBEAT')->{ServerTime} / 1000 - time - $offset), '<', 60, '... ServerTime follows');
        my $event = $alice->expect_event('P_PRESENCE', 10, status_of(3));
        is($event->{Status}, 'OFFLINE', '... who left is OFFLINE');
        cmp_ok(now() - $left_at, '>', $grace * 0.9, '... not before the grace has passed');
        ok(none_of($alice, 'P_PRESENCE', status_of(4)), '... who came back within it was never away');
        $server->await_restart('keeper', $server->kill9('keeper'));
        ids_rise('... by another keeper, too');
        is(guess(), 'RATE_LIMITED', '... who guesses passwords still has to wait');
        ok($load->await_messages(100), '... messages flow');
        $flicker->close;
        $alice->expect_event('P_PRESENCE', 10, status_of(4));
    }
}
is($server->metric("parley_$_\_total") // 0, 0, "no session has met a deadline ($_)") for qw(slow_consumers);
my $report = $load->finish('a clock that jumps');
is($report->{connections}{dropped}, 0, '... and nobody was disconnected');

# --- a start with a wrong clock ------------------------------------------------

# Last used an eternity ago, the clock says; the inbox of the second device is
# kept for it all the same.
my $tablet = client(2, DeviceId => 'tablet');
$tablet->close;
$_->close for $alice, $bruno;
$server->set('server.listen' => $server->address);
for my $wrong (400 * $DAY, -400 * $DAY, 0) {
    $server->stop;
    $clock->set(sprintf '%+d', $wrong);
    $server->launch;
    ($alice, $bruno) = (client(1), client(2));
    ids_rise(sprintf 'a start %+d days off', $wrong / $DAY);
}
settle($alice);
$tablet = client(2, DeviceId => 'tablet');
is($tablet->session->{Recovered}, Mojo::JSON->true, 'nothing has expired for a device that was away');
is_deeply([map { $_->{Message} } take_messages($tablet, 3)], [@texts[-3 .. -1]], '... it gets what it has missed');
is_deeply(
    [map { $_->{Message} } reverse $bruno->request('P_GET_MESSAGES', UserId => 1, Limit => 200)->{Messages}->@*],
    [@texts > 200 ? @texts[-200 .. -1] : @texts],
    'the history is in the order of its making'
);
$server->finish;
done_testing;
