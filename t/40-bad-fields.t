# Every field of every command with every kind of wrong value: one reply with
# the same Command and RequestId, BAD_REQUEST, and a sentence that names the
# field and what was expected. The session goes on; nobody else notices.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(encode_json);
use Parley;
use Parley::Guard;
use Test::More;

my $server = Parley->start(conf => {'log.level' => 'debug'});
$server->add_users(1, 2, 3);
my $guard = Parley::Guard->watch($server);
my $alice = $server->client(1);
my $bruno = $server->client(2);
my $carla = $server->client(3);
my $token = $guard->token($server->token(1));

my $sent = $alice->request('P_SEND_MESSAGE', ToUserList => [2],
    Message => $guard->secret('for Bruno alone'), ClientMessageId => 'first');
is($bruno->expect_event('P_MESSAGE')->{Message}, 'for Bruno alone', 'a message to work with');
my ($message_id, $conversation) = @$sent{qw(MessageId ConversationId)};
my $private = $carla->request('P_SEND_MESSAGE', ToUserList => [2],
    Message => $guard->secret('Carla to Bruno only'), ClientMessageId => 'c');
$bruno->expect_event('P_MESSAGE');

my ($group, $left) = map {
    $alice->request('P_CREATE_GROUP', Name => 'Group', Members => [2], ClientGroupId => $_)->{GroupId}
} qw(kept left);

# --- kinds of wrong values, as JSON --------------------------------------------

my $SAFE  = '9007199254740991';
my $EMOJI = "\xf0\x9f\x98\x80";
my %other = (
    string => [qw("" "text" "1")],
    number => [qw(0 1 -1 1.0 1e3 -0.0 1E400 9007199254740992 18446744073709551616
        -9223372036854775809 123456789012345678901234567890)],
    bool   => [qw(true false)],
    array  => ['[]', '[1]', '[[]]', '["a"]', '[null]'],
    object => ['{}', '{"a":1}', '{"Url":1}'],
    'null' => ['null'],
    broken => [
        '"\ud800"', '"\udc00\ud800"', '"a\ud83dz"',
        '[' x 33 . ']' x 33, '{"a":' x 40 . '1' . '}' x 40, '[' x 5000 . ']' x 5000,
        '[' . join(',', (1) x 70_000) . ']',
    ],
);

sub others (@own) {
    my %own = map { $_ => 1 } @own;
    return map { $other{$_}->@* } grep { !$own{$_} } sort keys %other;
}

sub text_of ($length) { return '"' . 'x' x $length . '"' }

# What is wrong for each kind of field. Optional fields may be null.
sub wrong_user ()     { return others(qw(number)), qw(0 -1 1.0 1e0 9007199254740992 18446744073709551617 99999999999999999999999) }
sub wrong_id ()       { return others(qw(string)), qw("" "0" "-1" "+1" "01" "1.0" "0x10" "a" "9223372036854775808" "99999999999999999999"), '" 1"', '"1 "', '"1\u0000"' }
sub wrong_text ($max) { return others(qw(string)), '""', text_of($max + 1), '"' . $EMOJI x (int($max / 4) + 1) . '"' }
sub wrong_limit ($max) { return others(qw(number)), 0, -1, '1.0', '1e1', $max + 1, '99999999999999999999999' }
sub wrong_word ()     { return others(qw(string)), qw("" "x" "online" "OFFLINE"), '"ONLINE "', '"ONLINE\u0000"', text_of(1000) }
sub wrong_bool ()     { return others(qw(bool)) }
sub wrong_users ()    {
    return others(qw(array)), '[]', '[0]', '["2"]', '[2,null]', '[2,2.0]', '[[2]]', '[-2]', "[2,9007199254740992]",
        '[' . join(',', 2 .. 258) . ']', '[2,18446744073709551618]';
}
sub wrong_roles () {
    return others(qw(array)), '[]', '[1]', '[[]]', '[null]', '[{}]', '[{"UserId":2}]', '[{"Role":"ADMIN"}]',
        map({ qq([{"UserId":$_,"Role":"ADMIN"}]) } qw(0 -1 1.0 "2" null 9007199254740992)),
        map({ qq([{"UserId":2,"Role":$_}]) } qw("NONE" "admin" "" "OWNER " 1 null [])),
        '[' . join(',', map {qq({"UserId":$_,"Role":"ADMIN"})} 2 .. 258) . ']';
}
sub wrong_attachment () {
    return others(qw(object)), '{}', '{"Url":1}', '{"Url":null}', '{"Url":"u","Name":1}', '{"Url":"u","MimeType":[]}',
        '{"Url":"u","Size":-1}', '{"Url":"u","Size":1.5}', '{"Url":"u","Size":"1"}', '{"Url":"u","Size":9007199254740992}',
        '{"Url":"' . 'u' x 9000 . '"}', '{"Url":"u"}', '{"Url":"javascript:alert(1)"}', '{"Url":"https://user@a/"}',
        '{"Url":"https://a/","Name":"a/b"}', '{"Url":"https://a/","Name":"\\u0007"}', '{"Url":"https://a/","MimeType":"pdf"}',
        '{"Url":"https://a/","Size":-1}', '{"Url":"https://a/","Size":1e3}', '{"Url":"https://a/' . 'u' x 2048 . '"}';
}
sub wrong_session () {
    return others(qw(string)), qw("" "0" "0000000000000000" "681F9D19B9C66C8B" "681f9d19b9c66c8g" "681f9d19b9c66c8"
        "681f9d19b9c66c8b0" "+81f9d19b9c66c8b"), '"681f9d19b9c66c8 "', '"681f9d19b9c66c8\u0000"', text_of(1000);
}
sub wrong_signal () { return $other{broken}->@*, text_of(65_535), '[' . join(',', ('"' . 'x' x 1021 . '"') x 64) . ']', '{"sdp":"' . $EMOJI x 16_384 . '"}' }
sub wrong_time () { return others(qw(number)), qw(1.0 1.5 1e3 9007199254740992 -9007199254740992 99999999999999999999999) }
sub wrong_seq ()  { return others(qw(number)), qw(-1 1.0 1e0 9007199254740992 99999999999999999999999), $SAFE }

my $users = '[2]';
my %send  = (ToUserList => $users, Message => '"m"', ClientMessageId => '"never-stored"');

# command => [its good fields, field => [required, wrong values], ...]
my %commands = (
    P_ACK => [{Seq => 0}, Seq => [1, wrong_seq()]],
    P_BLOCK   => [{UserId => 3}, UserId => [1, wrong_user(), 1]],
    P_CREATE_GROUP => [{Name => '"Group"', Members => $users, ClientGroupId => '"third"'},
        Name => [1, wrong_text(128)], ClientGroupId => [1, wrong_text(64)],
        Members => [1, grep({ !/258/ } wrong_users()), '[' . join(',', 2 .. 1026) . ']']],
    P_GET_GROUPS => [{}, GroupId => [0, wrong_id()], Cursor => [0, wrong_id()], Limit => [0, wrong_limit(200)]],
    P_LEAVE_GROUP  => [{GroupId => qq("$left")}, GroupId => [1, wrong_id()]],
    P_UPDATE_GROUP => [{GroupId => qq("$group"), Name => '"Group"'}, GroupId => [1, wrong_id()],
        Name => [0, wrong_text(128)], Add => [0, wrong_users()], Remove => [0, wrong_users()], Role => [0, wrong_roles()]],
    P_UNBLOCK => [{UserId => 3}, UserId => [1, wrong_user(), 1]],
    P_COLLABORATION_CREATE => [undef, ToUserList => [1, wrong_users()], Kind => [1, wrong_word(), '"video"'],
        ClientCollaborationId => [1, wrong_text(64)]],
    P_COLLABORATION_INVITE => [undef, CollaborationId => [1, wrong_id()], ToUserList => [1, wrong_users()]],
    (map { ("P_COLLABORATION_$_" => [undef, CollaborationId => [1, wrong_id()]]) } qw(ACCEPT CANCEL END LEAVE REJECT)),
    P_GET_COLLABORATION_HISTORY => [{}, Before => [0, wrong_id()], Limit => [0, wrong_limit(200)]],
    P_DELETE_MESSAGE => [undef, MessageId => [1, wrong_id()]],
    P_EDIT_MESSAGE   => [{MessageId => qq("$message_id"), Message => '"for Bruno alone"'}, MessageId => [1, wrong_id()],
        Message => [1, others('string'), '""', text_of(65_537)]],
    P_GET_USER => [{UserId => 2}, UserId => [1, wrong_user()]],
    P_GET_ALL_USER => [{}, Cursor => [0, others('number'), qw(-1 1.0 9007199254740992)],
        Limit => [0, wrong_limit(1000)], Refresh => [0, wrong_bool()]],
    P_GET_CONVERSATIONS => [{}, Cursor => [0, wrong_id()], Limit => [0, wrong_limit(200)]],
    P_GET_MESSAGES => [{UserId => 2}, UserId => [1, wrong_user()], ConversationId => [0, wrong_text(64)],
        Before => [0, wrong_id()], After => [0, wrong_id()], Limit => [0, wrong_limit(200)]],
    P_LOGOUT    => [undef, Forget => [0, wrong_bool()]],
    P_MARK_READ => [{ConversationId => encode_json([$conversation]) =~ s/[][]//gr, MessageId => qq("$message_id")},
        ConversationId => [1, wrong_text(64)], MessageId => [1, wrong_id()]],
    P_REFRESH_TOKEN => [{Token => qq("$token")}, Token => [1, wrong_text(8192)]],
    P_SEND_MESSAGE  => [undef, ToUserList => [1, wrong_users()],
        Message => [1, others('string'), '""', text_of(65_537)], ClientMessageId => [1, wrong_text(64)],
        Type => [0, wrong_text(64)], ClientInitiationTime => [0, wrong_time()], ReplyTo => [0, wrong_id()],
        Attachment => [0, wrong_attachment()]],
    P_SIGNAL => [{CollaborationId => '"5"', ToUserId => 2, Signal => '1'}, CollaborationId => [1, wrong_id()],
        ToUserId => [1, wrong_user(), 1], ToSessionId => [0, wrong_session()], Signal => [1, wrong_signal()]],
    P_TYPING => [{ToUserList => $users, State => '"STARTED"'}, ToUserList => [1, wrong_users()], State => [1, wrong_word()]],
    P_UPDATE_STATUS => [{Status => '"ONLINE"'}, Status => [1, wrong_word()],
        StatusText => [0, others('string'), text_of(257)]],
    P_UPDATE_USER => [{Name => '"User 1"'}, Name => [0, wrong_text(128), '"\u0000"', '"a\u0000b"', '"' . '\u0000' x 128 . '"'],
        Profile => [0, others('object'), '{"a":"' . 'x' x 4096 . '"}']],
);
# The good fields of those that are not done.
my %base = (
    P_SEND_MESSAGE         => \%send,
    P_DELETE_MESSAGE       => {MessageId => qq("$message_id")},
    P_COLLABORATION_CREATE => {ToUserList => $users, Kind => '"AUDIO"', ClientCollaborationId => '"never-made"'},
    P_COLLABORATION_INVITE => {ToUserList => $users, CollaborationId => '"1"'},
);
my %login = (Token => qq("$token"), DeviceId => '"elsewhere"');
my %login_fields = (
    Token    => [0, wrong_text(8192)],
    DeviceId => [1, wrong_text(64)],
    LastSeq  => [0, others('number'), qw(-1 1.0 9007199254740992 99999999999999999999999)],
    Epoch    => [0, wrong_text(64)],
    Status   => [0, wrong_word()],
);

my $next = 0;

# One request of these fields (values are JSON); its reply.
sub ask ($client, $command, $fields, @order) {
    my $id   = 'id-' . ++$next;
    my %all  = (Command => qq("$command"), RequestId => qq("$id"), %$fields);
    my @keys = @order ? @order : sort keys %all;
    $client->send_text('{' . join(',', map {qq("$_":$all{$_})} @keys) . '}');
    my $reply = $client->next_reply;
    $reply->{is_same} = ($reply->{RequestId} // '') eq $id && $reply->{Command} eq $command;
    return $reply;
}

sub short ($json) { return length $json > 50 ? substr($json, 0, 40) . '... (' . length($json) . ')' : $json }

# What is wrong with the reply to a bad field, or ''.
sub fault ($reply, $field) {
    return 'another Command or RequestId: ' . encode_json($reply) if !$reply->{is_same};
    return "Reason $reply->{Reason}" if $reply->{Reason} !~ /\A(?:BAD_REQUEST|TOO_LARGE)\z/;
    return "Message: $reply->{Message}" if $reply->{Message} !~ /\b\Q$field\E\b.*: expected [a-z0-9"]/i;
    return '';
}

sub try_field ($client, $command, $good, $field, $is_required, @wrong) {
    my @faults;
    push @wrong, 'null' if $is_required;
    for my $json (@wrong) {
        # null is absence, and a value that is fine is not wrong
        next if $json eq 'null' && !$is_required;
        my $what = fault(ask($client, $command, {%$good, $field => $json}), $field);
        push @faults, short($json) . " - $what" if $what;
        # ... also as the first of all, and behind a good one: the last counts
        next if length $json > 100;
        $what = fault(ask($client, $command, {%$good, $field => ($good->{$field} // 'null') . qq(,"$field":$json)}), $field);
        push @faults, short($json) . " twice - $what" if $what;
    }
    if ($is_required) {
        my %rest = %$good;
        delete $rest{$field};
        my $what = fault(ask($client, $command, \%rest), $field);
        push @faults, "missing - $what" if $what;
    }
    is(scalar @faults, 0, "$command, $field: " . scalar(@wrong) . ' wrong values') || do { diag(scalar @faults); diag("  $_") for @faults[0 .. ($#faults < 12 ? $#faults : 12)] };
    return;
}

for my $command (sort keys %commands) {
    my ($good, @fields) = $commands{$command}->@*;
    my $base = $base{$command} // $good // {};
    while (my ($field, $list) = splice @fields, 0, 2) {
        try_field($alice, $command, $base, $field, @$list);
    }
    is($alice->request('P_HEARTBEAT')->{Reason}, 'OK', "... and after $command the session goes on");
    next if !defined $good || $command =~ /\A(?:P_ACK|P_SIGNAL|P_TYPING)\z/;
    my $reply = ask($alice, $command, {%$good, 'Unknown' => '{"a":[null,1.5]}', '' => '1', "Un\xc3\xafcode" => '0'});
    is($reply->{Reason}, 'OK', "... as does $command itself, with unknown fields")
        || diag(encode_json($reply));
}
{
    my $new = $server->connect;
    try_field($new, 'P_AUTHENTICATE', \%login, $_, $login_fields{$_}->@*) for sort keys %login_fields;
    my $reply = ask($new, 'P_AUTHENTICATE', {%login, Unknown => '1'});
    is($reply->{Reason}, 'OK', 'P_AUTHENTICATE after all that') || diag(encode_json($reply));
    $new->close;
}
is($alice->request('P_UNBLOCK', UserId => 3)->{Reason}, 'OK', 'the block is taken back');

# --- one of several -------------------------------------------------------------------

my %choice = (
    'no recipient'          => ['P_SEND_MESSAGE', {Message => '"m"', ClientMessageId => '"x"'}, qr/ToUserList, GroupId, CollaborationId: expected/],
    'two recipients'        => ['P_SEND_MESSAGE', {%send, GroupId => '"1"'}, qr/ToUserList, GroupId, CollaborationId: expected/],
    'typing to nobody'      => ['P_TYPING', {State => '"STARTED"'}, qr/ToUserList, GroupId, CollaborationId: expected/],
    'no conversation'       => ['P_GET_MESSAGES', {}, qr/ConversationId, UserId: expected/],
    'before and after'      => ['P_GET_MESSAGES', {UserId => 2, Before => '"5"', After => '"5"'}, qr/Before, After: expected/],
    'no change of a group'  => ['P_UPDATE_GROUP', {GroupId => qq("$group")}, qr/Name, Add, Remove, Role: expected/],
    'one user twice'        => ['P_UPDATE_GROUP', {GroupId => qq("$group"), Add => '[3]', Remove => '[3]'}, qr/Add, Remove, Role: expected/],
    'one role twice'        => ['P_UPDATE_GROUP', {GroupId => qq("$group"), Role => '[{"UserId":2,"Role":"ADMIN"},{"UserId":2,"Role":"OWNER"}]'}, qr/Add, Remove, Role: expected/],
    'nothing to update'     => ['P_UPDATE_USER', {}, qr/Name, Profile: expected/],
);
for my $name (sort keys %choice) {
    my ($command, $fields, $pattern) = $choice{$name}->@*;
    my $reply = ask($alice, $command, $fields);
    is($reply->{Reason}, 'BAD_REQUEST', $name);
    ok($reply->{is_same}, '... answered');
    like($reply->{Message}, $pattern, '... says what is expected');
}

# --- RequestId ------------------------------------------------------------------------------

sub heartbeat_json ($id) {
    $alice->send_text(qq({"Command":"P_HEARTBEAT","RequestId":$id}));
    return $alice->next_reply;
}
for my $id ('0', '1', '-0', $SAFE, '"a"', '"0"', '" "', '"' . 'x' x 64 . '"', '"' . $EMOJI x 16 . '"',
    '"\u0000"', '"a\u0000b"', '"\"\\\\/\n"', '"null"', '"<script>"') {
    my $reply = heartbeat_json($id);
    my $want  = Mojo::JSON::decode_json("[$id]")->[0];
    is($reply->{Reason}, 'OK', "RequestId $id");
    is(encode_json([$reply->{RequestId}]), encode_json([$want eq '-0' ? 0 : $want]), '... comes back as it was, type and all');
}
for my $id ('-1', '1.0', '1e0', '1.5', '9007199254740992', '18446744073709551616', '99999999999999999999999',
    'true', '[]', '[1]', '{}', '""', '"' . 'x' x 65 . '"', '"' . $EMOJI x 17 . '"') {
    my $reply = heartbeat_json($id);
    is($reply->{Reason}, 'BAD_REQUEST', 'RequestId ' . short($id));
    is($reply->{Command}, 'P_HEARTBEAT', '... with the Command');
    ok(!exists $reply->{RequestId}, '... and without what cannot be one');
    like($reply->{Message}, qr/\ARequestId: expected /, '... says what is expected');
}
ok(!exists heartbeat_json('null')->{RequestId}, 'RequestId null is none');
is(heartbeat_json('1,"RequestId":2')->{RequestId}, 2, 'of two RequestIds the last counts');

# --- Command ---------------------------------------------------------------------------------

for my $name (qw(P_NOTHING p_heartbeat P_HEARTBEAT\u0020 P_MESSAGE P_RECEIPT P_PRESENCE P_ERROR x), 'x' x 64, '\ud83d\ude00', '%s%n', '"') {
    my $json = $name eq '"' ? '\"' : $name;
    $alice->send_text(qq({"Command":"$json","RequestId":5}));
    my $reply = $alice->next_reply;
    is($reply->{Reason}, 'UNKNOWN_COMMAND', "Command $json");
    is($reply->{RequestId}, 5, '... with its RequestId');
    is($reply->{Command}, Mojo::JSON::decode_json(qq(["$json"]))->[0], '... and Command');
}
for my $json ('null', '1', 'true', '[]', '{}', '""', '"' . 'x' x 65 . '"', '"P_HEARTBEAT\u0000"', '"P_HEARTBEAT","Command":null') {
    $alice->send_text(qq({"Command":$json,"RequestId":"r"}));
    my $reply = $alice->next_reply;
    is("$reply->{Command} $reply->{Reason} $reply->{RequestId}", 'P_ERROR BAD_REQUEST r', 'Command ' . short($json));
    like($reply->{Message}, qr/\ACommand: expected /, '... says what is expected');
}

# --- what is no JSON object --------------------------------------------------------------------------

for my $text ('', ' ', 'null', '1', '"P_HEARTBEAT"', '[]', '[{}]', '{', '}', '{"', '{"a', '{"a"', '{"a":', '{"a":1',
    '{"a":1,', '{"a":1,}', '{,}', '{a:1}', q({'a':1}), '{"a":01}', '{"a":+1}', '{"a":.5}', '{"a":1.}', '{"a":1e}', '{"a":0x1}',
    '{"a":NaN}', '{"a":Infinity}', '{"a":-}', '{"a":tru}', '{"a":TRUE}', '{"a":nul}', '{"a":"\x"}', '{"a":"\u12"}', qq({"a":"\t"}),
    qq({"a":"\n"}), qq({"a":"\0"}), '{"a":1}x', '{"a":1}{}', '{"a" 1}', '{"a":1 "b":2}', '{"a":[1,]}', '{"a":[1}', '/**/{}',
    '{}//', "\xef\xbb\xbf{}", '{"a\u0000":1}', '{"\ud800":1}', '[' x 100_000, '{"a":' x 100_000, '{"a":"' . '\\' x 1001, '""', 'P_HEARTBEAT') {
    $alice->send_text($text);
    my $reply = $alice->next_reply;
    is("$reply->{Command} $reply->{Reason}", 'P_ERROR BAD_REQUEST', 'no request: ' . (short($text) =~ s/[^ -~]/./gr));
    like($reply->{Message}, qr/expected/, '... says what is expected');
}
$alice->send_text('{}');
is($alice->next_reply->{Command}, 'P_ERROR', 'an empty object');

# --- what cannot be read as JSON still has a Command ------------------------------------------------

for my $rest ('"X":"\ud800"', '"X":tru', '"X":1,', '"X":' . '[' x 40 . ']' x 40, '"X":[1,,2]', qq("X":"\t")) {
    $alice->send_text(qq({"Command":"P_HEARTBEAT","RequestId":"known",$rest}));
    my $reply = $alice->next_reply;
    is("$reply->{Command} $reply->{Reason} " . ($reply->{RequestId} // 'none'), 'P_HEARTBEAT BAD_REQUEST known', 'answered as what it was: ' . short($rest));
}

# --- what is others' -----------------------------------------------------------------------------------

my %foreign = (
    'history of others'          => ['P_GET_MESSAGES', {ConversationId => qq("$private->{ConversationId}")}],
    'history with nobody'        => ['P_GET_MESSAGES', {UserId => 77}],
    'history of no conversation' => ['P_GET_MESSAGES', {ConversationId => '"1-77"'}],
    'history of rubbish'         => ['P_GET_MESSAGES', {ConversationId => '"../1"'}],
    'reading others\' mail'      => ['P_MARK_READ', {ConversationId => qq("$private->{ConversationId}"), MessageId => qq("$private->{MessageId}")}],
    'a message of another conversation' => ['P_MARK_READ', {ConversationId => qq("$conversation"), MessageId => qq("$private->{MessageId}")}],
    'a stranger'                 => ['P_GET_USER', {UserId => 77}],
    'a message to a stranger'    => ['P_SEND_MESSAGE', {%send, ToUserList => '[2,77]'}],
    'a signal in a call of nobody' => ['P_SIGNAL', {CollaborationId => '"5"', ToUserId => 2, Signal => '1'}],
    'members of a group that is none' => ['P_GET_GROUPS', {GroupId => '"5"'}],
    'leaving a group that is none'    => ['P_LEAVE_GROUP', {GroupId => '"5"'}],
    'history of a group that is none' => ['P_GET_MESSAGES', {ConversationId => '"g5"'}],
    'history of a group without id'   => ['P_GET_MESSAGES', {ConversationId => '"g"'}],
    'to a call that is none'     => ['P_SEND_MESSAGE', {Message => '"m"', ClientMessageId => '"c"', CollaborationId => '"5"'}],
    'history of a call that is none'  => ['P_GET_MESSAGES', {ConversationId => '"c5"'}],
    'to a group that is none'    => ['P_SEND_MESSAGE', {Message => '"m"', ClientMessageId => '"g"', GroupId => '"5"'}],
);
for my $name (sort keys %foreign) {
    my $reply = ask($alice, $foreign{$name}->@*);
    is($reply->{Reason}, 'NOT_FOUND', "$name: NOT_FOUND");
    ok($reply->{is_same}, '... answered');
    unlike(encode_json($reply), qr/Carla to Bruno/, '... and nothing is shown');
}
is_deeply(ask($alice, 'P_SEND_MESSAGE', {%send, ToUserList => '[2,77,78]'})->{UserIds}, [77, 78], '... with the ids that are unknown');
{
    my $reply = ask($alice, 'P_SEND_MESSAGE', {%send, ReplyTo => qq("$private->{MessageId}")});
    is($reply->{Reason}, 'BAD_REQUEST', 'an answer to a message of others');
    my $nobody = ask($alice, 'P_SEND_MESSAGE', {%send, ReplyTo => '"12345"'});
    is($nobody->{Message}, $reply->{Message}, '... sounds like one to a message that does not exist');
    like($reply->{Message}, qr/\AReplyTo: expected /, '... and names the field');
}

# --- nobody noticed --------------------------------------------------------------------------------------

is(scalar(() = $bruno->events_so_far('P_MESSAGE')), 0, 'not one of all these reached Bruno');
is(scalar(() = $carla->events_so_far('P_MESSAGE')), 0, '... or Carla');
is($bruno->request('P_SEND_MESSAGE', ToUserList => [1], Message => 'and now', ClientMessageId => 'b')->{Reason}, 'OK', 'Bruno writes');
is($alice->expect_event('P_MESSAGE')->{Message}, 'and now', '... and Alice reads');
is_deeply([map { $_->{Message} } $alice->request('P_GET_MESSAGES', UserId => 2)->{Messages}->@*],
    ['and now', 'for Bruno alone'], 'nothing else was stored');
$guard->finish;
done_testing;
