# A server for parleyctl db, on the loop of the test: it keeps the names of what
# batches make, notes of migrations, a transaction for each connection and the
# one application lock; it runs no SQL:
#   * CREATE TABLE, INDEX, ROLE behind a guard ("IF ... " before it) is done once,
#     without one a second time is error 2714, as there;
#   * CREATE OR ALTER PROCEDURE replaces;
#   * the word NONSENSE is error 102 in its line;
#   * whoever goes without COMMIT has done nothing.
package Parley::MigrationDb;
use v5.36;

use Mojo::IOLoop;

use Parley::Tds::Connection;
use Parley::Tds::Wire;

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
    my $last = 50;
    $self->{id} = Mojo::IOLoop->server(
        {address => '127.0.0.1'},
        sub ($loop, $stream, $id) {
            $last++;
            $self->{conns}{$last} = Parley::Tds::Connection->new($self, $stream, $last);
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
    my ($conn, $request) = @{delete $self->{held}};
    delete $self->{hold};
    $self->request($conn, $request);
    return;
}

sub cut ($self) {
    delete $self->@{qw(held hold)};
    $_->reset for values $self->{conns}->%*;
    return;
}

# --- what a connection asks of its server ---------------------------------------

sub tls_context ($)          { return }
sub take_fault ($, @)        { return }
sub lets_in ($, @)           { return 1 }
sub attention ($)            { return }
sub note ($self, $text)      { die "a connection: $text" }

sub login ($self, $conn, $password) {
    $conn->{is_owner} = $conn->{user} eq $self->{owner};
    return $conn->{is_owner} && $password ne $self->{password} ? 18456 : 0;
}

sub gone ($self, $conn) {
    delete $self->{conns}{$conn->{number}};
    $self->{state} = $conn->{before} if $conn->{before};
    delete $self->{lock}             if ($self->{lock} // 0) == $conn;
    return;
}

# --- answers --------------------------------------------------------------------

sub _done ($status) { return Parley::Tds::Wire::done(Parley::Tds::Wire::DONE, $status) }

sub _failed ($number, $severity, $line) {
    return Parley::Tds::Wire::error(number => $number, severity => $severity, line => $line)
        . _done(Parley::Tds::Wire::FAILED);
}

sub _result ($columns, @rows) {
    return Parley::Tds::Wire::columns($columns) . join('', map { Parley::Tds::Wire::row($columns, $_) } @rows) . _done(Parley::Tds::Wire::COUNT);
}

# --- batches ------------------------------------------------------------------

sub request ($self, $conn, $request) {
    my $sql = $request->{sql} // die "parleyctl db calls no procedure\n";
    $self->{batches}++;
    if (defined $self->{hold} && $sql =~ $self->{hold}) {
        $self->{held} = [$conn, $request];
        return;
    }
    $conn->answer($request, $self->_answer($conn, $sql) // _done(0));
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
        return _result([['Number', 'int'], ['Checksum', 'nvarchar(40)'], ['AppliedAt', 'datetime2']],
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
    if ($sql =~ /NONSENSE/) { return _failed(102, 15, 1 + ($` =~ tr/\n//)) }
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
        elsif ($before !~ /^IF /m) { return _failed(2714, 16, 1) }
    }
    if ($code =~ /INSERT dbo\.ParleyVersion \(Number, Name, Checksum\) VALUES \((\d+), N'([^']+)', '(\w+)'\)/) {
        $state->{notes}{$1} = {name => $2, checksum => $3, at => '2026-11-30T01:06:40.000'};
    }
    delete $conn->{before} if $code =~ /COMMIT TRANSACTION\z/;
    return;
}

1;
