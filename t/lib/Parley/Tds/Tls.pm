# Parley::Tds::Tls - the server's side of TLS, between two strings of bytes.
#
# The handshake of TDS goes through packets of its own, [MS-TDS] 2.2.6.5, so
# nothing here touches a socket.
package Parley::Tds::Tls;
use v5.36;

use Net::SSLeay;

BEGIN {
    Net::SSLeay::load_error_strings();
    Net::SSLeay::SSLeay_add_ssl_algorithms();
}

# Files with certificate and key. As SQL Server with TDS 7.4: TLS 1.2.
sub context ($cert, $key) {
    my $context = Net::SSLeay::CTX_new_with_method(Net::SSLeay::TLS_server_method()) or die "no TLS\n";
    Net::SSLeay::CTX_set_max_proto_version($context, Net::SSLeay::TLS1_2_VERSION());
    Net::SSLeay::CTX_use_certificate_chain_file($context, $cert)
        && Net::SSLeay::CTX_use_PrivateKey_file($context, $key, Net::SSLeay::FILETYPE_PEM())
        or die "$cert, $key: no certificate\n";
    return $context;
}

sub new ($class, $context) {
    my $self = bless {
        ssl => Net::SSLeay::new($context),
        in  => Net::SSLeay::BIO_new(Net::SSLeay::BIO_s_mem()),
        out => Net::SSLeay::BIO_new(Net::SSLeay::BIO_s_mem()),
    }, $class;
    Net::SSLeay::set_bio($self->{ssl}, $self->{in}, $self->{out});
    Net::SSLeay::set_accept_state($self->{ssl});
    return $self;
}

sub DESTROY ($self) {
    Net::SSLeay::free($self->{ssl});    # with both ends
    return;
}

# Bytes of the client in the handshake: bytes for him. Dies if it fails.
sub handshake ($self, $bytes) {
    Net::SSLeay::BIO_write($self->{in}, $bytes);
    my $result = Net::SSLeay::do_handshake($self->{ssl});
    $self->{is_done} = 1 if $result == 1;
    if ($result != 1 && Net::SSLeay::get_error($self->{ssl}, $result) != Net::SSLeay::ERROR_WANT_READ()) {
        Net::SSLeay::ERR_clear_error();
        die "the handshake of TLS failed\n";
    }
    return $self->_pending;
}

sub is_done ($self) { return $self->{is_done} }

# What the bytes of the client say.
sub read ($self, $bytes) {
    my $text = '';
    Net::SSLeay::BIO_write($self->{in}, $bytes);
    while (1) {
        my $part = Net::SSLeay::read($self->{ssl}, 65536);
        last if !defined $part || $part eq '';
        $text .= $part;
    }
    Net::SSLeay::ERR_clear_error();
    return $text;
}

# The bytes that say it.
sub write ($self, $text) {
    while (length $text) {
        my $count = Net::SSLeay::write($self->{ssl}, $text);
        die "TLS does not write\n" if $count <= 0;
        substr $text, 0, $count, '';
    }
    return $self->_pending;
}

sub _pending ($self) {
    my $bytes = '';
    while (my $count = Net::SSLeay::BIO_pending($self->{out})) {
        $bytes .= Net::SSLeay::BIO_read($self->{out}, $count);
    }
    return $bytes;
}

1;
