# Somebody else changes users in the database: who has a session here is looked
# up anew, soon and without being asked.
use v5.36;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Mssql;
use Parley::Story;
use Test::More;

my $db = Parley::Mssql->start;
$db->add_users(1 .. 4);
my $server = Parley->start(conf => {$db->conf, 'directory.cache_ttl' => '1s'});
my ($alice, $bruno, $carla) = map { $server->client($_) } 1 .. 3;

# A change says when it was made: etc/mssql/README.
sub change ($user, $set) {
    my ($sec, $min, $hour, $day, $month, $year) = gmtime;
    my $now = sprintf '%04d-%02d-%02dT%02d:%02d:%02d.000', $year + 1900, $month + 1, $day, $hour, $min, $sec;
    $db->sql("UPDATE dbo.Users SET $set, UpdatedAt = ? WHERE UserId = ?", $now, $user);
    return;
}

sub name_in_store ($id) {
    my ($code, $out) = $server->ctl('user', 'list', '--json');
    return $code == 0 && $out =~ /"id":$id,"name":"([^"]*)"/ ? $1 : '';
}

change(2, "DisplayName = N'Bruno anew'");
ok(Parley::poll_until(20, sub { name_in_store(2) eq 'Bruno anew' }), 'a new name is here, though nobody asked');
send_text($bruno, [1], 'my name?');
is((take_messages($alice, 1))[0]{FromUser}{Name}, 'Bruno anew', '... and on what he writes');

change(3, 'IsActive = 0');
is_deeply([$carla->expect_close(20)], [4003, 'KICKED'], 'who is no user any more is sent away');
is($server->connect->request('P_AUTHENTICATE', Token => $server->token(3), DeviceId => 'd')->{Reason}, 'AUTH_FAILED',
    '... and does not come back');
is(user_in($alice->request('P_GET_ALL_USER')->{Users}, 3), undef, '... nor is he in a list');
change(3, 'IsActive = 1');
is($server->client(3)->session->{Name}, 'User 3', '... until he is one again');

my $calls = $server->metric('parley_mssql_users_changed_total');
cmp_ok($calls, '>=', 2, 'they were counted');
change(1, "DisplayName = N'Alice anew'");
ok(Parley::poll_until(20, sub { name_in_store(1) eq 'Alice anew' }), 'another one');
if ($db->can_fail) {
    $db->fault(at => 'COB_Get_All_User', what => $_, times => 1, number => 50000) for qw(nulls wrong_types garbage cut error);
    $server->allow_errors(qr/mssql-/);
    Parley::poll_until(30, sub { ($db->counters->{faults}{error} // 0) == 1 });
    change(2, "DisplayName = N'Bruno again'");
    ok(Parley::poll_until(60, sub { name_in_store(2) eq 'Bruno again' }), 'answers that make no sense are asked for once more');
}
$server->finish;
done_testing;
