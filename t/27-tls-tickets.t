# Keys of session tickets: the same in all workers, one generation kept, the rest
# forgotten; a lifetime that is shortened holds for what was given out before.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Raw;
use Parley::Tls;
use Test::More;
use Time::HiRes qw(time);

my $server = Parley->start(tls => 1, conf => {'server.tls_ticket_lifetime' => '8h', 'server.workers' => 3});
my $folder = $server->dir;
my $head   = Parley::Raw->upgrade_head;
my $number = 0;

sub s_client ($options) { return Parley::Tls::s_client($server, $options, in => $head) }

# A file with a session. 1.2 by default: there a client of OpenSSL offers what it
# has without a look at its age, and the server has to refuse.
sub ticket ($version = 'tls1_2') {
    my $file = "$folder/ticket-" . ++$number;
    s_client("-$version -sess_out $file");
    return $file;
}
sub is_good ($file, $version = 'tls1_2') {
    my $text = s_client("-$version -sess_in $file");
    $text =~ m{^HTTP/1\.1 101 }m or die "no upgrade: $text\n";
    return $text =~ /^Reused, /m;
}

# The key in use: a ticket begins with its name (RFC 5077 4).
sub key_name () {
    my ($name) = s_client('-tls1_2') =~ /TLS session ticket:\s+0000 - ((?:[0-9a-f]{2}[ -]){16})/;
    return $name // die "no ticket\n";
}
sub await_renewal () {
    my $before = key_name();
    return Parley::poll_until(30, sub { key_name() ne $before });
}

# Workers look for new keys ten times a second.
sub is_soon_bad ($file) {
    return Parley::poll_until(5, sub { !grep { is_good($file) } 1 .. 6 });
}

sub reload_with ($lifetime) {
    $server->set('server.tls_ticket_lifetime' => $lifetime);
    ($server->ctl('reload'))[0] == 0 or die "no reload\n";
    return;
}

# --- all workers --------------------------------------------------------------------

# Connections go to whichever worker takes them: hold one, see who has it.
for my $version (qw(tls1_2 tls1_3)) {
    my $file = ticket($version);
    my %seen;
    Parley::poll_until(30, sub {
        my %before = map { $_ => $server->metric('parley_tls_handshakes_resumed_total', process => "worker-$_") // 0 } 0 .. 2;
        is_good($file, $version) or die "not resumed\n";
        for my $worker (0 .. 2) {
            my $after = $server->metric('parley_tls_handshakes_resumed_total', process => "worker-$worker") // 0;
            $seen{$worker} = 1 if $after > $before{$worker};
        }
        return keys %seen >= 2;
    });
    cmp_ok(scalar keys %seen, '>=', 2, "$version: one ticket resumes with several workers");
}

# --- shorter --------------------------------------------------------------------------

my $seconds = int Parley::scaled(4);
my $long    = ticket();
ok(is_good($long), 'a ticket for 8 hours');
reload_with("${seconds}s");
ok(await_renewal(), 'a shorter lifetime: the key is renewed by then');
ok(is_good($long), '... which the ticket survives');
ok(await_renewal(), 'the second time');
ok(is_soon_bad($long), '... it does not, whatever it says itself');

# --- renewal and expiry -----------------------------------------------------------------

await_renewal();
my $half = time + $seconds / 2;
Parley::poll_until($seconds, sub { time > $half });    # it is to be young then
my $from  = time;
my $short = ticket();
ok(is_good($short), "a ticket for $seconds s");
ok(await_renewal(), 'a renewal');
SKIP: {
    skip 'the machine was too slow', 1 if time > $from + $seconds - 1;
    ok(is_good($short), '... it is still good');
}
await_renewal();
ok(is_soon_bad($short), 'not after two');

# --- none ---------------------------------------------------------------------------------

my $last = ticket();
reload_with('0');
# Six times in a row, whichever worker it is.
sub never ($check) { return Parley::poll_until(10, sub { !grep { $check->() } 1 .. 6 }) }
for my $version (qw(tls1_2 tls1_3)) {
    ok(never(sub { s_client("-$version") =~ /TLS session ticket:/ }), "no lifetime: $version gets no ticket");
}
ok(never(sub { is_good($last) }), '... nor are old ones good');

# A restart forgets all keys.
reload_with('8h');
my $old;
ok(Parley::poll_until(10, sub { $old = ticket(); -e $old && 6 == grep { is_good($old) } 1 .. 6 }), 'tickets again');
is($server->stop, 0, 'a restart');
$server->launch;
ok(!is_good($old), '... after which the old one is good no more');
$server->finish;
done_testing;
