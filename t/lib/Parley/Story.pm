# Parley::Story - what several stories do with a server and its clients.
#
#     my $alice = client_on($server, 'worker-0', 1);
#     my $reply = send_text($alice, [2], 'Bonjour');
#     settle($alice);    # the keeper has nothing older for her
package Parley::Story;
use v5.36;

use Exporter qw(import);
use Mojo::JSON qw(encode_json);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

our @EXPORT = qw(client_on worker_of send_text settle none_of seqs_of
    take_messages median now user_in);

my $NOBODY = 9_007_199_254_740_991;
my $serial = 0;

# The worker that serves a session, as the log says.
sub worker_of ($server, $client) {
    no warnings "portable";    # 64 bits are what it has
    my $id = hex $client->session->{SessionId};
    return $server->await_log(qr/ (worker-\d+)\[\d+\] session-open user=\d+ session=$id /)
        || die "no session $id in the log\n";
}

# Logged in on the worker of this name: the kernel spreads connections over
# the workers, so try until it has chosen that one.
sub client_on ($server, $worker, $id, %fields) {
    for (1 .. 100) {
        my $client = $server->client($id, %fields);
        return $client if worker_of($server, $client) eq $worker;
        $client->request('P_LOGOUT');
        $client->expect_close;
    }
    die "100 connections and none on $worker\n";
}

# Send a text and wait for the reply.
sub send_text ($client, $to, $text, %more) {
    $more{ClientMessageId} //= "$$-" . ++$serial;
    return $client->request('P_SEND_MESSAGE', ToUserList => $to, Message => $text, %more);
}

# A round trip through the keeper that changes nothing: what it had for this
# client before has arrived.
sub settle ($client) {
    my $reply = $client->request('P_UNBLOCK', UserId => $NOBODY);
    die encode_json($reply) . "\n" if $reply->{Reason} ne 'NOT_FOUND';
    return;
}

# True when no event of this command (that matches) is there and none on its
# way; else what there is, as text, for the failure's message.
sub none_of ($client, $command, $matches = sub ($event) {1}) {
    settle($client);
    my @found = grep { $matches->($_) } $client->events_so_far($command);
    Test::More::diag('unexpected: ' . encode_json($_)) for @found;
    return !@found;
}

# The next $count messages, in the order in which they came.
sub take_messages ($client, $count) {
    return map { $client->expect_event('P_MESSAGE') } 1 .. $count;
}

sub seqs_of (@events) { return [map { $_->{Seq} } @events] }

# The row of a user in a list of users.
sub user_in ($users, $id) {
    my ($user) = grep { $_->{UserId} == $id } @$users;
    return $user;
}

# Seconds that no setting of the clock changes.
sub now () { return clock_gettime(CLOCK_MONOTONIC) }

sub median (@values) {
    my @sorted = sort { $a <=> $b } @values;
    return @sorted ? $sorted[$#sorted / 2] : undef;
}

1;
