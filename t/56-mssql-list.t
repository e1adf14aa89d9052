# A list of ten thousand users out of SQL Server: one question for all who ask
# at once, on all workers and of all pages; after it none, and answers at once.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Mssql;
use Parley::Story;
use Test::More;

my $LAST    = 10_001;
my $ASKERS  = 12;
my $db      = Parley::Mssql->start(delay => 35);
$db->add_users(1);
$db->insert('Users (UserId, LoginName, DisplayName, Role)', map {"($_, N'user$_', N'User $_', N'nurse')"} 2 .. $LAST);
$db->insert('UserContacts (UserId, ContactId)', map {"(1, $_)"} 2 .. $LAST);
my $server = Parley->start(conf => {$db->conf, 'server.workers' => 4});

sub calls () { return $db->can_fail ? $db->counters->{calls}{Parley_Get_User_List} // 0 : 0 }

# How many requests the directory answered within 1 ms (the nearest edge), and
# of how many.
sub answered () {
    my ($code, $text) = $server->http_get('/metrics');
    my %upto = $text =~ /^parley_directory_seconds_bucket\{process="directory",le="([^"]+)"\} (\d+)$/mg;
    my ($edge) = reverse sort { $a <=> $b } grep { $_ ne '+Inf' && $_ <= 0.0011 } keys %upto;
    return ($upto{$edge // '+Inf'}, $upto{'+Inf'});
}

# The first login brings the list into the store: that is the question.
my $before  = calls();
my $login   = now();
my @clients = map { $server->client(1, DeviceId => "device-$_") } 1 .. $ASKERS;
note sprintf 'twelve logins, the first with ten thousand contacts: %.0f ms', 1000 * (now() - $login);
my %workers = map { (worker_of($server, $_) => 1) } @clients;
cmp_ok(scalar keys %workers, '>', 1, 'the askers are on several workers');

# All at once, page by page.
sub list_all (%more) {
    my (@ids, %cursor);
    my @asking = map { {client => $_, cursor => 0, users => []} } @clients;
    while (my @left = grep { defined $_->{cursor} } @asking) {
        $_->{id} = $_->{client}->submit('P_GET_ALL_USER', Limit => 1000, Cursor => $_->{cursor}, $_->{cursor} == 0 ? %more : ()) for @left;
        for my $one (@left) {
            my $reply = $one->{client}->wait_reply($one->{id});
            die "$reply->{Reason}\n" if $reply->{Reason} ne 'OK';
            push $one->{users}->@*, map { $_->{UserId} } $reply->{Users}->@*;
            $one->{cursor} = $reply->{NextCursor};
        }
    }
    return map { $_->{users} } @asking;
}

my @lists  = list_all();
is_deeply($lists[$_], [2 .. $LAST], "asker $_ gets all of it, in order") for 0, $#lists;
is(scalar(grep { $_->@* == $LAST - 1 } @lists), $ASKERS, 'so do all');
SKIP: {
    skip 'of a real server the calls are not known', 1 if !$db->can_fail;
    is(calls() - $before, 1, '... by one question to the database');
}

my ($within, $all) = answered();
list_all() for 1 .. 3;
my ($within_now, $all_now) = answered();
is(calls() - $before, $db->can_fail ? 1 : 0, 'again and again: no other question');
cmp_ok($all_now - $all, '>=', 3 * 10 * $ASKERS, '... to the directory there were many');
my $share = ($within_now - $within) / ($all_now - $all);
note sprintf '%.1f %% of %d pages of 1,000 users within 1 ms at the directory', 100 * $share, $all_now - $all;
cmp_ok($share, '>', Parley::scaled(1) > 1 ? 0 : 0.9, '... which has nine of ten pages of a thousand within 1 ms');

list_all(Refresh => Mojo::JSON->true);
cmp_ok(calls() - $before, '<=', 1 + $ASKERS, 'asked for anew it is asked for anew') if $db->can_fail;
$server->finish;
done_testing;
