# Parley::Tls - certificates of the tests, and openssl s_client.
#
#     my ($cert, $key) = Parley::Tls::make($folder, 'rsa');
#     my $text = Parley::Tls::s_client($server, '-tls1_2');
package Parley::Tls;
use v5.36;
use IPC::Open2 qw(open2);

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

# What openssl s_client says. in => what it is given, a text or a list: a
# request, or a line with a command of its own (openssl-s_client(1), "CONNECTED
# COMMANDS"). Each goes in when the one before has shown an effect.
sub s_client ($server, $options, %arg) {
    my $address = $server->tls_address;
    my $seconds = int Parley::scaled(20);
    my $pid     = open2(my $out, my $in,
        "exec timeout $seconds openssl s_client -connect $address $options 2>&1");
    my @lines = ref $arg{in} ? $arg{in}->@* : ($arg{in} // ());
    my $text  = '';
    my $goes  = read_until($out, \$text, qr/^ *Verify return code: .*?^---$/ms);
    while ($goes && defined(my $line = shift @lines)) {
        my $from = length $text;
        syswrite $in, $line or last;
        $goes = read_until($out, \$text,
            length $line > 2
            ? qr/\A.{$from}.*\r\n\r\n/s
            : qr/\A.{$from}.*(?:KEYUPDATE|RENEGOTIATING)/s);
    }
    close $in;
    read_until($out, \$text, qr/(?!)/);
    waitpid $pid, 0;
    return $text;
}

# @return false: the end came first
sub read_until ($out, $text, $pattern) {
    while ($$text !~ $pattern) {
        sysread $out, $$text, 65536, length $$text or return 0;
    }
    return 1;
}

1;
