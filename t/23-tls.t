# TLS: what is spoken, with which keys, resumed how; certificates change while
# people talk; what is wrong with files is said in words.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use File::Copy qw(copy);
use IO::Socket::SSL;
use Parley;
use Parley::Raw;
use Test::More;

my $prepared = Parley->prepare(tls => 1, conf => {'server.header_timeout' => '2s'});
my $folder   = $prepared->dir;
my ($ec_cert, $ec_key)   = Parley::Tls::make($folder, 'ec');
my ($rsa_cert, $rsa_key) = Parley::Tls::make($folder, 'rsa');
$prepared->set('server.tls_cert' => "$ec_cert, $rsa_cert",
    'server.tls_key' => "$ec_key, $rsa_key");
my $server = $prepared;
$server->launch;
$server->add_users(1, 2);

my $head = Parley::Raw->upgrade_head;
sub s_client ($options, %arg) { return Parley::Tls::s_client($server, $options, in => $head, %arg) }

# --- versions, suites, groups -------------------------------------------------

for my $suite (qw(TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256)) {
    my $text = s_client("-tls1_3 -ciphersuites $suite");
    like($text, qr/^New, TLSv1\.3, Cipher is $suite$/m, "1.3: $suite");
    like($text, qr{^HTTP/1\.1 101 }m,                   '... carries an upgrade');
}
for my $suite (
    qw(ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-RSA-AES128-GCM-SHA256
    ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-RSA-AES256-GCM-SHA384
    ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-RSA-CHACHA20-POLY1305
    DHE-RSA-AES128-GCM-SHA256 DHE-RSA-AES256-GCM-SHA384 DHE-RSA-CHACHA20-POLY1305)
    )
{
    my $text = s_client("-tls1_2 -cipher $suite");
    like($text, qr/^New, TLSv1\.2, Cipher is $suite$/m, "1.2: $suite");
    like($text, qr{^HTTP/1\.1 101 }m,                   '... carries an upgrade');
}
for my $refused (
    '-tls1_1 -cipher DEFAULT@SECLEVEL=0',    '-tls1 -cipher DEFAULT@SECLEVEL=0',
    '-tls1_2 -cipher ECDHE-RSA-AES128-SHA256', '-tls1_2 -cipher AES128-GCM-SHA256',
    '-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA', '-tls1_3 -groups P-521',
    )
{
    my $text = s_client($refused);
    unlike($text, qr{^HTTP/}m, "refused: $refused");
    like($text, qr/alert|no protocols available/, '... by an alert');
}
cmp_ok($server->metric('parley_tls_failed_version_total'), '>', 0, 'old versions are counted');
cmp_ok($server->metric('parley_tls_failed_cipher_total'),  '>', 0, 'old suites, too');

for my $group (qw(X25519 P-256 P-384)) {
    like(s_client("-tls1_3 -groups $group"), qr{^HTTP/1\.1 101 }m, "group $group");
}
like(s_client('-tls1_3 -sigalgs RSA-PSS+SHA256'), qr/Peer signature type: RSA-PSS/, 'RSA for those who want it');
like(s_client('-tls1_3'), qr/Peer signature type: ECDSA/,   'ECDSA for the others');
like(s_client('-servername parley.example'), qr{^HTTP/1\.1 101 }m, 'any SNI');
like(s_client('-noservername'), qr{^HTTP/1\.1 101 }m, 'none');
like(s_client('-alpn h2,http/1.1'), qr/^ALPN protocol: http\/1\.1$/m, 'ALPN as browsers offer it');
like(s_client('-tls1_2 -maxfraglen 512'), qr{^HTTP/1\.1 101 }m, 'smaller records');
like(s_client('-tls1_3', in => ["K\n", $head]), qr{^HTTP/1\.1 101 }m, 'after a KeyUpdate that asks for one');
like(s_client('-tls1_3', in => ["k\n", "K\n", "K\n", $head]), qr{^HTTP/1\.1 101 }m, 'after several');
unlike(s_client('-tls1_2', in => ["R\n", $head]), qr{^HTTP/1\.1 101 }m, 'no renegotiation');

# --- messages -----------------------------------------------------------------

my ($alice, $bob) = map { $server->client($_) } 1, 2;
my $reply = $alice->request('P_SEND_MESSAGE', ToUserList => [2], ClientMessageId => 'a', Message => 'over TLS');
is($reply->{Reason}, 'OK', 'a message is stored');
is($bob->expect_event('P_MESSAGE')->{Message}, 'over TLS', '... and arrives');
for my $size (16_000, 16_384, 33_000, 65_000) {
    my $text = join '', map { chr(97 + $_ % 26) } 1 .. $size;
    is($alice->request('P_SEND_MESSAGE', ToUserList => [2], ClientMessageId => "s$size", Message => $text)->{Reason},
        'OK', "$size bytes go in");
    is($bob->expect_event('P_MESSAGE')->{Message}, $text, '... and come out the same');
}

# --- tickets ------------------------------------------------------------------

for my $version (qw(tls1_2 tls1_3)) {
    my $file = "$folder/session-$version";
    s_client("-$version -sess_out $file");
    ok(-s $file, "$version: a ticket");
    my $resumed = grep { s_client("-$version -sess_in $file") =~ /^Reused, /m } 1 .. 6;
    is($resumed, 6, '... good with every worker');
    if ($version eq 'tls1_3') {    # where each is used once
        s_client("-$version -sess_in $file -sess_out $file.next");
        ok(-s "$file.next", '... and brings one for the next time');
        like(s_client("-$version -sess_in $file.next"), qr/^Reused, /m, '... which is good');
    }
    my $pid = $server->kill9('worker-0');
    $server->await_restart('worker-0', $pid);
    $resumed = grep { s_client("-$version -sess_in $file") =~ /^Reused, .*?^HTTP\/1\.1 101 /ms } 1 .. 6;
    is($resumed, 6, '... and with the successor of one that was killed');
}
cmp_ok($server->metric('parley_tls_handshakes_resumed_total'), '>=', 12, 'resumptions are counted');

# --- new certificates -----------------------------------------------------------

sub serial () {
    my ($cert) = s_client('-tls1_3') =~ /(-----BEGIN CERT.*?-----END CERT\S+)/s;
    return $cert // '';
}
sub refused_reload ($name, $pattern, $old) {
    my ($code, undef, $err) = $server->ctl('reload');
    isnt($code, 0, "$name: refused");
    like($err, $pattern, '... in words');
    is(serial(), $old, '... and the old one stays');
}
$alice = $server->client(1);    # who was with the dead worker has gone
my $workers = join ' ', map { $server->pids->{$_} } qw(worker-0 worker-1);
my $before  = serial();
my ($next_cert, $next_key) = Parley::Tls::make($folder, 'ec');
my ($late_cert, $late_key) = Parley::Tls::make($folder, 'ec', days => -1);
$server->allow_errors(qr/reload-refused/);

copy($next_cert, $ec_cert);
refused_reload('a certificate of another key', qr/\Q$ec_cert\E.*certificate and key do not match/, $before);
copy($late_cert, $ec_cert);
copy($late_key,  $ec_key);
refused_reload('an expired certificate', qr/\Q$ec_cert\E: the certificate expired on \d{4}-/, $before);
Parley::spew($ec_cert, "no certificate\n");
refused_reload('garbage', qr/\Q$ec_cert\E: holds no certificate/, $before);
unlink $ec_cert;
refused_reload('no file', qr/\Q$ec_cert\E: cannot be read: No such file/, $before);
copy($next_cert, $ec_cert);
Parley::spew($ec_key, 'x' x 70_000);
refused_reload('a file too large', qr/\Q$ec_key\E: cannot be read: it is larger/, $before);
system("openssl ec -in $next_key -aes128 -passout pass:secret -out $ec_key 2>/dev/null");
refused_reload('a key with a passphrase', qr/\Q$ec_key\E: is protected by a passphrase/, $before);

copy($next_key, $ec_key);
is(($server->ctl('reload'))[0], 0, 'the right pair is taken');
ok($server->await_log(qr/tls-reloaded/), '... says the log');
ok(Parley::poll_until(5, sub { serial() ne $before }), '... and seen by clients');
is($alice->request('P_HEARTBEAT')->{Reason}, 'OK', 'who was there has noticed nothing');
is(join(' ', map { $server->pids->{$_} } qw(worker-0 worker-1)), $workers, '... and the workers are the same');
like(s_client("-tls1_3 -sess_in $folder/session-tls1_3"), qr/^Reused, /m, 'tickets stay good');
unlike($server->log_text, qr/BEGIN|PRIVATE/, 'no key in the log');

# --- dates --------------------------------------------------------------------

cmp_ok($server->metric('parley_tls_cert_not_after_seconds'), '>', time + 80 * 86400, 'the date in the metrics');
like(($server->http_get('/health'))[1], qr/"ok"/, 'all is well');
$server->set('server.tls_expiry_warning' => '200d');
is(($server->ctl('reload'))[0], 0, 'a warning long before');
ok($server->await_log(qr/tls-cert-expires file=\S+ expires="\d{4}-.* days=\d+/), '... in the log');
like(($server->http_get('/health'))[1], qr/degraded.*expires soon/s, '... and in /health');
is(join(' ', map { $server->pids->{$_} } qw(worker-0 worker-1)), $workers, '... without new processes');

# listen_tls cannot be taken away by a reload: TLS goes on as it was, also in
# processes that start after it.
{
    my %kept = map { $_ => $server->{settings}{$_} } qw(server.listen_tls server.tls_cert server.tls_key);
    my $cert = serial();
    $server->set(map { $_ => undef } keys %kept);
    is(($server->ctl('reload'))[0], 0, 'a configuration without TLS');
    ok($server->await_log(qr/setting-needs-restart key=server\.listen_tls/), '... needs a restart, says the log');
    $server->set(%kept);    # parleyctl reads addresses there
    my $pid = $server->kill9('worker-0');
    $server->await_restart('worker-0', $pid);
    is(serial(), $cert, '... until then TLS is what it was') for 1 .. 4;
    is(($server->ctl('reload'))[0], 0, '... and so with TLS again');
    is(serial(), $cert, '... it stays');
}

# --- the ends of a connection -------------------------------------------------

sub ssl () {
    my ($host, $port) = split /:/, $server->tls_address;
    return IO::Socket::SSL->new(PeerHost => $host, PeerPort => $port,
        SSL_verify_mode => SSL_VERIFY_NONE) // die $IO::Socket::SSL::SSL_ERROR;
}
{
    my $ssl = ssl();
    print $ssl $head;
    my $answer = '';
    $ssl->sysread($answer, 4096);
    like($answer, qr{\AHTTP/1\.1 101 }, 'a connection');
    print $ssl Parley::Raw->frame(8, pack 'n', 1000);
    my $rest = '';
    1 while $ssl->sysread($rest, 4096, length $rest);
    is(unpack('H*', $rest), '880203e8', 'a close frame is answered');
    ok($ssl->get_sslversion && !$!, '... and close_notify follows');
}
{
    my $ssl = ssl();
    print $ssl $head;
    my $count = $server->metric('parley_connections');
    Net::SSLeay::shutdown($ssl->_get_ssl_object);    # close_notify, the socket stays
    my $rest = '';
    1 while $ssl->sysread($rest, 4096, length $rest);
    ok(Parley::poll_until(5, sub { $server->metric('parley_connections') < $count }),
        'close_notify alone ends a connection');
}

$server->finish;

# --- OpenSSL's own configuration -------------------------------------------------

# What a machine's openssl.cnf allows everybody changes nothing here. (That the
# kernel is not to encrypt as well shows only where it can.)
{
    Parley::spew("$folder/openssl.cnf", <<~'END');
        openssl_conf = all
        [all]
        ssl_conf = ssl
        [ssl]
        system_default = loose
        [loose]
        Options = KTLS,UnsafeLegacyRenegotiation,ServerPreference
        MinProtocol = TLSv1
        CipherString = ALL:@SECLEVEL=0
        Ciphersuites = TLS_AES_128_CCM_SHA256
        Groups = P-521
        VerifyMode = Require
        END
    my $loose = Parley->prepare(tls => 1);
    {
        local $ENV{OPENSSL_CONF} = "$folder/openssl.cnf";
        $loose->launch;
    }
    for my $good (qw(-tls1_2 -tls1_3)) {
        like(Parley::Tls::s_client($loose, $good, in => $head), qr{^HTTP/1\.1 101 }m, "openssl.cnf: $good is as it was");
    }
    for my $bad ('-tls1_1 -cipher DEFAULT@SECLEVEL=0', '-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA', '-tls1_3 -groups P-521',
        '-tls1_3 -ciphersuites TLS_AES_128_CCM_SHA256')
    {
        unlike(Parley::Tls::s_client($loose, $bad, in => $head), qr{^HTTP/}m, "... $bad, too");
    }
    $loose->finish;
}

# --- starts -------------------------------------------------------------------

sub check_only (%conf) {
    my $other = Parley->prepare(tls => 1, conf => \%conf);
    return $other->run([Parley::program('parleyd'), '-t', '-c', $other->conf]);
}
my @cases = (
    ['a key for each', qr/tls_cert names 1 files and tls_key 2/, 'server.tls_cert' => $rsa_cert, 'server.tls_key' => "$rsa_key, $ec_key"],
    ['keys of one kind', qr/same kind/, 'server.tls_cert' => "$ec_cert, $next_cert", 'server.tls_key' => "$ec_key, $next_key"],
    ['expired', qr/\Q$late_cert\E: the certificate expired on/, 'server.tls_cert' => $late_cert, 'server.tls_key' => $late_key],
    ['no certificate at all', qr/needs tls_cert and tls_key/, 'server.tls_cert' => '', 'server.tls_key' => ''],
    ['garbage for OCSP', qr/\Q$ec_key\E: is no OCSP response/, 'server.tls_ocsp' => $ec_key],
);
for my $case (@cases) {
    my ($name, $pattern, %conf) = @$case;
    my ($code, undef, $err) = check_only(%conf);
    is($code, 1, "parleyd -t, $name: refused");
    like($err, $pattern, '... in words');
}
{
    my $late = Parley->start(tls => 1, allow_errors => [qr/tls-cert-expired/],
        conf => {'server.tls_cert' => $late_cert, 'server.tls_key' => $late_key, 'server.listen' => ''});
    ok($late->await_log(qr/tls-cert-expired file=\Q$late_cert\E/), 'an expired certificate keeps no server down');
    like(($late->http_get('/health'))[1], qr/degraded.*not valid now/s, '... but /health says so');
    $late->finish;
}
SKIP: {
    skip 'only root has a key that others cannot read', 2 if $> != 0;
    my $drop = Parley->prepare(tls => 1, conf => {'server.user' => 'nobody'});
    my (undef, undef, $uid, $gid) = getpwnam 'nobody';
    chmod 0711, $drop->dir;
    chown $uid, $gid, $drop->dir . '/data', $drop->run_dir;
    chmod 0600, glob($drop->dir . '/*.key');
    $drop->launch;
    $drop->add_users(5);
    is($drop->client(5)->request('P_HEARTBEAT')->{Reason}, 'OK', 'the key belongs to root, the worker does not');
    my $pid = $drop->kill9('worker-1');
    $drop->await_restart('worker-1', $pid);
    is($drop->client(5)->request('P_HEARTBEAT')->{Reason}, 'OK', '... nor does its successor');
    $drop->finish;
}
done_testing;
