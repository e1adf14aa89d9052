# Parley::Records - a TLS client whose records are made here, byte by byte, for
# what no library would send. OpenSSL does the handshake and tells the secrets.
#
#     my $peer = Parley::Records->connect($server->tls_address, version => 1.3);
#     $peer->send(23, 'text', pad => 100);        # content type, content
#     my ($type, $content) = $peer->receive;      # an empty list: the end
#
# RFC 8446 5 and 7, RFC 5246 6, RFC 5288, RFC 7905.
package Parley::Records;
use v5.36;

use Crypt::AuthEnc::ChaCha20Poly1305 ();
use Crypt::AuthEnc::GCM              ();
use Digest::SHA qw(hmac_sha256 hmac_sha384);
use Net::SSLeay;

use Parley::Raw;

my %VERSION = (1.2 => 0x0303, 1.3 => 0x0304);

# version => 1.2 or 1.3, suite => OpenSSL's name; flight => 1: the last flight of
# the handshake goes out with what is written first; buffer => as Parley::Raw has
sub connect ($class, $address, %arg) {
    my $version = $arg{version} // 1.3;
    my $suite   = $arg{suite} // ($version == 1.3 ? 'TLS_AES_128_GCM_SHA256' : 'ECDHE-ECDSA-AES128-GCM-SHA256');
    my $self    = bless {
        raw       => Parley::Raw->connect($address, buffer => $arg{buffer}),
        is_13     => $version == 1.3,
        is_chacha => $suite =~ /CHACHA/ ? 1 : 0,
        key_len   => $suite =~ /AES.?128/ ? 16 : 32,
        hmac      => $suite =~ /384/ ? \&hmac_sha384 : \&hmac_sha256,
    }, $class;
    my $secret = $self->_handshake($VERSION{$version}, $suite);
    $self->write('') if !$arg{flight};
    if ($self->{is_13}) {
        $self->{$_->[0]} = $self->_half($secret->{$_->[1]})
            for ['out', 'CLIENT_TRAFFIC_SECRET_0'], ['in', 'SERVER_TRAFFIC_SECRET_0'];
    } else {
        $self->_halves_12($secret->@{qw(CLIENT_RANDOM client_random server_random)});
    }
    return $self;
}

sub _handshake ($self, $version, $suite) {
    my %secret;
    my $ctx = Net::SSLeay::CTX_new_with_method(Net::SSLeay::TLS_client_method());
    Net::SSLeay::CTX_set_min_proto_version($ctx, $version);
    Net::SSLeay::CTX_set_max_proto_version($ctx, $version);
    ($self->{is_13} ? \&Net::SSLeay::CTX_set_ciphersuites : \&Net::SSLeay::CTX_set_cipher_list)->($ctx, $suite);
    Net::SSLeay::CTX_set_keylog_callback($ctx,
        sub ($ssl, $line) {
            my ($label, undef, $hex) = split / /, $line;
            $secret{$label} = pack 'H*', $hex;
        });
    my $ssl = Net::SSLeay::new($ctx);
    my ($in, $out) = map { Net::SSLeay::BIO_new(Net::SSLeay::BIO_s_mem()) } 1, 2;
    Net::SSLeay::set_bio($ssl, $in, $out);
    while (Net::SSLeay::connect($ssl) != 1) {
        $self->{raw}->write(Net::SSLeay::BIO_read($out)) if Net::SSLeay::BIO_pending($out);
        my $head = $self->{raw}->read_bytes(5);
        Net::SSLeay::BIO_write($in, $head . $self->{raw}->read_bytes(unpack 'x3 n', $head));
    }
    $self->{last_flight} = Net::SSLeay::BIO_pending($out) ? Net::SSLeay::BIO_read($out) : '';
    $secret{client_random} = Net::SSLeay::get_client_random($ssl);
    $secret{server_random} = Net::SSLeay::get_server_random($ssl);
    Net::SSLeay::free($ssl);
    Net::SSLeay::CTX_free($ctx);
    return \%secret;
}

sub write ($self, $bytes) {
    my $all = delete($self->{last_flight}) // '';
    return $self->{raw}->write($all . $bytes);
}

# --- keys -------------------------------------------------------------------

# RFC 8446 7.1; all outputs fit one block
sub _expand ($self, $secret, $label, $length) {
    my $info = pack 'n C/a* C', $length, "tls13 $label", 0;
    return substr $self->{hmac}->("$info\x01", $secret), 0, $length;
}

sub _half ($self, $secret) {
    return {seq => 0, secret => $secret,
        key => $self->_expand($secret, 'key', $self->{key_len}), iv => $self->_expand($secret, 'iv', 12)};
}

sub _halves_12 ($self, $master, $client_random, $server_random) {
    my ($key_len, $iv_len) = ($self->{key_len}, $self->{is_chacha} ? 12 : 4);
    my $seed = "key expansion$server_random$client_random";
    my ($block, $a) = ('', $seed);
    while (length $block < 2 * ($key_len + $iv_len)) {
        $a = $self->{hmac}->($a, $master);
        $block .= $self->{hmac}->($a . $seed, $master);
    }
    my ($out_key, $in_key, $out_iv, $in_iv) = unpack "a$key_len a$key_len a$iv_len a$iv_len", $block;
    # number 0 was Finished
    $self->{out} = {seq => 1, key => $out_key, iv => $out_iv};
    $self->{in}  = {seq => 1, key => $in_key,  iv => $in_iv};
    return;
}

sub next_keys ($self, $direction) {
    my $secret = $self->{$direction}{secret};
    $self->{$direction} = $self->_half($self->_expand($secret, 'traffic upd', length $secret));
    return;
}

# --- records ----------------------------------------------------------------

sub _nonce ($self, $half) {
    my $seq = pack 'Q>', $half->{seq};
    return $half->{iv} . $seq if length $half->{iv} == 4;
    return $half->{iv} ^. ("\0" x 4 . $seq);
}

# The bytes of a record. pad => zeros behind it (1.3), outer => its type as all
# can see it, version => as claimed, flip => the number of a byte to be changed
sub seal ($self, $type, $content, %arg) {
    my $half    = $self->{out};
    my $nonce   = $arg{nonce} // $self->_nonce($half);
    my $plain   = $self->{is_13} ? $content . ($arg{no_type} ? '' : chr $type) . "\0" x ($arg{pad} // 0) : $content;
    my $prefix  = !$self->{is_13} && !$self->{is_chacha} ? substr $nonce, 4 : '';
    my $outer   = $arg{outer} // ($self->{is_13} ? 23 : $type);
    my $head    = pack 'C n n', $outer, $arg{version} // 0x0303, length($prefix) + length($plain) + 16;
    my $aad     = $self->{is_13} ? $head : pack 'Q> C n n', $half->{seq}, $type, 0x0303, length $plain;
    my @cipher  = $self->{is_chacha}
        ? Crypt::AuthEnc::ChaCha20Poly1305::chacha20poly1305_encrypt_authenticate($half->{key}, $nonce, $aad, $plain)
        : Crypt::AuthEnc::GCM::gcm_encrypt_authenticate('AES', $half->{key}, $nonce, $aad, $plain);
    $half->{seq}++;
    my $record = $head . $prefix . join '', @cipher;
    substr($record, $arg{flip}, 1) ^.= "\x01" if defined $arg{flip};
    return $record;
}

sub send ($self, $type, $content, %arg) { return $self->write($self->seal($type, $content, %arg)) }

# A KeyUpdate (RFC 8446 4.6.3) as bytes; what follows is under the next keys.
sub key_update ($self, $is_request = 0) {
    my $record = $self->seal(22, pack 'C x n C', 24, 1, $is_request);
    $self->next_keys('out');
    return $record;
}

# Type and content of the next record, opened under the keys it must be under;
# an empty list at the end of the stream. A KeyUpdate is followed.
sub receive ($self, $seconds = 10) {
    my $head = eval { $self->{raw}->read_bytes(5, $seconds) } // do {
        die $@ if $@ !~ /end of stream/;
        return;
    };
    my ($outer, $version, $length) = unpack 'C n n', $head;
    my $body   = $self->{raw}->read_bytes($length, $seconds);
    my $half   = $self->{in};
    my $prefix = !$self->{is_13} && !$self->{is_chacha} ? substr $body, 0, 8, '' : '';
    my $tag    = substr $body, -16, 16, '';
    my $nonce  = length $prefix ? $half->{iv} . $prefix : $self->_nonce($half);
    my $aad    = $self->{is_13} ? $head : pack 'Q> C n n', $half->{seq}, $outer, $version, length $body;
    my $plain  = $self->{is_chacha}
        ? Crypt::AuthEnc::ChaCha20Poly1305::chacha20poly1305_decrypt_verify($half->{key}, $nonce, $aad, $body, $tag)
        : Crypt::AuthEnc::GCM::gcm_decrypt_verify('AES', $half->{key}, $nonce, $aad, $body, $tag);
    die "a record that does not open, type $outer\n" if !defined $plain;
    $self->{explicit}{$prefix}++ if length $prefix;
    $half->{seq}++;
    return ($outer, $plain) if !$self->{is_13};
    $plain =~ s/\0*\z//;
    my $type = ord substr $plain, -1, 1, '';
    $self->next_keys('in') if $type == 22 && ord $plain == 24;
    return ($type, $plain);
}

# The next record of a type; others are skipped.
sub receive_type ($self, $wanted, $seconds = 10) {
    while (my ($type, $content) = $self->receive($seconds)) {
        return $content if $type == $wanted;
    }
    return;
}

sub close ($self) { return $self->{raw}->close }

1;
