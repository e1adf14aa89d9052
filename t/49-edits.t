# A message is edited and deleted by its sender: everybody who has it is told
# once, in order; whoever reads later sees it as it is now; of what was deleted
# nothing is left.
use v5.36;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Story;
use Test::More;

my $server = Parley->start(conf => {
    'policy.edit_window'         => '1h',
    'policy.may_message'         => 'anyone',
    'directory.rehearse_outbox'  => 'yes',
});
$server->add_users(1 .. 4);
my $bruno  = client_on($server, 'worker-1', 2);
my $tablet = $server->client(2, DeviceId => 'tablet');
$tablet->drop;
my $alice = client_on($server, 'worker-0', 1);
my $carla = client_on($server, 'worker-0', 3);

sub edit ($client, $id, $text)  { return $client->request('P_EDIT_MESSAGE', MessageId => $id, Message => $text) }
sub take_back ($client, $id)    { return $client->request('P_DELETE_MESSAGE', MessageId => $id) }
sub history ($client, $with)    { return $client->request('P_GET_MESSAGES', UserId => $with)->{Messages}->@* }
sub conversation ($client, $id) {
    my ($found) = grep { $_->{ConversationId} eq $id } $client->request('P_GET_CONVERSATIONS')->{Conversations}->@*;
    return $found;
}

# --- an edit ----------------------------------------------------------------

my %first = (ClientMessageId => 'first', Type => 'text/x-note', ClientInitiationTime => 1_700_000_000_123,
    Attachment => {Url => 'https://files.example/1', Name => 'plan.pdf', Size => 12345, MimeType => 'application/pdf'});
my $sent = send_text($alice, [2], 'um zwölf', %first);
take_messages($bruno, 1);
my $reply = edit($alice, $sent->{MessageId}, 'um dreizehn Uhr');
my $time  = $reply->{EditTime};
is_deeply($reply, {Command => 'P_EDIT_MESSAGE', RequestId => $reply->{RequestId}, Reason => 'OK', EditTime => $time,
    $sent->%{qw(MessageId ConversationId ServerTime)}}, 'a message is edited; with one device that takes no Seq');
cmp_ok($time, '>=', $sent->{ServerTime}, '... later than it was sent');
my $event = $bruno->expect_event('P_EDIT_MESSAGE');
my %shown = (
    $sent->%{qw(MessageId ConversationId ServerTime)},
    Members => [1, 2],
    FromUser => {UserId => 1, Name => 'User 1'},
    Message  => 'um dreizehn Uhr',
    EditTime => $time,
    %first{qw(Type ClientInitiationTime Attachment)},
);
is_deeply($event, {Command => 'P_EDIT_MESSAGE', Seq => $bruno->session->{LastSeq} + 2, %shown},
    'the other one gets the whole message anew, with a Seq; what belongs to it stays');
ok(none_of($carla, 'P_EDIT_MESSAGE'), 'nobody else does');
is_deeply((history($bruno, 1))[0], \%shown, 'in the history is the new text');
is_deeply(conversation($bruno, '1-2')->{LastMessage}, \%shown, '... and in the list of conversations');
is_deeply([(history($alice, 2))[0]->@{qw(Message ClientMessageId)}], ['um dreizehn Uhr', 'first'],
    'the author sees his own id with it');
$reply = edit($alice, $sent->{MessageId}, 'um dreizehn Uhr');
is_deeply([@$reply{qw(Reason EditTime Seq)}], ['OK', $time, undef], 'the same again: OK, and nothing new');
ok(none_of($bruno, 'P_EDIT_MESSAGE'), '... nobody is told twice');
$reply = edit($alice, send_text($alice, [2], 'as it is')->{MessageId}, 'as it is');
is_deeply([@$reply{qw(Reason EditTime)}], ['OK', undef], 'what changes nothing is no edit');
take_messages($bruno, 1);

# --- what was sent stays known --------------------------------------------------

my @same = ([2], 'um zwölf', %first);
is_deeply([send_text($alice, @same)->@{qw(Reason MessageId)}], ['DUPLICATE', $sent->{MessageId}],
    'a retry of the send is known, though the text is another one');
is(send_text($alice, [2], 'um dreizehn Uhr', %first)->{Reason}, 'CONFLICT', '... and the new text is not what was sent');

# --- several devices -------------------------------------------------------------

my $phone = client_on($server, 'worker-1', 1, DeviceId => 'phone');
my $head  = $phone->session->{LastSeq};
$reply = edit($alice, $sent->{MessageId}, 'um vierzehn Uhr');
is($reply->{Seq}, $head + 1, 'with another device the reply carries a Seq');
$event = $phone->expect_event('P_EDIT_MESSAGE');
is_deeply([@$event{qw(Seq Message ClientMessageId)}], [$head + 1, 'um vierzehn Uhr', 'first'], '... which gets the event');
ok(none_of($alice, 'P_EDIT_MESSAGE'), '... and the one that did it has the reply instead');
is($bruno->expect_event('P_EDIT_MESSAGE')->{Message}, 'um vierzehn Uhr', 'the other one has it');
my $mine = send_text($phone, [2], 'from my phone');
take_messages($_, 1) for $alice, $bruno;
is(edit($alice, $mine->{MessageId}, 'from my desk')->{Reason}, 'OK', 'a message of one device is edited on the other');
is($phone->expect_event('P_EDIT_MESSAGE')->{Message}, 'from my desk', '... which is told');
$bruno->expect_event('P_EDIT_MESSAGE');

# Sends, edits and deletions, faster than they are answered.
my @ids = map { send_text($alice, [2], "piece $_")->{MessageId} } 0 .. 19;
$_->request('P_HEARTBEAT') for $phone, $bruno;
my $top  = (take_messages($phone, 20))[-1]{Seq};
take_messages($bruno, 20);
my @asked;
for my $n (0 .. 119) {
    my $id = $ids[$n % 20];
    push @asked, $n % 3 == 0 ? $alice->submit('P_SEND_MESSAGE', ToUserList => [2], Message => "m $n", ClientMessageId => "o-$n")
        : $n < 60 ? $alice->submit('P_EDIT_MESSAGE', MessageId => $id, Message => "edit $n")
        :           $alice->submit('P_DELETE_MESSAGE', MessageId => $id);
}
my %asked = map { $_ => 1 } @asked;
Parley::poll_until(10, sub { @asked == grep { $asked{$_->{RequestId} // ''} } $alice->{replies}->@* });
my @replies = grep { $asked{$_->{RequestId} // ''} } $alice->{replies}->@*;
my %seen;
my @changed = grep { !($_->{Deleted} && $seen{$_->{MessageId}}++) } @replies;    # the second deletion of the same
is_deeply([map { $_->{RequestId} } @replies], \@asked, 'each is answered, in order');
is_deeply(seqs_of(@changed), [$top + 1 .. $top + @changed], '... with a Seq each, without a gap')
    or diag explain [map { [@$_{qw(Command Reason Seq)}] } @replies];
my @events = map { my $seq = $_; Parley::poll_until(10, sub { (grep { ($_->{Seq} // 0) == $seq } $phone->{events}->@*)[0] }) }
    $top + 1 .. $top + @changed;
is_deeply([map { "$_->{Command} $_->{MessageId}" } @events],
    [map { ($_->{Command} =~ s/P_SEND_/P_/r) . " $_->{MessageId}" } @changed], '... the other device gets the same, in order');
$alice->{replies} = [];
$_->{events} = [] for $alice, $phone;
settle($bruno);
$bruno->{events} = [];

# --- a deletion ------------------------------------------------------------------

my $secret = 'Diagnose-' . join '', map { chr 97 + int rand 26 } 1 .. 20;
my $gone   = send_text($alice, [2], "$secret in a few words", Type => $secret, Attachment => {Url => "https://x/$secret", Name => $secret});
my $large  = send_text($alice, [2], $secret x 1000);
my $middle = send_text($alice, [2], $secret x 60);
my $answer = send_text($bruno, [1], 'I see', ReplyTo => $gone->{MessageId});
take_messages($bruno, 3);
take_messages($alice, 1);
take_messages($phone, 4);
my $unread = conversation($bruno, '1-2')->{UnreadCount};
$reply = take_back($alice, $gone->{MessageId});
$time  = $reply->{DeleteTime};
ok($reply->{Seq}, 'a deletion has a Seq');
is_deeply([@$reply{qw(Reason MessageId Deleted EditTime)}], ['OK', $gone->{MessageId}, Mojo::JSON->true, undef], '... and is told');
$event = $bruno->expect_event('P_DELETE_MESSAGE');
my %tombstone = ($gone->%{qw(MessageId ConversationId ServerTime)}, Members => [1, 2],
    FromUser => {UserId => 1, Name => 'User 1'}, Deleted => Mojo::JSON->true, DeleteTime => $time);
is_deeply($event, {Command => 'P_DELETE_MESSAGE', Seq => $event->{Seq}, %tombstone}, 'the other one is told which, and by whom');
is($phone->expect_event('P_DELETE_MESSAGE')->{MessageId}, $gone->{MessageId}, 'so is the other device');
my @page = history($bruno, 1);
is_deeply($page[3], \%tombstone, 'in the history is a tombstone in its place');
is_deeply([@{$page[0]}{qw(Message ReplyTo)}], ['I see', $gone->{MessageId}], '... and what answered it');
is(conversation($bruno, '1-2')->{UnreadCount}, $unread, 'what was unread still is');
$reply = take_back($alice, $gone->{MessageId});
is_deeply([@$reply{qw(Reason DeleteTime Seq)}], ['OK', $time, undef], 'again: OK, and nothing new');
is(edit($alice, $gone->{MessageId}, 'back')->{Reason}, 'CONFLICT', 'what was deleted is not edited any more');
is(send_text($alice, [2], 'late', ReplyTo => $gone->{MessageId})->{Reason}, 'OK', '... but may be answered');
is(take_back($alice, $_->{MessageId})->{Reason}, 'OK', 'a long one is deleted') for $large, $middle;
is(take_back($bruno, $answer->{MessageId})->{Reason}, 'OK', 'the other one deletes his');
is(conversation($bruno, '1-2')->{LastMessage}{Message}, 'late', 'the list goes on with the last message');
is(take_back($alice, conversation($bruno, '1-2')->{LastMessage}{MessageId})->{Reason}, 'OK', '... and that, too');
is_deeply([conversation($bruno, '1-2')->{LastMessage}->@{qw(Deleted Message)}], [Mojo::JSON->true, undef], '... shows as deleted');
ok(none_of($bruno, 'P_DELETE_MESSAGE', sub ($e) { ($e->{Message} // '') ne '' || exists $e->{Type} }), 'no event has a text');

# --- what is not one's own ----------------------------------------------------------

my $foreign = send_text($carla, [2], 'Carla to Bruno');
my %wrong   = ('of the other one' => [$bruno, $sent->{MessageId}], 'of others' => [$alice, $foreign->{MessageId}],
    'that never was' => [$alice, '' . ($sent->{MessageId} + 1)], 'far away' => [$alice, '9223372036854775807']);
for my $name (sort keys %wrong) {
    my ($who, $id) = $wrong{$name}->@*;
    is_deeply([edit($who, $id, 'mine now')->@{qw(Reason Message)}],
        ['NOT_FOUND', 'MessageId: there is no such message of yours'], "a message $name cannot be edited");
    is(take_back($who, $id)->{Reason}, 'NOT_FOUND', '... or deleted');
}
is((history($carla, 2))[0]{Message}, 'Carla to Bruno', '... and nothing was');

# --- among many, and blocked ------------------------------------------------------------

$_->{events} = [] for $alice, $bruno, $carla, $phone;
my $many = send_text($alice, [2, 3], 'to both');
take_messages($_, 1) for $bruno, $carla;
edit($alice, $many->{MessageId}, 'to both of you');
is_deeply([map { $_->expect_event('P_EDIT_MESSAGE')->@{qw(Message Members)} } $bruno, $carla],
    [('to both of you', [1, 2, 3]) x 2], 'each member gets it');
my $before = send_text($alice, [3], 'before the block');
take_messages($carla, 1);
is($carla->request('P_BLOCK', UserId => 1)->{Reason}, 'OK', 'Carla blocks Alice');
is(edit($alice, $before->{MessageId}, 'can you read this?')->{Reason}, 'NOT_FOUND', '... who gets no word through by an edit');
ok(none_of($carla, 'P_EDIT_MESSAGE'), '... Carla sees nothing');
is(take_back($alice, $before->{MessageId})->{Reason}, 'OK', 'to take words back is possible');
is($carla->expect_event('P_DELETE_MESSAGE')->{MessageId}, $before->{MessageId}, '... and told');
$carla->request('P_UNBLOCK', UserId => 1);

# --- in a group -----------------------------------------------------------------------

my $group = $alice->request('P_CREATE_GROUP', Name => 'Ward', Members => [2, 3], ClientGroupId => 'ward')->{GroupId};
my %to    = (GroupId => $group, ClientMessageId => 'to-the-ward');
my $round = $alice->request('P_SEND_MESSAGE', %to, Message => 'round at eight');
take_messages($_, 1) for $bruno, $carla;
is($alice->request('P_UPDATE_GROUP', GroupId => $group, Remove => [3])->{Reason}, 'OK', 'Carla leaves a group');
$alice->request('P_UPDATE_GROUP', GroupId => $group, Add => [4]);
my $dora = $server->client(4);
is(edit($alice, $round->{MessageId}, 'round at nine')->{Reason}, 'OK', 'a message to it is edited');
$event = $bruno->expect_event('P_EDIT_MESSAGE');
is_deeply([@$event{qw(Message GroupId Members)}], ['round at nine', $group, undef], '... who is in it gets it');
ok(none_of($carla, 'P_EDIT_MESSAGE'), '... who has left does not');
ok(none_of($dora,  'P_EDIT_MESSAGE'), '... nor who was not there when it was written');
is(take_back($alice, $round->{MessageId})->{Reason}, 'OK', 'it is deleted');
is($bruno->expect_event('P_DELETE_MESSAGE')->{GroupId}, $group, '... who is in it is told');
my ($last) = $carla->request('P_GET_MESSAGES', ConversationId => "g$group")->{Messages}->@*;
is_deeply([@$last{qw(MessageId Deleted Message)}], [$round->{MessageId}, Mojo::JSON->true, undef],
    '... who has left reads no text of it any more');
# What was edited after one has left was not said to him: not in the inbox, the
# history or the list. With a break between, in which he is not there.
$server->add_users(5);
my $emil = $server->client(5, DeviceId => 'emil');
$emil->drop;
is($alice->request('P_UPDATE_GROUP', GroupId => $group, Add => [5])->{Reason}, 'OK', 'Emil comes into it');
my ($then, $kept, $newest) = map {
    $alice->request('P_SEND_MESSAGE', GroupId => $group, ClientMessageId => "emil-$_", Message => "said $_",
        Attachment => {Url => 'https://files.example/2', Name => 'a', Size => 1, MimeType => 'text/plain'})
} 1 .. 3;
is(edit($alice, $kept->{MessageId}, 'said to Emil')->{Reason}, 'OK', '... reads an edit');
# Not in the millisecond of his leaving.
Parley::poll_until(5, sub { $alice->request('P_HEARTBEAT')->{ServerTime} > $newest->{ServerTime} + 5 });
is($alice->request('P_UPDATE_GROUP', GroupId => $group, Remove => [5])->{Reason}, 'OK', '... and is taken out');
is(edit($alice, $_->{MessageId}, 'not for Emil')->{Reason}, 'OK', '... then messages of his time are edited') for $then, $newest;
$emil = $server->client(5, DeviceId => 'emil');
Parley::poll_until(10, sub { grep { ($_->{Seq} // 0) == $emil->session->{LastSeq} } $emil->{events}->@* });
my @of_emil = map { [@$_{qw(MessageId Message Type)}, !!$_->{Attachment}, !!$_->{EditTime}] }
    grep { $_->{Command} =~ /MESSAGE/ } $emil->{events}->@*;
$emil->{events} = [];
my %withheld = map { $_ => [$_->{MessageId}, undef, undef, '', 1] } $then, $newest;
my $legible = [$kept->{MessageId}, 'said to Emil', 'text', 1, 1];
is_deeply(\@of_emil, [$withheld{$then}, $legible, $withheld{$newest}, $legible],
    '... their new text is in none of his events, but in what was edited before');
my @read = map { [@$_{qw(MessageId Message Type)}, !!$_->{Attachment}, !!$_->{EditTime}] }
    $emil->request('P_GET_MESSAGES', ConversationId => "g$group")->{Messages}->@*;
is_deeply(\@read, [$withheld{$newest}, $legible, $withheld{$then}], '... nor in the history');
is_deeply([conversation($emil, "g$group")->{LastMessage}->@{qw(MessageId Message Type Attachment)}],
    [$newest->{MessageId}, undef, undef, undef], '... nor in the list of conversations');
is((take_messages($bruno, 3))[0]{Message}, 'said 1', 'who stays has them');
is($bruno->expect_event('P_EDIT_MESSAGE')->{Message}, $_, '... and each edit') for 'said to Emil', ('not for Emil') x 2;
is($alice->request('P_UPDATE_GROUP', GroupId => $group, Add => [5])->{Reason}, 'OK', 'Emil comes back');
is(edit($alice, $then->{MessageId}, 'said with Emil')->{Reason}, 'OK', '... and an edit while he is there');
is($emil->expect_event('P_EDIT_MESSAGE')->{Message}, 'said with Emil', '... he gets');
is_deeply([map { $_->{Message} } $emil->request('P_GET_MESSAGES', ConversationId => "g$group")->{Messages}->@*],
    [undef, 'said to Emil', 'said with Emil'], '... and reads later; what was before still is not his');
$bruno->expect_event('P_EDIT_MESSAGE');
$emil->close;
my $word = $bruno->request('P_SEND_MESSAGE', GroupId => $group, ClientMessageId => 'b', Message => 'bye');
is($bruno->request('P_LEAVE_GROUP', GroupId => $group)->{Reason}, 'OK', 'Bruno leaves, too');
is(edit($bruno, $word->{MessageId}, 'hello again')->{Reason}, 'NOT_FOUND', '... and changes nothing there any more');

# --- a device that was away ----------------------------------------------------------------

$tablet = $server->client(2, DeviceId => 'tablet');
my $end = $tablet->session->{LastSeq};
Parley::poll_until(10, sub { grep { ($_->{Seq} // 0) == $end } $tablet->{events}->@* });
my @backlog = grep { exists $_->{Seq} } $tablet->{events}->@*;
is_deeply([map { $_->{Seq} } @backlog], [$backlog[0]{Seq} .. $tablet->session->{LastSeq}], 'it gets every Seq');
my ($old) = grep { ($_->{MessageId} // "") eq $sent->{MessageId} } @backlog;
is_deeply([@$old{qw(Command Message)}, !!$old->{EditTime}], ['P_MESSAGE', 'um vierzehn Uhr', 1], 'a message as it is now, not as it was');
is_deeply([map { $_->{Message} } grep { $_->{Command} eq 'P_EDIT_MESSAGE' && $_->{MessageId} eq $sent->{MessageId} } @backlog],
    [('um vierzehn Uhr') x 2], '... so its edits');
is_deeply([map { [@$_{qw(Command Deleted Message)}] } grep { ($_->{MessageId} // "") eq $gone->{MessageId} } @backlog],
    [map { [$_, Mojo::JSON->true, undef] } qw(P_MESSAGE P_DELETE_MESSAGE)], 'a deleted one has no text in any of its events');
ok(!(grep { Mojo::JSON::encode_json($_) =~ /\Q$secret\E/ } @backlog), '... nowhere');
$tablet->close;

# --- kills -------------------------------------------------------------------------------------

$phone->request('P_LOGOUT', Forget => \1);
$_->{events} = [] for $alice, $bruno;
my $fragile = send_text($alice, [2], 'before the kill');
take_messages($bruno, 1);
my $keeper = $server->pids->{keeper};
kill STOP => $keeper;
my $id = $alice->submit('P_EDIT_MESSAGE', MessageId => $fragile->{MessageId}, Message => 'after the kill');
$alice->request('P_HEARTBEAT');
kill KILL => $keeper;
$server->await_restart('keeper', $keeper);
is($alice->wait_reply($id, 'reply', 20)->{Reason}, 'OK', 'an edit outlives the keeper');
is($bruno->expect_event('P_EDIT_MESSAGE')->{Message}, 'after the kill', '... and arrives');

$keeper = $server->pids->{keeper};
kill STOP => $keeper;
$alice->submit('P_DELETE_MESSAGE', MessageId => $fragile->{MessageId});
$alice->request('P_HEARTBEAT');
my $worker = $server->kill9('worker-0');
kill CONT => $keeper;
$server->await_restart('worker-0', $worker);
$alice = $server->client(1);
is(take_back($alice, $fragile->{MessageId})->{Reason}, 'OK', 'a deletion whose worker died is asked for again');
is($bruno->expect_event('P_DELETE_MESSAGE')->{MessageId}, $fragile->{MessageId}, '... and told');
ok(none_of($bruno, 'P_DELETE_MESSAGE'), '... once');
is(send_text($alice, @same)->{Reason}, 'DUPLICATE', 'after all that the first send is known');

# --- the window ------------------------------------------------------------------------------------

my $late = send_text($alice, [2], 'in time');
$server->set('policy.edit_window' => '1s');
is(($server->ctl('reload'))[0], 0, 'a window of a second');
my $n = 0;
Parley::poll_until(10, sub { ($reply = edit($alice, $late->{MessageId}, 'try ' . ++$n))->{Reason} ne 'OK' });
is_deeply([@$reply{qw(Reason Message)}], ['FORBIDDEN', 'MessageId: the time in which it could be changed is over'], '... passes');
is(take_back($alice, $late->{MessageId})->{Reason}, 'FORBIDDEN', '... for deleting as well');
--$n;
is(edit($alice, $late->{MessageId}, $n ? "try $n" : 'in time')->{Reason}, 'OK', 'a retry of what was done in time is none too late');
$server->set('policy.edit_window' => 0);
$server->ctl('reload');
Parley::poll_until(10, sub { edit($alice, send_text($alice, [2], 'new')->{MessageId}, 'old')->{Reason} eq 'FORBIDDEN' });
is(edit($alice, send_text($alice, [2], 'new')->{MessageId}, 'old')->{Reason}, 'FORBIDDEN', 'without a window nothing is changed');

# --- what is left --------------------------------------------------------------------------------------

my ($edited, $deleted) = map { $server->metric("parley_messages_${_}_total") } qw(edited deleted);
cmp_ok($edited,  '>', 5, 'edits are counted');
cmp_ok($deleted, '>', 5, '... and deletions');
is(($server->ctl('check'))[0], 0, 'every row is sound');
is(($server->ctl('backup', '--compact', $server->dir . '/copy'))[0], 0, 'a compact backup');
unlike(Parley::slurp($server->dir . '/copy/main.mdb'), qr/\Q$secret\E/, '... has nothing of what was deleted');
is($server->stop, 0, 'it stops');
my ($line) = reverse grep {/ rehearsal-over /} split /\n/, $server->log_text;
my %told = $line =~ /(\w+)=(\d+)/g;
cmp_ok($told{edits},   '>', 5, 'a database would be told of edits');
cmp_ok($told{deletes}, '>', 5, '... and of deletions');
unlike($server->log_text, qr/\Q$secret\E/, 'in the log it never was');
$server->finish;
done_testing;
