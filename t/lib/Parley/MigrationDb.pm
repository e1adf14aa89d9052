# A server that speaks as much TDS 7.4 as parleyctl db needs, on the loop of
# the test. It keeps the names of what batches make, notes of migrations, a
# transaction for each connection and the one application lock; it runs no SQL:
#   * CREATE TABLE, INDEX, ROLE behind a guard ("IF ... " before it) is done once,
#     without one a second time is error 2714, as there;
#   * CREATE OR ALTER PROCEDURE replaces;
#   * the word NONSENSE is error 102 in its line;
#   * whoever goes without COMMIT has done nothing.
package Parley::MigrationDb;
use v5.36;

use Encode qw(decode encode);
use Mojo::IOLoop;

# password: of the owner; other users may log in and make nothing.
sub start ($class, %arg) {
    my $self = bless {
        owner    => $arg{owner},
        password => $arg{password},
        state    => {objects => {}, notes => {}},
        made     => 0,
        batches  => 0,
        conns    => {},
    }, $class;
    $self->{id} = Mojo::IOLoop->server(
        {address => '127.0.0.1'},
        sub ($loop, $stream, $id) {
            my $conn = $self->{conns}{$id} = {stream => $stream, in => '', message => ''};
            $stream->timeout(0);
            $stream->on(read => sub ($, $bytes) { $self->_feed($conn, $bytes) });
            $stream->on(close => sub { $self->_gone($id) });
        }
    );
    $self->{port} = Mojo::IOLoop->acceptor($self->{id})->port;
    return $self;
}

sub port    ($self) { return $self->{port} }
sub objects ($self) { return $self->{state}{objects} }
sub notes   ($self) { return $self->{state}{notes} }
# Things that were made or replaced, and rolled back ones.
sub made ($self) { return $self->{made} }
# Batches that match are not answered until release.
sub hold ($self, $pattern) { $self->{hold} = $pattern; return }
sub is_holding ($self)     { return defined $self->{held} }

sub release ($self) {
    my ($conn, $sql) = @{delete $self->{held}};
    delete $self->{hold};
    $self->_batch($conn, $sql);
    return;
}

sub cut ($self) {
    delete $self->@{qw(held hold)};
    $_->{stream}->close for values $self->{conns}->%*;
    return;
}

sub _gone ($self, $id) {
    my $conn = delete $self->{conns}{$id} or return;
    $self->{state} = $conn->{before} if $conn->{before};
    delete $self->{lock}             if ($self->{lock} // 0) == $conn;
    return;
}

# --- packets ------------------------------------------------------------------

sub _feed ($self, $conn, $bytes) {
    $conn->{in} .= $bytes;
    while (length $conn->{in} >= 8) {
        my ($type, $status, $len) = unpack 'CCn', $conn->{in};
        last if length $conn->{in} < $len;
        $conn->{message} .= substr substr($conn->{in}, 0, $len, ''), 8;
        next if !($status & 1);
        my $message = $conn->{message};
        $conn->{message} = '';
        if    ($type == 0x12) { $self->_prelogin($conn) }
        elsif ($type == 0x10) { $self->_login($conn, $message) }
        elsif ($type == 0x01) { $self->_batch($conn, decode('UTF-16LE', substr $message, unpack 'V', $message)) }
        else                  { $conn->{stream}->close }
    }
    return;
}

sub _send ($conn, $bytes) {
    while (length $bytes) {
        my $part = substr $bytes, 0, 4088, '';
        $conn->{stream}->write(pack('CCnnCC', 4, length $bytes ? 0 : 1, 8 + length $part, 0, 1, 0) . $part);
    }
    return;
}

sub _prelogin ($self, $conn) {
    # Version, and that there is no TLS.
    _send($conn, pack('CnnCnnC', 0, 11, 6, 1, 17, 1, 0xff) . pack('C6', 15, 0, 0x10, 0, 0, 0) . pack 'C', 2);
    return;
}

sub _login ($self, $conn, $message) {
    my ($user, $password) = map {
        my ($at, $count) = unpack 'vv', substr $message, $_, 4;
        substr $message, $at, 2 * $count
    } 40, 44;
    $password =~ s/(.)/my $x = ord($1) ^ 0xa5; chr(($x << 4 | $x >> 4) & 0xff)/egs;
    ($user, $password) = map { decode('UTF-16LE', $_) } $user, $password;
    $conn->{is_owner} = $user eq $self->{owner};
    if ($conn->{is_owner} && $password ne $self->{password}) {
        _send($conn, _error(18456, 14, 1) . _done(2));
        $conn->{stream}->close_gracefully;
        return;
    }
    my $ack = pack('CNC/a*', 1, 0x74000004, '') =~ s/\0\z//r . _name('SQL Server', 'C') . pack 'C4', 15, 0, 0x10, 0;
    _send($conn, pack('Cv/a*', 0xad, $ack) . _done(0));
    return;
}

# --- tokens -------------------------------------------------------------------

sub _name ($text, $size) { return pack($size, length $text) . encode('UTF-16LE', $text) }
sub _done ($status)      { return pack 'CvvQ<', 0xfd, $status, 0, 0 }

sub _error ($number, $severity, $line) {
    my $body = pack('VCC', $number, 1, $severity) . _name('the text of this error quotes data', 'v')
        . _name('double', 'C') . _name('', 'C') . pack 'V', $line;
    return pack 'Cv/a*', 0xaa, $body;
}

my %TYPE = (
    int  => [pack('CC', 0x26, 4),                      sub ($n) { return pack 'CV', 4, $n & 0xffffffff }],
    text => [pack('CvVC', 0xe7, 512, 0x00d00409, 0x34), sub ($text) { return pack 'v/a*', encode('UTF-16LE', $text) }],
    # DATETIME2(3): ms of the day, days since 0001-01-01
    time => [pack('CC', 0x2a, 3), sub ($s) {
        return pack 'CVCv', 7, $s % 86400 * 1000, (int($s / 86400) + 719162) & 0xff, (int($s / 86400) + 719162) >> 8;
    }],
);

sub _result ($columns, @rows) {
    my $out = pack 'Cv', 0x81, scalar @$columns;
    $out .= pack('Vv', 0, 9) . $TYPE{$_->[1]}[0] . _name($_->[0], 'C') for @$columns;
    for my $row (@rows) {
        $out .= pack 'C', 0xd1;
        $out .= $TYPE{$columns->[$_][1]}[1]->($row->[$_]) for keys @$row;
    }
    return $out . _done(0x10);
}

# --- batches ------------------------------------------------------------------

sub _batch ($self, $conn, $sql) {
    $self->{batches}++;
    if (defined $self->{hold} && $sql =~ $self->{hold}) {
        $self->{held} = [$conn, $sql];
        return;
    }
    _send($conn, $self->_answer($conn, $sql) // _done(0));
    return;
}

sub _answer ($self, $conn, $sql) {
    if ($sql =~ /HAS_PERMS_BY_NAME/) { return _result([['Answer', 'int']], [$conn->{is_owner} ? 1 : 0]) }
    if ($sql =~ /sp_getapplock/) {
        my $is_free = !$self->{lock} || $self->{lock} == $conn;
        $self->{lock} = $conn if $is_free;
        return _result([['Answer', 'int']], [$is_free ? 0 : -1]);
    }
    if ($sql =~ /SELECT Number, Checksum, AppliedAt FROM dbo\.ParleyVersion/) {
        return if !$self->objects->{ParleyVersion};
        my $notes = $self->notes;
        return _result([['Number', 'int'], ['Checksum', 'text'], ['AppliedAt', 'time']],
            map { [$_, $notes->{$_}->@{qw(checksum at)}] } sort { $a <=> $b } keys %$notes);
    }
    return $self->_change($conn, $sql);
}

sub _change ($self, $conn, $sql) {
    my $state = $self->{state};
    if ($sql =~ /BEGIN TRANSACTION\z/) {
        $conn->{before} = {map { $_ => {$state->{$_}->%*} } keys %$state};
        return;
    }
    if ($sql =~ /NONSENSE/) { return _error(102, 15, 1 + ($` =~ tr/\n//)) . _done(2) }
    my $code = $sql =~ s/--[^\n]*//gr;
    if ($code =~ /^CREATE OR ALTER PROCEDURE dbo\.(\w+)/m) {
        $state->{objects}{$1} = $code;
        $self->{made}++;
    }
    elsif ($code =~ /^CREATE (?:UNIQUE )?(?:CLUSTERED )?(?:TABLE|INDEX|ROLE) (?:dbo\.)?(\w+)/m) {
        my ($name, $before) = ($1, $`);
        if (!exists $state->{objects}{$name}) {
            $state->{objects}{$name} = $code;
            $self->{made}++;
        }
        elsif ($before !~ /^IF /m) { return _error(2714, 16, 1) . _done(2) }
    }
    if ($code =~ /INSERT dbo\.ParleyVersion \(Number, Name, Checksum\) VALUES \((\d+), N'([^']+)', '(\w+)'\)/) {
        $state->{notes}{$1} = {name => $2, checksum => $3, at => 1_796_000_000};
    }
    delete $conn->{before} if $code =~ /COMMIT TRANSACTION\z/;
    return;
}

1;
