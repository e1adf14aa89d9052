# Messages in a call: who is in it writes, and each sees what was said while he
# was in it - live, from the inbox, and as history, also when it is over.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Story;
use Test::More;

my $server = Parley->start;
$server->add_users(1 .. 4);    # contacts of each other

my $alice  = client_on($server, 'worker-0', 1, DeviceId => 'desk');
my $tablet = client_on($server, 'worker-1', 1, DeviceId => 'tablet');
my $bruno  = client_on($server, 'worker-1', 2, DeviceId => 'phone');
my $laptop = client_on($server, 'worker-0', 2, DeviceId => 'laptop');
my $carla  = client_on($server, 'worker-1', 3);
my $dario  = client_on($server, 'worker-0', 4);
my $serial = 0;

sub call_of ($client, @to) {
    return $client->request('P_COLLABORATION_CREATE', ToUserList => [@to], Kind => 'VIDEO',
        ClientCollaborationId => 'call-' . ++$serial)->{CollaborationId};
}

sub ask ($client, $what, $call, %more) {
    return $client->request("P_COLLABORATION_$what", CollaborationId => $call, %more);
}

sub say_in ($client, $call, $text, %more) {
    return $client->request('P_SEND_MESSAGE', CollaborationId => $call, Message => $text,
        ClientMessageId => 'm' . ++$serial, %more);
}

# The reason, with the state of the call if that is why.
sub answer ($reply) { return join ' ', grep {defined} $reply->@{qw(Reason State)} }

sub texts ($client, $call, %more) {
    my $reply = $client->request('P_GET_MESSAGES', ConversationId => "c$call", Limit => 200, %more);
    return $reply->{Reason} if $reply->{Reason} ne 'OK';
    return join ' ', map { $_->{Message} // ($_->{Deleted} ? 'deleted' : 'withheld') } reverse $reply->{Messages}->@*;
}

sub listed ($client, $call) {
    my $reply = $client->request('P_GET_CONVERSATIONS');
    my ($own) = grep { $_->{ConversationId} eq "c$call" } $reply->{Conversations}->@*;
    return $own;
}

sub hears ($client, $text) {
    my ($event) = take_messages($client, 1);
    return $event->{Message} eq $text;
}

# --- while it rings ---------------------------------------------------------

my $call = call_of($alice, 2);
is(answer(say_in($bruno, $call, 'early')), 'CONFLICT RINGING', 'at whom it rings has no say yet');
my $reply = say_in($alice, $call, 'alone');
is($reply->{Reason}, 'OK', 'who is in it may write');
is($reply->{ConversationId}, "c$call", '... the call names the conversation');
ok($reply->{Seq}, '... with a Seq, for he has two devices');
my $own = $tablet->expect_event('P_MESSAGE');
is_deeply(
    [@$own{qw(Seq Message CollaborationId ConversationId ClientMessageId)}, exists $own->{Members}],
    [$reply->{Seq}, 'alone', $call, "c$call", 'm' . $serial, ''],
    '... of which the other gets it, with the CollaborationId in the place of Members'
);
ok(none_of($_, 'P_MESSAGE'), '... at whom it rings gets nothing') for $bruno, $laptop;
is(texts($bruno, $call), 'NOT_FOUND', '... and has no history');
is(answer(say_in($dario, $call, 'me, too')), 'NOT_FOUND', 'to a stranger there is no such call');
is(answer(say_in($dario, '4711', 'me, too')), 'NOT_FOUND', '... as there is none of another number');
is(texts($dario, $call), 'NOT_FOUND', '... nor has it a history');
is($dario->request('P_MARK_READ', ConversationId => "c$call", MessageId => $reply->{MessageId})->{Reason},
    'NOT_FOUND', '... nor a place to read up to');
is(answer($alice->request('P_SEND_MESSAGE', GroupId => $call, Message => 'x', ClientMessageId => 'g')),
    'NOT_FOUND', 'a call is no group');

# --- of two -----------------------------------------------------------------

ask($bruno, 'ACCEPT', $call);
is(texts($bruno, $call), '', 'who comes sees nothing of before');
ok(!listed($bruno, $call), '... and has nothing new in his list');
my $hello = say_in($alice, $call, 'hello');
for my $device ($bruno, $laptop) {
    my $event = $device->expect_event('P_MESSAGE');
    is_deeply([@$event{qw(Message MessageId CollaborationId Seq)}],
        ['hello', $hello->{MessageId}, $call, $device->session->{LastSeq} + 1],
        'what is said then all his devices get, with a Seq');
}
is(texts($bruno, $call), 'hello', '... and have it as history');
is(texts($alice, $call), 'alone hello', '... each his own');
my $shown = listed($bruno, $call);
is_deeply([@$shown{qw(CollaborationId UnreadCount)}, $shown->{LastMessage}{Message}, exists $shown->{Members}],
    [$call, 1, 'hello', ''], 'the call is among the conversations, with what is unread');
is(answer(say_in($bruno, $call, 'what?', ReplyTo => $reply->{MessageId})), 'BAD_REQUEST',
    'what one does not see one cannot answer');
is(answer(say_in($laptop, $call, 'yes', ReplyTo => $hello->{MessageId})), 'OK',
    '... but what one does, from another device, too');
ok(hears($_, 'yes'), '... which the others get') for $alice, $bruno;

# --- a third one ------------------------------------------------------------

ask($alice, 'INVITE', $call, ToUserList => [3]);
is(answer(say_in($carla, $call, 'early')), 'CONFLICT ACTIVE', 'a third one has no say while it rings at her');
$alice->send_command('P_TYPING', CollaborationId => $call, State => 'STARTED');
my $typing = $bruno->expect_event('P_TYPING');
is_deeply([@$typing{qw(UserId CollaborationId ConversationId State)}], [1, $call, "c$call", 'STARTED'],
    'the others in it see who types');
ok(none_of($carla, 'P_TYPING'), '... at whom it rings does not');
$carla->send_command('P_TYPING', CollaborationId => $call, State => 'STARTED');
$dario->send_command('P_TYPING', CollaborationId => $call, State => 'STARTED');
is(answer($carla->next_reply), 'CONFLICT ACTIVE', '... nor does she type in it');
is(answer($dario->next_reply), 'NOT_FOUND', '... nor a stranger');
ok(none_of($bruno, 'P_TYPING'), '... and nobody sees them try');
ask($carla, 'ACCEPT', $call);
is(texts($carla, $call), '', 'she sees nothing of before');
my $three = say_in($bruno, $call, 'three');
ok(hears($_, 'three'), 'what is said then all get') for $alice, $carla;
is(texts($carla, $call), 'three', '... and it is all she has');
is(texts($carla, $call, After => '1'), 'three', '... from below, too');
is($carla->request('P_MARK_READ', ConversationId => "c$call", MessageId => $hello->{MessageId})->{Reason},
    'NOT_FOUND', 'what was said before she cannot ask for by its id');
is(listed($carla, $call)->{UnreadCount}, 1, 'one is unread');
is($carla->request('P_MARK_READ', ConversationId => "c$call", MessageId => $three->{MessageId})->{Reason},
    'OK', '... until it is read');
is(listed($carla, $call)->{UnreadCount}, 0, '... which counts');
my $receipt = $bruno->expect_event('P_RECEIPT', 10, sub ($r) { $r->{UserId} == 3 && $r->{ReadUpTo} ne '0' });
is_deeply([@$receipt{qw(ConversationId ReadUpTo)}], ["c$call", $three->{MessageId}], '... and the author is told');

# --- edits ------------------------------------------------------------------

is($alice->request('P_EDIT_MESSAGE', MessageId => $hello->{MessageId}, Message => 'hi')->{Reason}, 'OK',
    'what was said can be edited');
is($bruno->expect_event('P_EDIT_MESSAGE')->{Message}, 'hi', '... whoever heard it is told');
ok(none_of($carla, 'P_EDIT_MESSAGE'), '... who did not is not');
is($bruno->request('P_DELETE_MESSAGE', MessageId => $three->{MessageId})->{Reason}, 'OK', 'or taken back');
is($_->expect_event('P_DELETE_MESSAGE')->{CollaborationId}, $call, '... whoever heard it is told')
    for $alice, $carla;
is(texts($alice, $call), 'alone hi yes deleted', 'the history is what it is now');

# --- coming and going -------------------------------------------------------

my $kept = say_in($alice, $call, 'kept');
ok(hears($carla, 'kept'), 'she hears one more');
# Not in the millisecond of her leaving.
Parley::poll_until(5, sub { $alice->request('P_HEARTBEAT')->{ServerTime} > $kept->{ServerTime} + 5 });
ask($carla, 'LEAVE', $call);
my $without = say_in($alice, $call, 'without');
ok(none_of($carla, 'P_MESSAGE'), 'who has left gets nothing more');
is(texts($carla, $call), 'deleted kept', '... and sees what was said while she was there');
Parley::poll_until(5, sub { $alice->request('P_HEARTBEAT')->{ServerTime} > $without->{ServerTime} + 5 });
is($alice->request('P_EDIT_MESSAGE', MessageId => $kept->{MessageId}, Message => 'changed')->{Reason}, 'OK',
    'when that is edited then');
is(texts($carla, $call), 'deleted withheld', '... it is not said to her');
is(texts($bruno, $call), 'hi yes deleted changed without', '... but to who is there');
is(answer(say_in($carla, $call, 'still here?')), 'CONFLICT ACTIVE', '... and has no say any more');
ask($carla, 'ACCEPT', $call);
say_in($alice, $call, 'back');
ok(hears($carla, 'back'), 'who comes back gets what is said from then on');
is(texts($carla, $call), 'deleted withheld back', '... and sees both times without the gap');
is($carla->request('P_MARK_READ', ConversationId => "c$call", MessageId => $without->{MessageId})->{Reason},
    'NOT_FOUND', '... which she cannot ask for by its id');

$_->events_so_far('P_MESSAGE'), $_->{events}->@* = () for $bruno, $laptop;
$bruno->drop;
$alice->expect_event('P_COLLABORATION', 10, sub ($e) { $e->{Event} eq 'RECONNECTING' });
say_in($alice, $call, 'waiting');
is(answer(say_in($laptop, $call, 'soon')), 'OK', 'who is lost is still in it, and may write with another device');
$bruno = $server->client(2, DeviceId => 'phone');
my @missed = map { my $text = $_; $bruno->expect_event('P_MESSAGE', 10, sub ($m) { $m->{Message} eq $text }) } qw(waiting soon);
is($missed[1]{Seq}, $missed[0]{Seq} + 1, '... what was said meanwhile is in the inbox, without a hole');

# --- the end ----------------------------------------------------------------

my %last = (CollaborationId => $call, Message => 'bye', ClientMessageId => 'last');
my $bye  = $alice->request('P_SEND_MESSAGE', %last);
ask($alice, 'END', $call);
for my $who ($alice, $bruno, $carla) {
    is(answer(say_in($who, $call, 'late')), 'CONFLICT ENDED', 'nobody writes in a call that has ended');
}
is(answer(say_in($dario, $call, 'late')), 'NOT_FOUND', '... nor does a stranger learn of it');
my $again = $alice->request('P_SEND_MESSAGE', %last);
is_deeply([@$again{qw(Reason MessageId)}], ['DUPLICATE', $bye->{MessageId}], 'a retry of what was stored is known');
is(answer($alice->request('P_SEND_MESSAGE', %last, Message => 'other')), 'CONFLICT', '... another one is not');
is(answer($alice->request('P_SEND_MESSAGE', GroupId => $call, Message => 'bye', ClientMessageId => 'last')),
    'CONFLICT', '... nor one to a group of the same number');
is($alice->request('P_DELETE_MESSAGE', MessageId => $bye->{MessageId})->{Reason}, 'NOT_FOUND',
    'what was said stays as it is');
is(texts($alice, $call), 'alone hi yes deleted changed without back waiting soon bye', 'each keeps his part of it');
is(texts($carla, $call), 'deleted withheld back waiting soon bye', '... and no more');
is(texts($dario, $call), 'NOT_FOUND', '... a stranger nothing');
is(listed($carla, $call)->{UnreadCount}, 4, '... with what is unread');
my $silent = call_of($alice, 4);
ask($dario, 'ACCEPT', $silent);
ask($alice, 'END',    $silent);
is(texts($_, $silent), 'NOT_FOUND', 'a call in which nobody wrote has no history') for $alice, $dario;

# --- kills ------------------------------------------------------------------

$call = call_of($alice, 2);
ask($bruno, 'ACCEPT', $call);
$_->{events}->@* = () for $alice, $bruno;
my @wanted;
for my $victim (qw(keeper worker-0 keeper worker-1)) {
    my %say = (CollaborationId => $call, Message => "over-$victim-" . ++$serial, ClientMessageId => "k$serial");
    $alice->submit('P_SEND_MESSAGE', %say);
    $server->await_restart($victim, $server->kill9($victim));
    # A connection may have ended with the worker, and the test notice it late.
    my $stored = Parley::poll_until(20, sub {
        $alice = $server->client(1, DeviceId => 'desk')  if $alice->is_closed;
        $bruno = $server->client(2, DeviceId => 'phone') if $bruno->is_closed;
        return eval { $alice->request('P_SEND_MESSAGE', %say) };
    });
    like($stored->{Reason}, qr/\A(?:OK|DUPLICATE)\z/, "a retry after $victim was killed");
    push @wanted, $say{Message};
}
is(texts($_, $call), "@wanted", 'each is stored once, in order') for $alice, $bruno;
my %heard;
Parley::poll_until(10, sub {
    %heard = map { $_->{Message} => 1 } grep { ($_->{CollaborationId} // '') eq $call } $bruno->events_so_far('P_MESSAGE');
    return keys %heard == @wanted;
});
is_deeply([sort keys %heard], [sort @wanted], '... and arrives');
ask($alice, 'END', $call);

my ($code, $out, $error) = $server->ctl('check');
is($code, 0, 'every row of the store is sound') or diag($out, $error);
$server->finish;
done_testing;
