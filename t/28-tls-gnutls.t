# A TLS library that is not ours: GnuTLS' client does handshakes, logs in, talks,
# updates keys and resumes, in both versions and all suites it shares with us.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Open2 qw(open2);
use Mojo::JSON qw(encode_json);
use Parley;
use Parley::Raw;
use Test::More;

my $server = Parley->start(tls => 1);
$server->add_users(1, 2);
my $alice = $server->client(1);

# gnutls-cli as {in, out, pid, text}: text is all that it has said.
sub gnutls ($priority) {
    my ($host, $port) = split /:/, $server->tls_address;
    my $seconds = int Parley::scaled(60);
    my $pid     = open2(my $out, my $in, "exec timeout $seconds gnutls-cli --insecure --inline-commands"
            . " --priority $priority --port $port $host 2>/dev/null");
    $out->blocking(0);
    return bless {in => $in, out => $out, pid => $pid, text => ''}, 'main';
}

sub say ($self, $bytes) { return syswrite $self->{in}, $bytes }

# What it says up to a pattern is forgotten, the match returned; false: the end.
sub hears ($self, $pattern) {
    my $is_open = 1;
    my $match   = Parley::poll_until(20, sub {
        $is_open = 0 if defined sysread($self->{out}, $self->{text}, 65_536, length $self->{text})
            && $self->{text} eq ($self->{last} // '');
        $self->{last} = $self->{text};
        if ($self->{text} =~ /($pattern)/s) {
            substr $self->{text}, 0, $+[0], '';
            return $1;
        }
        return !$is_open && 'end';
    });
    return defined $match && $match ne 'end' ? $match : '';
}

sub leave ($self) {
    close $self->{in};
    my $rest = $self->hears(qr/Peer has closed the GnuTLS connection/) // '';
    waitpid $self->{pid}, 0;
    return $rest;
}

sub command ($command, %fields) {
    return Parley::Raw->frame(1, encode_json({Command => $command, %fields}));
}

sub upgrade ($client, $name) {
    $client->say(Parley::Raw->upgrade_head);
    return ok($client->hears(qr{HTTP/1\.1 101 .*?\r\n\r\n}s), "$name: an upgrade");
}

# Inline commands are found as long as nothing but text has been sent.
sub rekey ($client, $name) {
    $client->say("^rekey^\n");
    return ok($client->hears(qr/Rekey was completed/), "$name: a KeyUpdate that asks for one");
}

sub log_in ($client, $name) {
    $client->say(command('P_AUTHENTICATE', RequestId => 'in', Token => $server->token(2), DeviceId => 'gnutls'));
    like($client->hears(qr/\{[^{}]*"RequestId":"in"[^{}]*/), qr/"Reason":"OK"/, "$name: a login");
    return;
}

my $number = 0;

sub talk ($client, $name) {
    my $id    = 'g' . ++$number;
    $client->say(command('P_SEND_MESSAGE', RequestId => $id, ToUserList => [1], ClientMessageId => $id, Message => "from $id"));
    ok($client->hears(qr/"RequestId":"$id"/), "$name: a message is stored");
    ok($alice->expect_event('P_MESSAGE', 10, sub ($event) { $event->{Message} eq "from $id" }), '... and arrives');
    my $text  = "to $id " . 'z' x 40_000;
    my $reply = $alice->request('P_SEND_MESSAGE', ToUserList => [2], ClientMessageId => "a$id", Message => $text);
    is($reply->{Reason}, 'OK', '... one of three records');
    ok($client->hears(qr/"to $id z{40000}"/), '... comes back whole');
    return;
}

my @ciphers = (
    ['1.3', 'AES-128-GCM'], ['1.3', 'AES-256-GCM'], ['1.3', 'CHACHA20-POLY1305'],
    ['1.2', 'AES-128-GCM'], ['1.2', 'AES-256-GCM'], ['1.2', 'CHACHA20-POLY1305'],
);
for my $case (@ciphers) {
    my ($version, $cipher) = @$case;
    my $client = gnutls("NORMAL:-VERS-ALL:+VERS-TLS$version:-CIPHER-ALL:+$cipher");
    like($client->hears(qr/Description: \S+/), qr/TLS\Q$version\E.*$cipher/, "GnuTLS, $version, $cipher");
    ok($client->hears(qr/Simple Client Mode:\s/), '... a handshake');
    if ($version eq '1.3') {
        rekey($client, 'at once') for 1 .. 3;
    }
    upgrade($client, 'first');
    rekey($client, 'open') if $version eq '1.3';
    $client->say("^resume^\n");
    ok($client->hears(qr/This is a resumed session/), '... a resumption');
    rekey($client, 'resumed') if $version eq '1.3';
    upgrade($client, 'resumed');
    rekey($client, 'open again') if $version eq '1.3';
    log_in($client, 'resumed');
    talk($client, 'resumed') for 1 .. 3;
    $client->say(Parley::Raw->frame(8, pack 'n', 1000));
    ok($client->leave, '... a proper end, which GnuTLS tells from one that is cut off');
}

# Suites of old: none of them gets in.
for my $priority ('NORMAL:-VERS-ALL:+VERS-TLS1.1', 'NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA1:+SHA256',
    'NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA', 'NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-CCM')
{
    my $client = gnutls($priority);
    ok(!$client->hears(qr/Simple Client Mode/), "refused: $priority");
    close $client->{in};
    waitpid $client->{pid}, 0;
}
is($server->metric('parley_tls_violations_total') // 0, 0, 'no record was found wrong');
$server->finish;
done_testing;
