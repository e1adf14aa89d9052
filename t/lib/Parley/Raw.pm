# Parley::Raw - bytes on a socket, for what no library would send.
#
#     my $raw = Parley::Raw->connect($server->address);
#     $raw->write("GET /ws HTTP/1.1\r\n");
#     like($raw->read_all, qr/^HTTP\/1.1 400 /, '...');
package Parley::Raw;
use v5.36;

use IO::Select;
use IO::Socket::IP;
use MIME::Base64 qw(encode_base64);
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Time::HiRes qw(time);

# buffer => bytes that the kernel keeps for us unread, about; from => address of
# ours, such as 127.0.0.2
sub connect ($class, $address, %arg) {
    my ($host, $port) = $address =~ /\A\[?(.*?)\]?:(\d+)\z/
        or die "not an address: $address\n";
    my $socket = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port,
        Type => IO::Socket::IP::SOCK_STREAM(),
        ($arg{from} ? (LocalHost => $arg{from}) : ()),
        ($arg{buffer} ? (Sockopts => [[SOL_SOCKET, SO_RCVBUF, $arg{buffer}]]) : ()))
        or die "$address: $@\n";
    return bless {socket => $socket, buffer => '', is_eof => 0}, $class;
}

# All of the bytes, or false when the other end has gone.
sub write ($self, $bytes) {
    while (length $bytes) {
        my $count = syswrite($self->{socket}, $bytes) // return 0;
        substr($bytes, 0, $count, '');
    }
    return 1;
}

sub _fill ($self, $deadline) {
    my $left = $deadline - time;
    return 0 if $left <= 0;
    return 0 if !IO::Select->new($self->{socket})->can_read($left);
    my $count = sysread $self->{socket}, $self->{buffer}, 65536, length $self->{buffer};
    $self->{is_eof} = 1 if !$count;    # the end, or a reset
    return 1;
}

# Wait for a pattern; returns everything up to its end.
sub read_until ($self, $pattern, $seconds = 10) {
    my $deadline = time + Parley::scaled($seconds);
    while (1) {
        if ($self->{buffer} =~ $pattern) {
            my $end = $+[0];
            return substr $self->{buffer}, 0, $end, '';
        }
        die "end of stream before $pattern: $self->{buffer}\n" if $self->{is_eof};
        $self->_fill($deadline) or die "no $pattern in time: $self->{buffer}\n";
    }
}

sub read_bytes ($self, $count, $seconds = 10) {
    my $deadline = time + Parley::scaled($seconds);
    while (length $self->{buffer} < $count) {
        die "end of stream\n" if $self->{is_eof};
        $self->_fill($deadline) or die "no $count bytes in time\n";
    }
    return substr $self->{buffer}, 0, $count, '';
}

# Everything until the other end closes; dies when it does not.
sub read_all ($self, $seconds = 10) {
    my $deadline = time + Parley::scaled($seconds);
    while (!$self->{is_eof}) {
        $self->_fill($deadline) or die "not closed in time: $self->{buffer}\n";
    }
    my $bytes = $self->{buffer};
    $self->{buffer} = '';
    return $bytes;
}

# The head of an upgrade request; a header of undef is left out.
sub upgrade_head ($class, %headers) {
    my %all = (
        Host                    => 'localhost',
        Upgrade                 => 'websocket',
        Connection              => 'Upgrade',
        'Sec-WebSocket-Key'     => encode_base64('0123456789abcdef', ''),
        'Sec-WebSocket-Version' => 13,
        %headers
    );
    my @lines = map {"$_: $all{$_}\r\n"} grep { defined $all{$_} } sort keys %all;
    return join '', "GET /ws HTTP/1.1\r\n", @lines, "\r\n";
}

# The handshake; returns the head of the answer, dies when it is not 101.
sub upgrade ($self, %headers) {
    $self->write($self->upgrade_head(%headers));
    my $head = $self->read_until(qr/\r\n\r\n/);
    die $head if $head !~ m{\AHTTP/1\.1 101 };
    return $head;
}

# Bytes of one frame: RFC 6455 5.2. Options: fin, rsv (0..7), mask (bytes, or
# undef for none), length (what to claim), wide (2 or 8: force that width).
sub frame ($class, $opcode, $payload, %option) {
    my $length = $option{length} // length $payload;
    my $mask   = exists $option{mask} ? $option{mask} : "\x12\x34\x56\x78";
    my $width  = $option{wide} // ($length < 126 ? 0 : $length < 65536 ? 2 : 8);
    my $first  = (($option{fin} // 1) << 7) | (($option{rsv} // 0) << 4) | $opcode;
    my $second = defined $mask ? 0x80 : 0;
    my $head =
          $width == 0 ? pack('CC',   $first, $second | $length)
        : $width == 2 ? pack('CCn',  $first, $second | 126, $length)
        :               pack('CCQ>', $first, $second | 127, $length);
    return $head . $payload if !defined $mask;
    my $pad = substr $mask x (1 + length($payload) / 4), 0, length $payload;
    return $head . $mask . ($payload ^. $pad);
}

# The next frame from the server: (opcode, payload, fin).
sub read_frame ($self, $seconds = 10) {
    my ($first, $second) = unpack 'CC', $self->read_bytes(2, $seconds);
    die "a server must not mask (RFC 6455 5.1)\n" if $second & 0x80;
    my $length = $second & 0x7f;
    $length = unpack 'n',  $self->read_bytes(2, $seconds) if $length == 126;
    $length = unpack 'Q>', $self->read_bytes(8, $seconds) if $length == 127;
    my $payload = $length ? $self->read_bytes($length, $seconds) : '';
    return ($first & 0x0f, $payload, $first >> 7);
}

# Skip to the close frame: its code and reason, (1005, '') when it is empty.
sub read_close ($self, $seconds = 10) {
    while (1) {
        my ($opcode, $payload) = $self->read_frame($seconds);
        next if $opcode != 8;
        return (1005, '') if length $payload < 2;
        return unpack 'na*', $payload;
    }
}

sub local_address ($self) {
    return $self->{socket}->sockhost . ':' . $self->{socket}->sockport;
}

sub close ($self) {
    $self->{socket}->close;
    return;
}

1;
