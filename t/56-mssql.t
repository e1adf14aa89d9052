# SQL Server as the system of record: what happens here is there, once, in
# order, to the last emoji; and users are who the database says they are.
use v5.36;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Mssql;
use Parley::Story;
use Mojo::JSON qw(decode_json);
use Test::More;

my $db = Parley::Mssql->start(tls => 1);
$db->add_users(1 .. 4);
my $server = Parley->start(conf => {$db->conf, 'auth.password_attempts' => 0, 'directory.cache_ttl' => '0s'});

sub login ($name, $password) {
    my $client = $server->connect;
    return ($client->request('P_AUTHENTICATE', UserName => $name, Password => $password, DeviceId => 'browser'), $client);
}

# Written behind: all that was put is in the database.
sub await_written () {
    return Parley::poll_until(20, sub {
        my ($code, $out) = $server->ctl('outbox', 'list', '--json');
        return $code == 0 && decode_json($out)->{waiting} == 0;
    });
}

# --- who they are -------------------------------------------------------------

my ($reply, $alice) = login('user1', 'pass-1');
is($reply->{Reason}, 'OK', 'a password that the database has logs in');
is_deeply([$reply->@{qw(UserId Name)}], [1, 'User 1'], '... its user');
is_deeply([map { $_->{UserId} } $reply->{Users}->@*], [2, 3, 4], '... with his list');
my ($wrong)  = login('user1', 'pass-2');
my ($nobody) = login('nobody', 'pass-1');
is($wrong->{Reason}, 'AUTH_FAILED', 'a wrong one does not');
is($nobody->{Reason}, 'AUTH_FAILED', '... nor anybody else');
is((login("user1' OR '1'='1", 'pass-1'))[0]{Reason}, 'AUTH_FAILED', '... and quotes are letters');
is((login('USER1', 'pass-1'))[0]{Reason}, 'AUTH_FAILED', '... names are compared exactly');
$db->sql('UPDATE dbo.Users SET IsActive = 0 WHERE UserId = 4');
is((login('user4', 'pass-1'))[0]{Reason}, 'AUTH_FAILED', 'who is not active does not log in');
$db->sql('UPDATE dbo.Users SET IsActive = 1 WHERE UserId = 4');

my $bruno = $server->client(2);
my $carla = $server->client(3);

is($alice->request('P_UPDATE_USER', Name => 'د. ليلى 😀', Profile => {Room => "O'Brien; DROP TABLE Users --"})->{Reason},
    'OK', 'a user changes her name and profile');
my $row = $db->sql('SELECT DisplayName, Profile FROM dbo.Users WHERE UserId = 1')->[0];
is($row->{DisplayName}, 'د. ليلى 😀', '... the database has the name');
is(decode_json(Encode::encode('UTF-8', $row->{Profile}))->{Room}, "O'Brien; DROP TABLE Users --", '... and the profile');

# --- what they say ------------------------------------------------------------

my @texts = ('Grüße', 'مرحبا', '😀👩🏽‍⚕️', "quo'te \"double\" \\ back", "tab\tand\nline", '{"json":[1]}', 'x' x 8001, '😀' x 16_384, ' ');
my @ids = map { my $sent = send_text($alice, [2], $_); $sent->{Reason} eq 'OK' ? $sent->{MessageId} : fail($sent->{Message}) } @texts;
take_messages($bruno, scalar @texts);
ok(await_written(), 'what was acknowledged is written');
is_deeply($db->bodies('1-2'), \@texts, '... byte for byte, in order');
is_deeply([map { $_->{MessageId} } $db->sql('SELECT MessageId FROM dbo.Messages ORDER BY MessageId')->@*], \@ids,
    '... under the ids that the clients know');
is_deeply($db->sql('SELECT DISTINCT ReceiverId FROM dbo.MessageRecipients'), [{ReceiverId => 2}], '... for whom it was');

my %more = (ReplyTo => $ids[0], Attachment => {Url => 'https://files.example/a?b=1', Name => 'Röntgen.png', Size => 7, Type => 'image/png'});
my $long = send_text($bruno, [1], 'see this', %more);
is($long->{Reason}, 'OK', 'a reply with an attachment') or diag explain $long;
is($alice->request('P_EDIT_MESSAGE', MessageId => $ids[1], Message => 'مرحبا بك')->{Reason}, 'OK', 'an edit');
is($alice->request('P_DELETE_MESSAGE', MessageId => $ids[2])->{Reason}, 'OK', 'a delete');
is($bruno->request('P_MARK_READ', ConversationId => '1-2', MessageId => $ids[3])->{Reason}, 'OK', 'a mark');
my $group = $alice->request('P_CREATE_GROUP', Name => 'Station Ä', Members => [2, 3], ClientGroupId => 'g')->{GroupId};
is($carla->request('P_SEND_MESSAGE', GroupId => $group, Message => 'to all', ClientMessageId => 'c-1')->{Reason}, 'OK', 'a group');
is($carla->request('P_LEAVE_GROUP', GroupId => $group)->{Reason}, 'OK', '... that somebody leaves');
my $call = $alice->request('P_COLLABORATION_CREATE', ToUserList => [2], Kind => 'VIDEO', ClientCollaborationId => 'c')->{CollaborationId};
is($alice->request('P_COLLABORATION_CANCEL', CollaborationId => $call)->{Reason}, 'OK', 'a call that ends');
is($bruno->request('P_UPDATE_STATUS', Status => 'BUSY', StatusText => 'مشغول')->{Reason}, 'OK', 'a status');
is(send_text($alice, [2, 3], 'to two')->{Reason}, 'OK', 'a message to two');
ok(await_written(), 'all of it is written');

my %message = map { ($_->{MessageId} => $_) }
    $db->sql('SELECT MessageId, Body, Attachment, ReplyToId, EditedAt, DeletedAt, MessageType FROM dbo.Messages')->@*;
is($message{$long->{MessageId}}{ReplyToId}, $ids[0], 'the reply says to what');
is(decode_json(Encode::encode('UTF-8', $message{$long->{MessageId}}{Attachment}))->{Name}, 'Röntgen.png', '... and has its attachment');
is($message{$ids[1]}{Body}, 'مرحبا بك', 'the edited one reads as it does now');
ok($message{$ids[1]}{EditedAt}, '... and says when');
is_deeply([$message{$ids[2]}->@{qw(Body MessageType)}], ['', ''], 'of the deleted one no word is left');
ok($message{$ids[2]}{DeletedAt}, '... but when');
is_deeply(
    $db->sql("SELECT MessageId FROM dbo.Receipts WHERE ConversationId = '1-2' AND UserId = 2 AND Kind = 'read'"),
    [{MessageId => $ids[3]}], 'the mark is there');
is_deeply($db->sql('SELECT Status, StatusText FROM dbo.Users WHERE UserId = 2'), [{Status => 'BUSY', StatusText => 'مشغول'}],
    'the status is there');
is_deeply($db->sql('SELECT GroupId, Name FROM dbo.Groups'), [{GroupId => $group, Name => 'Station Ä'}], 'the group');
is_deeply([map {"$_->{UserId} " . ($_->{Role} // 'gone')} $db->sql('SELECT UserId, Role FROM dbo.GroupMembers ORDER BY UserId')->@*],
    ['1 OWNER', '2 MEMBER', '3 gone'], '... its members, and who has left');
is_deeply($db->bodies("g$group"), ['to all'], '... what was said in it');
is_deeply($db->sql('SELECT CollaborationId, Kind, CreatorId, Outcome FROM dbo.Collaborations'),
    [{CollaborationId => $call, Kind => 'VIDEO', CreatorId => 1, Outcome => 'CANCELLED'}], 'the call');
is_deeply([sort map { $_->{UserId} } $db->sql('SELECT UserId FROM dbo.CollaborationParticipants')->@*], [1, 2], '... and its participants');
is($db->count('Messages'), @texts + 3, 'each message is there once');

# --- what must not be ---------------------------------------------------------

is($server->metric('parley_mssql_rows_refused_total') // 0, 0, 'no row was refused');
if ($db->can_fail) {
    my $counters = $db->counters;
    is($counters->{secret}, $counters->{connections}, 'every connection was encrypted to its end');
}
my $log = $server->log_text;
unlike($log, qr/Grüße|pass-1|pass-of|مرحبا/, 'the log has no word of it, and no password');
$server->finish;
done_testing;
