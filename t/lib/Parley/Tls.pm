# Parley::Tls - certificates of the tests, and openssl s_client.
#
#     my ($cert, $key) = Parley::Tls::make($folder, 'rsa');
#     my $text = Parley::Tls::s_client($server, '-tls1_2');
package Parley::Tls;
use v5.36;

my $count = 0;

# A self-signed certificate: paths of both files. kind: ec, rsa; days may be
# negative.
sub make ($folder, $kind, %arg) {
    my $name = "$folder/$kind-" . ++$count;
    my @key  = $kind eq 'ec'
        ? qw(ecparam -name prime256v1 -genkey -noout)
        : qw(genrsa -traditional);
    system("openssl @key -out $name.key 2>/dev/null") == 0 or die "no key\n";
    # openssl(1ssl) x509 takes negative days, req does not
    system("openssl req -new -key $name.key -subj /CN=localhost -out $name.csr 2>/dev/null"
            . " && openssl x509 -req -in $name.csr -signkey $name.key -days "
            . ($arg{days} // 90) . " -out $name.pem 2>/dev/null") == 0
        or die "no certificate\n";
    return ("$name.pem", "$name.key");
}

# What openssl s_client says; in => bytes for it, last => pause before its end.
sub s_client ($server, $options, %arg) {
    my $address = $server->tls_address;
    my $file    = $server->dir . '/s_client.in';
    my @lines   = ref $arg{in} ? $arg{in}->@* : ($arg{in} // ());
    my $feed    = join ' ', map { my $l = s/'/'\\''/gr; "printf '%b' '$l'; sleep " . ($arg{pause} // 0.2) . ';' }
        map {s/\r/\\r/gr =~ s/\n/\\n/gr} @lines;
    my (undef, $out, $err) = $server->run(
        ['sh', '-c', "($feed) | timeout 20 openssl s_client -connect $address $options 2>&1"]);
    return $out . $err;
}

1;
