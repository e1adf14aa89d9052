# The power fails under load, simulated: whatever the disk may hold then, the
# store opens, every row is sound, and all that a client was told is there.
#
# t/powercut/recorder.c writes down what parleyd writes, syncs and tells, while
# the keeper is killed at each step of a commit; t/powercut/powercut.c replays
# that up to many points and drops, keeps, reorders and tears what was not
# synced. The same server without syncs must fail.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use File::Copy qw(copy);
use Parley;
use Parley::Fault;
use Test::More;

plan skip_all => 'a sanitizer must be the first library of a program, so nothing can be preloaded'
    if ($ENV{PARLEY_ASAN} // '') eq 'yes';
plan skip_all => 'PARLEY_WRAPPER is used' if $ENV{PARLEY_WRAPPER};

my $TOOLS = Parley::build_dir() . '/t/powercut';
my $MAP   = 128 << 20;
my $SEED  = $ENV{SEED} // 1;

# Where a keeper is killed: enum die_at in t/powercut/journal.h.
my @STEPS = (
    'half of a page is written',
    'its pages are written',
    'its pages are synced',
    'its meta page is written, not synced',
    'its commit is done, nobody was told',
);

# In memory, where there is room: on the disk it would compete with the syncs.
sub folder_for_journal ($server) {
    my ($free_mb) = `df -Pm @{[$server->run_dir]}` =~ /^\S+\s+\d+\s+\d+\s+(\d+)\s/m;
    return ($free_mb > 2048 ? $server->run_dir : $server->dir) . '/powercut';
}

# A server under the recorder, which reads the variables.
sub start_recorded (@variables) {
    my $server = Parley->prepare(
        conf => {'policy.may_message' => 'anyone', 'store.map_size' => $MAP},
        tls  => 0,
    );
    my $folder = $server->{recording} = folder_for_journal($server);
    mkdir $folder, 0700 or die "$folder: $!\n";
    $server->{wrapper} =
        ['env', "LD_PRELOAD=$TOOLS/recorder.so", "POWERCUT_FOLDER=$folder", @variables];
    $server->launch;
    return $server;
}

# The next commit kills its keeper there.
sub kill_at ($server, $step) {
    my $old = $server->pids->{keeper};
    open my $file, '+<:raw', "$server->{recording}/die" or die "die: $!\n";
    syswrite $file, pack 'L', $step;
    close $file;
    $server->await_restart('keeper', $old);
    return;
}

# What powercut prints: its figures by name, and a line for each bad image.
sub replay ($server, $images, @options) {
    my ($code, $out, $error) = $server->run(
        ["$TOOLS/powercut", '-s', $SEED, '-n', $images, '-m', $MAP, '-f', $server->dir . '/data/main.mdb',
            @options, $server->{recording}],
        {timeout => 1800},
    );
    die "powercut: $error" if $code != 0;
    my @lines = split /\n/, $out;
    my %figure = (pop @lines) =~ /(\S+)=(\d+)/g;
    return (\%figure, @lines);
}

# For whoever looks into a failure.
sub keep_bad ($server, @lines) {
    my $folder = Parley::build_dir() . '/t/failed';
    mkdir $folder;
    copy("$server->{recording}/bad.mdb", "$folder/power-cut.mdb");
    diag(join "\n", @lines, "the first of them is kept as $folder/power-cut.mdb");
    return;
}

# --- a recording ------------------------------------------------------------

my $server = start_recorded();
my $load   = Parley::Fault->load($server, pairs => 20, rate => 2000);
my $rounds = fault_rounds(1, 4);
for my $round (1 .. $rounds) {
    for my $step (1 .. @STEPS) {
        kill_at($server, $step);
        ok($load->await_messages(50), "round $round: a keeper is killed when $STEPS[$step - 1]; its successor serves");
    }
}
$load->await_messages(fault_rounds(500, 4000));
$load->finish('kills within commits');
$server->finish;

# --- the power fails --------------------------------------------------------

my $images  = fault_rounds(40, 1000);
my $samples = fault_rounds(1, 20);
my ($figure, @bad) = replay($server, $images, '-k', $samples);
is($figure->{strays}, 0, 'the replay arrives at the file that each keeper found, and at the last one');
is($figure->{sound}, $images, "$images power cuts: each store opens, is sound, and holds all that was told")
    or keep_bad($server, @bad);
cmp_ok($figure->{'successor-told'}, '>=', $rounds * @STEPS, '... also right after the first answer of a successor');
cmp_ok($figure->{unsynced}, '>', $images / 4, '... many of them with something that was not synced');
cmp_ok($figure->{promises}, '>', 100 * $images, '... and with much that was told');

# --- a server on what is left -----------------------------------------------

# The messages of an image that were answered last, by sender and receiver:
# see image.c.
sub told_of ($folder) {
    my %told;
    for my $line (split /\n/, Parley::slurp("$folder/told")) {
        my ($from, $to, $id, $client_id, $seq, $text) = split / /, $line, 6;
        push $told{"$from $to"}->@*, {id => $id, client_id => $client_id, seq => $seq, text => $text};
    }
    return \%told;
}

# Everything in the inbox from the device's cursor on.
sub read_inbox ($client) {
    my ($seq, %ids) = ($client->session->{FirstSeq} - 1);
    my $is_whole = 1;
    while ($seq < $client->session->{LastSeq}) {
        my $event = $client->expect_event('P_MESSAGE');
        $is_whole = 0 if $event->{Seq} != $seq + 1;
        $seq = $event->{Seq};
        $ids{$event->{MessageId}} = $seq;
        $client->send_command('P_ACK', Seq => $seq) if $seq % 50 == 0;
    }
    return ($is_whole, \%ids);
}

sub read_history ($client, $other) {
    my (@ids, %before);
    while (1) {
        my $page = $client->request('P_GET_MESSAGES', UserId => $other, Limit => 200, %before);
        push @ids, map { $_->{MessageId} } $page->{Messages}->@*;
        return @ids if !$page->{HasMore};
        %before = (Before => $ids[-1]);
    }
}

sub serve_image ($folder) {
    my $after = Parley->prepare(conf => {'policy.may_message' => 'anyone', 'store.map_size' => $MAP});
    copy("$folder/main.mdb", $after->dir . '/data/main.mdb') or die "$folder: $!\n";
    $after->launch;
    my $told  = told_of($folder);
    my %count = (asked => 0, known => 0, in_history => 0, whole => 0, pairs => 0);
    for my $pair ((sort keys %$told)[0 .. 1]) {
        my ($from, $to) = split / /, $pair;
        my @messages = $told->{$pair}->@*;
        my $sender   = $after->client($from, DeviceId => "load-$from");
        for my $message (@messages) {
            my $reply = $sender->request('P_SEND_MESSAGE', ToUserList => [0 + $to],
                ClientMessageId => $message->{client_id}, Message => $message->{text});
            $count{asked}++;
            $count{known}++ if $reply->{Reason} eq 'DUPLICATE' && $reply->{MessageId} eq $message->{id};
        }
        my %in_history = map { $_ => 1 } read_history($sender, $to);
        $count{in_history} += grep { $in_history{$_->{id}} } @messages;
        my ($is_whole) = read_inbox($after->client($to, DeviceId => "load-$to"));
        $count{pairs}++;
        $count{whole}++ if $is_whole;
    }
    $after->finish;
    return \%count;
}

for my $n (1 .. $samples) {
    my $count = serve_image("$server->{recording}/sample-$n");
    cmp_ok($count->{asked}, '>', 0, "image $n of $samples serves");
    is($count->{known}, $count->{asked}, '... a retry of what was acknowledged is a DUPLICATE');
    is($count->{in_history}, $count->{asked}, '... which the history holds');
    is($count->{whole}, $count->{pairs}, '... and no Seq is missing');
}

# --- a disk that does not sync ----------------------------------------------

# The same recording: what the judge says when promises are not kept.
my $controls = fault_rounds(10, 200);
my ($unsynced) = replay($server, $controls, '-d');
cmp_ok($unsynced->{lost}, '>', 0, 'with a disk that does not heed O_DSYNC acknowledged messages are lost');
is($unsynced->{closed} + $unsynced->{damaged}, 0, '... though the pages of each store fit together');

my $unsafe = start_recorded('POWERCUT_NOSYNC=1');
$load = Parley::Fault->load($unsafe, pairs => 20, rate => 2000);
$load->await_messages(1000);
$load->finish('a store without syncs');
$unsafe->finish;
my ($without) = replay($unsafe, $controls);
is($without->{strays}, 0, '... is recorded in whole');
cmp_ok($without->{sound}, '<', $controls / 2, "... and most of $controls power cuts destroy it");
cmp_ok($without->{closed} + $without->{damaged}, '>', 0, '... so that its pages do not fit together');

diag "$figure->{messages} messages, $figure->{entries} entries; of $images images $figure->{unsynced} with something"
    . " not synced, $figure->{sound} sound; of $controls with no O_DSYNC $unsynced->{sound},"
    . " with no sync $without->{sound}";
done_testing;
