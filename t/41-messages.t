# Messages from one to others: stored before they are acknowledged, delivered
# in order and without a hole, read again as history.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use utf8;
use Mojo::JSON qw(encode_json);
use Parley;
use Parley::Story;
use Test::More;
use Time::HiRes qw(time);

my $server = Parley->start(conf => {
    'policy.slow_consumer_timeout' => '1s',
    'policy.presence_grace'        => '0',
});
$server->add_users(1 .. 4);
$server->ctl('user', 'add', $_, "User $_") for 5, 6, 7;

my $alice = client_on($server, 'worker-0', 1);
my $bruno = client_on($server, 'worker-1', 2);
my $carla = client_on($server, 'worker-0', 3);

# --- one message ------------------------------------------------------------

my $before = int(1000 * time);
my $reply  = $alice->request(
    'P_SEND_MESSAGE',
    ToUserList           => [2],
    Message              => 'Guten Tag, wie geht es Ihnen?',
    ClientMessageId      => 'first',
    Type                 => 'text/x-note',
    ClientInitiationTime => 1_700_000_000_123,
    Attachment => {Url => 'https://files.example/1', Name => 'plan.pdf', Size => 12345,
        MimeType => 'application/pdf'},
);
is($reply->{Reason}, 'OK', 'a message is taken');
like($reply->{MessageId}, qr/\A[1-9]\d*\z/, '... its id is decimal, as a string');
ok(!exists $reply->{Seq}, '... own sends of a user with one device take no Seq');
cmp_ok(abs($reply->{ServerTime} - $before), '<', 60_000, '... with the time of the server');
my $first = $reply;
my ($event) = take_messages($bruno, 1);
is_deeply(
    $event,
    {
        Command        => 'P_MESSAGE',
        Seq            => $bruno->session->{LastSeq} + 1,
        MessageId      => $reply->{MessageId},
        ConversationId => $reply->{ConversationId},
        Members        => [1, 2],
        FromUser       => {UserId => 1, Name => 'User 1'},
        Message        => 'Guten Tag, wie geht es Ihnen?',
        Type           => 'text/x-note',
        ServerTime     => $reply->{ServerTime},
        ClientInitiationTime => 1_700_000_000_123,
        Attachment => {Url => 'https://files.example/1', Name => 'plan.pdf', Size => 12345,
            MimeType => 'application/pdf'},
    },
    'the other worker\'s client gets it with all its fields'
);
ok(none_of($carla, 'P_MESSAGE'), 'nobody else gets it');

# Stored first: a keeper that cannot commit acknowledges nothing.
my $keeper = $server->pids->{keeper};
kill STOP => $keeper;
my $id = $alice->submit('P_SEND_MESSAGE', ToUserList => [2], Message => 'while it sleeps',
    ClientMessageId => 'asleep');
is($alice->request('P_HEARTBEAT')->{Reason}, 'OK', 'while the keeper sleeps the worker answers');
ok(!(grep { $_->{RequestId} eq $id } $alice->{replies}->@*), '... but acknowledges no message');
kill CONT => $keeper;
is($alice->wait_reply($id)->{Reason}, 'OK', '... it does when it is stored');
take_messages($bruno, 1);

# --- conversations ----------------------------------------------------------

$reply = send_text($bruno, [1], 'Danke, gut', ReplyTo => $first->{MessageId});
is($reply->{ConversationId}, $first->{ConversationId}, 'two have one conversation, whoever writes');
($event) = take_messages($alice, 1);
is($event->{ReplyTo}, $first->{MessageId}, 'a reply says to what');
my $of_three = send_text($alice, [2, 3], 'to both of you');
is_deeply([map { (take_messages($_, 1))[0]{Members} } $bruno, $carla],
    [[1, 2, 3], [1, 2, 3]], 'several recipients get it, and know who is in it');
$reply = send_text($carla, [1, 2], 'hello from the third');
is($reply->{ConversationId}, $of_three->{ConversationId}, '... in one conversation, too');
isnt($reply->{ConversationId}, $first->{ConversationId}, '... that is not the one of two');
is(send_text($carla, [2, 1, 1, 3], 'in any order')->{ConversationId},
    $reply->{ConversationId}, '... whatever the order, with or without oneself')
    || diag explain $reply;
take_messages($_, 2) for $alice, $bruno;
$reply = $bruno->request('P_SEND_MESSAGE', ToUserList => [3], Message => 'x',
    ClientMessageId => 'odd-reply', ReplyTo => $first->{MessageId});
is($reply->{Reason}, 'BAD_REQUEST', 'one cannot reply to a message of another conversation');

# --- retries ----------------------------------------------------------------

my %once = (ToUserList => [2], Message => 'once', ClientMessageId => 'only-once');
my $ok = $alice->request('P_SEND_MESSAGE', %once);
$reply = $alice->request('P_SEND_MESSAGE', %once);
is($reply->{Reason}, 'DUPLICATE', 'a retry is recognised');
is_deeply([@$reply{qw(MessageId ConversationId ServerTime)}],
    [@$ok{qw(MessageId ConversationId ServerTime)}], '... and gets what the first one got');
$reply = $alice->request('P_SEND_MESSAGE', %once, Message => 'twice');
is($reply->{Reason}, 'CONFLICT', 'the same id for another text is a conflict');
$reply = $alice->request('P_SEND_MESSAGE', %once, ToUserList => [3]);
is($reply->{Reason}, 'CONFLICT', '... or for another recipient');
is($bruno->request('P_SEND_MESSAGE', %once, ToUserList => [1])->{Reason},
    'OK', '... but not from another user');
is(scalar take_messages($bruno, 1), 1, 'the recipient has it');
ok(none_of($_, 'P_MESSAGE', sub ($e) { $e->{FromUser}{UserId} == 1 }), '... once') for $bruno, $carla;
take_messages($alice, 1);
send_text($alice, [2], 'in between', ClientMessageId => "between-$_") for 1 .. 127;
is($alice->request('P_SEND_MESSAGE', %once)->{MessageId},
    $ok->{MessageId}, 'the last 128 sends of a device are remembered');
take_messages($bruno, 127);
$bruno->send_command('P_ACK', Seq => $bruno->session->{LastSeq} + 132);

# --- recipients who are not there ------------------------------------------

$reply = send_text($alice, [2, 5, 99, 3], 'to strangers', ClientMessageId => 'strangers');
is($reply->{Reason}, 'NOT_FOUND', 'strangers and those who do not exist look the same');
is_deeply($reply->{UserIds}, [5, 99], '... it is said who they are');
ok(length $reply->{Message}, '... in words, too');
ok(none_of($_, 'P_MESSAGE'), '... and nothing was stored') for $bruno, $carla;
$reply = send_text($alice, [2, 3], 'to strangers', ClientMessageId => 'strangers');
is($reply->{Reason}, 'OK', '... not even the id');
take_messages($_, 1) for $bruno, $carla;

# --- own devices ------------------------------------------------------------

my $second = client_on($server, 'worker-1', 1, DeviceId => 'second');
my $head   = $second->session->{LastSeq};
$reply = send_text($alice, [2], 'from my first device', ClientMessageId => 'mine');
is($reply->{Seq}, $head + 1, 'with another device the reply carries a Seq');
my ($own) = take_messages($second, 1);
is_deeply([@$own{qw(Seq MessageId ClientMessageId Message)}],
    [$head + 1, $reply->{MessageId}, 'mine', 'from my first device'],
    '... which gets the message, with the id of the first one');
($event) = take_messages($bruno, 1);
ok(!exists $event->{ClientMessageId}, '... which the others do not see');
ok(none_of($alice, 'P_MESSAGE'), '... the sender has the reply instead');
send_text($bruno, [1], "mixed $_"), send_text($alice, [2], "own $_") for 1 .. 5;
is_deeply(seqs_of(take_messages($second, 10)), [$head + 2 .. $head + 11], 'the Seq has no gap');
is_deeply([map { $_->{Message} } take_messages($alice, 5)],
    [map {"mixed $_"} 1 .. 5], '... each device has what it did not send');
take_messages($bruno, 5);
$alice->send_command('P_ACK', Seq => $head + 11);
settle($alice);
is_deeply([$alice->{replies}->@*], [], 'an acknowledgement may cover what replies stood for');
$second->request('P_LOGOUT', Forget => \1);

# --- texts ------------------------------------------------------------------

for my $text ("\x{1F469}\x{200D}\x{2695}\x{FE0F} ok", "\"\\/\b\f\n\r\t", "\x{7f}\x{80}\x{7ff}\x{800}\x{ffff}\x{10000}\x{10ffff}",
    "\0 and \x1f", 'עברית العربية', 'ẞ' x 100)
{
    send_text($alice, [3], $text);
    my ($event) = take_messages($carla, 1);
    ok($event->{Message} eq $text, 'a text arrives as it was: ' . encode_json([$text]) =~ s/[^ -~]+/./gr);
}
my $large = "\x{1F600}" x (64 * 1024 / 4);
is(send_text($alice, [3], $large)->{Reason}, 'OK', 'a text of 64 KiB is taken');
ok((take_messages($carla, 1))[0]{Message} eq $large, '... and arrives');
is(send_text($alice, [3], "$large.")->{Reason}, 'TOO_LARGE', '... one byte more is not');

# --- receipts ---------------------------------------------------------------

my $conversation = $first->{ConversationId};
my @sent = map { send_text($alice, [2], "receipt $_") } 1 .. 3;
my @got  = take_messages($bruno, 3);
settle($alice);
$alice->{events} = [];
$bruno->send_command('P_ACK', Seq => $got[1]{Seq});
my $of_both = sub ($e) { $e->{ConversationId} eq $conversation };
is_deeply(
    $alice->expect_event('P_RECEIPT', 10, $of_both),
    {
        Command       => 'P_RECEIPT', ConversationId => $conversation, UserId => 2,
        DeliveredUpTo => $sent[1]{MessageId}, ReadUpTo => '0'
    },
    'the author learns what has arrived'
);
$bruno->send_command('P_ACK', Seq => $got[0]{Seq});
ok(none_of($alice, 'P_RECEIPT', $of_both), 'an older acknowledgement changes nothing');
is($bruno->request('P_MARK_READ', ConversationId => $conversation, MessageId => $sent[2]{MessageId})
    ->{Reason}, 'OK', 'a message is marked as read');
my $reads = sub ($e) { $of_both->($e) && $e->{ReadUpTo} eq $sent[2]{MessageId} };
ok($alice->expect_event('P_RECEIPT', 10, $reads), '... which the author learns');
is($bruno->request('P_MARK_READ', ConversationId => $conversation, MessageId => $sent[0]{MessageId})
    ->{Reason}, 'OK', 'to mark an older one is no error');
ok(none_of($alice, 'P_RECEIPT', sub ($e) { $of_both->($e) && !$reads->($e) }), '... and does not go back');

sub conversation ($client, $id) {
    my ($found) = grep { $_->{ConversationId} eq $id }
        $client->request('P_GET_CONVERSATIONS')->{Conversations}->@*;
    return $found;
}
is(conversation($bruno, $conversation)->{UnreadCount}, 0, 'nothing is unread');
my $unread = conversation($alice, $conversation)->{UnreadCount};
send_text($alice, [2], "unread $_") for 1, 2;
@got = take_messages($bruno, 2);
is(conversation($bruno, $conversation)->{UnreadCount}, 2, 'what comes is unread');
is(conversation($alice, $conversation)->{UnreadCount}, $unread, '... on that side only');
$bruno->request('P_MARK_READ', ConversationId => $conversation, MessageId => $got[0]{MessageId});
is(conversation($bruno, $conversation)->{UnreadCount}, 1, '... less what is read');
my ($state) = grep { $_->{UserId} == 2 } conversation($alice, $conversation)->{Receipts}->@*;
is($state->{ReadUpTo}, $got[0]{MessageId}, '... and the list of the author says so');
is($carla->request('P_MARK_READ', ConversationId => $conversation, MessageId => $got[0]{MessageId})
    ->{Reason}, 'NOT_FOUND', 'a conversation of others is none');

# --- acknowledgements -------------------------------------------------------

$bruno->send_command('P_ACK', Seq => $got[1]{Seq} + 1, RequestId => 'above');
is($bruno->wait_reply('above')->{Reason}, 'BAD_REQUEST', 'above what was sent: an error');
$bruno->send_command('P_ACK', Seq => $got[1]{Seq}, RequestId => 'right');
settle($bruno);
ok(!(grep { ($_->{RequestId} // '') eq 'right' } $bruno->{replies}->@*), 'a right one has no answer');

# --- the window -------------------------------------------------------------

my $dora  = $server->client(4);
my @ids;
my %pending = map {
    ($carla->submit('P_SEND_MESSAGE', ToUserList => [4], Message => "number $_",
        ClientMessageId => "n-$_") => 1)
} 1 .. 330;
$ids[$_] = $carla->wait_reply($_, "reply $_", 30)->{MessageId} for sort { $a <=> $b } keys %pending;
@ids = grep {defined} @ids;
is(scalar @ids, 330, 'a client may send faster than it is answered');
my @window = take_messages($dora, 256);
ok(none_of($dora, 'P_MESSAGE'), '256 events are sent ahead of the acknowledgement');
$dora->send_command('P_ACK', Seq => $window[9]{Seq});
push @window, take_messages($dora, 10);
ok(none_of($dora, 'P_MESSAGE'), '... ten acknowledged, ten more');
$dora->send_command('P_ACK', Seq => $window[-1]{Seq});
push @window, take_messages($dora, 64);
is_deeply([map { $_->{MessageId} } @window], \@ids, '... all come, in order');
is_deeply(seqs_of(@window), [$window[0]{Seq} .. $window[0]{Seq} + 329], '... without a gap');
$dora->send_command('P_ACK', Seq => $window[-1]{Seq});
send_text($carla, [4], 'live again');
is((take_messages($dora, 1))[0]{Message}, 'live again', '... then live');

$carla->submit('P_SEND_MESSAGE', ToUserList => [4], Message => "flood $_",
    ClientMessageId => "f-$_", RequestId => "f-$_") for 1 .. 260;
is(($dora->expect_close(20))[0], 4009, 'a window that stays full ends the session');
is($dora->expect_event('P_CLOSE')->{Reason}, 'SLOW_CONSUMER', '... SLOW_CONSUMER');
$carla->wait_reply("f-$_") for 1 .. 260;
$dora = $server->client(4);
is_deeply([map { $_->{Message} } take_messages($dora, 256)],
    ['live again', map {"flood $_"} 1 .. 255], '... and nothing is lost');
$dora->send_command('P_ACK', Seq => $dora->session->{LastSeq} - 5);
take_messages($dora, 5);
$dora->send_command('P_ACK', Seq => $dora->session->{LastSeq});

# --- unanswered sends -------------------------------------------------------

kill STOP => $keeper;
$carla->submit('P_SEND_MESSAGE', ToUserList => [4], Message => "unanswered $_",
    ClientMessageId => "u-$_", RequestId => "u-$_") for 1 .. 64;
$carla->submit('P_HEARTBEAT', RequestId => 'behind');
is($alice->request('P_HEARTBEAT')->{Reason}, 'OK', 'others of the worker are served');
ok(!(grep { $_->{RequestId} eq 'behind' } $carla->{replies}->@*),
    'behind 64 unanswered sends nothing is read');
kill CONT => $keeper;
is($carla->wait_reply('behind')->{Reason}, 'OK', '... until they are answered');
is($carla->wait_reply("u-$_")->{Reason}, 'OK', "... send $_ was") for 1, 64;
take_messages($dora, 64);
$dora->send_command('P_ACK', Seq => $dora->session->{LastSeq} + 64);

# --- history ----------------------------------------------------------------

my $all = 330 + 1 + 260 + 64;
my (@back, $oldest, $pages, $page);
do {
    $page = $dora->request('P_GET_MESSAGES', UserId => 3, Limit => 200,
        $oldest ? (Before => $oldest) : ());
    push @back, $page->{Messages}->@*;
    $oldest = $back[-1]{MessageId};
    $pages++;
} while $page->{HasMore};
is($pages, 4, 'a history of 655 messages has four pages of 200');
is(scalar @back, $all, '... with all messages');
my @numbers = map { $_->{MessageId} } @back;
is_deeply(\@numbers, [sort { $b <=> $a } @numbers], '... newest first, none twice');
is($back[-1]{Message}, 'number 1', '... down to the first one');
is_deeply([sort keys $back[0]->%*],
    [qw(ConversationId FromUser Members Message MessageId ServerTime Type)], '... with the fields of the event');
my $there = $back[0]{ConversationId};
my @forth;
my $newest = $back[-1]{MessageId};
do {
    $page = $dora->request('P_GET_MESSAGES', ConversationId => $there, After => $newest, Limit => 150);
    push @forth, $page->{Messages}->@*;
    $newest = $forth[-1]{MessageId};
} while $page->{HasMore};
is_deeply([map { $_->{MessageId} } $back[-1], @forth], [reverse @numbers],
    'After goes the other way, oldest first, over the same messages');
$page = $dora->request('P_GET_MESSAGES', ConversationId => $there, Before => $numbers[300], Limit => 7);
is_deeply([map { $_->{MessageId} } $page->{Messages}->@*], [@numbers[301 .. 307]],
    'a page begins just below Before');
ok($page->{HasMore}, '... and says that there is more');
$page = $dora->request('P_GET_MESSAGES', ConversationId => $there, After => $numbers[0]);
is_deeply([$page->{Messages}, $page->{HasMore}], [[], Mojo::JSON->false], 'above the newest is nothing');
$page = $dora->request('P_GET_MESSAGES', ConversationId => $there);
is(scalar $page->{Messages}->@*, 50, 'without Limit a page has 50');
($own) = grep { $_->{Message} eq 'unanswered 64' }
    $carla->request('P_GET_MESSAGES', UserId => 4, Limit => 1)->{Messages}->@*;
is($own->{ClientMessageId}, 'u-64', 'in the sender\'s history is its own id');
is($alice->request('P_GET_MESSAGES', ConversationId => $there)->{Reason},
    'NOT_FOUND', 'the history of others is none');
is($alice->request('P_GET_MESSAGES', UserId => 5)->{Reason}, 'NOT_FOUND', 'a stranger has no history');
$reply = $dora->request('P_GET_MESSAGES', UserId => 1);
is_deeply([@$reply{qw(Reason Messages HasMore)}], ['OK', [], Mojo::JSON->false],
    'with a contact it may be empty');

# --- the list of conversations ---------------------------------------------

send_text($alice, [3], 'the newest of all');
my @list = $alice->request('P_GET_CONVERSATIONS')->{Conversations}->@*;
is($list[0]{LastMessage}{Message}, 'the newest of all', 'the list begins with the newest');
is_deeply([map { $_->{LastMessage}{MessageId} } @list],
    [sort { $b <=> $a } map { $_->{LastMessage}{MessageId} } @list], '... newest first');
is_deeply([sort map { join ',', $_->{Members}->@* } @list], ['1,2', '1,2,3', '1,3'],
    '... all of one\'s own, with their members');
is_deeply([sort keys $list[0]->%*],
    [qw(ConversationId LastMessage Members Receipts UnreadCount)], '... and their fields');
my (@paged, $cursor);
do {
    $page = $alice->request('P_GET_CONVERSATIONS', Limit => 1, $cursor ? (Cursor => $cursor) : ());
    push @paged, $page->{Conversations}->@*;
    $cursor = $page->{NextCursor};
} while $cursor;
is_deeply(\@paged, \@list, 'pages of one are the same list');

# --- typing -----------------------------------------------------------------

$_->{events} = [] for $alice, $bruno, $carla;
$alice->send_command('P_TYPING', ToUserList => [2], State => 'STARTED');
is_deeply(
    $bruno->expect_event('P_TYPING'),
    {Command => 'P_TYPING', UserId => 1, ConversationId => $conversation, State => 'STARTED'},
    'the other one sees that somebody writes'
);
$alice->send_command('P_TYPING', ToUserList => [2], State => 'STOPPED');
is($bruno->expect_event('P_TYPING')->{State}, 'STOPPED', '... and stops');
$alice->send_command('P_TYPING', ToUserList => [2, 3], State => 'STARTED');
is($_->expect_event('P_TYPING')->{ConversationId}, $of_three->{ConversationId}, 'several are told')
    for $bruno, $carla;
settle($alice);
is_deeply($alice->{replies}, [], '... without an answer');

# --- who may write to whom --------------------------------------------------

$reply = $alice->request('P_BLOCK', UserId => 2);
is($reply->{Reason}, 'OK', 'alice blocks bruno');
$reply = send_text($bruno, [1], 'let me in');
is_deeply([@$reply{qw(Reason UserIds)}], ['NOT_FOUND', [1]], '... who finds her no more');
$reply = send_text($bruno, [3, 1], 'with others');
is_deeply([@$reply{qw(Reason UserIds)}], ['NOT_FOUND', [1]], '... not among others either');
$bruno->send_command('P_TYPING', ToUserList => [1], State => 'STARTED');
settle($bruno);
ok(none_of($alice, 'P_TYPING') && none_of($alice, 'P_MESSAGE'), '... she sees nothing of it');
is($alice->request('P_UNBLOCK', UserId => 2)->{Reason}, 'OK', 'she takes it back');
is(send_text($bruno, [1], 'thank you')->{Reason}, 'OK', '... and he may write again');
take_messages($alice, 1);

sub list_of ($client) {
    return [map { $_->{UserId} } $client->request('P_GET_ALL_USER')->{Users}->@*];
}
$server->ctl('contact', 'remove', 1, 2);
$server->ctl('contact', 'remove', 1, 4);
is_deeply(list_of($alice), [2, 3], 'who wrote to each other stay in each other\'s list');
is(send_text($alice, [2], 'still here')->{Reason}, 'OK', '... and may write');
take_messages($bruno, 1);
is(send_text($alice, [4], 'are you?')->{Reason}, 'NOT_FOUND', 'who did not are strangers again');

my $eva = $server->client(5);
is(send_text($eva, [6], 'hello')->{Reason}, 'NOT_FOUND', 'strangers may not write to each other');
$server->set('policy.may_message' => 'anyone');
is(($server->ctl('reload'))[0], 0, 'may_message = anyone, by reload');
# A worker that was replaced has said so to its clients.
sub again ($id) {
    return Parley::poll_until(15, sub { eval { $server->client($id) } }) // die "no login of $id\n";
}
$eva = again(5);
my $fred = again(6);
Parley::poll_until(15, sub {
    $eva = again(5) if $eva->is_closed;
    ($reply = eval { send_text($eva, [6], 'hello') } // {Reason => ''})->{Reason} eq 'OK';
});
is($reply->{Reason}, 'OK', '... they may');
$fred = again(6) if $fred->is_closed;
is((take_messages($fred, 1))[0]{Message}, 'hello', '... and are heard');
is_deeply(list_of($eva), [], 'one way makes no list');
is(send_text($fred, [5], 'hello yourself')->{Reason}, 'OK', '... answered');
is_deeply([list_of($eva), list_of($fred)], [[6], [5]], '... both ways do');
is(send_text($eva, [6, 99], 'nobody')->{Reason}, 'NOT_FOUND', 'who does not exist is found by nobody');

is($server->metric('parley_slow_consumers_total'), 1, 'one slow consumer was counted');
$server->finish;
done_testing;
