# Strings that somebody means ill with, through every field that reaches the
# database and back out of it: stored byte for byte, or refused with a reason;
# nobody crashes, hangs, sees another one's data or finds a word of it in the log.
use v5.36;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";
no warnings 'nonchar';
use Cpanel::JSON::XS ();
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Mssql;
use Parley::Story;
use Test::More;

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $db = Parley::Mssql->start;
$db->add_users(1 .. 3);
my $server = Parley->start(
    conf         => {$db->conf, 'auth.password_attempts' => 0, 'directory.cache_ttl' => '0s'},
    allow_errors => [qr/mssql-/, qr/breaker-state/]);

my $alice = $server->client(1);
my $bruno = $server->client(2);

sub from_json ($text) { return Cpanel::JSON::XS->new->decode($text) }
sub outbox () { return decode_json(($server->ctl('outbox', 'list', '--json'))[1]) }
sub await_written () {
    return Parley::poll_until(20, sub { outbox()->{waiting} == 0 });
}

my @hostile = (
    ["'; DROP TABLE Users; --", 'SQL'],
    [q{" ' `]] [dbo].[Users] %s %n {0} $(id) @Rows}, 'quotes of every kind'],
    ["\x{202e}evil\x{202c} مرحبا עברית \x{200f}", 'right to left'],
    ["👩🏽‍⚕️😀\x{10ffff}\x{fffe}\x{ffff}\x{fffd}", 'emoji and the last characters there are'],
    ["e\x{301}\x{327} ﷽ \x{0}" =~ s/\x{0}//r, 'combining characters'],
    ["\x{1}\x{7f}\x{85}\x{2028}\r\n\t\x{b}", 'control characters'],
    ['{"k":"delete","i":1}', 'a row of ours'],
    ["\x{feff}byte order mark", 'a byte order mark'],
    ['   leading and trailing   ', 'blanks'],
    ['NULL', 'NULL'],
);

# --- what clients send --------------------------------------------------------

my @sent;
for my $case (@hostile) {
    my ($text, $name) = @$case;
    my $reply = send_text($alice, [2], $text);
    is($reply->{Reason}, 'OK', "a message: $name");
    push @sent, $text;
}
for my $size (8000, 8001, 65_536) {
    is(send_text($alice, [2], 'x' x $size)->{Reason}, 'OK', "a message of $size bytes");
    push @sent, 'x' x $size;
}
push @sent, '😀' x 16_384;
is(send_text($alice, [2], $sent[-1])->{Reason}, 'OK', '... of 64 KiB of emoji');
is(send_text($alice, [2], 'x' x 65_537)->{Reason}, 'TOO_LARGE', '... one byte more is refused');

# What JSON can say and UTF-8 cannot.
for my $lone ('\ud800', '\udc00', 'a\ud83d', '\ude00\ud83d') {
    my $id = $alice->{next_id}++;
    $alice->send_text(qq({"Command":"P_SEND_MESSAGE","RequestId":$id,"ToUserList":[2],"Message":"$lone","ClientMessageId":"lone-$id"}));
    my $reply = $alice->wait_reply($id);
    isnt($reply->{Reason}, 'OK', "half a character ($lone) is refused");
    ok($reply->{Message}, '... with a reason');
}
my $nul = send_text($alice, [2], "before\x{0}after");
is($nul->{Reason}, 'OK', 'a NUL is stored here');
take_messages($bruno, @sent + 1);
ok(await_written(), 'all is written');
is_deeply($db->bodies('1-2'), \@sent, '... and there byte for byte, but for the NUL');
my $dead = outbox()->{dead_letters};
is(scalar @$dead, 1, '... which is a dead letter');
like(encode_json($dead), qr/NUL/, '... that says why');

for my $case (@hostile) {
    my ($text, $name) = @$case;
    my $reply = $alice->request('P_UPDATE_USER', Name => $text, Profile => {$text => $text});
    is($reply->{Reason}, 'OK', "a name and a profile: $name") or diag explain $reply;
    my $row = $db->sql('SELECT DisplayName, Profile FROM dbo.Users WHERE UserId = 1')->[0];
    is($row->{DisplayName}, $text, '... the name is there byte for byte');
    is_deeply(from_json($row->{Profile}), {$text => $text}, '... and the profile');
    is($bruno->request('P_GET_USER', UserId => 1)->{User}{Name}, $text, '... and both come back');

    $reply = $alice->request('P_UPDATE_STATUS', Status => 'BUSY', StatusText => $text);
    is($reply->{Reason}, 'OK', '... a status');
    $reply = $alice->request('P_CREATE_GROUP', Name => $text, Members => [2], ClientGroupId => "g-$name");
    is($reply->{Reason}, 'OK', '... a group') or diag explain $reply;
    ok(await_written(), '... are written');
    is($db->sql('SELECT StatusText FROM dbo.Users WHERE UserId = 1')->[0]{StatusText}, $text, '... the status as it is');
    is($db->sql('SELECT Name FROM dbo.Groups WHERE GroupId = ?', $reply->{GroupId})->[0]{Name}, $text, '... the group, too');
}
is($alice->request('P_UPDATE_USER', Name => "a\x{0}b")->{Reason}, 'BAD_REQUEST', 'a NUL in a name is refused');
is($alice->request('P_UPDATE_USER', Name => '😀' x 33)->{Reason}, 'TOO_LARGE', '... and a name that is too long');

for my $case (@hostile, ['user1' . "\x{0}", 'a NUL'], ['x' x 129, 'too long'], ['😀' x 64, 'long']) {
    my ($text, $name) = @$case;
    my $client = $server->connect;
    my $reply = $client->request('P_AUTHENTICATE', UserName => $text, Password => $text, DeviceId => 'd');
    like($reply->{Reason}, qr/\A(?:AUTH_FAILED|BAD_REQUEST|TOO_LARGE)\z/, "nobody is let in by $name");
}

# --- what the database has ----------------------------------------------------

sub people () { return $bruno->request('P_GET_ALL_USER', Refresh => Mojo::JSON->true) }

my %row = (
    'a profile that is no object' => ['Profile', '[1]'],
    'a profile of 70 KiB'         => ['Profile', '{"a":"' . 'x' x 70_000 . '"}'],
);
for my $name (sort keys %row) {
    my ($column, $value) = $row{$name}->@*;
    $db->sql("UPDATE dbo.Users SET $column = ? WHERE UserId = 3", $value);
    my $reply = people();
    is_deeply([$reply->{Reason}, [map { $_->{UserId} } $reply->{Users}->@*]], ['OK', [1]], "$name costs himself, not the list");
    like($bruno->request('P_GET_USER', UserId => 3)->{Reason}, qr/\A(?:NOT_FOUND|UNAVAILABLE)\z/, '... and he is not shown');
}
$db->sql('UPDATE dbo.Users SET Profile = NULL WHERE UserId = 3');

if ($db->can_fail) {
    my %procedure = (
        Parley_Get_User_List           => sub { people() },
        COB_GetUserById                => sub { $bruno->request('P_GET_USER', UserId => 2) },
        COB_Authenticate_Get_User_List => sub {
            $server->connect->request('P_AUTHENTICATE', UserName => 'user1', Password => 'pass-1', DeviceId => 'd');
        },
    );
    for my $at (sort keys %procedure) {
        for my $what (qw(nulls wrong_types extra_result garbage cut no_rows)) {
            # One error in three: the breaker spares a database that fails more often.
            $procedure{$at}->() for 1 .. 2;
            $db->clear;
            $db->fault(at => $at, what => $what, times => 1);
            my $reply = $procedure{$at}->();
            my $text  = encode_json($reply);
            unlike($text, qr/secret of a patient|no number/, "$at, $what: nothing of it is shown");
            is($procedure{$at}->()->{Reason}, 'OK', '... and the next one is answered') or diag $text;
        }
    }
}
is_deeply([map { $_->{UserId} } people()->{Users}->@*], [1, 3], 'all are there again');
is($db->count('Users'), 3, 'and nobody has dropped a table');
my $log = $server->log_text;
unlike($log, qr/DROP TABLE|evil|مرحبا|secret of a patient|pass-1/, 'the log has no word of it');
$server->finish;
done_testing;
