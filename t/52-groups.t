# Groups: made once, changed by those who may, and each member sees what was
# said while he was there - live, from the inbox, and as history.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Story;
use Test::More;

my $server = Parley->start(conf => {'policy.max_group_size' => 6});
$server->add_users(1 .. 6);
$server->ctl('user', 'add', $_, "User $_") for 7, 8;

my %client = map { $_ => client_on($server, 'worker-' . $_ % 2, $_) } 1 .. 6;
my ($alice, $bruno, $carla, $dario) = @client{1 .. 4};
my $number = 0;

sub say_in ($client, $group, $text, %more) {
    return $client->request('P_SEND_MESSAGE', GroupId => $group, Message => $text,
        ClientMessageId => 'm' . ++$number, %more);
}

sub change ($client, $group, %fields) {
    return $client->request('P_UPDATE_GROUP', GroupId => $group, %fields);
}

sub texts ($client, $group, %more) {
    my $reply = $client->request('P_GET_MESSAGES', ConversationId => "g$group", Limit => 200, %more);
    return $reply->{Reason} if $reply->{Reason} ne 'OK';
    return join ' ', map { $_->{Message} } reverse $reply->{Messages}->@*;
}

sub members ($client, $group) {
    my $reply = $client->request('P_GET_GROUPS', GroupId => $group);
    return $reply->{Reason} if $reply->{Reason} ne 'OK';
    return join ' ', map {"$_->{UserId}:$_->{Role}"} $reply->{Members}->@*;
}

sub forget_events (@clients) {
    $_->events_so_far('P_GROUP'), $_->{events}->@* = () for @clients;
    return;
}

# --- making one ---------------------------------------------------------------

my %wish = (Name => 'Team Süd', Members => [2, 3, 2, 1], ClientGroupId => 'south');
my $made = $alice->request('P_CREATE_GROUP', %wish);
is($made->{Reason}, 'OK', 'a group is made');
my $group = $made->{GroupId};
like($group, qr/\A[1-9]\d*\z/, '... its id is decimal, as a string');
is($made->{ConversationId}, "g$group", '... and names its conversation');
ok(!exists $made->{Seq}, '... whoever has one device takes no Seq for it');
for my $who ($bruno, $carla) {
    my $event = $who->expect_event('P_GROUP');
    is_deeply(
        $event,
        {
            Command => 'P_GROUP', Seq => $who->session->{LastSeq} + 1, GroupId => $group,
            ConversationId => "g$group", Event => 'CREATED', UserId => 1, Name => 'Team Süd',
            OwnerId => 1, MemberCount => 3, Added => [1, 2, 3], ServerTime => $made->{ServerTime},
        },
        '... and its members are told, with a Seq'
    );
}
is(scalar $alice->events_so_far('P_GROUP'), 0, '... the reply stands for the event of who made it');
is(scalar $dario->events_so_far('P_GROUP'), 0, '... nobody else is told');

my $again = $alice->request('P_CREATE_GROUP', %wish);
is("$again->{Reason} $again->{GroupId}", "DUPLICATE $group", 'a retry gives the same group');
is($bruno->events_so_far('P_GROUP') + 0, 0, '... and is told to nobody');
is($alice->request('P_CREATE_GROUP', %wish, Name => 'Other')->{Reason}, 'CONFLICT',
    'the same ClientGroupId for another group is a conflict');
my $other = $bruno->request('P_CREATE_GROUP', %wish, Members => [3]);
is($other->{Reason}, 'OK', '... but not of another user');
isnt($other->{GroupId}, $group, '... who gets a group of his own');

my $strange = $alice->request('P_CREATE_GROUP', Name => 'n', Members => [2, 7, 8, 99], ClientGroupId => 'x');
is($strange->{Reason}, 'NOT_FOUND', 'whom one may not write to one cannot bring in');
is_deeply($strange->{UserIds}, [7, 8, 99], '... each is named, whether he exists or not');
is($alice->request('P_CREATE_GROUP', Name => 'n', Members => [2 .. 7], ClientGroupId => 'x')->{Reason},
    'TOO_LARGE', 'max_group_size counts');
is(scalar $alice->request('P_GET_GROUPS')->{Groups}->@*, 1, '... nothing of it was made');
forget_events(values %client);

# --- a message ----------------------------------------------------------------

my $sent = say_in($bruno, $group, 'hello');
is($sent->{Reason}, 'OK', 'a member writes to the group');
for my $who ($alice, $carla) {
    my ($event) = take_messages($who, 1);
    is_deeply([@$event{qw(Message GroupId ConversationId MessageId)}, exists $event->{Members}],
        ['hello', $group, "g$group", $sent->{MessageId}, ''], '... the others get it with the GroupId');
}
is(say_in($dario, $group, 'me, too')->{Reason}, 'NOT_FOUND', 'for a stranger there is no such group');
is(say_in($dario, '4711', 'me, too')->{Reason}, 'NOT_FOUND', '... as there is none of another number');
is(texts($dario, $group), 'NOT_FOUND', '... nor has it a history');
is(members($dario, $group), 'NOT_FOUND', '... nor members');
is($dario->request('P_MARK_READ', ConversationId => "g$group", MessageId => $sent->{MessageId})->{Reason},
    'NOT_FOUND', '... nor a place to read up to');
is(change($dario, $group, Name => 'Mine')->{Reason}, 'NOT_FOUND', '... nor a name to change');
is($dario->request('P_LEAVE_GROUP', GroupId => $group)->{Reason}, 'NOT_FOUND', '... nor can he leave it');
is(say_in($carla, $group, 'answer', ReplyTo => $sent->{MessageId})->{Reason}, 'OK', 'a reply within the group');

# --- typing, receipts, unread ----------------------------------------------------

forget_events(values %client);
$carla->send_command('P_TYPING', GroupId => $group, State => 'STARTED');
for my $who ($alice, $bruno) {
    my $typing = $who->expect_event('P_TYPING');
    is("$typing->{UserId} $typing->{GroupId} $typing->{State}", "3 $group STARTED", 'the others see who types');
}
$dario->send_command('P_TYPING', GroupId => $group, State => 'STARTED');
$dario->request('P_HEARTBEAT');
is(scalar $alice->events_so_far('P_TYPING'), 0, '... a stranger types unseen');
$dario->{replies} = [];
is($dario->request('P_TYPING', GroupId => $_, State => 'STOPPED')->{Reason}, 'NOT_FOUND',
    '... and is told that for him there is no such group') for $group, '4711';

sub conversation ($client) {
    my $reply = $client->request('P_GET_CONVERSATIONS');
    my ($own) = grep { $_->{ConversationId} eq "g$group" } $reply->{Conversations}->@*;
    return $own;
}
my $shown = conversation($alice);
is_deeply(
    [@$shown{qw(GroupId Name Role OwnerId MemberCount UnreadCount)}, $shown->{LastMessage}{Message}],
    [$group, 'Team Süd', 'OWNER', 1, 3, 2, 'answer'],
    'the group is among the conversations, with what is unread'
);
is(conversation($bruno)->{UnreadCount}, 1, '... own messages are not unread');
is(conversation($carla)->{UnreadCount}, 1, '... not even the last one');
$alice->request('P_MARK_READ', ConversationId => "g$group", MessageId => $sent->{MessageId});
is(conversation($alice)->{UnreadCount}, 1, 'reading takes from it');
my $receipt = $bruno->expect_event('P_RECEIPT', 10, sub ($r) { ($r->{ReadUpTo} // 0) ne '0' });
is("$receipt->{UserId} $receipt->{ReadUpTo}", "1 $sent->{MessageId}", '... and the author is told');
is(scalar(grep { $_->{ReadUpTo} ne '0' } $carla->events_so_far('P_RECEIPT')), 0, '... but not the third one');
$carla->send_command('P_ACK', Seq => $carla->session->{LastSeq} + 3);
$receipt = $bruno->expect_event('P_RECEIPT', 10, sub ($r) { $r->{UserId} == 3 });
is($receipt->{DeliveredUpTo}, $sent->{MessageId}, 'delivery is told to the author');

# --- who may do what ---------------------------------------------------------------

change($alice, $group, Add => [4]);
is(change($alice, $group, Role => [{UserId => 2, Role => 'ADMIN'}])->{Reason}, 'OK', 'the owner makes an admin');
is(members($carla, $group), '1:OWNER 2:ADMIN 3:MEMBER 4:MEMBER', '... and all see it');

my @forbidden = (
    [3, 'a member does not rename',              Name => 'Mine'],
    [3, 'a member brings in nobody',             Add => [5]],
    [3, 'a member takes out no member',          Remove => [4]],
    [3, 'a member takes out no owner',           Remove => [1]],
    [3, 'a member makes himself no admin',       Role => [{UserId => 3, Role => 'ADMIN'}]],
    [3, 'a member makes himself no owner',       Role => [{UserId => 3, Role => 'OWNER'}]],
    [2, 'an admin takes out no owner',           Remove => [1]],
    [2, 'an admin takes out no admin',           Remove => [2]],
    [2, 'an admin makes no admin',               Role => [{UserId => 3, Role => 'ADMIN'}]],
    [2, 'an admin makes himself no owner',       Role => [{UserId => 2, Role => 'OWNER'}]],
    [2, 'an admin makes himself no member',      Role => [{UserId => 2, Role => 'MEMBER'}]],
    [2, 'an admin cannot do one part of it',     Name => 'New', Remove => [1]],
    [1, 'the owner is not taken out by himself', Remove => [1]],
    [1, 'the owner makes himself no member',     Role => [{UserId => 1, Role => 'MEMBER'}]],
);
forget_events(values %client);
for my $row (@forbidden) {
    my ($who, $claim, %fields) = @$row;
    is(change($client{$who}, $group, %fields)->{Reason}, 'FORBIDDEN', $claim);
}
is(scalar $dario->events_so_far('P_GROUP'), 0, '... and nothing has happened');
is(conversation($dario)->{Name}, 'Team Süd', '... not even the permitted part');

is(change($bruno, $group, Name => 'Team Nord', Add => [5], Remove => [4])->{Reason}, 'OK',
    'an admin renames, brings in and takes out');
my $event = $dario->expect_event('P_GROUP');
is_deeply([@$event{qw(Name Added Removed MemberCount UserId)}], ['Team Nord', [5], [4], 4, 2],
    '... who is taken out is told, too');
is(members($dario, $group), 'NOT_FOUND', '... and knows the group no more');
is(say_in($dario, $group, 'still here?')->{Reason}, 'NOT_FOUND', '... nor writes to it');
forget_events(values %client);
my $same = change($bruno, $group, Name => 'Team Nord', Add => [5], Remove => [4]);
is($same->{Reason}, 'OK', 'the same again is done already');
ok(!exists $same->{ServerTime}, '... nothing changes');
is(scalar $client{5}->events_so_far('P_GROUP'), 0, '... and nobody is told');
is(change($alice, $group, Role => [{UserId => 4, Role => 'ADMIN'}])->{Reason}, 'NOT_FOUND',
    'who is not in the group gets no role');
is(change($alice, $group, Role => [map { {UserId => $_, Role => 'OWNER'} } 2, 3])->{Reason}, 'CONFLICT',
    'there are no two owners');
is(change($alice, $group, Add => [6], Remove => [6])->{Reason}, 'BAD_REQUEST', 'nobody is named twice');
is(change($alice, $group)->{Reason}, 'BAD_REQUEST', 'something must change');
is(change($alice, $group, Add => [7])->{Reason}, 'NOT_FOUND', 'nobody brings in a stranger');

# --- what one sees is what was said while one was there -----------------------------

is(texts($client{5}, $group), '', 'who comes later sees nothing of before');
is(conversation($client{5})->{UnreadCount}, 0, '... and has nothing unread');
say_in($alice, $group, 'five-is-here');
is(texts($client{5}, $group), 'five-is-here', '... what is said now is his');
is(texts($dario, $group), '', 'who was there while nobody spoke has no history');
is(change($alice, $group, Remove => [5])->{Reason}, 'OK', 'five is taken out');
my $hidden = say_in($alice, $group, 'without-five');
is(texts($client{5}, $group), 'five-is-here', 'what is said then he does not see');
is($client{5}->request('P_MARK_READ', ConversationId => "g$group", MessageId => $hidden->{MessageId})->{Reason},
    'NOT_FOUND', '... nor can he ask for it by its id');
change($alice, $group, Name => 'Team Geheim');
my $left = conversation($client{5});
is_deeply([@$left{qw(Role UnreadCount Name)}, exists $left->{MemberCount}, $left->{LastMessage}{Message}],
    ['NONE', 1, 'Team Nord', '', 'five-is-here'], '... nor what has become of the group');
is(change($alice, $group, Add => [5])->{Reason}, 'OK', 'five is back');
is(say_in($client{5}, $group, 'what?', ReplyTo => $hidden->{MessageId})->{Reason}, 'BAD_REQUEST',
    'one does not answer what one has not seen');
say_in($alice, $group, 'welcome');
is(texts($client{5}, $group), 'five-is-here welcome', 'the gap stays a gap');
my $first = $client{5}->request('P_GET_MESSAGES', ConversationId => "g$group", Limit => 1);
is("$first->{Messages}[0]{Message} $first->{HasMore}", 'welcome 1', '... page by page');
my $below = $client{5}->request('P_GET_MESSAGES', ConversationId => "g$group", Limit => 1,
    Before => $first->{Messages}[0]{MessageId});
is("$below->{Messages}[0]{Message} $below->{HasMore}", 'five-is-here 0', '... downwards over it');
my $above = $client{5}->request('P_GET_MESSAGES', ConversationId => "g$group", Limit => 2,
    After => $below->{Messages}[0]{MessageId});
is(join(' ', map { $_->{Message} } $above->{Messages}->@*), 'welcome', '... and upwards');
is(texts($alice, $group), 'hello answer five-is-here without-five welcome', 'who was there all the time sees all');

# --- the inbox of one who is away -----------------------------------------------------

my $last = $carla->expect_event('P_MESSAGE', 10, sub ($e) { $e->{Message} eq 'welcome' })->{Seq};
$carla->close;
say_in($alice, $group, 'away-1');
change($alice, $group, Name => 'Team West');
say_in($alice, $group, 'away-2');
change($alice, $group, Remove => [3]);
say_in($alice, $group, 'not-for-carla');
$carla = $server->client(3, LastSeq => $last, Epoch => $carla->session->{Epoch});
my $head = $carla->session->{LastSeq};
Parley::poll_until(10, sub { grep { ($_->{Seq} // 0) == $head } $carla->{events}->@* });
my @missed = grep { exists $_->{Seq} } $carla->{events}->@*;
is_deeply([map { $_->{Seq} } @missed], [$last + 1 .. $head], 'what came meanwhile waits, without a hole');
is(join(' ', map { $_->{Message} // $_->{Event} } @missed[-4 .. -1]), 'away-1 UPDATED away-2 UPDATED',
    '... messages and changes in their order, up to her end');
is($missed[-1]{Removed}[0], 3, '... which she is told');

# --- several devices --------------------------------------------------------------------

my $phone = $server->client(1, DeviceId => 'phone');
my $reply = change($alice, $group, Name => 'Team Ost');
ok($reply->{Seq}, 'with two devices the reply carries a Seq');
is($phone->expect_event('P_GROUP')->{Seq}, $reply->{Seq}, '... the other device has the event of that Seq');
my $both = $alice->request('P_CREATE_GROUP', Name => 'Both', Members => [2], ClientGroupId => 'both');
is($phone->expect_event('P_GROUP')->{Seq}, $both->{Seq}, '... also of a new group');
is($alice->request('P_CREATE_GROUP', Name => 'Both', Members => [2], ClientGroupId => 'both')->{Seq},
    $both->{Seq}, '... and a retry has that, too');

# --- blocking within a group ----------------------------------------------------------------

forget_events(values %client);
$client{5}->request('P_BLOCK', UserId => 2);
say_in($bruno, $group, 'for-all');
my ($seen) = take_messages($client{5}, 1);
is($seen->{Message}, 'for-all', 'who blocks a member still gets what he writes to all');
$client{5}->send_command('P_TYPING', GroupId => $group, State => 'STARTED');
$alice->expect_event('P_TYPING');
is(scalar $bruno->events_so_far('P_TYPING'), 0, '... but he learns nothing of the blocker');
change($alice, $group, Remove => [5]);
is(change($bruno, $group, Add => [5])->{Reason}, 'NOT_FOUND', '... and cannot bring him in');

# --- leaving ---------------------------------------------------------------------------------

change($alice, $group, Add => [6, 3]);
is(members($alice, $group), '1:OWNER 2:ADMIN 3:MEMBER 6:MEMBER', 'four are in it');
forget_events(values %client, $phone);
is($alice->request('P_LEAVE_GROUP', GroupId => $group)->{Reason}, 'OK', 'the owner leaves');
$event = $bruno->expect_event('P_GROUP');
is_deeply([@$event{qw(Event UserId OwnerId Removed MemberCount)}, $event->{Role}],
    ['LEFT', 1, 2, [1], 3, [{UserId => 2, Role => 'OWNER'}]], '... the admin becomes the owner');
is($phone->expect_event('P_GROUP')->{Event}, 'LEFT', '... and the other device knows');
is($alice->request('P_LEAVE_GROUP', GroupId => $group)->{Reason}, 'OK', 'leaving again is done already');
is(change($bruno, $group, Role => [{UserId => 6, Role => 'OWNER'}])->{Reason}, 'OK', 'a group is given away');
is(members($bruno, $group), '2:ADMIN 3:MEMBER 6:OWNER', '... whoever had it stays an admin');
my ($code) = $server->ctl('user', 'remove', 6);
is($code, 0, 'the owner is removed from the directory');
$event = $bruno->expect_event('P_GROUP', 10, sub ($e) { $e->{Event} eq 'LEFT' });
is("$event->{UserId} $event->{OwnerId}", '6 2', '... and has left the group');
is($_->request('P_LEAVE_GROUP', GroupId => $group)->{Reason}, 'OK', 'another one leaves') for $bruno, $carla;
is(say_in($bruno, $group, 'anybody?')->{Reason}, 'NOT_FOUND', 'an empty group is no group');
like(texts($bruno, $group), qr/\Ahello .* for-all\z/, '... but what was said stays');

# --- pages of groups ------------------------------------------------------------------------

my @all;
for my $n (1 .. 5) {
    my $reply = $dario->request('P_CREATE_GROUP', Name => "Group $n", Members => [5], ClientGroupId => "group $n");
    is($reply->{Reason}, 'OK', "group $n") or diag $reply->{Message};
}
my $cursor;
do {
    my $page = $dario->request('P_GET_GROUPS', Limit => 2, ($cursor ? (Cursor => $cursor) : ()));
    push @all, map { $_->{Name} } $page->{Groups}->@*;
    $cursor = $page->{NextCursor};
} while ($cursor);
is_deeply(\@all, [map {"Group $_"} 1 .. 5], 'groups come page by page');

# --- a large one, by the load generator and its ledger ---------------------------------------

$server->set('policy.max_group_size' => 1024, 'policy.may_message' => 'anyone');
is(($server->ctl('reload'))[0], 0, 'the settings change while it runs');
$server->ctl('user', 'add', '--range', '1001-2000');
my @load = (qw(groups -n 1 --members 1000 --senders 3 --window 2 --duration 0.5 --warmup 0),
    qw(--timeout 60 --drain 60 --first-user 1001 --quiet --json),
    '--url', $server->ws_url, '--secret', $server->secret);
my $json = qx{@{[Parley::program('parleyload')]} @load};
is($?, 0, 'a group of 1,000: nothing is lost, nothing comes twice, all in order') or diag $json;
my $report = decode_json($json);
is($report->{messages}{delivered}, 999 * $report->{messages}{acknowledged}, '... each message reaches 999 others');
cmp_ok($report->{messages}{acknowledged}, '>', 5, '... and so do several');

# --- what a message to many costs --------------------------------------------------------------

sub delayed () { return $server->metric('parley_commands_delayed_total') // 0 }
my $host = $server->client(1002);
my $six  = $host->request('P_CREATE_GROUP', Name => 'six', Members => [1001, 1003 .. 1006], ClientGroupId => 'six')->{GroupId};
$server->set('limits.commands_per_user' => 100, 'limits.burst' => '2s');
is(($server->ctl('reload'))[0], 0, 'a limit is set');
my $guest  = $server->client(1001);
my $before = delayed();
send_text($guest, [1003], "text $_") for 1 .. 40;
is(delayed(), $before, 'forty messages to one are within it');
say_in($guest, $six, "text $_") for 1 .. 40;
cmp_ok(delayed(), '>', $before, '... to a group of six they are not, and are read more slowly');

my ($rc, $out, $error) = $server->ctl('check');
is($rc, 0, 'every row of the store is sound') or diag($out, $error);
$server->finish;
done_testing;
