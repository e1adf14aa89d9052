# Parley::Turn - a TURN server on this machine (Debian's coturn), and a client
# of it that speaks just enough of RFC 8489 and RFC 8656.
#
#     my $turn = Parley::Turn->start($secret);
#     my $client = $turn->client;
#     my ($code, $relay) = $client->allocate($username, $credential);
#     $turn->finish;
package Parley::Turn;
use v5.36;

use File::Path qw(remove_tree);
use File::Temp ();
use IO::Socket::INET;
use POSIX qw(WNOHANG);

my $OWNER = $$;
my @alive;

sub program () {
    my ($path) = grep { -x && -f _ } map {"$_/turnserver"} split(/:/, $ENV{PATH} // ''), '/usr/sbin', '/usr/bin';
    return $path;
}

# The sample configuration of etc/, with places of this machine. Options
# replace lines of it or are added.
sub start ($class, $secret, @options) {
    my $dir  = File::Temp->newdir('parley-turn-XXXXXX', TMPDIR => 1, CLEANUP => 0);
    my $self = bless {dir => "$dir"}, $class;
    push @alive, $self;

    # Another program may take the port in between: then another one.
    for (1 .. 5) {
        my $probe = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '127.0.0.1', LocalPort => 0)
            or die "no port: $@\n";
        $self->{port} = $probe->sockport;
        $probe->close;
        $self->spawn($secret, @options);
        my $is_up = Parley::poll_until(10, sub { $self->ended ? -1 : $self->answers }) // -1;
        return $self if $is_up > 0;
        $self->stop;
    }
    die "turnserver does not start\n" . $self->log;
}

sub spawn ($self, $secret, @options) {
    my $dir = $self->{dir};

    my @lines = (
        "listening-ip=127.0.0.1", "relay-ip=127.0.0.1", "listening-port=$self->{port}",
        "static-auth-secret=$secret", 'allow-loopback-peers', 'no-tls', 'no-dtls',
        "userdb=$dir/turndb", "pidfile=$dir/turnserver.pid", 'log-file=stdout', @options
    );
    my %ours   = map { (split /=/)[0] => 1 } @lines;
    my @sample = grep { /\A[a-z]/ && !$ours{(split /[=\n]/)[0]} && !/\A(?:cert|pkey|tls-)/ }
        split /^/, Parley::slurp(Parley::source_dir() . '/etc/turnserver.conf');
    Parley::spew("$dir/turnserver.conf", join '', @sample, map {"$_\n"} @lines);
    $self->{pid} = fork // die "fork: $!\n";
    if ($self->{pid} == 0) {
        setpgrp;
        open STDIN,  '<', '/dev/null' or POSIX::_exit(126);
        open STDOUT, '>', "$dir/log"  or POSIX::_exit(126);
        open STDERR, '>&', \*STDOUT   or POSIX::_exit(126);
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
        { no warnings 'exec'; exec program(), '-c', "$dir/turnserver.conf" }
        POSIX::_exit(127);
    }
    return;
}

sub ended ($self) {
    $self->{pid} = undef if defined $self->{pid} && waitpid($self->{pid}, WNOHANG) == $self->{pid};
    return !defined $self->{pid};
}

# Does it answer a request without credentials with "401"?
sub answers ($self) {
    my ($code) = $self->client->ask(0.2);
    return ($code // 0) == 401;
}

sub url    ($self) { return "turn:127.0.0.1:$self->{port}?transport=udp" }
sub log    ($self) { return Parley::slurp("$self->{dir}/log") }
sub client ($self) { return Parley::Turn::Client->new($self->{port}) }

sub stop ($self) {
    return if !defined $self->{pid};
    kill KILL => $self->{pid};
    waitpid $self->{pid}, 0;
    $self->{pid} = undef;
    return;
}

sub finish ($self) {
    $self->stop;
    remove_tree($self->{dir}, {error => \my $ignored});
    return;
}

END {
    if ($$ == $OWNER) {
        my $status = $?;
        $_->finish for @alive;
        $? = $status;
    }
}

package Parley::Turn::Client;
use v5.36;

use Digest::MD5 qw(md5);
use Digest::SHA qw(hmac_sha1);
use IO::Select;
use IO::Socket::INET;
use Socket qw(inet_aton inet_ntoa);
use Time::HiRes qw(time);

my $COOKIE = 0x2112A442;

sub new ($class, $port) {
    my $socket = IO::Socket::INET->new(Proto => 'udp', PeerAddr => '127.0.0.1', PeerPort => $port)
        or die "udp: $@\n";
    return bless {socket => $socket}, $class;
}

# RFC 8489 5, 14: an attribute, padded to 4.
sub attribute ($type, $value) {
    return pack('nn', $type, length $value) . $value . "\0" x (-length($value) % 4);
}

sub address_of ($value) {
    my ($port, $host) = unpack 'x2 n N', $value;
    return inet_ntoa(pack 'N', $host ^ $COOKIE) . ':' . ($port ^ ($COOKIE >> 16));
}

sub xor_address ($address) {
    my ($host, $port) = split /:/, $address;
    return pack 'nnN', 1, $port ^ ($COOKIE >> 16), unpack('N', inet_aton($host)) ^ $COOKIE;
}

# One message; a request waits for its answer: (0 or the error's code,
# {type => value}), nothing when none has come.
sub exchange ($self, $method, $body, $key = undef, $patience = 5) {
    my $id   = join '', map { chr int rand 256 } 1 .. 12;
    my $head = sub ($length) { return pack('nnN', $method, $length, $COOKIE) . $id };
    if (defined $key) {
        my $covered = $head->(length($body) + 24) . $body;
        $body .= attribute(0x0008, hmac_sha1($covered, $key));    # MESSAGE-INTEGRITY
    }
    $self->{socket}->send($head->(length $body) . $body);
    return if $method & 0x10;                                     # an indication
    my $deadline = time + Parley::scaled($patience);
    while (IO::Select->new($self->{socket})->can_read($deadline - time > 0 ? $deadline - time : 0)) {
        defined $self->{socket}->recv(my $answer, 65536) or return;    # refused: nobody listens
        next if length $answer < 20 || substr($answer, 8, 12) ne $id;
        my %found = %{attributes($answer)};
        my ($class, $number) = unpack 'x2 CC', $found{0x0009} // "\0\0\0\0";
        return ($class * 100 + $number, \%found);
    }
    return;
}

sub attributes ($message) {
    my %found;
    my $rest = substr $message, 20;
    while (length $rest >= 4) {
        my ($type, $length) = unpack 'nn', $rest;
        $found{$type} = substr $rest, 4, $length;
        substr $rest, 0, 4 + $length + (-$length % 4), '';
    }
    return \%found;
}

# Allocate without credentials: the answer has realm and nonce.
sub ask ($self, $patience = 5) {
    my ($code, $found) = $self->exchange(0x0003, attribute(0x0019, pack 'Cx3', 17), undef, $patience);
    @$self{qw(realm nonce)} = @$found{0x0014, 0x0015} if $found;
    return $code;
}

sub with_credentials ($self, $body) {
    return $body . attribute(0x0006, $self->{username}) . attribute(0x0014, $self->{realm})
        . attribute(0x0015, $self->{nonce});
}

# RFC 8656 7: (0, "host:port" of the relay) or (the error's code).
sub allocate ($self, $username, $credential) {
    $self->ask;
    $self->{username} = $username;
    $self->{key}      = md5(join ':', $username, $self->{realm}, $credential);
    my ($code, $found) = $self->exchange(0x0003, $self->with_credentials(attribute(0x0019, pack 'Cx3', 17)), $self->{key});
    return ($code, $found && $found->{0x0016} ? address_of($found->{0x0016}) : undef);
}

# RFC 8656 9: (0) or (the error's code).
sub permit ($self, $peer) {
    my ($code) = $self->exchange(0x0008, $self->with_credentials(attribute(0x0012, xor_address($peer))), $self->{key});
    return $code;
}

# Bytes through the relay to a peer: RFC 8656 10.1.
sub send_to ($self, $peer, $bytes) {
    $self->exchange(0x0016, attribute(0x0012, xor_address($peer)) . attribute(0x0013, $bytes));
    return;
}

# What a peer has sent to the relay: (bytes, from whom).
sub receive ($self, $patience = 5) {
    my $select = IO::Select->new($self->{socket});
    while ($select->can_read(Parley::scaled($patience))) {
        $self->{socket}->recv(my $message, 65536) // return;
        next if unpack('n', $message) != 0x0017;    # Data indication
        my $found = attributes($message);
        return ($found->{0x0013}, address_of($found->{0x0012}));
    }
    return;
}

1;
