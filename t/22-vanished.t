# A peer that vanishes without a word, as a phone does in a tunnel: nothing that
# is sent to it is ever acknowledged. The server lets go of it in time, the kernel
# as well, and what it missed waits for it.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

# In a network of our own, where an address can be taken away.
my $ADDRESS = '10.9.9.9';
if (!$ENV{PARLEY_OWN_NETWORK}) {
    plan skip_all => 'needs root for a network of its own' if $> != 0;
    plan skip_all => 'no network of its own can be had here'
        if system('unshare -n ip link set lo up 2>/dev/null') != 0
        || system('unshare -n ip link add v0 type veth peer name v1 2>/dev/null') != 0;
    $ENV{PARLEY_OWN_NETWORK} = 1;
    exec 'unshare', '-n', $^X, $0 or die "unshare: $!\n";
}

require Parley;
require Parley::Raw;
require Parley::Story;
Parley::Story->import;
use Mojo::JSON qw(decode_json encode_json);
use Time::HiRes qw(time);

sub ip ($text) { return system("ip $text") == 0 || die "ip $text\n" }
ip('link set lo up');
ip('link add v0 type veth peer name v1');
ip("link set $_ up") for qw(v0 v1);

my $server = Parley->start(
    tls  => 0,
    conf => {
        'server.listen'        => '0.0.0.0:0',
        'server.ping_interval' => '30s',
        'server.write_timeout' => '2s',
        'server.header_timeout' => '3s',
        'policy.presence_grace' => '100ms',
        'policy.may_message'   => 'anyone',
    }
);
$server->add_users(1, 2);
my ($port) = $server->address =~ /:(\d+)\z/;

# It lives where the address leads to; then the address leads to nowhere: a wire
# with nobody at its other end.
sub appear ()  { return ip("addr add $ADDRESS/32 dev lo") }
sub vanish () {
    ip("addr del $ADDRESS/32 dev lo");
    ip("route add $ADDRESS/32 dev v0");
    ip("neigh replace $ADDRESS lladdr 02:00:00:00:00:01 dev v0 nud permanent");
    return;
}

# Connections that the kernel has with it, as /proc/net/tcp has them.
sub sockets () {
    my $hex = sprintf '%08X', unpack 'V', pack 'C4', split /\./, $ADDRESS;
    return scalar(() = Parley::slurp('/proc/net/tcp') =~ /^ *\d+: \S+ $hex:/mg);
}

sub entered () {
    my $raw = Parley::Raw->connect("127.0.0.1:$port", from => $ADDRESS);
    $raw->upgrade;
    $raw->write(Parley::Raw->frame(1, encode_json({Command => 'P_AUTHENTICATE', RequestId => 1,
        Token => $server->token(2), DeviceId => 'phone'})));
    my ($opcode, $text) = (9);
    ($opcode, $text) = $raw->read_frame while $opcode != 1;
    is(decode_json($text)->{Reason}, 'OK', 'a phone is in');
    return $raw;
}

my $alice = $server->client(1);
appear();
my $phone  = entered();
my $silent = Parley::Raw->connect("127.0.0.1:$port", from => $ADDRESS);
ok(Parley::poll_until(10, sub { $server->metric('parley_connections') == 3 }), 'and another one that has said nothing');
$alice->expect_event('P_PRESENCE', 10, sub ($e) { ($e->{Status} // '') ne 'OFFLINE' });
vanish();
my $began = time;
is(send_text($alice, [2], 'are you there?')->{Reason}, 'OK', 'somebody writes to it');
ok(Parley::poll_until(20, sub { $server->metric('parley_sessions') == 1 }), 'it is given up');
my $took = time - $began;
cmp_ok($took, '<', Parley::scaled(6), sprintf '... about write_timeout later (%.1f s), no quarter of an hour', $took);
$alice->expect_event('P_PRESENCE', 10, sub ($e) { ($e->{Status} // '') eq 'OFFLINE' });
pass('... and shown so');
ok(Parley::poll_until(30, sub { $server->metric('parley_connections') == 1 }), 'the other one goes with header_timeout');
ok(Parley::poll_until(30, sub { sockets() == 0 }), '... and the kernel keeps nothing of either');

my $back = $server->client(2, DeviceId => 'phone');
is($back->expect_event('P_MESSAGE')->{Message}, 'are you there?', 'when it comes back it gets what it missed');
$server->finish;
done_testing;
