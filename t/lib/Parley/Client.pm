# Parley::Client - a client of the protocol, in blocking style.
#
#     my $client = Parley::Client->connect('ws://127.0.0.1:3333/ws');
#     my $reply  = $client->request('P_HEARTBEAT');
#     my $event  = $client->expect_event('P_MESSAGE');
#     my ($code) = $client->expect_close;
#
# What comes in is sorted into replies and events and kept until asked for,
# so that nothing depends on which of them came first.
package Parley::Client;
use v5.36;

use Mojo::IOLoop;
use Mojo::JSON qw(decode_json encode_json);
use Mojo::UserAgent;
use Scalar::Util qw(weaken);

my $LARGEST = 32 * 1024 * 1024;

# The transaction of an upgrade request, whatever its outcome, and its user
# agent. headers => {...} are added; protocols => [...] are offered.
sub upgrade ($class, $url, %arg) {
    my $ua = Mojo::UserAgent->new(
        connect_timeout    => Parley::scaled(10),
        inactivity_timeout => 0,
        max_response_size  => $LARGEST,
        insecure           => 1,    # wss: certificates of the tests sign themselves
    );
    my $done;
    $ua->websocket(
        $url => ($arg{headers} // {}) => ($arg{protocols} // ['parley.v1']),
        sub ($ua, $tx) { $done = $tx }
    );
    Parley::poll_until(10, sub {$done}) // die "no answer to the upgrade of $url\n";
    return ($done, $ua);
}

sub connect ($class, $url, %arg) {
    my ($tx, $ua) = $class->upgrade($url, %arg);
    if (!$tx->is_websocket) {
        my $error = $tx->error // {};
        die "upgrade refused: " . ($error->{code} // '') . " $error->{message}\n";
    }
    $tx->max_websocket_size($LARGEST);
    my $self = bless {
        ua      => $ua,
        tx      => $tx,
        next_id => 1,
        replies => [],
        events  => [],
        frames  => {},
    }, $class;
    my $weak = $self;
    weaken($weak);
    $tx->on(frame  => sub ($tx, $frame) { $weak->{frames}{$frame->[4]}++ if $weak });
    $tx->on(text   => sub ($tx, $text) { $weak->_take($text) if $weak });
    $tx->on(binary => sub ($tx, $bytes) { $weak->{binary}++ if $weak });
    $tx->on(
        finish => sub ($tx, $code, $reason = '') {
            $weak->{closed} = [$code, $reason // ''] if $weak;
        }
    );
    return $self;
}

sub _take ($self, $text) {
    my $message = decode_json($text);    # of a text event Mojo gives the bytes
    my $is_reply =
        exists $message->{Reason} && $message->{Command} ne 'P_CLOSE';
    push $self->{$is_reply ? 'replies' : 'events'}->@*, $message;
    return;
}

sub tx       ($self) { return $self->{tx} }
sub session  ($self) { return $self->{session} }     # reply of the login
sub protocol ($self) { return $self->{tx}->protocol }

# How many frames of an opcode (9 ping, 10 pong, 1 text) have come.
sub frame_count ($self, $opcode) { return $self->{frames}{$opcode} // 0 }

# --- sending ----------------------------------------------------------------

# As it is: one text message of these bytes.
sub send_text ($self, $bytes) {
    $self->{tx}->send({text => $bytes});
    return;
}

sub send_binary ($self, $bytes) {
    $self->{tx}->send({binary => $bytes});
    return;
}

# One frame, masked: opcode and payload; fin => 0, rsv1..rsv3 => 1.
sub send_frame ($self, $opcode, $payload, %flag) {
    $self->{tx}->send([
        $flag{fin}  // 1, $flag{rsv1} // 0, $flag{rsv2} // 0, $flag{rsv3} // 0,
        $opcode, $payload
    ]);
    return;
}

# Send and do not wait; the RequestId given or undef.
sub send_command ($self, $command, %fields) {
    $self->send_text(encode_json({Command => $command, %fields}));
    return $fields{RequestId};
}

# Send with a RequestId of its own; returns it for wait_reply.
sub submit ($self, $command, %fields) {
    $fields{RequestId} //= $self->{next_id}++;
    return $self->send_command($command, %fields);
}

# Send and wait for the reply.
sub request ($self, $command, %fields) {
    my $id = $self->submit($command, %fields);
    return $self->wait_reply($id, "reply to $command");
}

# --- receiving --------------------------------------------------------------

sub _wait ($self, $what, $seconds, $check) {
    my $value = Parley::poll_until(
        $seconds,
        sub {
            my $found = $check->();
            return $found if $found;
            die "closed ($self->{closed}[0] $self->{closed}[1]) while waiting for $what\n"
                if $self->{closed};
            return 0;
        }
    );
    return $value // die "no $what in time\n" . $self->pending;
}

# What lies in the queues, for a failure's message.
sub pending ($self) {
    return join '', map { encode_json($_) . "\n" } $self->{events}->@*, $self->{replies}->@*;
}

# Has this request been answered? The reply stays where it is.
sub has_reply ($self, $id) {
    Parley::tick();
    return scalar grep { defined $_->{RequestId} && $_->{RequestId} eq $id } $self->{replies}->@*;
}

sub _pull ($queue, $matches) {
    for my $i (0 .. $#$queue) {
        return splice @$queue, $i, 1 if $matches->($queue->[$i]);
    }
    return;
}

sub wait_reply ($self, $id, $what = "reply $id", $seconds = 10) {
    return $self->_wait($what, $seconds,
        sub { _pull($self->{replies}, sub ($m) { ($m->{RequestId} // '') eq $id }) });
}

# The oldest reply of all that were not asked for by id.
sub next_reply ($self, $seconds = 10) {
    return $self->_wait('reply', $seconds, sub { shift $self->{replies}->@* });
}

# The oldest event of this command, where $matches->($event) if given.
sub expect_event ($self, $command, $seconds = 10, $matches = sub ($event) {1}) {
    return $self->_wait("event $command", $seconds,
        sub {
            _pull($self->{events}, sub ($m) { $m->{Command} eq $command && $matches->($m) });
        });
}

# A round trip; then the events of a command that are there and not yet
# taken. What the server sent this client before the reply has arrived.
sub events_so_far ($self, $command) {
    $self->request('P_HEARTBEAT') if !$self->{closed};
    return grep { $_->{Command} eq $command } $self->{events}->@*;
}

sub is_closed ($self) { return defined $self->{closed} }

# Wait for the end: (code, reason); 1006 when no close frame came.
sub expect_close ($self, $seconds = 10) {
    Parley::poll_until($seconds, sub { $self->{closed} })
        // die "not closed in time\n" . $self->pending;
    return $self->{closed}->@*;
}

# --- bad behaviour ----------------------------------------------------------

# A client that no longer reads from its socket, and one that does again.
sub stop_reading ($self) {
    Mojo::IOLoop->stream($self->{tx}->connection)->stop;
    return;
}

sub start_reading ($self) {
    Mojo::IOLoop->stream($self->{tx}->connection)->start;
    return;
}

# The network is gone: no close frame.
sub drop ($self) {
    Mojo::IOLoop->remove($self->{tx}->connection) if !$self->{closed};
    Parley::poll_until(5, sub { $self->{closed} });
    return;
}

# An orderly goodbye.
sub close ($self, $code = 1000, $reason = '') {
    return if $self->{closed};
    $self->{tx}->finish($code, $reason);
    $self->expect_close;
    return;
}

1;
