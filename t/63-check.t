# parleyctl check: a sound store is called sound, beside a running server and
# without one; damage of any kind is found, and named by its row.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use File::Copy qw(copy);
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

my $server = Parley->start(conf => {'policy.may_message' => 'anyone', 'directory.rehearse_outbox' => 'yes'});
$server->add_users(1 .. 4);
my $alice = $server->client(1, DeviceId => 'a');
my $bruno = $server->client(2, DeviceId => 'b');
my $carla = $server->client(3, DeviceId => 'c');
$_->close for $bruno, $carla;
my $secret = 'what nobody else shall ever read';
send_text($alice, [2, 3], "$secret $_") for 1 .. 200;
send_text($alice, [2],    "$secret $_") for 1 .. 100;

# --- beside a running server ------------------------------------------------

my $load = Parley::Fault->load($server);
for my $n (1 .. 5) {
    my ($code, $out, $err) = $server->ctl('check');
    is($code, 0, "check $n beside a server under load") or diag $out, $err;
    like($out, qr/: \d+ rows in [\d.]+ s, all sound\n\z/, '... is sound');
    $load->await_messages(50);
}
$load->finish('checks');
$alice->close;
is($server->stop, 0, 'the server stops');

# --- without one ------------------------------------------------------------

my $data = $server->dir . '/data';

sub check ($folder) {
    my ($code, $out) = $server->ctl('check', '--json', $folder);
    my $told = eval { decode_json($out) };
    diag $out if !$told;
    unlike($out, qr/\Q$secret\E/, 'no word of a message is told');
    return ($code, $told);
}
my ($code, $told) = check($data);
is($code, 0, 'a store without a server');
cmp_ok($told->{rows}, '>', 1000, '... is read');
is_deeply($told->{damaged}, [], '... and sound');

# --- damage -----------------------------------------------------------------

my $image = Parley::slurp("$data/main.mdb");
my $copy  = $server->dir . '/copy';
mkdir $copy or die "mkdir: $!\n";

sub damaged ($bytes) {
    Parley::spew("$copy/main.mdb", $bytes);
    return check($copy);
}

# One byte of a text, in the only place where it is in use, or in all.
(my $bytes = $image) =~ s/\Q$secret\E 77"?/$secret 7x/g;
($code, $told) = damaged($bytes);
is($code, 1, 'a changed byte of a message is found');
is_deeply([map { "$_->{table}: $_->{finding}" } $told->{damaged}->@*],
    [('log: its length or its checksum does not fit') x $told->{damaged}->@*], '... in its row');
cmp_ok($told->{complete}, '==', 1, '... and the rest is read');

($code, $told) = damaged(substr $image, 0, 4096 * 20);
is($code, 1, 'a file cut short is found');
($code, $told) = damaged('');
is($code, 1, 'an empty file is no store');
($code, $told) = damaged('x' x 65536);
is($code, 1, 'garbage neither');
unlink "$copy/main.mdb";
($code, undef, my $err) = $server->ctl('check', $copy);
is($code, 1, 'no store at all');
like($err, qr/main\.mdb: No such file/, '... is said');

# Zeroed pages and flipped bits: never a clean verdict over a page that is in
# use and has another content. Which pages are in use the image itself says:
# a store without the page is another one.
srand 4711;
my $pages = length($image) / 4096;
my ($found, $sound, $rounds) = (0, 0, fault_rounds(40, 500));
for my $n (1 .. $rounds) {
    my $page = 2 + int rand $pages - 2;
    $bytes = $image;
    if ($n % 2) {
        substr($bytes, $page * 4096, 4096) = "\0" x 4096;
    } else {
        my $at = $page * 4096 + int rand 4096;
        substr($bytes, $at, 1) = chr(ord(substr $bytes, $at, 1) ^ 1 << int rand 8);
    }
    ($code, $told) = damaged($bytes);
    $code == 0 ? $sound++ : $found++;
    last if $code != 0 && $code != 1;
}
is($found + $sound, $rounds, "each of $rounds images gets a verdict");
cmp_ok($found, '>', $rounds / 10, "... $found are damaged, $sound have it where nothing is in use");

$server->launch;
$server->finish;
done_testing;
