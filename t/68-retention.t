# What has grown old is gone, for clients too: pages, counts and lists end where
# the history does, nobody is left with a silent hole, and a keeper that is
# killed at it leaves a sound store.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

my $server = Parley->start(conf => {'store.map_size' => '4G'});
$server->add_users(1 .. 3);    # contacts of each other

sub retain (%change) {
    $server->set(map { ("store.$_" => $change{$_}) } keys %change);
    my ($code, undef, $error) = $server->ctl('reload');
    is($code, 0, join ', ', 'from now on', map { "$_ " . ($change{$_} // 'as ever') } sort keys %change)
        or diag $error;
    return;
}

sub keeper_says ($name) { return $server->metric("parley_$name", process => 'keeper') // -1 }

# The keeper looks from time to time: until it has seen that there is something,
# an old look says that all is gone.
sub await_seen () {
    Parley::poll_until(20, sub { keeper_says('history_bytes') > 0 }) or BAIL_OUT('the keeper sees no messages');
    return;
}

sub all_gone () {
    return Parley::poll_until(20, sub { keeper_says('history_bytes') == 0 });
}

sub conversations_of ($client) { return $client->request('P_GET_CONVERSATIONS')->{Conversations}->@* }
sub ids_of (@messages)         { return [map { $_->{MessageId} } @messages] }

my $alice = $server->client(1);
my $bruno = $server->client(2, DeviceId => 'phone');

# --- history ----------------------------------------------------------------

my @old = map { send_text($alice, [2], "old $_", ClientMessageId => "old-$_") } 1 .. 70;
my $conversation = $old[0]{ConversationId};
my @events       = take_messages($bruno, 70);
is((conversations_of($bruno))[0]{UnreadCount}, 70, 'nobody has read anything');
is($bruno->request('P_MARK_READ', ConversationId => $conversation, MessageId => $old[1]{MessageId})->{Reason},
    'OK', '... but two');

await_seen();
retain(history_retention => '1s');
ok(Parley::poll_until(10, sub { keeper_says('retention_held') == 2 }), 'what waits in an inbox holds the history');
is(keeper_says('retention_messages_total'), 0, '... all of it');
$bruno->send_command('P_ACK', Seq => $events[-1]{Seq});
ok(all_gone(), 'acknowledged, it goes when it is old');
retain(history_retention => undef);

my $page = $bruno->request('P_GET_MESSAGES', UserId => 1);
is_deeply([$page->{Reason}, $page->{Messages}, $page->{HasMore}], ['OK', [], Mojo::JSON->false], 'an empty page');
is_deeply([conversations_of($bruno)], [], 'a conversation without messages is not in the list');
is($bruno->request('P_MARK_READ', ConversationId => $conversation, MessageId => $old[-1]{MessageId})->{Reason},
    'NOT_FOUND', 'what is gone cannot be read');
is($bruno->request('P_MARK_READ', ConversationId => $conversation, MessageId => $old[1]{MessageId})->{Reason},
    'OK', '... but what had been read was');
is(send_text($alice, [2], 'hm', ReplyTo => $old[-1]{MessageId})->{Reason}, 'BAD_REQUEST', '... nor answered');
for my $n (70, 69, 65, 1) {
    my $again = send_text($alice, [2], "old $n", ClientMessageId => "old-$n");
    is_deeply([$again->@{qw(Reason MessageId)}], ['DUPLICATE', $old[$n - 1]{MessageId}], "... but a retry of $n is known");
}

my @new = map { send_text($alice, [2], "new $_") } 1 .. 5;
is($new[0]{ConversationId}, $conversation, 'the conversation goes on');
my ($listed) = conversations_of($bruno);
is($listed->{LastMessage}{Message}, 'new 5', '... is in the list again');
is($listed->{UnreadCount}, 5, '... and counts what is there');
take_messages($bruno, 5);

my $first = $bruno->request('P_GET_MESSAGES', ConversationId => $conversation, Limit => 3);
is_deeply(ids_of($first->{Messages}->@*), ids_of(reverse @new[2 .. 4]), 'the newest page');
ok($first->{HasMore}, '... and there is more');
my $second = $bruno->request('P_GET_MESSAGES', ConversationId => $conversation, Limit => 3,
    Before => $first->{Messages}[-1]{MessageId});
is_deeply(ids_of($second->{Messages}->@*), ids_of(reverse @new[0 .. 1]), 'the oldest one');
ok(!$second->{HasMore}, '... is the last');
my $third = $bruno->request('P_GET_MESSAGES', ConversationId => $conversation, Before => $new[0]{MessageId});
is_deeply([$third->{Reason}, $third->{Messages}], ['OK', []], 'before it there is nothing');
my $after = $bruno->request('P_GET_MESSAGES', ConversationId => $conversation, After => $old[3]{MessageId});
is_deeply(ids_of($after->{Messages}->@*), ids_of(@new), 'after one that is gone come those that are there');

# --- a group ----------------------------------------------------------------

my $group = $alice->request('P_CREATE_GROUP', Name => 'Tea', Members => [2], ClientGroupId => 'tea')->{GroupId};
ok($group, 'a group');
my @said = map {
    $alice->request('P_SEND_MESSAGE', GroupId => $group, Message => "tea $_", ClientMessageId => "tea-$_")
} 1 .. 3;
my @heard = take_messages($bruno, 3);
sub tea () { return (grep { ($_->{GroupId} // '') eq $group } conversations_of($bruno))[0] }
is(tea()->{UnreadCount}, 3, '... in which nothing is read');
$bruno->send_command('P_ACK', Seq => $heard[-1]{Seq});
await_seen();
retain(history_retention => '1s');
ok(all_gone(), '... nor anything left');
retain(history_retention => undef);
is(tea()->{UnreadCount}, 0, '... which then counts nothing');
ok(!tea()->{LastMessage}, '... shows nothing');
is_deeply($bruno->request('P_GET_MESSAGES', ConversationId => $said[0]{ConversationId})->{Messages}, [],
    '... has an empty page');
is($alice->request('P_SEND_MESSAGE', GroupId => $group, Message => 'again', ClientMessageId => 'tea-4')->{Reason},
    'OK', '... and goes on');
is(tea()->{UnreadCount}, 1, '... from there');
$bruno->send_command('P_ACK', Seq => $bruno->expect_event('P_MESSAGE')->{Seq});

# --- inbox ------------------------------------------------------------------

settle($bruno);
$bruno->request('P_LOGOUT');
my @missed = map { send_text($alice, [2], "missed $_") } 1 .. 4;
retain(inbox_retention => '1s');
ok(Parley::poll_until(20, sub { keeper_says('retention_events_total') >= 4 }), 'who does not come loses events by age');
retain(inbox_retention => undef);

$bruno = $server->client(2, DeviceId => 'phone');
my $login = $bruno->session;
ok(!$login->{Recovered}, '... and is told so');
is($login->{FirstSeq}, $login->{LastSeq} + 1, '... where the inbox begins');
ok(none_of($bruno, 'P_MESSAGE'), '... gets none of them');
is_deeply(ids_of($bruno->request('P_GET_MESSAGES', UserId => 1, Limit => 4)->{Messages}->@*), ids_of(reverse @missed),
    '... and finds them in the history');
my $seq = $login->{LastSeq};
send_text($alice, [2], 'after it');
is($bruno->expect_event('P_MESSAGE')->{Seq}, $seq + 1, 'the next event is the next one');
$bruno->close;
$bruno = $server->client(2, DeviceId => 'phone', LastSeq => $seq);
ok($bruno->session->{Recovered}, '... and from there nothing is missing');

$bruno->send_command('P_ACK', Seq => $bruno->expect_event('P_MESSAGE')->{Seq});

# --- calls ------------------------------------------------------------------

sub past_calls () {
    return $alice->request('P_GET_COLLABORATION_HISTORY')->{Collaborations}->@*;
}

sub call_bruno ($name) {
    my $call = $alice->request('P_COLLABORATION_CREATE', ToUserList => [2], Kind => 'AUDIO',
        ClientCollaborationId => $name)->{CollaborationId};
    return $call;
}

my $over = call_bruno('over');
is($alice->request('P_COLLABORATION_CANCEL', CollaborationId => $over)->{Reason}, 'OK', 'a call is over');
my $open = call_bruno('open');
is_deeply([map { $_->{CollaborationId} } past_calls()], [$over], '... and in the history');
retain(call_retention => '1s');
ok(Parley::poll_until(20, sub { !past_calls() }), 'it leaves the history when it is old');
is($alice->request('P_COLLABORATION_CANCEL', CollaborationId => $open)->{Reason}, 'OK', '... one that is open does not');
ok(Parley::poll_until(20, sub { keeper_says('retention_calls_total') == 2 }), '... before it has ended');
retain(call_retention => undef);
$bruno->send_command('P_ACK', Seq => $bruno->expect_event('P_COLLABORATION_OUTCOME')->{Seq}) for 1 .. 2;
$alice->send_command('P_ACK', Seq => $alice->expect_event('P_COLLABORATION_OUTCOME')->{Seq}) for 1 .. 2;

# --- what was said in a call ------------------------------------------------

sub ack_all ($client) {
    settle($client);
    my ($last) = sort { $b <=> $a } map { $_->{Seq} // 0 } $client->{events}->@*;
    $client->send_command('P_ACK', Seq => $last);
    $client->{events}->@* = ();
    return;
}

sub spoken ($name) {
    my $call = call_bruno($name);
    $bruno->request('P_COLLABORATION_ACCEPT', CollaborationId => $call);
    $alice->request('P_SEND_MESSAGE', CollaborationId => $call, Message => "$name $_", ClientMessageId => "$name-$_")
        for 1 .. 70;
    $alice->request('P_COLLABORATION_END', CollaborationId => $call);
    ack_all($_) for $alice, $bruno;
    await_seen();
    return $call;
}

sub heard ($call) {
    my $reply = $bruno->request('P_GET_MESSAGES', ConversationId => "c$call", Limit => 200);
    return join ' ', $reply->{Reason}, scalar(($reply->{Messages} // [])->@*),
        scalar grep { $_->{ConversationId} eq "c$call" } conversations_of($bruno);
}

my $first_call = spoken('first');
retain(call_retention => '1s');
ok(Parley::poll_until(20, sub { !past_calls() }), 'a call in which they wrote leaves the history');
is(heard($first_call), 'OK 70 1', '... what they wrote does not');
retain(call_retention => undef, history_retention => '1s');
ok(all_gone(), '... until it is old, too');
is(heard($first_call), 'NOT_FOUND 0 0', '... then nothing is left of it');
retain(history_retention => undef);
my $second_call = spoken('second');
retain(history_retention => '1s');
ok(all_gone(), 'or what they wrote goes first');
is(heard($second_call), 'OK 0 0', '... and leaves an empty page');
is_deeply([map { $_->{CollaborationId} } past_calls()], [$second_call], '... of a call that is there');
retain(history_retention => undef, call_retention => '1s');
ok(Parley::poll_until(20, sub { !past_calls() }), '... until it goes, too');
is(heard($second_call), 'NOT_FOUND 0 0', '... with all that was left');
retain(call_retention => undef);
my ($code, $out, $error) = $server->ctl('check');
is($code, 0, 'every row of the store is sound') or diag($out, $error);

# --- kills ------------------------------------------------------------------

retain(history_retention => '1s');
my $load   = Parley::Fault->load($server);
my $rounds = fault_rounds(2, 200);
my $kills  = 0;
for my $n (1 .. $rounds) {
    my $gone = keeper_says('retention_messages_total');
    Parley::poll_until(20, sub { my $now = keeper_says('retention_messages_total'); $now > $gone || $now < 0 }) or last;
    $server->await_restart('keeper', $server->kill9('keeper'));
    $load->await_messages(20) or last;
    $kills++;
}
is($kills, $rounds, "$rounds kills of a keeper that deletes");
$load->finish('killed while it deleted');
ok(all_gone(), 'the rest goes, too');

$server->finish;
done_testing;
