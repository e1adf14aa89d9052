# What a review has broken once and must not be broken again: large texts,
# unread history, lists that end, users who are removed, sessions that end
# or are replaced while they ask, and what others learn of a status.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Select;
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Guard;
use Parley::Raw;
use Parley::Story;
use Test::More;

my $KIB = 1024;

# A sanitizer keeps what was freed, 256 MiB in each process.
my $IS_ASAN = ($ENV{PARLEY_ASAN} // '') eq 'yes';

my $server = Parley->start(
    conf => {
        'auth.auto_provision' => 'yes',
        'policy.may_message'  => 'anyone',
    }
);
is(($server->ctl('user', 'add', '--range', '1-20'))[0], 0, 'some users');

sub frame_of ($command, %fields) {
    return Parley::Raw->frame(1, encode_json({Command => $command, %fields}));
}

sub login_frame ($id, $device) {
    return frame_of('P_AUTHENTICATE', Token => $server->token($id), DeviceId => $device,
        RequestId => 'login');
}

# The next reply on a raw socket; dies at a close frame.
sub reply_on ($raw, $seconds = 20) {
    while (1) {
        my ($opcode, $payload) = $raw->read_frame($seconds);
        die 'closed: ' . join ' ', unpack 'na*', $payload if $opcode == 8;
        next if $opcode != 1;
        my $message = decode_json($payload);
        return $message if exists $message->{Reason} && $message->{Command} ne 'P_CLOSE';
    }
}

sub opened () {
    my $raw = Parley::Raw->connect($server->address);
    $raw->upgrade;
    return $raw;
}

sub entered ($id, $device) {
    my $raw = opened();
    $raw->write(login_frame($id, $device));
    my $reply = reply_on($raw);
    die encode_json($reply) if $reply->{Reason} ne 'OK';
    return $raw;
}

subtest 'a text larger than any record of a ring' => sub {
    my @others = map { client_on($server, "worker-$_", 1 + $_) } 0, 1;
    my $others_work = sub ($when) {
        is_deeply([map { $_->request('P_HEARTBEAT')->{Reason} } @others],
            ['OK', 'OK'], "others are served $when");
        is(send_text($others[0], [2], $when)->{Reason}, 'OK', '... and talk');
        is((take_messages($others[1], 1))[0]{Message}, $when, '... and hear');
    };
    for my $size (252 * $KIB + 1, 256 * $KIB - 24, 256 * $KIB, 300 * $KIB) {
        my $pad   = 'y' x $size;
        my %reply = (P_HEARTBEAT => 'OK', P_GET_CONVERSATIONS => 'OK', P_NONE => 'UNKNOWN_COMMAND');
        for my $command (sort keys %reply) {
            my $raw = opened();
            $raw->write(frame_of($command, RequestId => 1, Unknown => $pad));
            is(reply_on($raw)->{Reason}, $command eq 'P_NONE' ? 'UNKNOWN_COMMAND' : 'UNAUTHENTICATED',
                "$command with $size bytes before the login");
            $raw = opened();
            $raw->write(login_frame(3, 'large') . frame_of($command, RequestId => 2, Unknown => $pad));
            is(reply_on($raw)->{Reason}, 'OK', '... right behind a login: that is answered');
            is(reply_on($raw)->{Reason}, $reply{$command}, '... and so is this');
            $raw->write(frame_of($command, RequestId => 3, Unknown => $pad) x 3);
            is_deeply([map { reply_on($raw)->{Reason} } 1 .. 3], [($reply{$command}) x 3],
                '... and three more of it');
        }
        my $raw = opened();
        $raw->write(frame_of('P_AUTHENTICATE', Token => $pad, DeviceId => 'x', RequestId => 1));
        like(reply_on($raw)->{Reason}, qr/\A(?:AUTH_FAILED|BAD_REQUEST|TOO_LARGE)\z/, "a Token of $size bytes is refused");
        $raw->write(frame_of('P_AUTHENTICATE', UserName => $pad, Password => $pad, DeviceId => 'x', RequestId => 1));
        like(reply_on($raw)->{Reason}, qr/\A(?:AUTH_FAILED|BAD_REQUEST|TOO_LARGE)\z/, '... a UserName, too');
        $raw->write(login_frame(3, 'large'));
        is(reply_on($raw)->{Reason}, 'OK', '... after which a good one is taken');
        my %send = (ToUserList => [1], Message => 'x', ClientMessageId => "large-$size", RequestId => 2);
        $raw->write(frame_of('P_SEND_MESSAGE', %send, Message => $pad));
        is(reply_on($raw)->{Reason}, 'TOO_LARGE', '... a Message of that size is not');
        $raw->write(frame_of('P_UPDATE_USER', Profile => {About => $pad}, RequestId => 3));
        like(reply_on($raw)->{Reason}, qr/\A(?:BAD_REQUEST|TOO_LARGE)\z/, '... nor a Profile');
        $raw->write(frame_of('P_SEND_MESSAGE', %send, Unknown => $pad));
        is(reply_on($raw)->{Reason}, 'OK', '... and a message beside unknown fields is stored');
        $others_work->("after $size bytes");
    }
    my $raw = entered(3, 'large');
    my %pad = (Unknown => 'y' x (300 * $KIB));
    $raw->write(join '', map {
        frame_of('P_SEND_MESSAGE', ToUserList => [4], Message => "m$_", ClientMessageId => "many-$_",
            RequestId => $_, %pad)
    } 1 .. 80);
    is_deeply([map { reply_on($raw)->{RequestId} } 1 .. 80], [1 .. 80],
        'more of them than may be unanswered are answered in order');
    $others_work->('after all of it');
    $_->close for @others;
};

subtest 'a mix of pipelined commands is answered in full' => sub {
    my @crowd = 15 .. 20;
    my @clients;
    for my $id (@crowd) {
        for my $device ('mix-1', 'mix-2') {
            my $client = $server->client($id, DeviceId => $device);
            my $mix    = {client => $client, id => $id, seqs => [], want => 0, got => 0, odd => []};
            $client->tx->on(
                text => sub ($tx, $text) {
                    my $message = decode_json($text);
                    push $mix->{seqs}->@*, $message->{Seq} if $message->{Seq};
                    $tx->send({text => encode_json({Command => 'P_ACK', Seq => $message->{Seq}})})
                        if $message->{Seq} && $message->{Seq} % 40 == 0;
                    return if !exists $message->{Reason};
                    $mix->{got}++;
                    push $mix->{odd}->@*, $message if $message->{Reason} ne 'OK';
                }
            );
            push @clients, $mix;
        }
    }
    my $pid;
    for my $n (1 .. 120) {
        for my $mix (@clients) {
            my ($client, $id) = @$mix{qw(client id)};
            my $other = $crowd[($id + $n % 5 + 1 - $crowd[0]) % @crowd];
            my @to    = $n % 4 ? $other : grep { $_ != $id } @crowd;
            $mix->{want}++;
            if ($n % 10 == 7) {
                $client->submit('P_GET_MESSAGES', UserId => $other, Limit => 5);
            } elsif ($n % 10 == 8) {
                $client->submit('P_GET_CONVERSATIONS');
            } elsif ($n % 10 == 9) {
                $client->submit('P_GET_ALL_USER', Limit => 3);
            } else {
                $client->submit('P_SEND_MESSAGE', ToUserList => \@to, Message => "mix $n",
                    ClientMessageId => "mix-$n");
            }
            $client->send_command('P_TYPING', ToUserList => \@to, State => 'STARTED') if $n % 10 == 0;
        }
        $pid = $server->kill9('keeper') if $n == 60;
    }
    ok(Parley::poll_until(30, sub { !grep { $_->{got} < $_->{want} } @clients }),
        'every request has its reply, though the keeper died meanwhile')
        || diag(join ' ', map {"$_->{got}/$_->{want}"} @clients);
    is_deeply([grep { $_->{Reason} ne 'OK' } map { $_->{odd}->@* } @clients], [], '... and each is OK');
    for my $mix (@clients) {
        my $login = $mix->{client}->session;
        my $look  = $server->client($mix->{id}, DeviceId => 'mix-look');
        my $last  = $look->session->{LastSeq};
        $look->close;
        Parley::poll_until(10, sub { ($mix->{seqs}[-1] // 0) >= $last });
        is_deeply($mix->{seqs}, [$login->{LastSeq} + 1 .. $last], 'every Seq has come once, in order');
        is($mix->{got}, $mix->{want}, '... and no reply twice');
    }
    $server->await_restart('keeper', $pid);
    $_->{client}->close for @clients;
};

subtest 'history that nobody reads' => sub {
    plan skip_all => 'a sanitizer keeps what was freed' if $IS_ASAN;
    my $guard = Parley::Guard->watch($server);
    my $alice = $server->client(7);
    my @ids   = map {
        $alice->submit('P_SEND_MESSAGE', ToUserList => [8], Message => 'x' x 60_000,
            ClientMessageId => "heavy-$_")
    } 1 .. 200;
    is_deeply([grep { $alice->wait_reply($_)->{Reason} ne 'OK' } @ids], [], '200 heavy messages');
    my $page = sub ($client) { return $client->request('P_GET_MESSAGES', UserId => 8, Limit => 200) };
    my $size = length encode_json($page->($alice));
    cmp_ok($size, '>', 1024 * $KIB, '... make a heavy page');
    my $before = $guard->workers_kib;
    my $most   = 0;
    my $raw    = entered(7, 'never-reads');
    $raw->write(frame_of('P_GET_MESSAGES', UserId => 8, Limit => 200, RequestId => $_)) for 1 .. 300;
    # Each of these waits in the same lines as those of the one who does not read.
    for my $worker (0, 1) {
        my $other = client_on($server, "worker-$worker", 7, DeviceId => "reads-$worker");
        for (1 .. 4) {
            is(scalar $page->($other)->{Messages}->@*, scalar $page->($alice)->{Messages}->@*,
                'who reads has the page');
            my $now = $guard->workers_kib;
            $most = $now if $now > $most;
        }
        $other->close;
    }
    cmp_ok($most - $before, '<', 64 * $KIB, '300 pages that nobody reads take little memory');
    note(sprintf 'page of %d KiB, %d KiB more at most', $size / $KIB, $most - $before);
    is_deeply([map { reply_on($raw)->{RequestId} } 1 .. 12], [1 .. 12], '... and come when they are read');
    $_->close for $raw, $alice;
    is_deeply($server->pids, $guard->{pids}, '... from the same processes');
};

subtest 'the last page has no NextCursor' => sub {
    my $is_last = sub ($reply, $name) {
        return ok(exists $reply->{NextCursor} && !defined $reply->{NextCursor}, "$name: null")
            || diag(encode_json([$reply->{NextCursor}]));
    };
    $server->ctl('user', 'add', '--range', '2000-2203');
    my $contacts = sub ($first, $last) {
        my ($code, undef, $err) = $server->run(['sh', '-c',
            'for id in $(seq "$2" "$3"); do "$0" -c "$1" contact add 2000 "$id" || exit 1; done',
            Parley::program('parleyctl'), $server->conf, $first, $last]);
        is($code, 0, 'contacts') || diag($err);
    };
    my $nobody = $server->client(2001);
    is_deeply($nobody->session->{Users}, [], 'who has nobody');
    $is_last->($nobody->session,                       '... P_AUTHENTICATE');
    $is_last->($nobody->request('P_GET_ALL_USER'),      '... P_GET_ALL_USER');
    $is_last->($nobody->request('P_GET_CONVERSATIONS'), '... P_GET_CONVERSATIONS');
    $contacts->(2001, 2200);
    my $full = $server->client(2000);
    is(scalar $full->session->{Users}->@*, 200, 'a login with exactly one page');
    $is_last->($full->session, '... P_AUTHENTICATE');
    for my $limit (1000, 200, 100, 99) {
        my ($cursor, @ids, $reply);
        do {
            $reply = $full->request('P_GET_ALL_USER', Limit => $limit, defined $cursor ? (Cursor => $cursor) : ());
            push @ids, map { $_->{UserId} } $reply->{Users}->@*;
            $cursor = $reply->{NextCursor};
            ok($reply->{Users}->@*, 'no page is empty');
        } while defined $cursor;
        is_deeply(\@ids, [2001 .. 2200], "pages of $limit are the whole list");
        $is_last->($reply, '... P_GET_ALL_USER');
    }
    $contacts->(2201, 2201);
    my $more = $server->client(2000, DeviceId => 'second');
    is(scalar $more->session->{Users}->@*, 200, 'one more than a page');
    my $rest = $more->request('P_GET_ALL_USER', Cursor => $more->session->{NextCursor});
    is_deeply([map { $_->{UserId} } $rest->{Users}->@*], [2201], '... is on the next one');
    $is_last->($rest, '... P_GET_ALL_USER');

    is(send_text($full, [$_], 'hello')->{Reason}, 'OK', 'a conversation') for 2001 .. 2004;
    for my $limit (200, 4, 2, 3, 1) {
        my ($cursor, @ids, $reply);
        do {
            $reply = $full->request('P_GET_CONVERSATIONS', Limit => $limit, defined $cursor ? (Cursor => $cursor) : ());
            push @ids, map { $_->{ConversationId} } $reply->{Conversations}->@*;
            $cursor = $reply->{NextCursor};
            ok($reply->{Conversations}->@*, 'no page is empty');
        } while defined $cursor;
        is_deeply(\@ids, [map {"2000-$_"} reverse 2001 .. 2004], "pages of $limit are all of them");
        $is_last->($reply, '... P_GET_CONVERSATIONS');
    }
    $_->close for $nobody, $full, $more;
};

subtest 'the id of a removed user is never given out again' => sub {
    is(($server->ctl('user', 'add', $_, "Old $_"))[0], 0, "user $_") for 61, 62, 64;
    my $old    = $server->client(61, name => 'Old 61');
    my $friend = $server->client(62);
    my $sent   = send_text($old, [62], 'only for you');
    take_messages($friend, 1);
    is(($server->ctl('user', 'remove', $_))[0], 0, "user $_ is removed") for 61, 64;
    is_deeply([$old->expect_close], [4003, 'KICKED'], '... its session ends');

    my $refused = sub ($when) {
        for my $id (61, 64) {
            my ($code, undef, $err) = $server->ctl('user', 'add', $id, 'Newcomer');
            is($code, 1, "user add $id is refused $when");
            ok(length $err, '... in words');
            my $reply = $server->connect->request('P_AUTHENTICATE',
                Token => $server->token($id), DeviceId => "device-$id");
            is($reply->{Reason}, 'AUTH_FAILED', '... a token makes none, in spite of auto_provision');
            ok(!exists $reply->{Users}, '... and tells nothing');
            is(($server->ctl('user', 'show', $id))[0], 1, '... there is no such user');
        }
    };
    $refused->('at once');
    my ($code, $out) = $server->ctl('user', 'add', '--range', '60-65', '--json');
    is($code, 0, 'a range over them is taken');
    is(decode_json($out)->{created}, 3, '... which passes over them and those who are there');
    is(($server->ctl('user', 'show', $_))[0], 0, "... and has made $_") for 60, 63, 65;
    $refused->('after a range');

    my @new = ($server->client(63), $server->client(66));
    for my $new (@new) {
        my $id = $new->session->{UserId};
        is_deeply($new->request('P_GET_CONVERSATIONS')->{Conversations}, [], "the new user $id has no conversations");
        is($new->request('P_GET_MESSAGES', ConversationId => $sent->{ConversationId})->{Reason},
            'NOT_FOUND', '... and that of the removed one is none');
        is($new->request('P_MARK_READ', ConversationId => $sent->{ConversationId},
            MessageId => $sent->{MessageId})->{Reason}, 'NOT_FOUND', '... nor can it be marked');
        is_deeply($new->request('P_GET_MESSAGES', UserId => 62)->{Messages} // [], [], '... nor is it found by its member');
        ok(none_of($new, 'P_MESSAGE'), '... nothing comes');
        is(send_text($new, [61], 'hello?')->{Reason}, 'NOT_FOUND', '... nor can the removed one be written to');
        $new->close;
    }
    my $page = $friend->request('P_GET_MESSAGES', ConversationId => $sent->{ConversationId});
    is_deeply([map { $_->{Message} } $page->{Messages}->@*], ['only for you'], 'the other one keeps what was said');
    $friend->close;
    is($server->stop, 0, 'the server stops');
    $server->launch;
    $refused->('after a restart');
};

subtest 'P_LOGOUT right behind other requests' => sub {
    my $alice = $server->client(11);
    my $bruno = $server->client(12);
    is(send_text($alice, [12], "page $_")->{Reason}, 'OK', 'something to ask for') for 1 .. 3;
    take_messages($bruno, 3);
    for my $round (1 .. 20) {
        my $raw = entered(11, 'leaves');
        $raw->write(frame_of('P_GET_MESSAGES', UserId => 12, RequestId => 'page')
                . frame_of('P_LOGOUT', RequestId => 'out')
                . frame_of('P_SEND_MESSAGE', ToUserList => [12], Message => 'behind the end',
                ClientMessageId => "behind-$round", RequestId => 'behind'));
        my %reply = map { $_->{RequestId} => $_ } map { reply_on($raw) } 1, 2;
        is_deeply([sort keys %reply], ['out', 'page'], 'both are answered');
        is_deeply([map { $_->{Reason} } values %reply], ['OK', 'OK'], '... well');
        cmp_ok(scalar $reply{page}{Messages}->@*, '>=', 3, '... with what was asked for');
        my ($opcode, $payload) = (0, '');
        ($opcode, $payload) = $raw->read_frame while $opcode != 8 && $opcode != 1;
        is_deeply([$opcode, unpack 'n', $payload], [8, 1000], '... then close 1000 and nothing else');
    }
    ok(none_of($bruno, 'P_MESSAGE', sub ($e) { $e->{Message} eq 'behind the end' }),
        'what stands behind the logout is not stored');

    # A list waits for the directory; the end waits for the list.
    my $raw       = entered(11, 'leaves');
    my $directory = $server->pids->{directory};
    kill STOP => $directory;
    $raw->write(frame_of('P_GET_ALL_USER', RequestId => 'list') . frame_of('P_LOGOUT', RequestId => 'out'));
    is(reply_on($raw)->{RequestId}, 'out', 'while a list is on its way the logout is answered');
    kill CONT => $directory;
    my $list = reply_on($raw);
    is_deeply([@$list{qw(RequestId Reason)}], ['list', 'OK'], '... but the list still comes');
    is(($raw->read_close)[0], 1000, '... then close 1000');
    $raw = entered(11, 'leaves');
    $raw->write(join '', map({ frame_of('P_SEND_MESSAGE', ToUserList => [12], Message => "last $_",
        ClientMessageId => "last-$_", RequestId => $_) } 1 .. 10),
        map({ frame_of('P_GET_CONVERSATIONS', RequestId => $_) } 11 .. 20), frame_of('P_LOGOUT', RequestId => 21));
    my @replies = map { reply_on($raw) } 1 .. 21;
    is_deeply([sort { $a <=> $b } map { $_->{RequestId} } @replies], [1 .. 21], 'sends and lists before it are answered, too');
    is_deeply([grep { $_->{Reason} ne 'OK' } @replies], [], '... all OK');
    is(($raw->read_close)[0], 1000, '... then close 1000');
    is_deeply([map { $_->{Message} } take_messages($bruno, 10)], [map {"last $_"} 1 .. 10], '... and stored');
    $_->close for $alice, $bruno;
};

# Logged in on the other worker while this one is stopped: what lands there
# is not answered, so try until one is.
sub entered_elsewhere ($id, $device) {
    my $select = IO::Select->new;
    my %raw;
    for (1 .. 100) {
        my $raw = Parley::Raw->connect($server->address);
        $raw->write(Parley::Raw->upgrade_head);
        $raw{$raw->{socket}} = $raw;
        $select->add($raw->{socket});
        my ($ready) = $select->can_read(0.1);
        next if !$ready;
        $raw = $raw{$ready};
        $raw->read_until(qr/\r\n\r\n/);
        $raw->write(login_frame($id, $device));
        my $reply = reply_on($raw);
        die encode_json($reply) if $reply->{Reason} ne 'OK';
        return $raw;
    }
    die "100 connections and none answered\n";
}

subtest 'an older session that goes on sending' => sub {
    # The second time as many events wait for its worker as may: the news of
    # the newer session has room all the same.
    for my $is_full (0, 1) {
        my @late   = map {
            {ToUserList => [12], Message => "late $_ $is_full", ClientMessageId => "late-$_"}
        } 1 .. 3;
        my $name   = $is_full ? 'a ring full of events' : 'a worker that is slow';
        my $old    = client_on($server, 'worker-0', 11, DeviceId => "again-$is_full");
        my $filled = client_on($server, 'worker-0', 13, DeviceId => "filled-$is_full");
        my $bruno  = client_on($server, 'worker-1', 12, DeviceId => "bruno-$is_full");
        my $writer = client_on($server, 'worker-1', 14);
        settle($bruno);
        $bruno->{events} = [];
        my $pid = $server->pids->{'worker-0'};
        kill STOP => $pid;
        if ($is_full) {
            my @size = ((64 * $KIB) x 34, (4 * $KIB) x 20, (200) x 40, (1) x 60);
            my @ids  = map {
                $writer->submit('P_SEND_MESSAGE', ToUserList => [13], Message => 'f' x $size[$_],
                    ClientMessageId => "fill-$_")
            } 0 .. $#size;
            is_deeply([grep { $writer->wait_reply($_)->{Reason} ne 'OK' } @ids], [], "$name");
        }
        # Written after the newer session has its answer.
        my $new = entered_elsewhere(11, "again-$is_full");
        $old->submit('P_SEND_MESSAGE', %$_) for @late;
        my $is_written;
        $old->tx->send({text => encode_json({Command => 'P_HEARTBEAT'})}, sub { $is_written = 1 });
        ok(Parley::poll_until(10, sub {$is_written}), 'the older session goes on sending');
        kill CONT => $pid;
        is_deeply([$old->expect_close], [4002, 'REPLACED'], "... over $name: close 4002");
        is($old->expect_event('P_CLOSE')->{Reason}, 'REPLACED', '... and in words');
        is_deeply([grep { $_->{Command} eq 'P_SEND_MESSAGE' } $old->{replies}->@*], [], '... none of it is acknowledged');
        ok(none_of($bruno, 'P_MESSAGE', sub ($e) { $e->{FromUser}{UserId} == 11 }), '... none of it arrives');
        $new->write(frame_of('P_GET_MESSAGES', UserId => 12, RequestId => 'look'));
        is_deeply([grep {/\Alate \d+ $is_full\z/} map { $_->{Message} } reply_on($new)->{Messages}->@*],
            [], '... none of it is stored');
        for my $late (@late) {
            $new->write(frame_of('P_SEND_MESSAGE', %$late, RequestId => 'retry'));
            is(reply_on($new)->{Reason}, 'OK', '... the newer session sends it for the first time');
        }
        is_deeply([map { $_->{Message} } take_messages($bruno, 3)], [map { $_->{Message} } @late], '... and it arrives');
        ok(none_of($bruno, 'P_MESSAGE', sub ($e) { $e->{FromUser}{UserId} == 11 }), '... once');
        is($server->pids->{'worker-0'}, $pid, 'the worker is the same one');
        $_->close for $new, $filled, $bruno, $writer;
    }
};
$server->finish;

# --- what others learn of a status ------------------------------------------------

$server = Parley->start(
    conf => {
        'server.heartbeat_interval' => '1s',
        'policy.presence_grace'     => '0',
    }
);
# Contacts of each other; each subtest has its own.
$server->add_users(@$_) for [1, 2, 3], [4, 5, 6], [7, 8];

sub of ($id) {
    return sub ($event) { $event->{UserId} == $id };
}

# Status and text of the next event; the one who waits stays active.
sub told ($client, $id) {
    my $event = $client->expect_event('P_PRESENCE', 10, of($id));
    return [@$event{qw(Status StatusText)}];
}

sub look ($client, $id) {
    my $user = $client->request('P_GET_USER', UserId => $id)->{User};
    return [@$user{qw(Status StatusText LastSeen)}];
}

subtest 'AWAY comes a second time, and INVISIBLE hides it' => sub {
    my $alice = $server->client(1);
    my $carla = $server->client(3, Status => 'INVISIBLE');
    my $bruno = $server->client(2);
    is(told($alice, 2)->[0], 'ONLINE', 'bruno comes');
    for my $round ('once', 'a second time', 'a third time') {
        is(told($alice, 2)->[0], 'AWAY', "silent for the heartbeat interval: AWAY $round");
        is($bruno->request('P_HEARTBEAT')->{Reason}, 'OK', '... a command');
        is(told($alice, 2)->[0], 'ONLINE', '... brings ONLINE back');
    }
    ok(none_of($alice, 'P_PRESENCE', of(3)), 'who was INVISIBLE and silent all the time is not told');
    is($carla->request('P_HEARTBEAT')->{Reason}, 'OK', '... nor when a command comes');
    settle($carla);
    ok(none_of($alice, 'P_PRESENCE', of(3)), '... from there');
    is_deeply(look($alice, 3), ['OFFLINE', '', undef], '... and looks as if never seen');
    $_->close for $alice, $carla, $bruno;
};

subtest 'INVISIBLE leaks nothing' => sub {
    my $alice = $server->client(4);
    my $bruno = $server->client(5, Status => 'BUSY');    # BUSY is never AWAY
    is_deeply(told($alice, 5), ['BUSY', ''], 'bruno comes');
    $bruno->request('P_UPDATE_STATUS', Status => 'BUSY', StatusText => 'hello');
    is_deeply(told($alice, 5), ['BUSY', 'hello'], '... with a text');
    is($bruno->request('P_UPDATE_STATUS', Status => 'INVISIBLE')->{Reason}, 'OK', 'he hides');
    is_deeply(told($alice, 5), ['OFFLINE', ''], '... and is OFFLINE, without the text');
    my $hidden = look($alice, 5);
    is_deeply([@$hidden[0, 1]], ['OFFLINE', ''], '... for who asks, too');
    cmp_ok($hidden->[2], '>', 0, '... seen for the last time then');
    my @acts = (
        [P_UPDATE_STATUS => Status => 'INVISIBLE', StatusText => 'secret'],
        [P_HEARTBEAT => ()],
        [P_GET_MESSAGES => UserId => 4],
        [P_SEND_MESSAGE => ToUserList => [6], Message => 'to another', ClientMessageId => 'hidden'],
    );
    for my $act (@acts) {
        is($bruno->request(@$act)->{Reason}, 'OK', "hidden he does $act->[0]");
        ok(none_of($alice, 'P_PRESENCE', of(5)), '... which is not told');
        is_deeply(look($alice, 5), $hidden, '... nor seen');
        my ($row) = user_in($alice->request('P_GET_ALL_USER', Refresh => \1)->{Users}, 5);
        is_deeply([@$row{qw(Status StatusText LastSeen)}], $hidden, '... nor in the list');
    }
    my $tablet = $server->client(5, DeviceId => 'tablet', Status => 'INVISIBLE');
    ok(none_of($alice, 'P_PRESENCE', of(5)), 'a second hidden device is not told');
    $tablet->drop;
    $bruno->drop;
    ok(Parley::poll_until(10, sub { $server->metric('parley_sessions') == 1 }), 'all of them go');
    ok(none_of($alice, 'P_PRESENCE', of(5)), '... which is not told');
    is_deeply(look($alice, 5), $hidden, '... nor does LastSeen tell it');
    my $again = $server->client(4, DeviceId => 'again');
    my $row   = user_in($again->session->{Users}, 5);
    is_deeply([@$row{qw(Status StatusText LastSeen)}], $hidden, '... nor a login');
    $_->close for $alice, $again;
};

subtest 'contacts come and go, a block stays' => sub {
    my $alice = $server->client(7, Status => 'BUSY');
    my $bruno = $server->client(8, Status => 'BUSY');
    is(told($alice, 8)->[0], 'BUSY', 'bruno is there');
    is($bruno->request('P_BLOCK', UserId => 7)->{Reason}, 'OK', 'he blocks alice');
    is(told($alice, 8)->[0], 'OFFLINE', '... for whom he is gone');
    is($bruno->request('P_BLOCK', UserId => 7)->{Reason}, 'OK', '... and once more');
    for my $change ('add', 'remove', 'add', 'add') {
        is(($server->ctl('contact', $change, 7, 8))[0], 0, "contact $change");
        is($bruno->request('P_UPDATE_STATUS', Status => 'BUSY', StatusText => "after $change")->{Reason},
            'OK', '... a new text');
        ok(none_of($alice, 'P_PRESENCE', of(8)), '... of which alice is told nothing');
        is($alice->request('P_GET_USER', UserId => 8)->{Reason}, 'NOT_FOUND', '... he does not exist');
        is(user_in($alice->request('P_GET_ALL_USER', Refresh => \1)->{Users}, 8), undef, '... is in no list');
        is(send_text($alice, [8], 'hello?')->{Reason}, 'NOT_FOUND', '... cannot be written to');
        my $again = $server->client(7, DeviceId => 'again', Status => 'BUSY');
        is(user_in($again->session->{Users}, 8), undef, '... nor is he there at a login');
        $again->close;
    }
    ok(none_of($bruno, 'P_MESSAGE'), 'nothing has reached him');
    is($bruno->request('P_UNBLOCK', UserId => 7)->{Reason}, 'OK', 'unblocked');
    is_deeply(told($alice, 8), ['BUSY', 'after add'], '... he is seen as he is now');
    is(($server->ctl('contact', 'remove', 7, 8))[0], 0, 'the contact is removed');
    is(told($alice, 8)->[0], 'OFFLINE', '... which looks like an end');
    $bruno->request('P_UPDATE_STATUS', Status => 'BUSY', StatusText => 'to friends');
    ok(none_of($alice, 'P_PRESENCE', of(8)), '... after which nothing is told');
    is($alice->request('P_GET_USER', UserId => 8)->{Reason}, 'NOT_FOUND', '... and he is a stranger');
    is($bruno->request('P_BLOCK', UserId => 7)->{Reason}, 'NOT_FOUND', 'as is she for him');
    is(($server->ctl('contact', 'add', 7, 8))[0], 0, 'contacts again');
    is_deeply(told($alice, 8), ['BUSY', 'to friends'], '... he is there');
    is($bruno->request('P_BLOCK', UserId => 7)->{Reason}, 'OK', 'blocked again');
    # The text may have waited for its turn and be told once more before.
    my $look;
    do { $look = told($alice, 8) } while ($look->[0] eq 'BUSY');
    is($look->[0], 'OFFLINE', '... he is gone');
    is(($server->ctl('user', 'remove', 8))[0], 0, 'he is removed');
    is(($bruno->expect_close)[0], 4003, '... and put out');
    ok(none_of($alice, 'P_PRESENCE', of(8)), '... of which alice is told nothing');
    $alice->close;
};

$server->finish;
done_testing;
