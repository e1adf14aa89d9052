# How fast one client may go: what is over the limit waits or is refused, nothing
# of it is lost, and others do not notice.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Guard;
use Parley::Raw;
use Parley::Story;
use Test::More;

my $server = Parley->start(tls => 0, conf => {
    'server.workers'                 => 1,
    'server.heartbeat_interval'      => '1s',
    'policy.may_message'             => 'anyone',
    'limits.burst'                   => '200ms',
    'limits.commands_per_connection' => 1000,
    'limits.commands_per_user'       => 0,
    'limits.queries_per_user'        => 400,
    'limits.bad_tokens_per_address'  => 20,
    'limits.exempt'                  => '',
});
$server->add_users(1 .. 9);
my $guard = Parley::Guard->watch($server);

sub text_frame ($command, %fields) {
    return Parley::Raw->frame(1, encode_json({Command => $command, %fields}));
}

sub read_message ($raw, $matches, $seconds = 20) {
    while (1) {
        my ($opcode, $payload) = $raw->read_frame($seconds);
        die 'closed: ' . join ' ', unpack 'na*', $payload if $opcode == 8;
        next if $opcode != 1;
        my $message = decode_json($payload);
        return $message if $matches->($message);
    }
}

sub reply_to ($raw, $id) {
    return read_message($raw, sub ($m) { ($m->{RequestId} // '') eq $id });
}

# A login over a raw socket, or the try of one: (socket, reply).
sub tried ($token, $device, %from) {
    my $raw = Parley::Raw->connect($server->address, %from);
    $raw->upgrade;
    $raw->write(text_frame('P_AUTHENTICATE', Token => $token, DeviceId => $device, RequestId => 'login'));
    return ($raw, reply_to($raw, 'login'));
}

sub entered ($id, $device = 'raw') {
    my ($raw, $reply) = tried($server->token($id), $device);
    die encode_json($reply) if $reply->{Reason} ne 'OK';
    return $raw;
}

sub change ($claim, %settings) {
    $server->set(%settings);
    is(($server->ctl('reload'))[0], 0, $claim);
    return;
}

# A share of a second for each unit: a lower bound of the time, never an upper.
sub sends ($raw, $count, $name) {
    $raw->write(join '', map {
        text_frame('P_SEND_MESSAGE', ToUserList => [9], Message => "$name $_", ClientMessageId => "$name-$_", RequestId => $_)
    } 1 .. $count);
    return;
}

sub replies ($raw, $count) {
    return map { read_message($raw, sub ($m) { ($m->{Command} // '') eq 'P_SEND_MESSAGE' }) } 1 .. $count;
}

# --- commands -----------------------------------------------------------------

{
    my $watch = $server->client(2);
    my $raw   = entered(1);
    my $start = now();
    sends($raw, 2200, 'alone');
    my @replies = replies($raw, 2200);
    my $took    = now() - $start;
    is_deeply([map { $_->{RequestId} } @replies], [1 .. 2200], 'sends over the limit are answered, in order');
    is(scalar(grep { $_->{Reason} ne 'OK' } @replies), 0, '... none is refused');
    cmp_ok($took, '>', 1.9, '... but they are read as fast as is permitted') || diag("$took s");
    is(scalar(grep { $_->{UserId} == 1 && $_->{Status} eq 'AWAY' } $watch->events_so_far('P_PRESENCE')), 0,
        '... and who waits for us is not away');
    cmp_ok($server->metric('parley_commands_delayed_total'), '>', 1, 'it is counted');
    $watch->close;
}
{
    # What else comes costs more, whatever it is.
    my $raw = entered(1);
    for my $case (['heartbeats', text_frame('P_HEARTBEAT', RequestId => 'h')],
        ['unknown commands', text_frame('P_NOTHING', RequestId => 'h')],
        ['no JSON',          Parley::Raw->frame(1, '{"Command":"P_HEARTBEAT","RequestId":"h",}')]) {
        my ($name, $text) = @$case;
        my $start = now();
        $raw->write($text x 25);
        reply_to($raw, 'h') for 1 .. 25;
        cmp_ok(now() - $start, '>', 0.9, "25 $name are 1,250 units");
    }
    my $new = Parley::Raw->connect($server->address);
    $new->upgrade;
    my $start = now();
    $new->write(text_frame('P_HEARTBEAT', RequestId => 'h') x 25);
    is(reply_to($new, 'h')->{Reason}, 'UNAUTHENTICATED', 'before the login') for 1 .. 25;
    cmp_ok(now() - $start, '>', 0.9, '... it is the same');
}
{
    change('a limit for users', 'limits.commands_per_connection' => 0, 'limits.commands_per_user' => 1000);
    Parley::poll_until(5, sub { $server->log_text =~ / reload-done / });
    my @raw   = map { entered(3, "device-$_") } 1 .. 4;
    my $start = now();
    $_->write(text_frame('P_HEARTBEAT', RequestId => 'h') x 10) for @raw;
    for my $raw (@raw) { reply_to($raw, 'h') for 1 .. 10 }
    # Each of them may owe what its last one costs.
    cmp_ok(now() - $start, '>', 1.5, '2,000 units of one user over four connections share the limit');
    my $other = entered(4);
    $other->write(text_frame('P_HEARTBEAT', RequestId => 'h'));
    is(reply_to($other, 'h')->{Reason}, 'OK', '... of that user');
    change('no limit for commands', 'limits.commands_per_user' => 0);
}

# --- queries ------------------------------------------------------------------

{
    my $user = $server->client(5);
    send_text($user, [9], 'something to read');
    my @ids     = map { $user->submit('P_GET_MESSAGES', UserId => 9) } 1 .. 60;
    my @replies = map { $user->wait_reply($_) } @ids;
    my @ok      = grep { $_->{Reason} eq 'OK' } @replies;
    my @limited = grep { $_->{Reason} eq 'RATE_LIMITED' } @replies;
    is(@ok + @limited, 60, 'queries over the limit are answered');
    cmp_ok(scalar @ok, '>', 0, '... some of them');
    cmp_ok(scalar @limited, '>', 0, '... the others with RATE_LIMITED');
    is(scalar(grep { $_->{RetryAfter} < 1 || $_->{RetryAfter} > 200 || !length $_->{Message} } @limited), 0,
        '... and when to try again');
    is(send_text($user, [9], 'sends are not queries')->{Reason}, 'OK', 'messages go out meanwhile');
    my $patient = Parley::poll_until(10, sub { $user->request('P_GET_MESSAGES', UserId => 9)->{Reason} eq 'OK' });
    ok($patient, 'after a while it may ask again');
    is($server->client(6)->request('P_GET_MESSAGES', UserId => 9)->{Reason}, 'OK', 'another user may at once');
    is($server->metric('parley_queries_limited_total') >= @limited, 1, 'they are counted');

    # What cannot be done is not counted.
    my $asker = $server->client(2);
    my @wrong = map { $asker->submit('P_GET_MESSAGES', UserId => 9, Limit => -1) } 1 .. 60;
    is(scalar(grep { $asker->wait_reply($_)->{Reason} ne 'BAD_REQUEST' } @wrong), 0, 'wrong requests are wrong, however many');
    is($asker->request('P_GET_USER', UserId => 9)->{Reason}, 'OK', '... and cost no right one its place');
    $asker->close;

    # Coming again does not help: the login is a query, too.
    my @client = map { $server->connect } 1 .. 12;
    my @login  = map { $client[$_]->submit('P_AUTHENTICATE', Token => $server->token(7), DeviceId => "d$_") } 0 .. 11;
    my @reply  = map { $client[$_]->wait_reply($login[$_]) } 0 .. 11;
    my $in      = grep { $_->{Reason} eq 'OK' } @reply;
    my $refused = grep { $_->{Reason} eq 'RATE_LIMITED' && $_->{RetryAfter} > 0 } @reply;
    $_->close for @client;
    is($in + $refused, 12, 'a user who logs in again and again');
    ok($in > 0, '... is let in');
    ok($refused > 0, '... but not each time');
}

# --- tokens -------------------------------------------------------------------

{
    my $session = $server->client(6, DeviceId => 'before');
    my %count;
    my @wrong = (Parley::sign({alg => 'HS256'}, {sub => '6', exp => int(time) + 60}, 'not the secret'),
        $server->token(6, exp => int(time) - 3600), 'rubbish');
    my $refused;
    for my $n (1 .. 30) {
        my ($raw, $reply) = tried($guard->secret($wrong[$n % 3]), 'd');
        $count{$reply->{Reason}}++;
        $refused = $reply if $reply->{Reason} eq 'RATE_LIMITED';
        $raw->close;
    }
    is(join(' ', sort keys %count), 'AUTH_FAILED RATE_LIMITED TOKEN_EXPIRED', 'wrong tokens are limited by address');
    cmp_ok($refused->{RetryAfter}, '>', 0, '... and told when to try again');
    ok(length $refused->{Message}, '... with words');
    cmp_ok($server->metric('parley_tokens_limited_total'), '>=', $count{RATE_LIMITED}, '... and counted');
    is((tried($server->token(6), 'elsewhere', from => '127.0.0.2'))[1]{Reason}, 'OK', 'elsewhere nobody notices');
    is($session->request('P_HEARTBEAT')->{Reason}, 'OK', 'nor who is in');
    $session->request('P_REFRESH_TOKEN', Token => $wrong[0]) for 1 .. 8;
    like($session->request('P_REFRESH_TOKEN', Token => $wrong[0])->{Reason}, qr/\A(?:RATE_LIMITED|AUTH_FAILED)\z/, 'a refresh is the same');
    my $in = Parley::poll_until(10, sub { (tried($server->token(6), 'd'))[1]{Reason} eq 'OK' });
    ok($in, 'a good token is taken again soon');
    $session->close;
}

# --- passwords ----------------------------------------------------------------

# (t/46-attempts.t has their limits.)
{
    my (%took, %said);
    for my $n (1 .. 9) {
        for my $name ("$n", "nobody-$n") {
            my $client = $server->connect;
            my $at     = now();
            my $reply  = $client->request('P_AUTHENTICATE', UserName => $name, Password => 'wrong', DeviceId => 'd');
            push $took{$name =~ /nobody/ ? 'nobody' : 'somebody'}->@*, now() - $at;
            $said{"$reply->{Reason} $reply->{Message}"}++;
            $client->close;
        }
    }
    my ($nobody, $somebody) = map { median($took{$_}->@*) } qw(nobody somebody);
    is_deeply([values %said], [18], 'a wrong password and a name that nobody has get the same answer');
    ok($nobody < 2 * $somebody && $somebody < 2 * $nobody, '... in the same time') || diag("$nobody s, $somebody s");
    is((tried($server->token(1), 'd'))[1]{Reason}, 'OK', '... and a token is worth what it was');
}

# --- a worker that is replaced ------------------------------------------------

{
    change('little is permitted', 'limits.commands_per_connection' => 400, 'limits.burst' => '1s');
    my $raw  = entered(8);
    my $loud = entered(1, 'loud');
    my $held = Parley::poll_until(10, sub {
        my $movable = $server->metric('parley_movable_connections');
        return $movable >= 2 && $movable == $server->metric('parley_held_connections', process => 'holder-0');
    });
    ok($held, 'connections that the holder has');
    # More than is read before it has to wait: the rest lies in the worker.
    $loud->write(text_frame('P_HEARTBEAT', RequestId => 'h') x 400);
    reply_to($loud, 'h');
    # 1,200 units; what comes after them stays with the kernel.
    $raw->write(text_frame('P_HEARTBEAT', RequestId => 'long', Unknown => 'u' x (600 * 1024)));
    reply_to($raw, 'long');
    $raw->write(text_frame('P_HEARTBEAT', RequestId => 'not read'));
    $server->await_restart('worker-0', $server->kill9('worker-0'));
    $guard->renew;
    is(reply_to($raw, 'not read')->{Reason}, 'OK', 'who had to wait is gone on with');
    my $end = eval { reply_to($loud, 'after'); 1 } ? '' : $@;
    like($end, qr/closed: 1012/, '... and whose requests were in the dead worker is told to come back');
}
$guard->finish;
done_testing;
