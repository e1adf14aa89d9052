# A backup is taken while people write; it is put back after the original has
# gone on: nobody misses anything without being told, and no number is given
# out twice.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

my $server = Parley->start(conf => {'policy.may_message' => 'anyone'});
$server->add_users(1 .. 3);
my $alice = $server->client(1, DeviceId => 'a');
my $bruno = $server->client(2, DeviceId => 'b');
my $carla = $server->client(3, DeviceId => 'c');
my $data  = $server->dir . '/data';
my $place = $server->dir . '/backup';

sub texts_of ($client, $conversation) {
    my $page = $client->request('P_GET_MESSAGES', ConversationId => $conversation, Limit => 100);
    return map { $_->{Message} } $page->{Messages}->@*;
}

sub ctl_is ($code, $name, @command) {
    my ($got, $out, $err) = $server->ctl(@command);
    is($got, $code, $name) or diag $out, $err;
    return $code == 0 ? $out : $err;
}

# --- a backup under load ----------------------------------------------------

# Bruno has acknowledged what he got, Carla has not.
send_text($alice, [2, 3], "before $_") for 1 .. 5;
take_messages($carla, 5);
$bruno->send_command('P_ACK', Seq => (take_messages($bruno, 5))[-1]{Seq});
settle($bruno);
my $load = Parley::Fault->load($server);
$load->await_messages(500);
# Before the other one: a store only grows.
ctl_is(0, 'one without free pages', 'backup', '--compact', "$place.small");
like(ctl_is(0, 'a backup beside a server under load', 'backup', $place), qr/main\.mdb: \d+ bytes in [\d.]+ s, all sound/,
    '... is checked');
ok($load->await_messages(100), '... which goes on');
$load->finish('backups');
cmp_ok(-s "$place.small/main.mdb", '<=', -s "$place/main.mdb", '... is not larger');
ctl_is(0, 'both are stores: the one', 'check', $place);
ctl_is(0, '... and the other',       'check', "$place.small");
is_deeply([map {s{.*/}{}r} glob "$place/*"], ['main.mdb', 'main.mdb-lock'], '... and nothing else is left');
is((stat "$place/main.mdb")[2] & 0777, 0600, '... for its owner alone');
like(ctl_is(1, 'a backup replaces no other', 'backup', $place), qr/is there already: name a new folder/, '... in words');
like(ctl_is(1, 'a folder that cannot be made', 'backup', '/proc/backup'), qr{/proc/backup: }, '... in words');

# --- the original goes on ---------------------------------------------------

my @lost = map { send_text($alice, [2, 3], "after $_") } 1 .. 5;
my $group  = $lost[0]{ConversationId};
my ($last) = reverse take_messages($bruno, 5);
my $epoch = $bruno->session->{Epoch};
$bruno->send_command('P_ACK', Seq => $last->{Seq});
settle($bruno);
like(ctl_is(1, 'a running server keeps its store', 'restore', $place), qr/is running: parleyctl stop first/, '... in words');
like(ctl_is(1, '... compact or not', 'compact'), qr/is running/, '... in words');
$_->close for $alice, $bruno, $carla;
is($server->stop, 0, 'it stops');

# --- what is no backup changes nothing --------------------------------------

my $before = Parley::slurp("$data/main.mdb");
mkdir "$place.bad" or die "mkdir: $!\n";
my $image = Parley::slurp("$place/main.mdb");
(my $bad = $image) =~ s/before 3/bexore 3/g or die "no text in the backup\n";
Parley::spew("$place.bad/main.mdb", $bad);
like(ctl_is(1, 'a damaged backup', 'restore', "$place.bad"), qr/the store is damaged/, '... is not put back');
Parley::spew("$place.bad/main.mdb", substr $image, 0, 5000);
ctl_is(1, 'one cut short neither', 'restore', "$place.bad");
like(ctl_is(1, 'none at all', 'restore', "$place.none"), qr/No such file/, '... in words');
ok(Parley::slurp("$data/main.mdb") eq $before, '... the store is untouched');
ok(!-e "$data/main.new", '... and nothing lies around');

# --- it is put back ---------------------------------------------------------

my $told = decode_json(ctl_is(0, 'a sound one', 'restore', '--json', $place));
ok(-e $told->{before}, '... what was there is kept');
ok(Parley::slurp($told->{before}) eq $before, '... as it was');
ctl_is(0, '... the store is sound', 'check');
$server->launch;
$bruno = $server->client(2, DeviceId => 'b', LastSeq => $last->{Seq}, Epoch => $epoch);
isnt($bruno->session->{Epoch}, $epoch, 'another epoch');
ok(!$bruno->session->{Recovered}, '... a client that knows the former is told to load its history anew');
cmp_ok($bruno->session->{LastSeq}, '>', $last->{Seq}, '... seqs are above all that were given out');
$alice = $server->client(1, DeviceId => 'a');
is_deeply([sort grep {/^(?:before|after)/} texts_of($alice, $group)], [map {"before $_"} 1 .. 5],
    'what was there when the copy was made is there');
my $reply = send_text($alice, [2, 3], 'and on');
cmp_ok($reply->{MessageId}, '>', $lost[-1]{MessageId}, 'ids go on above all that were given out');
my $event = $bruno->expect_event('P_MESSAGE', 10, sub ($event) { $event->{Message} eq 'and on' });
cmp_ok($event->{Seq}, '>', $last->{Seq}, '... and messages arrive under a new seq');
$carla = $server->client(3, DeviceId => 'c');
my @again = take_messages($carla, 6);
is_deeply([map { $_->{Message} } @again], [(map {"before $_"} 1 .. 5), 'and on'],
    'who had not acknowledged anything gets all of it again, and on');
$_->send_command('P_ACK', Seq => $again[-1]{Seq}) for $carla, $bruno;
send_text($alice, [2, 3], 'and further on');
is((take_messages($_, 1))[0]{Message}, 'and further on', '... and all that follows') for $carla, $bruno;
$_->close for $alice, $bruno, $carla;
is($server->stop, 0, 'it stops');

# --- the store is lost altogether, and compacted ----------------------------

unlink "$data/main.mdb" or die "unlink: $!\n";
ctl_is(0, 'a backup in the place of nothing', 'restore', "$place.small");
my $size = -s "$data/main.mdb";
ctl_is(0, 'a store is compacted', 'compact');
cmp_ok(-s "$data/main.mdb", '<=', $size, '... and is not larger');
ok(!-e "$data/main.new", '... nothing lies around');
$server->launch;
$alice = $server->client(1, DeviceId => 'a');
is(scalar(grep {/^before/} texts_of($alice, $group)), 5, '... all is there');
$alice->close;
ctl_is(0, '... and sound', 'check');
$server->finish;
done_testing;
