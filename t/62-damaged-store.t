# A damaged store: whatever was changed in it, nobody is shown what somebody else
# or nobody wrote, no process dies again and again, and what cannot be served is
# set aside under a name that the log tells; nothing empty takes its place.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use List::Util qw(max shuffle);
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Lmdb;
use Parley::Story;
use Test::More;

# With a sanitizer, too, a crash is a crash, and no exit with a report: damaged
# pages lead liblmdb anywhere.
$ENV{ASAN_OPTIONS} = join ':', $ENV{ASAN_OPTIONS} // (), 'handle_segv=0', 'handle_sigbus=0';

# Two deaths lead to the check; a few more may die while it begins.
my $DEATHS_MAX = 8;
my @ERRORS     = qr/ (?:store-|process-|row-refused|record-set-aside|start-failed|reload-)|panic| (?:keeper|worker-\d|directory|console|supervisor)\[/;

my $server = Parley->start(
    conf => {'policy.may_message' => 'anyone', 'server.drain_window' => '500ms'},
    allow_errors => \@ERRORS,
);
my $data  = $server->dir . '/data';
my $store = "$data/main.mdb";
my $place = $server->dir . '/backup';

# --- what there is ----------------------------------------------------------

# Every text names who may see it, and says what nothing else says.
my %written;    # text => its sender and the others who may see it
my %text_of;    # message id => text, of those that were acknowledged
my %client;
my @groups = ([1, 2], [1, 3], [2, 3], [1, 2, 3], [4, 5], [4, 5, 6], [1, 4], [2, 5, 6], [3, 6]);
my $serial = 0;

sub post ($from, $to, $len = int rand 400) {
    my $text = sprintf 'text %d of %d for %s, %s', ++$serial, $from, join('+', @$to), 'x' x $len;
    $written{$text} = [$from, @$to];
    my $reply = send_text($client{$from}, $to, $text);
    $text_of{$reply->{MessageId}} = $text if $reply->{Reason} eq 'OK';
    return;
}

sub populate () {
    $server->ctl('user', 'add', '--range', '1-6');
    $client{$_} = $server->client($_, DeviceId => 'old') for 1 .. 6;
    for my $n (1 .. 240) {
        my @members = $groups[$n % @groups]->@*;
        my $from    = $members[$n % @members];
        post($from, [grep { $_ != $from } @members]);
    }
    # Half have seen all of it; of the other half it waits.
    for my $id (1, 3, 5) {
        my @events = $client{$id}->events_so_far('P_MESSAGE');
        $client{$id}->send_command('P_ACK', Seq => $events[-1]{Seq}) if @events;
        settle($client{$id});
    }
    # One long text lies on pages of its own.
    post(2, [3], 9000);
    $_->close for values %client;
    return;
}
populate();
my @original = keys %text_of;
is(scalar @original, 241, 'people have written to each other');
is(($server->ctl('backup', $place))[0], 0, 'a backup is made');
is($server->stop, 0, 'the server stops');
my $image = Parley::slurp($store);
ok(-e "$data/store-made",   'it is noted that there is a store');
like(Parley::slurp("$data/last-backup"), qr/\A\S+Z \Q$place\E\n\z/, '... and where its backup is');

# --- what a round does ------------------------------------------------------

# Since a mark in the log.
# Not log_text: that has what liblmdb says to stderr behind the log.
my $log_from = 0;
sub log_all () { return Parley::slurp($server->dir . '/parleyd.log') }
sub log_now () { return substr log_all(), $log_from }
sub deaths () { return scalar(() = log_now() =~ / process-died /g) }

sub put_in_place ($bytes) {
    unlink glob("$data/main.mdb* $data/store-damaged");
    Parley::spew($store, $bytes);
    $log_from = length log_all();
    return;
}

# The verdict of the server on itself: serving, or refused (the store has been
# set aside or is gone); undef while neither is settled.
sub verdict () {
    my ($code, $body) = $server->http_get('/health');
    my $health = defined $code ? eval { decode_json($body) } : undef;
    return 0 if !$health;
    return 'refused' if $health->{reason} =~ /damaged or gone/ && $server->process('worker-0')->{state} eq 'running';
    return 'errored' if log_now() =~ / process-errored /;
    return 'serving' if $health->{ready};
    return 0;
}

sub await_verdict () {
    return Parley::poll_until(30, sub { $server->status && $server->{status}{ops} ? verdict() : 0 });
}

# What arrives is what was written, and for this one to see.
my @wrong;

sub look_at ($id, @messages) {
    for my $message (@messages) {
        my $text  = $message->{Message};
        my $those = $written{$text};
        next
            if $those
            && $message->{FromUser}{UserId} == $those->[0]
            && $text eq ($text_of{$message->{MessageId}} // $text)
            && grep { $_ == $id } @$those;
        push @wrong, "user $id is shown " . Mojo::JSON::encode_json($message);
    }
    return scalar @messages;
}

# One user logs in, takes what waits, reads all history, writes. Whatever fails
# may fail: what is shown must be right.
sub visit ($id) {
    my $seen   = 0;
    my $client = eval { $server->client($id, DeviceId => $id % 2 ? 'old' : 'new') } // return 0;
    $client{$id} = $client;
    my $ok = eval {
        my $list = $client->request('P_GET_CONVERSATIONS');
        $seen += look_at($id, grep {defined} map { $_->{LastMessage} } ($list->{Conversations} // [])->@*);
        for my $members (grep {
                grep { $_ == $id } @$_
            } @groups) {
            my @others = grep { $_ != $id } @$members;
            next if @others != 1;
            my $page = $client->request('P_GET_MESSAGES', UserId => $others[0], Limit => 100);
            $seen += look_at($id, ($page->{Messages} // [])->@*);
        }
        for my $conversation (grep {defined} map { $_->{ConversationId} } ($list->{Conversations} // [])->@*) {
            my $page = $client->request('P_GET_MESSAGES', ConversationId => $conversation, Limit => 100);
            $seen += look_at($id, ($page->{Messages} // [])->@*);
        }
        my $peer = 1 + $id % 6;
        post($id, [$peer]);
        $client->request('P_HEARTBEAT');
        1;
    };
    # What came by itself, also when the connection has broken since.
    $seen += look_at($id, grep { $_->{Command} eq 'P_MESSAGE' } $client->{events}->@*);
    eval { $client->drop };
    return $ok ? $seen : -$seen;
}

# It is refused, and everything around it says so.
sub refused_is_told ($name) {
    my ($code, $body) = $server->http_get('/health');
    my $health = decode_json($body);
    is($code, 503, "$name: /health fails");
    like($health->{reason}, qr/damaged or gone.*parleyctl restore/, '... and says why');
    is(($server->http_get('/ready'))[0], 503, '... /ready too');
    is($server->process('keeper')->{state}, 'errored', '... the keeper stays down');
    my $client = $server->connect;
    my $reply  = $client->request('P_AUTHENTICATE', Token => $server->token(1), DeviceId => 'd');
    is($reply->{Reason}, 'UNAVAILABLE', '... a login is told to come later');
    cmp_ok($reply->{RetryAfter}, '>', 0, '... when');
    $client->drop;
    like(($server->ctl('status'))[1], qr/failed: .*damaged or gone/, '... parleyctl status knows it');
    cmp_ok(deaths(), '<=', $DEATHS_MAX, '... and no process died again and again');
    return;
}

sub restored_is_whole ($name) {
    my ($code, $out, $error) = $server->ctl('restore', $place);
    is($code, 0, "$name: the backup is put back") or diag($out, $error);
    ok(!-e "$data/store-damaged", '... and nothing says no any more');
    $log_from = length log_all();
    $server->launch;
    $client{$_} = $server->client($_, DeviceId => 'whole') for 1 .. 6;
    my %got;
    for my $id (1 .. 6) {
        my $list = $client{$id}->request('P_GET_CONVERSATIONS');
        for my $conversation (map { $_->{ConversationId} } $list->{Conversations}->@*) {
            my $page = $client{$id}->request('P_GET_MESSAGES', ConversationId => $conversation, Limit => 100);
            look_at($id, $page->{Messages}->@*);
            $got{$id}{$_->{MessageId}} = 1 for $page->{Messages}->@*;
        }
    }
    my @missing;
    for my $message (@original) {
        push @missing, map {"$message of $_"} grep { !$got{$_}{$message} } $written{$text_of{$message}}->@*;
    }
    is_deeply(\@missing, [], '... with all that was in it');
    is_deeply(\@wrong, [], '... and nothing else');
    $_->close for values %client;
    is($server->stop, 0, '... the server stops');
    return;
}

# --- the file is no store ---------------------------------------------------

put_in_place("\0" x 8192 . substr $image, 8192);
$server->spawn;
is(await_verdict(), 'refused', 'without its first two pages it is set aside');
refused_is_told('no meta pages');
my ($aside) = log_now() =~ / error supervisor\S* store-damaged .*set_aside=(\S+) /;
ok($aside && -e "$data/$aside", 'the log names what is kept');
like(log_now(), qr/ store-damaged .*parleyctl restore \Q$place\E /, '... and the newest backup');
ok(!-e $store, '... and there is no other store');
like(($server->ctl('restart', 'keeper'))[2], qr/the store is damaged/, '... parleyctl restart brings none back');
is($server->stop, 0, 'it stops');
$log_from = length log_all();
$server->spawn;
is(await_verdict(), 'refused', 'the next start refuses at once');
is(deaths(), 0, '... without a death');
like(log_now(), qr/ error supervisor\S* store-refused .*\Q$aside\E.*restore \Q$place\E/, '... and says it again');
is($server->stop, 0, 'it stops');
restored_is_whole('after that');

# --- it has vanished, or was cut short --------------------------------------

put_in_place($image);
unlink $store or die "$store: $!\n";
$server->spawn;
is(await_verdict(), 'refused', 'a store that has vanished is not made anew');
refused_is_told('vanished');
ok(!-e $store, '... not even an empty one');
is($server->stop, 0, 'it stops');
put_in_place('');
$server->spawn;
is(await_verdict(), 'refused', 'an empty file is none either');
is($server->stop, 0, 'it stops');
is(($server->ctl('restore', $place, '--empty'))[0], 2, 'a backup and nothing at once cannot be restored');
is(($server->ctl('restore'))[0], 2, '... nor neither');
is(($server->ctl('restore', '--empty'))[0], 0, 'whoever wants to begin anew says so');
$log_from = length log_all();
$server->launch;
is(($server->ctl('user', 'add', 1, 'User 1'))[0], 0, '... and has an empty store');
is($server->stop, 0, 'it stops');

# Under a running server, while somebody writes.
put_in_place($image);
$server->launch;
$client{1} = $server->client(1, DeviceId => 'old');
post(1, [2]);
truncate $store, 8 * 4096 or die "$store: $!\n";
Parley::poll_until(20, sub { eval { visit($_) } for 1 .. 3; verdict() eq 'refused' });
is(await_verdict(), 'refused', 'one cut short under a running server is set aside');
refused_is_told('cut short');
like(log_now(), qr/ process-died name=\S+ pid=\d+ signal=/, '... after crashes');
is($server->stop, 0, 'it stops');
is_deeply(\@wrong, [], 'nobody was shown anything wrong');

# --- anything, anywhere -----------------------------------------------------

my $seed = $ENV{PARLEY_SEED} // time;
diag("PARLEY_SEED=$seed");
srand $seed;
my $map    = Parley::Lmdb->read($image);
my @leaves = $map->used(qw(branch leaf overflow));
my $rounds = fault_rounds(4, 500);
my %tally;

sub garbage ($len) { return join '', map { chr int rand 256 } 1 .. $len }

# What is done: name, and does it hit something that is in use for certain?
my @damages = (
    flip => sub ($bytes) {
        my $span = $map->spans->[rand $map->spans->@*];
        my $at   = $span->[0] + int rand $span->[1];
        substr($$bytes, $at, 1) ^.= chr(1 << int rand 8);
        return 1;
    },
    flips => sub ($bytes) {
        for (1 .. 40) {
            my $page = $leaves[rand @leaves];
            substr($$bytes, $page * 4096 + int rand 4096, 1) ^.= chr(1 << int rand 8);
        }
        return 0;
    },
    zero => sub ($bytes) {
        substr($$bytes, $leaves[rand @leaves] * 4096, 4096) = "\0" x 4096;
        return 1;
    },
    garbage => sub ($bytes) {
        substr($$bytes, $leaves[rand @leaves] * 4096, 4096) = garbage(4096);
        return 1;
    },
    swap => sub ($bytes) {
        my ($one, $two) = (shuffle @leaves)[0, 1];
        my $page = substr $$bytes, $one * 4096, 4096;
        substr($$bytes, $one * 4096, 4096) = substr $$bytes, $two * 4096, 4096;
        substr($$bytes, $two * 4096, 4096) = $page;
        return 1;
    },
    cut => sub ($bytes) {
        my $last = max @leaves;
        $$bytes = substr $$bytes, 0, 4096 * int rand $last;
        return 1;
    },
    torn => sub ($bytes) {
        my $page = $leaves[rand @leaves];
        substr($$bytes, $page * 4096 + 512, 3584) = substr $image, $leaves[rand @leaves] * 4096 + 512, 3584;
        return 0;
    },
    meta => sub ($bytes) {
        my $at = int rand 2 * 4096;
        $at = int(rand 2) * 4096 + 16 + int rand 136;
        substr($$bytes, $at, 1) ^.= chr(1 << int rand 8);
        return 0;
    },
);
my @names = map { $damages[2 * $_] } 0 .. @damages / 2 - 1;
my %do    = @damages;

my @bad;

# The seed alone does not make the same store again.
sub keep_for_later ($n, $bytes) {
    my $folder = Parley::build_dir() . '/t/failed';
    mkdir $folder;
    Parley::spew("$folder/damaged-store-$seed-$n.mdb", $bytes);
    Parley::spew("$folder/damaged-store-$seed-$n.log", log_now());
    return;
}

for my $n (1 .. $rounds) {
    my $name    = $names[($n - 1 + ($seed % @names)) % @names];
    my $bytes   = $image;
    my $is_sure = $do{$name}->(\$bytes) && $bytes ne $image;
    my %mine    = %text_of;
    my $before  = @bad;
    put_in_place($bytes);
    my ($code, $out) = $server->ctl('check', {timeout => 90});
    push @bad, "round $n ($name): parleyctl check calls it sound" if $is_sure && $code == 0;
    push @bad, "round $n ($name): parleyctl check ends with $code" if $code > 1;
    $server->spawn;
    my $end = await_verdict() // 'undecided';
    if ($end eq 'serving') {
        visit($_) for shuffle 1 .. 6;
        $end = await_verdict() // 'undecided';
    }
    push @bad, "round $n ($name): $end, " . deaths() . ' deaths'
        if $end !~ /\A(?:serving|refused)\z/ || deaths() > $DEATHS_MAX;
    push @bad, "round $n ($name): set aside without a word"
        if $end eq 'refused' && log_now() !~ / store-damaged .*set_aside=main\.mdb\.damaged-/;
    push @bad, "round $n ($name): @wrong" if @wrong;
    $tally{$name}{"$end, check says " . ($code == 0 ? 'sound' : 'damaged')}++;
    $server->stop // push @bad, "round $n ($name): it did not stop";
    @wrong   = ();
    %text_of = %mine;
    keep_for_later($n, $bytes) if @bad > $before;
    last if @bad > 5;
}
is(scalar @bad, 0, "$rounds damaged stores: what is shown is right, what is not served is set aside")
    or diag(map { substr($_, 0, 300) . "\n" } @bad);
for my $name (sort keys %tally) {
    diag("$name: ", join '; ', map {"$_: $tally{$name}{$_}"} sort keys $tally{$name}->%*);
}
unlink glob("$data/main.mdb* $data/store-damaged");
restored_is_whole('in the end');
unlike($server->log_text, qr/text \d+ of \d+ for/, 'the log names no text');
$server->launch;
$server->finish;
done_testing;
