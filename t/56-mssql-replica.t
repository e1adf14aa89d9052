# A readable copy: what may be a little behind is read there while it is well,
# everything else, and everything when it is not, at the primary.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Mssql;
use Parley::Story;
use Test::More;

my $primary = Parley::Mssql->start;
plan skip_all => 'it takes two servers that can be killed' if !$primary->can_fail;
my $replica = Parley::Mssql->start;
$_->add_users(1 .. 2) for $primary, $replica;
$replica->sql("UPDATE dbo.Users SET DisplayName = N'of the copy' WHERE UserId = 2");
my $server = Parley->start(
    conf => {$primary->conf, 'mssql.replica' => '127.0.0.1', 'mssql.replica_port' => $replica->{port},
        'directory.cache_ttl' => '0s', 'auth.password_attempts' => 0},
    allow_errors => [qr/mssql-/, qr/breaker-state/]);
my $alice = $server->client(1);

sub name_of ($client, $id) {
    my $reply = $client->request('P_GET_ALL_USER', Refresh => Mojo::JSON->true);
    return $reply->{Reason} eq 'OK' ? user_in($reply->{Users}, $id)->{Name} : $reply->{Reason};
}

sub await_name ($expected) {
    return Parley::poll_until(60, sub { name_of($alice, 2) eq $expected });
}

is(name_of($alice, 2), 'of the copy', 'a list is read from the copy');
cmp_ok($replica->counters->{read_only}, '>', 0, '... by a login that says that it only reads');
is(send_text($alice, [2], 'to the primary')->{Reason}, 'OK', 'a message');
ok(Parley::poll_until(20, sub { $primary->count('Messages') == 1 }), '... is written to the primary');
is($replica->count('Messages'), 0, '... not to the copy');
is($server->connect->request('P_AUTHENTICATE', UserName => 'user1', Password => 'pass-1', DeviceId => 'd')->{Reason}, 'OK', 'a password');
is($primary->counters->{calls}{COB_Authenticate_Get_User_List}, 1, '... is checked at the primary');
is($alice->request('P_UPDATE_USER', Name => 'Alice anew')->{Reason}, 'OK', 'a change');
is($alice->request('P_GET_USER', UserId => 1)->{User}{Name}, 'Alice anew', '... is read where it was made, at once');

$replica->kill;
ok(await_name('User 2'), 'the copy is gone: the primary is read');
$replica->launch;
ok(await_name('of the copy'), '... it is back: so is its name');
$primary->kill;
ok(await_name('of the copy'), 'the primary is gone: the copy is read');
is(send_text($alice, [2], 'later')->{Reason}, 'OK', '... and messages are sent');
$primary->launch;
ok(Parley::poll_until(60, sub { eval { $primary->count('Messages') } // 0 == 2 }), '... it is back: they are written');
$server->finish;
done_testing;
