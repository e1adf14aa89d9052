# What one client can take from the others: nothing. Floods, clients that do
# not read, that say nothing, that never acknowledge, and the largest of all.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Guard;
use Parley::Raw;
use Test::More;
use Time::HiRes qw(time);

my $WINDOW  = 8;
my $TEXT    = 64 * 1024;
my $CROWD   = 257;                # users 1000 to 1256
my $SILENT  = 1500;               # connections
my $ROOM    = 48 * 1024;          # KiB that hostile clients may cost the workers
# A sanitizer keeps what was freed, 256 MiB in each process.
my $IS_ASAN = ($ENV{PARLEY_ASAN} // '') eq 'yes';
$ROOM = 1024 * 1024 if $IS_ASAN;

my $server = Parley->start(
    conf => {
        'server.auth_timeout'          => '2s',
        'server.ping_interval'         => '500ms',
        'server.write_timeout'         => '1s',
        'policy.inbox_window'          => $WINDOW,
        'policy.slow_consumer_timeout' => '1s',
        'policy.may_message'           => 'anyone',
        'log.level'                    => 'debug',
        # t/47-rates.t has these; here is what holds without them
        'limits.commands_per_connection' => 0,
        'limits.commands_per_user'       => 0,
        'limits.frames_per_connection'   => 0,
        'limits.queries_per_user'        => 0,
    }
);
$server->add_users(1 .. 4);
is(($server->ctl('user', 'add', '--range', '1000-1256'))[0], 0, 'a crowd');
my $guard = Parley::Guard->watch($server);

my $count = 0;

sub opened () {
    my $raw = Parley::Raw->connect($server->address);
    $raw->upgrade;
    return $raw;
}

sub text_frame ($command, %fields) {
    return Parley::Raw->frame(1, encode_json({Command => $command, %fields}));
}

# A session over a raw socket; returns it with its login's reply.
sub entered ($id, %fields) {
    my $raw = opened();
    $raw->write(text_frame('P_AUTHENTICATE', Token => $guard->token($server->token($id)),
        DeviceId => 'raw-' . ++$count, RequestId => 'login', %fields));
    my $reply = read_message($raw, sub ($m) { ($m->{RequestId} // '') eq 'login' });
    die encode_json($reply) if $reply->{Reason} ne 'OK';
    return wantarray ? ($raw, $reply) : $raw;
}

# The next text that matches; dies at a close frame.
sub read_message ($raw, $matches, $seconds = 10) {
    while (1) {
        my ($opcode, $payload) = $raw->read_frame($seconds);
        die 'closed: ' . join ' ', unpack 'na*', $payload if $opcode == 8;
        next if $opcode != 1;
        my $message = decode_json($payload);
        return $message if $matches->($message);
    }
}

# Keep writing, as long as the server reads, without ever reading: the number
# of bytes that went in; the end is the server's close or the deadline.
sub pour ($raw, $bytes, $seconds) {
    my $deadline = time + Parley::scaled($seconds);
    my $total    = 0;
    my $at       = 0;
    $raw->{socket}->blocking(0);
    while (time < $deadline) {
        my $n = syswrite $raw->{socket}, $bytes, length($bytes) - $at, $at;
        if (defined $n) {
            $total += $n;
            $at = ($at + $n) % length $bytes;
        } elsif ($!{EAGAIN}) {
            Parley::tick();    # the others answer their pings meanwhile
            IO::Select->new($raw->{socket})->can_write(0.05);
        } else {
            return ($total, 1);
        }
    }
    return ($total, 0);
}

my $alice = $server->client(1);
my $bruno = $server->client(2, DeviceId => 'b');
my $said  = 0;

# Others are served meanwhile: one message there, and acknowledged.
sub still_works ($name) {
    my $text  = $guard->secret('still here, number ' . ++$said);
    my $id    = $alice->submit('P_SEND_MESSAGE', ToUserList => [2], Message => $text,
        ClientMessageId => "still-$said");
    my $event = $bruno->expect_event('P_MESSAGE', 10, sub ($e) { $e->{Message} eq $text });
    $bruno->send_command('P_ACK', Seq => $event->{Seq});
    return is($alice->wait_reply($id)->{Reason}, 'OK', $name);
}
still_works('two people talk');
my $idle_kib = $guard->workers_kib;

# --- not reading -----------------------------------------------------------------

sub never_reads ($name, $bytes) {
    my $raw = entered(3);
    my ($total, $ended) = pour($raw, $bytes, 12);
    ok($ended, "$name, never reading: the connection is ended");
    cmp_ok($guard->workers_kib - $idle_kib, '<', $ROOM, '... and took little memory')
        || diag("$total bytes went in");
    still_works('... and others talk on');
    return;
}

# Something to ask for.
{
    my $raw = entered(3);
    for my $n (1 .. 40) {
        $raw->write(text_frame('P_SEND_MESSAGE', ToUserList => [4], Message => "\x{1}" x 20_000,
            ClientMessageId => "page-$n", RequestId => $n));
        read_message($raw, sub ($m) { ($m->{RequestId} // '') eq $n });
    }
}
never_reads('heartbeats', text_frame('P_HEARTBEAT', RequestId => 'r' x 64) x 500);
never_reads('rubbish',    Parley::Raw->frame(1, 'x') x 5000);
never_reads('the list',   text_frame('P_GET_ALL_USER', Limit => 1000, RequestId => 1) x 500);
never_reads('history',    text_frame('P_GET_MESSAGES', UserId => 4, Limit => 200, RequestId => 1) x 500);
never_reads('conversations', text_frame('P_GET_CONVERSATIONS', Limit => 200, RequestId => 1) x 500);
never_reads('refused sends', text_frame('P_SEND_MESSAGE', ToUserList => [1300 .. 1555], Message => 'x',
    ClientMessageId => 'refused', RequestId => 1) x 100);

# --- asking for much, and reading ---------------------------------------------------

{
    my $before = $guard->workers_kib;
    my $raw    = entered(3);
    my $typing = text_frame('P_TYPING', ToUserList => [4], State => 'STARTED') x 1000;
    $raw->write($typing) for 1 .. 30;
    $raw->write(text_frame('P_HEARTBEAT', RequestId => 'done'));
    read_message($raw, sub ($m) { ($m->{RequestId} // '') eq 'done' }, 30);
    cmp_ok($guard->workers_kib - $before, '<', $ROOM, '30,000 P_TYPING at once cost little memory');
    $raw->write(text_frame('P_GET_MESSAGES', UserId => 4, Limit => 200, RequestId => $_)) for 1 .. 60;
    is_deeply([map { read_message($raw, sub ($m) { exists $m->{Reason} }, 30)->{RequestId} } 1 .. 60],
        [1 .. 60], '60 pages at once come in order');
    cmp_ok($guard->workers_kib - $before, '<', $ROOM, '... and cost little memory');
}
{
    my $before = $guard->workers_kib;
    my $raw    = entered(3);
    my $pings  = Parley::Raw->frame(9, 'p' x 125) x 1000;
    my ($total, $ended) = pour($raw, $pings, 2);
    cmp_ok($guard->workers_kib - $before, '<', ($IS_ASAN ? $ROOM : 4 * 1024), "a flood of pings costs nothing");
    cmp_ok($total, '>', 1_000_000, '... and is read all the same');
    still_works('... and others talk on');
}
{
    my $before = $guard->workers_kib;
    my $raw    = entered(3);
    $raw->write(Parley::Raw->frame(1, '', fin => 0));
    pour($raw, Parley::Raw->frame(0, '', fin => 0) x 5000, 2);
    cmp_ok($guard->workers_kib - $before, '<', ($IS_ASAN ? $ROOM : 4 * 1024), 'a flood of empty fragments costs nothing');
    still_works('... and others talk on');
}

# --- the window --------------------------------------------------------------------

{
    my $raw = entered(4);
    my @ids = map {
        $alice->submit('P_SEND_MESSAGE', ToUserList => [4], Message => $guard->secret("window-message-$_"),
            ClientMessageId => "w-$_")
    } 1 .. 20;
    is($alice->wait_reply($_)->{Reason}, 'OK', 'a message') for @ids;
    my @got;
    my $closing;
    while (1) {
        my ($opcode, $payload) = $raw->read_frame;
        if ($opcode == 8) {
            is(unpack('n', $payload), 4009, 'a full window for slow_consumer_timeout: 4009');
            last;
        }
        next if $opcode != 1;
        my $message = decode_json($payload);
        push @got, $message->{Seq} if $message->{Command} eq 'P_MESSAGE';
        $closing = $message        if $message->{Command} eq 'P_CLOSE';
    }
    is(scalar @got, $WINDOW, '... after as many events as it takes');
    is($closing->{Reason}, 'SLOW_CONSUMER', '... with its reason');
    ok(exists $closing->{RetryAfter}, '... and when to come back');

    # With acknowledgements all of it comes; false ones are told apart.
    my ($again, $login) = entered(4, DeviceId => 'raw-' . $count, LastSeq => $got[0] - 1);
    my @all;
    while (@all < 20) {
        my $event = read_message($again, sub ($m) { $m->{Command} eq 'P_MESSAGE' });
        push @all, $event->{Seq};
        $again->write(text_frame('P_ACK', Seq => $event->{Seq})) if @all % 5 == 0;
        $again->write(text_frame('P_ACK', Seq => $event->{Seq} - 3)) if @all % 5 == 4;
    }
    is_deeply(\@all, [$all[0] .. $all[0] + 19], 'the window moves with P_ACK: all of them, in order');
    for my $seq ($all[-1] + 1000, 9007199254740991) {
        $again->write(text_frame('P_ACK', Seq => $seq, RequestId => 'a'));
        my $reply = read_message($again, sub ($m) { ($m->{RequestId} // '') eq 'a' });
        is($reply->{Reason}, 'BAD_REQUEST', 'P_ACK of a Seq that was never sent');
        like($reply->{Message}, qr/\ASeq: expected at most \d+/, '... says what was');
    }
}

# --- unanswered sends ----------------------------------------------------------------

{
    # Two devices: every own send takes a Seq, and the window is narrow.
    my $other = $server->client(4, DeviceId => 'second');
    my $raw   = entered(4);
    my $n     = 65 + 64;
    $raw->write(join '', map {
        text_frame('P_SEND_MESSAGE', ToUserList => [3], Message => "s $_", ClientMessageId => "many-$_", RequestId => $_)
    } 1 .. $n);
    # The other device sends, too, so that events fill the window of this one.
    my @more = map { $other->submit('P_SEND_MESSAGE', ToUserList => [3], Message => "o $_", ClientMessageId => "o-$_") } 1 .. $WINDOW * 3;
    my (@replies, @seqs);
    while (@replies < $n) {
        my $message = read_message($raw, sub ($m) { defined $m->{Seq} || exists $m->{Reason} }, 20);
        push @replies, $message->{RequestId} if exists $message->{Reason};
        push @seqs, $message->{Seq};
        $raw->write(text_frame('P_ACK', Seq => $message->{Seq})) if $message->{Command} eq 'P_MESSAGE';
    }
    is_deeply(\@replies, [1 .. $n], "$n sends at once, twice the limit, are answered in order");
    is_deeply(\@seqs, [$seqs[0] .. $seqs[0] + $#seqs], '... replies and events in the order of Seq');
    # What the first sent fills the window of the other until it is acknowledged.
    my %open = map { $_ => 1 } @more;
    Parley::poll_until(10, sub {
        my ($events, $replies) = @$other{qw(events replies)};
        my ($last) = map { $_->{Seq} } grep { $_->{Command} eq 'P_MESSAGE' } reverse splice @$events;
        $other->send_command('P_ACK', Seq => $last) if $last;
        delete @open{map { $_->{RequestId} } grep { $_->{Reason} eq 'OK' } splice @$replies};
        return !%open;
    });
    is_deeply([keys %open], [], '... and the other device gets its replies');
    $other->close;
}
{
    # The window is full and stays so: the sends are answered nevertheless.
    my $other = $server->client(4, DeviceId => 'third');
    my $raw   = entered(4);
    my @fill  = map { $other->submit('P_SEND_MESSAGE', ToUserList => [3], Message => "f $_", ClientMessageId => "f-$_") } 1 .. $WINDOW * 2;
    $other->wait_reply($_) for @fill;
    $raw->write(join '', map {
        text_frame('P_SEND_MESSAGE', ToUserList => [3], Message => "t $_", ClientMessageId => "t-$_", RequestId => $_)
    } 1 .. 64);
    my @replies;
    push @replies, read_message($raw, sub ($m) { exists $m->{Reason} && $m->{Command} eq 'P_SEND_MESSAGE' }, 20)->{RequestId}
        while @replies < 64;
    is_deeply(\@replies, [1 .. 64], '64 sends behind a full window are no deadlock');
    $other->close;
}

# --- numbers and sizes ------------------------------------------------------------------

sub send_reply ($client, %fields) {
    return $client->request('P_SEND_MESSAGE', ToUserList => [2], Message => 'x', ClientMessageId => 'n' . ++$count, %fields);
}
is(send_reply($alice, ToUserList => [1000 .. 1255])->{Reason}, 'OK', '256 recipients');
{
    my $reply = send_reply($alice, ToUserList => [1000 .. 1256]);
    is($reply->{Reason}, 'BAD_REQUEST', '257 recipients');
    like($reply->{Message}, qr/\AToUserList: .*256/, '... says how many');
    is(send_reply($alice, ToUserList => [(1000) x 256])->{Reason}, 'OK', '256 times the same one');
}
is(send_reply($alice, Message => 'm' x $TEXT)->{Reason}, 'OK', 'a Message of 64 KiB');
{
    # The same number of bytes as JSON may be far more than any record holds.
    my $beat = '{"Command":"P_HEARTBEAT","RequestId":1';
    my $full = 1024 * 1024;
    for my $text ($beat . ' ' x ($full - length($beat) - 1) . '}',
        qq($beat,"Unknown":") . 'u' x ($full - length($beat) - 14) . '"}') {
        is(length $text, $full, 'a request of max_message_size');
        my $raw = entered(3);
        $raw->write(Parley::Raw->frame(1, $text));
        is(read_message($raw, sub ($m) { exists $m->{Reason} })->{Reason}, 'OK', '... is answered');
        $raw = opened();
        $raw->write(Parley::Raw->frame(1, $text));
        is(read_message($raw, sub ($m) { exists $m->{Reason} })->{Reason}, 'UNAUTHENTICATED', '... before a login, too');
    }
}
is(send_reply($alice, Message => "\0" x $TEXT)->{Reason}, 'OK', '... of characters that are long in JSON');
{
    my $reply = send_reply($alice, Message => 'm' x ($TEXT + 1));
    is($reply->{Reason}, 'TOO_LARGE', 'one byte more');
    like($reply->{Message}, qr/\AMessage: .*$TEXT/, '... says how long');
}
for my $case ([1, 64, 'OK'], [1, 65, 'BAD_REQUEST']) {
    my (undef, $length, $reason) = @$case;
    is(send_reply($alice, ClientMessageId => $count++ . 'c' x ($length - length($count - 1)))->{Reason}, $reason, "ClientMessageId of $length bytes");
}
{
    # Everything as large as it may be, to as many as possible, at once.
    my $carla = $server->client(1255, DeviceId => 'd' x 64);
    my %fields = (
        ToUserList           => [1000 .. 1255],
        Message              => "\x{1}" x $TEXT,
        ClientMessageId      => "\x{1f600}" x 16,
        Type                 => 't' x 32,
        ClientInitiationTime => 9007199254740991,
        Attachment           => {Url => 'https://x/' . 'u' x 2038, Name => '"' x 255, Size => 9007199254740991, MimeType => 'm/m;' . '"' x 251},
        RequestId            => "\x{1}" x 64,
    );
    my $reply = $alice->request('P_SEND_MESSAGE', %fields);
    is($reply->{Reason}, 'OK', 'the largest message of all') || diag(encode_json($reply));
    my $event = $carla->expect_event('P_MESSAGE', 10, sub ($e) { length $e->{Message} == $TEXT });
    is_deeply([@$event{qw(Message Type ClientInitiationTime Attachment)}],
        [@fields{qw(Message Type ClientInitiationTime Attachment)}], '... arrives as it was sent');
    is(scalar $event->{Members}->@*, 257, '... with all its members');
    is($alice->request('P_SEND_MESSAGE', %fields)->{MessageId}, $reply->{MessageId}, '... and a retry is known');
    $carla->close;
}

# --- devices -------------------------------------------------------------------------------

{
    my @device = map { $server->client(1001, DeviceId => "device $_") } 1 .. 16;
    my $more   = $server->connect;
    my %login  = (Token => $server->token(1001), DeviceId => 'device 17');
    my $reply  = $more->request('P_AUTHENTICATE', %login);
    is($reply->{Reason}, 'CONFLICT', 'a 17th device, all others connected');
    like($reply->{Message}, qr/16 devices/, '... is told why');
    is($_->request('P_HEARTBEAT')->{Reason}, 'OK', '... and none of the 16 suffers') for @device;
    (shift @device)->close;
    my $in = Parley::poll_until(10, sub { $more->request('P_AUTHENTICATE', %login)->{Reason} eq 'OK' });
    ok($in, 'when one has gone it takes its place');
    $_->close for @device, $more;
}
{
    # The same device from 50 connections in one moment: one of them stays.
    my $login = text_frame('P_AUTHENTICATE', Token => $server->token(1002), DeviceId => 'one', RequestId => 1);
    my @raw   = map { opened() } 1 .. 50;
    $_->write($login) for @raw;
    my %end;
    for my $raw (@raw) {
        # Everyone but the last one is closed; a heartbeat tells.
        $raw->write(text_frame('P_HEARTBEAT', RequestId => 2));
        my $end = eval { read_message($raw, sub ($m) { ($m->{RequestId} // 0) == 2 && $m->{Reason} eq 'OK' }); 'in' } // $@;
        $end =~ s/ .*? (\d{4}) .*/ $1/s;
        push $end{$end =~ /\A(in|closed: \d+)/ ? $1 : $end}->@*, $raw;
    }
    my @in = grep {
        my $raw = $_;
        $raw->write(text_frame('P_HEARTBEAT', RequestId => 3));
        eval { read_message($raw, sub ($m) { ($m->{RequestId} // 0) == 3 }) };
    } ($end{in} // [])->@*;
    is(scalar @in, 1, 'of 50 logins of one device one stays') || diag(join ' ', map {"$_: " . scalar $end{$_}->@*} sort keys %end);
    my @codes = grep { $_ !~ /\A(?:in|closed: 4002)\z/ } keys %end;
    is("@codes", '', '... the others were replaced');
}

# --- people who say nothing ---------------------------------------------------------------------

{
    my $before = $guard->workers_kib;
    my @raw    = map { Parley::Raw->connect($server->address) } 1 .. $SILENT;
    still_works("$SILENT silent connections: others talk on");
    cmp_ok(($guard->workers_kib - $before) / $SILENT, '<', ($IS_ASAN ? 256 : 4), '... each of them costs less than 4 KiB');
    my @half = splice @raw, 0, 300;
    $_->write("GET /ws HTTP/1.1\r\nHost: ") for @half;
    my @open = splice @raw, 0, 300;
    $_->write(Parley::Raw->upgrade_head) for @open;
    $_->read_until(qr/\r\n\r\n/) for @open;
    my @codes = map { ($_->read_close)[0] } @open;
    is(scalar(grep { $_ == 1008 } @codes), 300, 'upgraded and silent: all closed with 1008');
    still_works('... and others talk on');
    $_->close for @raw, @half, @open;
    my $gone = Parley::poll_until(20, sub { ($server->metric('parley_connections') // 99) <= 3 });
    ok($gone, '... and nothing of them remains');
}

SKIP: {
    skip 'a sanitizer keeps what was freed', 1 if $IS_ASAN;
    cmp_ok($guard->workers_kib - $idle_kib, '<', $ROOM, 'at the end the workers are as small as before');
}
$guard->finish;
done_testing;
