# History that the store has let go comes from the database: from whichever
# message on, in whatever steps, up or down, no message is missing at the seam
# and none comes twice; nobody is shown more than before; and a page that cannot
# be had does not look like the end.
use v5.36;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Mssql;
use Parley::Story;
use Test::More;

my $db = Parley::Mssql->start;
$db->add_users(1 .. 3);
my $server = Parley->start(conf => {$db->conf}, allow_errors => [qr/mssql-(?:refuses|failed|history-wrong)/]);

sub keeper_says ($name) { return $server->metric("parley_$name", process => 'keeper') // -1 }

sub retain ($value) {
    $server->set('store.history_retention' => $value);
    is(($server->ctl('reload'))[0], 0, 'history is kept for ' . ($value // 'ever'));
    return;
}

sub await_written () {
    return Parley::poll_until(20, sub {
        my ($code, $out) = $server->ctl('outbox', 'list', '--json');
        return $code == 0 && decode_json($out)->{waiting} == 0;
    });
}

my $alice = $server->client(1);
my $bruno = $server->client(2);
my $carla = $server->client(3);

# All that waits for a client is acknowledged: an inbox would hold the history.
sub hear (@clients) {
    for my $client (@clients) {
        settle($client);
        my @seqs = map { $_->{Seq} // () } splice $client->{events}->@*;
        $client->send_command('P_ACK', Seq => $seqs[-1]) if @seqs;
        settle($client);
    }
    return;
}

# Everything that was said until now leaves the store.
sub let_go () {
    hear($alice, $bruno, $carla);
    await_written() or BAIL_OUT('nothing is written');
    Parley::poll_until(20, sub { keeper_says('history_bytes') > 0 }) or BAIL_OUT('the keeper sees nothing');
    retain('1s');
    ok(Parley::poll_until(30, sub { keeper_says('history_bytes') == 0 }), '... the store has let go of it');
    retain(undef);
    return;
}

sub say_some ($first, $last) {
    my @ids = map { send_text($alice, [2], "nº $_ 😀", ClientMessageId => "m-$_", Type => 'note')->{MessageId} } $first .. $last;
    return @ids;
}

# All there is, in pages of a size, from the newest down.
sub page_down ($client, $size, %which) {
    my (@messages, $before);
    while (1) {
        my $page = $client->request('P_GET_MESSAGES', %which, Limit => $size, defined $before ? (Before => $before) : ());
        return $page->{Reason} if $page->{Reason} ne 'OK';
        return 'too many' if $page->{Messages}->@* > $size;
        return 'an empty page' if !$page->{Messages}->@* && $page->{HasMore};
        push @messages, $page->{Messages}->@*;
        return \@messages if !$page->{HasMore};
        $before = $messages[-1]{MessageId};
    }
}

sub page_up ($client, $size, $after, %which) {
    my @messages;
    while (1) {
        my $page = $client->request('P_GET_MESSAGES', %which, Limit => $size, After => $after);
        return $page->{Reason} if $page->{Reason} ne 'OK';
        push @messages, $page->{Messages}->@*;
        return \@messages if !$page->{HasMore};
        $after = $messages[-1]{MessageId};
    }
}

sub ids_of ($messages) { return ref $messages ? [map { $_->{MessageId} } @$messages] : $messages }

# --- the seam -----------------------------------------------------------------

my @ids = say_some(1, 12);
is($alice->request('P_EDIT_MESSAGE', MessageId => $ids[2], Message => 'nº 3, anew')->{Reason}, 'OK', 'one is edited');
is($alice->request('P_DELETE_MESSAGE', MessageId => $ids[3])->{Reason}, 'OK', 'one is deleted');
my $reply = send_text($bruno, [1], 'to 5', ReplyTo => $ids[4], Attachment => {Url => 'https://files.example/7', Name => 'Ä.pdf', Size => 7, MimeType => 'application/pdf'});
push @ids, $reply->{MessageId};
my $whole = page_down($bruno, 50, UserId => 1);
let_go();
push @ids, say_some(13, 18);

for my $size (1 .. 8, 50) {
    is_deeply(ids_of(page_down($bruno, $size, UserId => 1)), [reverse @ids], "down in steps of $size: each once, in order");
    is_deeply(ids_of(page_up($bruno, $size, $ids[0], UserId => 1)), [@ids[1 .. $#ids]], "... and up");
}

# Single pages from anywhere: below a message exactly as many as were asked for,
# above it a beginning of them, and the truth about whether there are more.
my $seed = $ENV{SEED} // int rand 1e9;
srand $seed;
my @wrong;
for (1 .. 120) {
    my $limit = 1 + int rand 10;
    my $at    = int rand @ids;
    my $is_up = rand() < 0.5;
    my @all   = $is_up ? @ids[$at + 1 .. $#ids] : reverse @ids[0 .. $at - 1];
    my $page  = $bruno->request('P_GET_MESSAGES', UserId => 1, Limit => $limit, ($is_up ? 'After' : 'Before') => $ids[$at]);
    my @got   = ids_of($page->{Messages})->@*;
    my $is_ok = $page->{Reason} eq 'OK' && @got <= $limit && "@got" eq "@all[0 .. $#got]"
        && ($is_up ? @got || !@all : @got == ($limit < @all ? $limit : @all))
        && !!$page->{HasMore} eq !!(@got < @all);
    push @wrong, join ' ', $is_up ? 'up' : 'down', $at, $limit, $page->{Reason}, scalar @got, $page->{HasMore} if !$is_ok;
}
is_deeply(\@wrong, [], "120 pages from anywhere (SEED=$seed)");
is_deeply(ids_of(page_up($bruno, 5, $ids[$_], UserId => 1)), [@ids[$_ + 1 .. $#ids]], "up from the message $_") for 5, 11 .. 14;

my $again = page_down($bruno, 50, UserId => 1);
my %was = map { ($_->{MessageId} => $_) } @$whole;
for my $message (@$again[6 .. $#$again]) {
    my $before = $was{$message->{MessageId}};
    delete $before->{ClientMessageId};    # not the database's
    is_deeply($message, $before, 'a message reads as it did in the store') or diag explain [$message, $before];
}

# --- all of it gone -----------------------------------------------------------

let_go();
is_deeply(ids_of(page_down($alice, 7, ConversationId => '1-2')), [reverse @ids], 'a conversation that the store has nothing of');
is_deeply(ids_of(page_up($alice, 7, $ids[0], ConversationId => '1-2')), [@ids[1 .. $#ids]], '... and upwards');
is(page_down($carla, 7, ConversationId => '1-2'), 'NOT_FOUND', '... is nobody else\'s');

# --- those who were not there -------------------------------------------------

my $group = $alice->request('P_CREATE_GROUP', Name => 'Ward', Members => [2], ClientGroupId => 'g')->{GroupId};
sub say_in ($text) { return $alice->request('P_SEND_MESSAGE', GroupId => $group, Message => $text, ClientMessageId => "g-$text")->{MessageId} }
my @before = map { say_in("before $_") } 1 .. 5;
is($alice->request('P_UPDATE_GROUP', GroupId => $group, Add => [3])->{Reason}, 'OK', 'somebody joins a group');
my @while = map { say_in("while $_") } 1 .. 3;
is($carla->request('P_LEAVE_GROUP', GroupId => $group)->{Reason}, 'OK', '... and leaves it');
my @later = map { say_in("later $_") } 1 .. 5;
is($alice->request('P_UPDATE_GROUP', GroupId => $group, Add => [3])->{Reason}, 'OK', '... and comes back');
my @back = map { say_in("back $_") } 1 .. 2;
let_go();
my @now = map { say_in("now $_") } 1 .. 2;
my %conv = (ConversationId => "g$group");
for my $size (1, 2, 3, 50) {
    is_deeply(ids_of(page_down($carla, $size, %conv)), [reverse @while, @back, @now], "a member sees what was said while she was there, in steps of $size");
    is_deeply(ids_of(page_down($bruno, $size, %conv)), [reverse @before, @while, @later, @back, @now], '... another one all of it');
    is_deeply(ids_of(page_up($carla, $size, $while[0], %conv)), [@while[1, 2], @back, @now], '... upwards too');
}

# Who came late is not looked for in what was said before, however much it is.
sub questions () { return $db->can_fail ? $db->counters->{calls}{Message_Get_All_Messages} // 0 : 0 }
my $asked = questions();
is_deeply(ids_of(page_down($carla, 1, %conv, Before => $back[0])), [reverse @while], 'past the time she was away');
my $page = $carla->request('P_GET_MESSAGES', %conv, Before => $while[0], Limit => 1);
is_deeply([$page->{Reason}, $page->{Messages}, !!$page->{HasMore}], ['OK', [], !!0], '... nothing is hers before she came');
# Ids have holes: that nothing is left of a stay shows the first id beyond it.
cmp_ok(questions() - $asked, '<=', @while + 3, '... by a question for each message and each end of a stay') if $db->can_fail;

# --- the database is not to be had, or wrong -----------------------------------

if ($db->can_fail) {
    for my $what (qw(error reset nulls wrong_types garbage cut)) {
        $db->clear;
        $db->fault(at => 'Message_Get_All_Messages', what => $what, number => 50000);
        my $page = $bruno->request('P_GET_MESSAGES', %conv, Limit => 50);
        is_deeply([$page->{Reason}, ids_of($page->{Messages}), !!$page->{HasMore}], ['OK', [reverse @now], !!1],
            "$what: what the store has, and that there is more");
        $page = $bruno->request('P_GET_MESSAGES', %conv, Limit => 50, Before => $now[0]);
        is($page->{Reason}, 'UNAVAILABLE', '... which cannot be had now');
        cmp_ok($page->{RetryAfter}, '>', 0, '... when to come again is said');
        is($bruno->request('P_GET_MESSAGES', %conv, After => $back[0])->{Reason}, 'UNAVAILABLE', '... nor is a gap shown as none');
    }
    $db->clear;
    cmp_ok($server->metric('parley_mssql_history_wrong_total'), '>', 0, 'an answer that makes no sense is counted');
    # The breaker has opened by now.
    ok(Parley::poll_until(40, sub { ref page_down($bruno, 50, %conv) }), 'it is well again');
}
is_deeply(ids_of(page_down($bruno, 50, %conv)), [reverse @before, @while, @later, @back, @now], 'nothing is missing');
$server->finish;
done_testing;
