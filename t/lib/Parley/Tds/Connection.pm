# Parley::Tds::Connection - one client of the double: packets, login, requests.
#
# Role: [MS-TDS] 2.2.3 (packets), 2.2.6.5 (PRELOGIN and TLS), 2.2.6.4 (LOGIN7),
#       2.2.6.6 (RPC), 2.2.6.7 (batch), 2.2.1.7 (attention). It tells the server
#       (Server.pm) of a login and of each request, one at a time, and takes
#       an answer for it.
package Parley::Tds::Connection;
use v5.36;

use Scalar::Util qw(weaken);
use Socket qw(SOL_SOCKET SO_LINGER);

use Parley::Tds::Tls;
use Parley::Tds::Wire;

use constant {
    BATCH     => 0x01,
    RPC       => 0x03,
    ANSWER    => 0x04,
    STOP      => 0x06,
    LOGIN     => 0x10,
    PRELOGIN  => 0x12,
    LAST      => 0x01,    # of a message
    PACKET    => 4096,
    TLS_OFF   => 0,       # for the login alone
    TLS_ON    => 1,
    TLS_NONE  => 2,
    READ_ONLY => 0x20,    # of LOGIN7's TypeFlags
};

sub new ($class, $server, $stream, $number) {
    my $self = bless {
        server  => $server,
        stream  => $stream,
        number  => $number,
        state   => 'prelogin',
        in      => '',
        message => '',
        waiting => [],
    }, $class;
    weaken $self->{server};
    weaken(my $weak = $self);
    $stream->timeout(0);
    $stream->on(read => sub ($, $bytes) { $weak->_bytes($bytes) });
    $stream->on(close => sub { $server->gone($weak) if $weak });
    $stream->on(error => sub { });
    return $self;
}

# --- bytes and packets --------------------------------------------------------

sub _bytes ($self, $bytes) {
    return if eval {
        if ($self->{tls} && $self->{tls}->is_done && !$self->{is_clear_again}) {
            $bytes = $self->{tls}->read($bytes);
        }
        $self->{in} .= $bytes;
        $self->_packets;
        1;
    };
    $self->{server}->note("connection $self->{number}: $@");
    $self->reset;
    return;
}

sub _packets ($self) {
    while (length $self->{in} >= 8) {
        my ($type, $status, $len) = unpack 'CCn', $self->{in};
        die "a packet of $len bytes\n" if $len < 8;
        last if length $self->{in} < $len;
        my $body = substr substr($self->{in}, 0, $len, ''), 8;
        if ($type == STOP) {
            $self->_attention;
            next;
        }
        $self->{message} .= $body;
        next if !($status & LAST);
        my $message = $self->{message};
        $self->{message} = '';
        $self->_message($type, $message);
    }
    return;
}

sub _send ($self, $type, $bytes) {
    my $out = '';
    my $id  = 1;
    do {
        my $part = substr $bytes, 0, PACKET - 8, '';
        $out .= pack('CCnnCC', $type, length $bytes ? 0 : LAST, 8 + length $part, $self->{number} & 0xffff, $id++ & 0xff, 0)
            . $part;
    } while (length $bytes);
    $self->raw($out);
    return;
}

# Bytes behind the packets, but inside TLS.
sub raw ($self, $bytes) {
    if ($self->{tls} && $self->{tls}->is_done && !$self->{is_clear_again} && $self->{state} ne 'handshake') {
        $bytes = $self->{tls}->write($bytes);
    }
    $self->{stream}->write($bytes) if $self->{stream};
    return;
}

sub _message ($self, $type, $message) {
    my $state = $self->{state};
    if ($state eq 'prelogin' && $type == PRELOGIN) { return $self->_prelogin($message) }
    if ($state eq 'handshake' && $type == PRELOGIN) { return $self->_handshake($message) }
    if ($state eq 'login' && $type == LOGIN) { return $self->_login($message) }
    if ($state eq 'ready' && ($type == BATCH || $type == RPC)) {
        push $self->{waiting}->@*, [$type, $message];
        return $self->_next;
    }
    die "packets of type $type in state $state\n";
}

# The connection is no more, without a polite end.
sub reset ($self) {
    my $stream = delete $self->{stream} or return;
    setsockopt $stream->handle, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    $stream->close;
    return;
}

sub close ($self) {
    my $stream = delete $self->{stream} or return;
    $stream->close_gracefully;
    return;
}

# --- before the first request -------------------------------------------------

sub _prelogin ($self, $message) {
    my $asked = TLS_NONE;
    for (my $at = 0; ord(substr $message, $at, 1) != 0xff; $at += 5) {
        my ($token, $offset, $len) = unpack 'Cnn', substr $message, $at, 5;
        $asked = ord substr $message, $offset, 1 if $token == 1;
    }
    return if !$self->{server}->lets_in($self, 'prelogin');
    my $says = !$self->{server}->tls_context || $asked == TLS_NONE ? TLS_NONE : $asked == TLS_OFF ? TLS_OFF : TLS_ON;
    if ($self->{server}->take_fault('prelogin', 'downgrade')) {
        $says = TLS_OFF;    # as somebody on the way would
    }
    my @options = ([0, pack 'C6', 15, 0, 0x10, 0, 0, 0], [1, pack 'C', $says], [4, pack 'C', 0]);
    my $at      = 5 * @options + 1;
    my ($head, $body) = ('', '');
    for my $option (@options) {
        $head .= pack 'Cnn', $option->[0], $at + length $body, length $option->[1];
        $body .= $option->[1];
    }
    $self->_send(ANSWER, "$head\xff$body");
    $self->{is_login_only} = $says == TLS_OFF;
    $self->{state} = $says == TLS_NONE ? 'login' : 'handshake';
    $self->{tls} = Parley::Tds::Tls->new($self->{server}->tls_context) if $says != TLS_NONE;
    return;
}

sub _handshake ($self, $message) {
    my $bytes = $self->{tls}->handshake($message);
    $self->_send(PRELOGIN, $bytes) if $bytes ne '';
    return if !$self->{tls}->is_done;
    $self->{state} = 'login';
    $self->{in} = $self->{tls}->read($self->{in}) if $self->{in} ne '';
    return;
}

sub _login ($self, $message) {
    my $text = sub ($at) {
        my ($offset, $chars) = unpack 'vv', substr $message, $at, 4;
        die "LOGIN7 points behind its end\n" if $offset + 2 * $chars > length $message;
        return substr $message, $offset, 2 * $chars;
    };
    my ($version) = unpack 'V', substr $message, 4, 4;
    my $password = $text->(44) =~ s/(.)/my $x = ord($1) ^ 0xa5; chr(($x << 4 | $x >> 4) & 0xff)/egsr;
    $self->{user}         = Parley::Tds::Wire::utf16($text->(40));
    $self->{app}          = Parley::Tds::Wire::utf16($text->(48));
    $self->{database}     = Parley::Tds::Wire::utf16($text->(68));
    $self->{is_read_only} = ord(substr $message, 26, 1) & READ_ONLY;
    $self->{is_secret}    = defined $self->{tls} && !$self->{is_login_only};
    $self->{is_clear_again} = 1 if $self->{is_login_only};
    return if !$self->{server}->lets_in($self, 'login');
    my $refusal = $version < 0x74000004 ? 18456 : $self->{server}->login($self, Parley::Tds::Wire::utf16($password));
    if ($refusal) {
        $self->refuse($refusal);
        return;
    }
    $self->{state} = 'ready';
    $self->_send(ANSWER, join '', Parley::Tds::Wire::change(1, $self->{database}, 'master'),
        Parley::Tds::Wire::info(5701, "Changed database context to '$self->{database}'."),
        Parley::Tds::Wire::change(2, 'us_english', ''),
        Parley::Tds::Wire::change(7, undef, undef),
        Parley::Tds::Wire::login_ack(),
        Parley::Tds::Wire::change(4, PACKET, PACKET),
        Parley::Tds::Wire::done(Parley::Tds::Wire::DONE, 0));
    return;
}

sub refuse ($self, $number) {
    $self->_send(ANSWER,
        Parley::Tds::Wire::error(number => $number, severity => 14, text => "Login failed for user '$self->{user}'.")
            . Parley::Tds::Wire::done(Parley::Tds::Wire::DONE, Parley::Tds::Wire::FAILED));
    $self->close;
    return;
}

# --- requests -----------------------------------------------------------------

sub _next ($self) {
    return if $self->{request} || !$self->{waiting}->@*;
    my ($type, $message) = (shift $self->{waiting}->@*)->@*;
    my $reader = Parley::Tds::Wire->new($message);
    my $headers = $reader->u32;
    $reader->bytes($headers - 4);
    my $request = $type == BATCH ? {sql => $reader->text($reader->left / 2)} : _rpc($reader);
    $self->{request} = $request;
    $self->{server}->request($self, $request);
    return;
}

sub _rpc ($reader) {
    my $chars = $reader->u16;
    my $name  = $chars == 0xffff ? '#' . $reader->u16 : $reader->text($chars);
    my @params;
    $reader->u16;    # options
    while ($reader->left > 0) {
        my $param  = $reader->text($reader->u8);
        my $status = $reader->u8;
        my ($type, $value) = $reader->typed;
        push @params, {name => $param, is_output => $status & 1, type => $type, value => $value};
    }
    return {procedure => $name, params => \@params};
}

# Of the request that runs: tokens. An answer to what was given up is dropped.
sub answer ($self, $request, $tokens) {
    return if !$self->{request} || $self->{request} != $request;
    delete $self->{request};
    $self->_send(ANSWER, $tokens);
    $self->_next;
    return;
}

# Some of it, and then nothing more.
sub answer_partly ($self, $request, $tokens, $part) {
    return if !$self->{request} || $self->{request} != $request;
    my $whole = pack('CCnnCC', ANSWER, 0, 8 + length $tokens, $self->{number} & 0xffff, 1, 0) . $tokens;
    $self->raw(substr $whole, 0, int(length($whole) * $part));
    return;
}

sub _attention ($self) {
    return if $self->{request} && $self->{request}{is_deaf};
    delete $self->{request};
    $self->{server}->attention;
    $self->_send(ANSWER, Parley::Tds::Wire::done(Parley::Tds::Wire::DONE, Parley::Tds::Wire::ATTENTION));
    $self->_next;
    return;
}

1;
