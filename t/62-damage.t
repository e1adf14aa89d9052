# A row of the store whose check does not fit any more costs that one message,
# and nobody's session.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON;
use Parley;
use Parley::Story;
use Test::More;

my $server = Parley->start(
    conf         => {'policy.may_message' => 'anyone'},
    allow_errors => [qr/ store-corrupt /],
);
is(($server->ctl('user', 'add', '--range', '1-3'))[0], 0, 'some users');

# Bruno has been there, so that his inbox is kept for his device.
my $bruno = $server->client(2, DeviceId => 'b');
my $alice = $server->client(1);
my $start = $bruno->session->{LastSeq};
$bruno->close;
my @texts = map {"the text of number $_, which nothing else says"} 1 .. 3;
my @sent;
push @sent, send_text($alice, [2, 3], $_) for @texts[0, 1];
push @sent, send_text($alice, [2], $texts[2]);
is_deeply([map { $_->{Reason} } @sent], [('OK') x 3], 'three messages wait for him');

# --- one byte of the second one ---------------------------------------------

is($server->stop, 0, 'the server stops');
my $path  = $server->dir . '/data/main.mdb';
my $bytes = Parley::slurp($path);
my $count = 0;
for (my $at = -1; ($at = index($bytes, $texts[1], $at + 1)) >= 0; $count++) {
    open my $file, '+<:raw', $path or die "$path: $!\n";
    seek $file, $at, 0;
    print {$file} 'T';
    close $file or die "$path: $!\n";
}
cmp_ok($count, '>', 0, 'a byte of the second is changed');
$server->launch;

sub received ($client) {
    my $one = $client->expect_event('P_MESSAGE');
    my $two = $client->expect_event('P_MESSAGE');
    ok(none_of($client, 'P_MESSAGE'), '... two messages come');
    return ($one, $two);
}
$bruno = $server->client(2, DeviceId => 'b');
my ($one, $two) = received($bruno);
is_deeply([map { $_->{Message} } $one, $two], [@texts[0, 2]], '... the ones that can be read');
is_deeply(seqs_of($one, $two), [$start + 1, $start + 3], '... with a Seq left out');
$bruno->close;
$bruno = $server->client(2, DeviceId => 'b');
($one, $two) = received($bruno);
is($two->{Seq}, $start + 3, 'the same after a reconnect');
$bruno->send_command('P_ACK', Seq => $start + 3);
settle($bruno);
$bruno->close;
$bruno = $server->client(2, DeviceId => 'b');
is($bruno->session->{FirstSeq}, $start + 4, 'acknowledged like any other');
ok(none_of($bruno, 'P_MESSAGE'), '... and done with');
$alice = $server->client(1);
my $live = send_text($alice, [2], 'and on it goes');
is($bruno->expect_event('P_MESSAGE')->{Seq}, $start + 4, 'what comes now has the next Seq');
is($bruno->request('P_GET_CONVERSATIONS')->{Reason}, 'OK', 'the list of conversations can be read');
my @rows = $bruno->request('P_GET_CONVERSATIONS')->{Conversations}->@*;
is_deeply([map { exists $_->{LastMessage} ? 1 : 0 } @rows], [1, 0],
    '... without the last message where that is the damaged one');
# History goes on beyond it, in pages of any size.
for my $limit (1, 2, 10) {
    my (@down, $page, $before);
    do {
        $page = $bruno->request('P_GET_MESSAGES', UserId => 1, Limit => $limit,
            $before ? (Before => $before) : ());
        push @down, $page->{Messages}->@*;
        $before = $down[-1]{MessageId};
    } while ($page->{HasMore} && @down < 10);
    # The first is for three, the third and what came since for two.
    is_deeply([map { $_->{Message} } @down], ['and on it goes', $texts[2]],
        "pages of $limit: history steps over the damaged one");
}
my $group = $bruno->request('P_GET_MESSAGES', ConversationId => $sent[0]{ConversationId}, Limit => 1);
is_deeply([$group->@{qw(Reason HasMore)}, $group->{Messages}[0]{Message}],
    ['OK', Mojo::JSON->false, $texts[0]], '... to the older ones');
$group = $bruno->request('P_GET_MESSAGES', ConversationId => $sent[0]{ConversationId},
    After => $sent[0]{MessageId});
is_deeply([$group->@{qw(Reason HasMore Messages)}], ['OK', Mojo::JSON->false, []],
    '... and upwards, where it is the last');
cmp_ok($server->metric('parley_messages_skipped_total'), '>=', 2, '... which is counted');
my @told = $server->log_text =~ /store-corrupt row=log id=$sent[1]{MessageId}/g;
cmp_ok(scalar @told, '<=', 4, '... and logged once by each process');
cmp_ok($server->metric('parley_events_skipped_total'), '>=', 2, 'what was left out is counted');
unlike($server->log_text, qr/which nothing else says/, 'the log names no text');
like($server->log_text, qr/ error .* store-corrupt row=log id=$sent[1]{MessageId}/,
    '... but the message');

$server->finish;
done_testing;
