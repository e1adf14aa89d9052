# Calls find a way through walls: the credentials for TURN servers are those
# that coturn takes, and only while they are good.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Turn;
use Test::More;

my $secret = 'a-secret-of-two-servers-0123456789';
my $next   = 'the-secret-after-that-0123456789';
plan skip_all => 'no turnserver (Debian: coturn)' if !Parley::Turn::program() && !$ENV{CI};

# Both secrets, as during a rotation; an allocation a name.
my $turn   = Parley::Turn->start($secret, "static-auth-secret=$next", 'user-quota=1');
my $server = Parley->start(
    conf => {
        'ice.stun_urls'   => 'stun:127.0.0.1:' . $turn->{port},
        'ice.turn_urls'   => $turn->url,
        'ice.turn_secret' => $secret,
        'ice.turn_ttl'    => '1h',
        'log.level'       => 'debug',
    }
);

sub ice ($server) {
    my ($code, $out) = $server->ctl('ice');
    die "parleyctl ice: $code\n" if $code != 0;
    return Mojo::JSON::decode_json($out)->[1];
}

my $ice = ice($server);
is_deeply($ice->{urls}, [$turn->url], 'the TURN server is offered');
my ($expires) = split /:/, $ice->{username};
cmp_ok(abs($expires - time - 3600), '<', 60, '... with credentials for turn_ttl');

unlike($turn->log, qr/bad config/i, 'coturn knows every line of etc/turnserver.conf');

# --- coturn's own opinion ---------------------------------------------------

my $client = $turn->client;
my ($code, $relay) = $client->allocate($ice->@{qw(username credential)});
is($code, 0, 'coturn takes them');
like($relay // '', qr/\A127\.0\.0\.1:\d+\z/, '... and gives a relay');
my $peer = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '127.0.0.1', LocalPort => 0);
my $address = '127.0.0.1:' . $peer->sockport;
is($client->permit($address), 0, '... that may be used');
$client->send_to($address, 'picture 1');
ok(IO::Select->new($peer)->can_read(Parley::scaled(5)), '... and carries bytes');
my $from = $peer->recv(my $bytes, 1500);
is($bytes, 'picture 1', '... as they are');
$peer->send('picture 2', 0, $from);
is(($client->receive)[0], 'picture 2', '... both ways');

# Of another day's name: user-quota counts the name alone.
my ($second) = $turn->client->allocate($ice->@{qw(username credential)});
is($second, 486, 'coturn can limit what one name takes');

# --- what is refused --------------------------------------------------------

sub credential ($secret, $username) {
    return MIME::Base64::encode_base64(Digest::SHA::hmac_sha1($username, $secret), '');
}
sub refused ($username, $credential, $what) {
    my ($code) = $turn->client->allocate($username, $credential);
    is($code, 401, $what);
    return;
}
my $good = sprintf '%d:%s', time + 600, 'other';
refused($ice->{username}, credential('some other secret, long enough', $ice->{username}),
    'a credential of another secret is refused');
refused(time + 86400 . ':parleyctl', $ice->{credential}, '... so is a username with a later end');
refused($good, credential($secret, "$good "), '... and a credential of another username');
my $old = time - 60 . ':parleyctl';
refused($old, credential($secret, $old), '... and one that has run out');
my ($fine) = $turn->client->allocate($good, credential($secret, $good));
is($fine, 0, '... while the same way made, with time left, it is taken');

# --- what clients get -------------------------------------------------------

$server->add_users(1, 2);
my ($alice, $bruno) = map { $server->client($_) } 1, 2;
ok(!exists $alice->session->{IceServers}, 'a login without calls needs no servers');
my $made = $alice->request(
    'P_COLLABORATION_CREATE',
    ToUserList            => [2],
    Kind                  => 'VIDEO',
    ClientCollaborationId => 'c-1'
);
my $joined = $bruno->request('P_COLLABORATION_ACCEPT', CollaborationId => $made->{CollaborationId});
$bruno->drop;
$bruno = $server->client(2);
my %servers = (
    'who makes a call' => $made->{IceServers},
    'who accepts one'  => $joined->{IceServers},
    'who comes back'   => $bruno->session->{IceServers},
);
my %names;
for my $who (sort keys %servers) {
    my ($stun, $relay) = $servers{$who}->@*;
    is_deeply([$stun, $relay->{urls}], [{urls => [$server->{settings}{'ice.stun_urls'}]}, [$turn->url]], "$who gets the servers");
    my ($end, $name) = split /:/, $relay->{username};
    like($name, qr/\A[0-9a-f]{16}\z/, '... a name that says nothing');
    $names{$who} = $name;
    my ($taken) = $turn->client->allocate($relay->@{qw(username credential)});
    is($taken, $who eq 'who comes back' ? 486 : 0, '... and credentials that coturn takes');
    unlike($server->log_text, qr/$name|\Q$relay->{credential}\E/, '... which are not in the log');
}
is($names{'who comes back'}, $names{'who accepts one'}, 'one user has one name, so that user-quota counts (486)');
isnt($names{'who makes a call'}, $names{'who accepts one'}, '... another user has another one');
my $again = $alice->request(
    'P_COLLABORATION_CREATE',
    ToUserList            => [2],
    Kind                  => 'VIDEO',
    ClientCollaborationId => 'c-1'
);
is($again->{Reason}, 'DUPLICATE', 'a retry');
is($again->{IceServers}[1]{urls}[0], $turn->url, '... gets them as well');
my $reply = $alice->request('P_COLLABORATION_ACCEPT', CollaborationId => '12345');
ok(!exists $reply->{IceServers}, 'who is refused gets none');

# --- a rotation -------------------------------------------------------------

$server->set('ice.turn_secret' => "$next, $secret");
my $renewed = ice($server);
is($renewed->{credential}, credential($next, $renewed->{username}), 'the first secret signs');
my ($taken) = $turn->client->allocate($renewed->{username} =~ s/parleyctl/later/r,
    credential($next, $renewed->{username} =~ s/parleyctl/later/r));
is($taken, 0, '... and coturn takes what the new one has signed');

# --- what operators see -----------------------------------------------------

my (undef, $json) = $server->ctl('--json', 'ice');
is(Mojo::JSON::decode_json($json)->{IceServers}[0]{urls}[0], $server->{settings}{'ice.stun_urls'},
    'parleyctl --json ice says the same');
my ($rc, $printed, $error) = $server->run([Parley::program('parleyd'), '-T', '-c', $server->conf]);
is($rc, 0, 'parleyd -T');
like($printed, qr/^# turn_secret = \(hidden\)|turn_secret.*hidden/m, '... hides the secret');
unlike("$printed$error", qr/\Q$secret\E|\Q$next\E/, '... all of them');

my %wrong = (
    'ice.turn_urls'   => ['turn:127.0.0.1:0',     qr/:\d+: turn_urls: "turn:127\.0\.0\.1:0" is none/],
    'ice.stun_urls'   => ['turn:127.0.0.1',       qr/:\d+: stun_urls: "turn:127\.0\.0\.1" is none/],
    'ice.turn_secret' => [undef,                  qr/:\d+: turn_urls: need turn_secret/],
    'ice.turn_ttl'    => ['5s',                   qr/turn_ttl: expected/],
);
for my $key (sort keys %wrong) {
    my $before = $server->{settings}{$key};
    $server->set($key => $wrong{$key}[0]);
    my ($status, $out, $said) = $server->run([Parley::program('parleyd'), '-t', '-c', $server->conf]);
    isnt($status, 0, "a wrong $key is refused");
    like("$out$said", $wrong{$key}[1], '... and named');
    $server->set($key => $before);
}
$server->set('ice.turn_secret' => 'short-of-16-byt');
my ($short, undef, $said) = $server->run([Parley::program('parleyd'), '-t', '-c', $server->conf]);
isnt($short, 0, 'a secret that can be guessed is refused');
unlike($said, qr/short-of/, '... and not printed');
$server->set('ice.turn_secret' => $secret);

unlike($server->log_text, qr/\Q$secret\E|\Q$ice->{credential}\E/, 'the log has neither secret nor credential');
$server->finish;
$turn->finish;
done_testing;
