# What one may not know of others, even where one may write to anyone: whether
# strangers are there, and how far somebody has read who blocks one.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Story;
use Test::More;

my $server = Parley->start(conf => {'policy.may_message' => 'anyone'});
is(($server->ctl('user', 'add', '--range', '1-3'))[0], 0, 'some users, strangers to each other');

my ($alice, $bruno) = map { $server->client($_) } 1, 2;
is($bruno->request('P_UPDATE_STATUS', Status => 'BUSY', StatusText => 'in session')->{Reason},
    'OK', 'Bruno is busy');

sub seen_by ($client, $id) {
    my $reply = $client->request('P_GET_USER', UserId => $id);
    return $reply->{Reason} if $reply->{Reason} ne 'OK';
    return [$reply->{User}->@{qw(Status StatusText LastSeen)}];
}

# What was just set is seen within [policy] presence_interval.
sub is_seen_soon ($client, $id, $look, $name) {
    my $seen;
    Parley::poll_until(5, sub { ($seen = seen_by($client, $id))->[0] eq $look->[0] });
    return is_deeply([$seen->@[0, 1]], $look, $name);
}

# --- strangers --------------------------------------------------------------

is_deeply(seen_by($alice, 2), ['OFFLINE', '', undef], 'a stranger is seen without presence');
is_deeply(seen_by($alice, 3), ['OFFLINE', '', undef], '... like one who never came');
is_seen_soon($bruno, 2, ['BUSY', 'in session'], 'one sees oneself');
my $first = send_text($alice, [2], 'may I?');
is($first->{Reason}, 'OK', 'one may write to a stranger');
is_deeply(seen_by($alice, 2), ['OFFLINE', '', undef], '... which shows nothing of him yet');
my $event = $bruno->expect_event('P_MESSAGE');
$bruno->send_command('P_ACK', Seq => $event->{Seq});
is(send_text($bruno, [1], 'you may')->{Reason}, 'OK', 'he answers');
$alice->send_command('P_ACK', Seq => $alice->expect_event('P_MESSAGE')->{Seq});
is_seen_soon($alice, 2, ['BUSY', 'in session'], '... and is seen from then on');

# --- one who blocks ---------------------------------------------------------

sub receipts ($client) {
    my $reply = $client->request('P_GET_CONVERSATIONS');
    my ($row) = grep { $_->{ConversationId} eq $first->{ConversationId} }
        $reply->{Conversations}->@*;
    return {map { $_->{UserId} => $_->{ReadUpTo} } $row->{Receipts}->@*};
}
is($bruno->request('P_MARK_READ', ConversationId => $first->{ConversationId},
    MessageId => $first->{MessageId})->{Reason}, 'OK', 'he reads');
is(receipts($alice)->{2}, $first->{MessageId}, '... she sees how far');
is($bruno->request('P_BLOCK', UserId => 1)->{Reason}, 'OK', 'he blocks her');
is_deeply(receipts($alice), {1 => 0}, '... his receipts are gone');
is(receipts($bruno)->{2}, $first->{MessageId}, '... not for himself');
ok(exists receipts($bruno)->{1}, '... nor are hers: she blocks nobody');
is(seen_by($alice, 2), 'NOT_FOUND', '... he does not exist for her');
is($bruno->request('P_UNBLOCK', UserId => 1)->{Reason}, 'OK', 'unblocked');
is(receipts($alice)->{2}, $first->{MessageId}, '... they are back');

$server->finish;
done_testing;
