# Parley::Bench::Can - what this build and this machine can do.
package Parley::Bench::Can;
use v5.36;

use Parley;

# Does parleyd know the setting?
sub has_setting ($section, $key) {
    state %known;
    return $known{"$section.$key"} //= do {
        my $server = Parley->prepare;
        my (undef, $out) = $server->run([Parley::program('parleyd'), '-T', '-c', $server->conf]);
        $server->discard;
        my ($text) = $out =~ /^\[\Q$section\E\]\n(.*?)(?=^\[|\z)/ms;
        ($text // '') =~ /^[#;]?\s*\Q$key\E\s*=/m ? 1 : 0;
    };
}

sub outbox () { return has_setting('directory', 'rehearse_outbox') }

# Does parleyload accept a wss address, and does openssl(1) make certificates?
sub tls () {
    state $can;
    return $can //= do {
        my $server = Parley->prepare;
        my ($code) = $server->run(
            [Parley::program('parleyload'), qw(connect --prepare -n 1 --url wss://127.0.0.1:1/ws)]);
        my ($openssl) = $server->run([qw(openssl version)]);
        $server->discard;
        $code == 0 && $openssl == 0 ? 1 : 0;
    };
}

# Asked for, and memory for it: the kernel's part is the larger one.
sub million () {
    return 0 if !$ENV{BENCH_MILLION};
    my ($kib) = Parley::slurp('/proc/meminfo') =~ /^MemAvailable:\s*(\d+)/m;
    return ($kib // 0) > 12 * 1024 * 1024;
}

1;
