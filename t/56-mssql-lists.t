# A list of 10,000 out of SQL Server: however many ask at once, and whichever
# worker they are at, it is one question to the database, and the next time none.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Mssql;
use Parley::Story;
use Test::More;

my ($CLIENTS, $USERS, $PAGE) = (16, 10_000, 1_000);
my $db = Parley::Mssql->start(delay => 35);
plan skip_all => 'a real server does not count its calls' if !$db->can_fail;
$db->add_users(1);
$db->add_list(1, 2 .. $USERS + 1);
my $server = Parley->start(conf => {$db->conf, 'limits.queries_per_user' => 0});
$server->add_users(1);
my @clients = map { $server->client(1, DeviceId => "device-$_") } 1 .. $CLIENTS;

# Questions to the database so far, and to the directory: all, and those that it
# has answered in less than about a millisecond.
sub asked () { return $db->counters->{calls}{Parley_Get_User_List} // 0 }

sub answered () {
    return map { $server->metric("parley_directory_seconds_bucket", le => $_) } '+Inf', '0.001024';
}

# All pages for all clients, side by side. True if everybody was sent everybody.
sub read_all () {
    my @seen   = map { [] } @clients;
    my %cursor = map { $_ => undef } 0 .. $#clients;
    while (%cursor) {
        my %id = map {
            ($_ => $clients[$_]->submit('P_GET_ALL_USER', Limit => $PAGE, defined $cursor{$_} ? (Cursor => $cursor{$_}) : ()))
        } keys %cursor;
        for my $i (keys %id) {
            my $reply = $clients[$i]->wait_reply($id{$i});
            die "P_GET_ALL_USER: $reply->{Reason}\n" if $reply->{Reason} ne 'OK';
            push $seen[$i]->@*, map { $_->{UserId} } $reply->{Users}->@*;
            $cursor{$i} = $reply->{NextCursor};
            delete $cursor{$i} if !$cursor{$i};
        }
    }
    my $all = join ' ', 2 .. $USERS + 1;
    return !grep { join(' ', @$_) ne $all } @seen;
}

my $before = asked();
ok(read_all(), "$CLIENTS clients at two workers read a list of $USERS in pages");
is(asked() - $before, 1, '... the database was asked once');
my ($all, $soon) = answered();
ok(read_all(), 'they read it again');
is(asked() - $before, 1, '... the database was not asked');
my @now = answered();
is($now[0] - $all, $CLIENTS * $USERS / $PAGE, '... the directory was, for each page');
cmp_ok($now[1] - $soon, '>', 0.9 * ($now[0] - $all), sprintf '... %d of %d answers took it less than a millisecond',
    $now[1] - $soon, $now[0] - $all);
$server->finish;
done_testing;
