# OCSP stapling: a client that asks gets the file's answer, byte by byte, as long
# as it is one about its certificate and in date; what is not fit is not sent,
# the log says why, and nothing else suffers.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Net::SSLeay;
use Parley;
use Parley::Raw;
use Parley::Tls;
use POSIX qw(strftime);
use Test::More;

my $server = Parley->prepare(tls => 1);
my $folder = $server->dir;
my $count  = 0;

# --- an authority ---------------------------------------------------------------

sub openssl ($line) {
    system("cd $folder && openssl $line 2>$folder/openssl.err >&2") == 0
        or die "openssl $line: " . Parley::slurp("$folder/openssl.err");
    return;
}

openssl('req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -subj /CN=authority -days 30');
Parley::spew("$folder/index.txt", '');

# Certificate with its issuer behind it, key: paths.
sub issue ($kind) {
    my $name = $kind . ++$count;
    my $key  = $kind eq 'ec' ? 'ec -pkeyopt ec_paramgen_curve:prime256v1' : 'rsa:2048';
    openssl("req -new -newkey $key -nodes -keyout $name.key -out $name.csr -subj /CN=localhost");
    openssl("x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -set_serial $count -days 20 -out $name.crt");
    Parley::spew("$folder/$name.pem", Parley::slurp("$folder/$name.crt") . Parley::slurp("$folder/ca.pem"));
    return $name;
}

# What the authority answers: V(alid), R(evoked) or nothing known.
sub answer ($name, $file, $status = 'V', $digest = 'sha1') {
    my ($serial) = $name =~ /(\d+)/;
    my $revoked = $status eq 'R' ? '260101000000Z' : '';
    Parley::spew("$folder/index.txt", sprintf "%s\t491231235959Z\t%s\t%02d\tunknown\t/CN=localhost\n", $status, $revoked, $serial)
        if $status;
    openssl("ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -$digest -issuer ca.pem -cert $name.crt -ndays 2 -respout $file");
    return Parley::slurp("$folder/$file");
}

# The same with other dates; the signature does not hold any more, which is the
# client's to find out. Seconds from now, each.
sub dated ($file, $this_update, $next_update) {
    my $der   = Parley::slurp("$folder/$file");
    my @dates = map { strftime '%Y%m%d%H%M%SZ', gmtime time + $_ } $this_update, $this_update, $next_update;
    $der =~ s/\x18\x0f\K\d{14}Z/shift @dates/ge == 3 or die "no three dates\n";
    Parley::spew("$folder/$file", $der);
    return $der;
}

# --- a client ---------------------------------------------------------------------

# What is stapled, or '' when nothing is. version => 1.2, suite
sub stapled (%arg) {
    my $raw = Parley::Raw->connect($server->tls_address);
    my $der = '';
    my $ctx = Net::SSLeay::CTX_new_with_method(Net::SSLeay::TLS_client_method());
    Net::SSLeay::CTX_set_max_proto_version($ctx, 0x0303) if $arg{suite};
    Net::SSLeay::CTX_set_cipher_list($ctx, $arg{suite})  if $arg{suite};
    Net::SSLeay::CTX_set_tlsext_status_cb($ctx,
        sub ($ssl, $response, $arg) { $der = Net::SSLeay::i2d_OCSP_RESPONSE($response) if $response; return 1 });
    my $ssl = Net::SSLeay::new($ctx);
    Net::SSLeay::set_tlsext_status_type($ssl, Net::SSLeay::TLSEXT_STATUSTYPE_ocsp()) if !$arg{silent};
    Net::SSLeay::set_fd($ssl, fileno $raw->{socket});
    my $is_good = Net::SSLeay::connect($ssl) == 1;
    Net::SSLeay::free($ssl);
    Net::SSLeay::CTX_free($ctx);
    $raw->close;
    return $is_good ? $der : 'no handshake';
}

sub hex_of ($bytes) { return unpack 'H*', $bytes }

# Every worker has taken it.
sub is_stapled ($expected, $name, %arg) {
    Parley::poll_until(10, sub { !grep { stapled(%arg) ne $expected } 1 .. 6 });
    return is(hex_of(stapled(%arg)), hex_of($expected), $name);
}

sub reload ($name, %set) {
    $server->set(%set);
    return is(($server->ctl('reload'))[0], 0, $name);
}

# --- the stories --------------------------------------------------------------------

my ($ec, $rsa, $other) = map { issue($_) } qw(ec rsa ec);
my %answer = map { $_ => answer($_, "$_.der", 'V', $_ eq $rsa ? 'sha256' : 'sha1') } $ec, $rsa, $other;
$server->set(
    'server.tls_cert' => "$folder/$ec.pem, $folder/$rsa.pem",
    'server.tls_key'  => "$folder/$ec.key, $folder/$rsa.key",
);
$server->launch;
is(stapled(), '', 'without the setting nothing is stapled');

reload('with it', 'server.tls_ocsp' => "$folder/$rsa.der, $folder/$ec.der");
is_stapled($answer{$ec}, 'the answer about the ECDSA certificate');
is_stapled($answer{$ec}, '... in TLS 1.2, too', suite => 'ECDHE-ECDSA-AES128-GCM-SHA256');
is_stapled($answer{$rsa}, 'the one about the RSA certificate, to who gets that', suite => 'ECDHE-RSA-AES128-GCM-SHA256');
is(stapled(silent => 1), '', 'who does not ask gets none');
cmp_ok($server->metric('parley_tls_ocsp_stapled_total'), '>', 2, 'they are counted');
unlike($server->log_text, qr/tls-ocsp-unfit/, 'the log has nothing to say');

my $next = answer($ec, "$ec.der", 'V', 'sha256');
isnt($next, $answer{$ec}, 'another answer');
reload('... after a reload');
is_stapled($next, '... is the one that is sent');

reload('an answer about another certificate', 'server.tls_ocsp' => "$folder/$other.der");
is_stapled('', '... is not sent');
ok($server->await_log(qr/warn .*tls-ocsp-unfit file=\Q$folder\E\/$other\.der why="[^"]*none of the certificates/), '... says the log');

answer($ec, 'revoked.der', 'R');
reload('an answer that it is revoked', 'server.tls_ocsp' => "$folder/revoked.der");
is_stapled('', '... is not sent');
ok($server->await_log(qr/tls-ocsp-unfit file=\S+revoked\.der why="[^"]*not call the certificate good/), '... says the log');

Parley::spew("$folder/later.der", "\x30\x03\x0a\x01\x03");    # RFC 6960 4.2.1: tryLater
reload('an answer that it is to be asked later', 'server.tls_ocsp' => "$folder/later.der");
is_stapled('', '... is not sent');
ok($server->await_log(qr/tls-ocsp-unfit file=\S+later\.der why="[^"]*could not tell/), '... says the log');

answer($ec, 'old.der');
dated('old.der', -7200, -60);
reload('an answer out of date', 'server.tls_ocsp' => "$folder/old.der");
is_stapled('', '... is not sent');
ok($server->await_log(qr/tls-ocsp-unfit file=\S+old\.der why="[^"]*out of date/), '... says the log');

answer($ec, 'early.der');
dated('early.der', 7200, 14_400);
reload('an answer from tomorrow', 'server.tls_ocsp' => "$folder/early.der");
is_stapled('', '... is not sent');
ok($server->await_log(qr/tls-ocsp-unfit file=\S+early\.der why="[^"]*not valid yet/), '... says the log');

answer($ec, 'short.der');
my $seconds = int Parley::scaled(5);
my $short   = dated('short.der', -7200, $seconds);
reload("an answer that is good for $seconds s", 'server.tls_ocsp' => "$folder/short.der");
is_stapled($short, '... is sent');
is_stapled('', '... until then') if Parley::poll_until(20, sub { stapled() eq '' });
ok($server->await_log(qr/tls-ocsp-unfit file=\S+short\.der why="[^"]*out of date/, 25), '... and the log says when it ends');
$server->finish;

# A renewed certificate comes before its answer: that must keep nobody down.
my $late = Parley->start(conf => {
    'server.listen_tls' => '127.0.0.1:0',
    'server.tls_cert' => "$folder/$other.pem",
    'server.tls_key'  => "$folder/$other.key",
    'server.tls_ocsp' => "$folder/$ec.der",
});
ok($late->await_log(qr/tls-ocsp-unfit/), 'a start with the answer about the last certificate');
$late->finish;
done_testing;
