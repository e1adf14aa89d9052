# Parley::Tds::Server - a TDS 7.4 server whose procedures run on SQLite.
#
# Role: binds parameters as SQL Server does, runs procedures and, for the owner,
#       simple statements, and does wrong what a test asks for (Fault.pm).
#       Everything on one loop: a request that is slow holds up no other one,
#       and one that runs is done before the next.
package Parley::Tds::Server;
use v5.36;

use Mojo::IOLoop;
use Scalar::Util qw(blessed);

use Parley::Tds::Connection;
use Parley::Tds::Database;
use Parley::Tds::Fault;
use Parley::Tds::Procedures;
use Parley::Tds::Refusal qw(refuse);
use Parley::Tds::Schema;
use Parley::Tds::Tls;
use Parley::Tds::Values qw(convert);
use Parley::Tds::Wire;

# Arguments: port (0: any), file of SQLite, sql (folder etc/mssql), cert and key
# (without them no TLS); logins => {name => password}, of which owner may run
# statements, the others procedures only; delay, in ms, of every request.
sub new ($class, %arg) {
    my $self = bless {
        logins   => $arg{logins},
        owner    => $arg{owner},
        delay_ms => $arg{delay} // 0,
        verbose  => $arg{verbose},
        database => Parley::Tds::Database->open($arg{file}, Parley::Tds::Schema->load($arg{sql})),
        tls      => $arg{cert} ? Parley::Tds::Tls::context($arg{cert}, $arg{key}) : undef,
        conns    => {},
        faults   => Parley::Tds::Fault->new,
        held     => [],
        counts   => {opened => 0, most => 0, attentions => 0, refused => 0},
        calls    => {},
    }, $class;
    my $last = 50;
    $self->{listener} = Mojo::IOLoop->server(
        {address => '127.0.0.1', port => $arg{port} // 0, reuse => 0},
        sub ($loop, $stream, $id) {
            my $conn = Parley::Tds::Connection->new($self, $stream, ++$last);
            $self->{conns}{$last} = $conn;
        }
    );
    return $self;
}

sub port        ($self) { return Mojo::IOLoop->acceptor($self->{listener})->port }
sub tls_context ($self) { return $self->{tls} }
sub database    ($self) { return $self->{database} }
sub faults      ($self) { return $self->{faults} }
sub set_delay ($self, $ms) { $self->{delay_ms} = $ms; return }
sub note ($self, $text) { print STDERR "tds-server: $text" if $self->{verbose}; return }

# --- connections --------------------------------------------------------------

sub gone ($self, $conn) {
    delete $self->{conns}{$conn->{number}};
    return;
}

# Of the server under test: those of the story stay.
sub kill_connections ($self) {
    $_->reset for $self->_ours;
    return;
}

sub _ours ($self) {
    return grep { ($_->{app} // '') eq 'parley' } values $self->{conns}->%*;
}

sub attention ($self) { $self->{counts}{attentions}++; return }

sub take_fault ($self, $where, $what) { return $self->{faults}->take($where, $what) }

# At a step before the first request: false: there is no next one.
sub lets_in ($self, $conn, $where) {
    my $fault = $self->{faults}->take($where, 'hang', 'reset', 'error') or return 1;
    if    ($fault->{what} eq 'reset') { $conn->reset }
    elsif ($fault->{what} eq 'error') { $conn->refuse($fault->{number} // 18456) }
    return 0;
}

# The number of an error, or 0.
sub login ($self, $conn, $password) {
    my $expected = $self->{logins}{$conn->{user}};
    if (!defined $expected || $expected ne $password) {
        $self->{counts}{refused}++;
        return 18456;
    }
    if ($conn->{app} eq 'parley') {
        $self->{counts}{opened}++;
        my $now = $self->_ours;
        $self->{counts}{most} = $now if $now > $self->{counts}{most};
    }
    return 0;
}

sub counters ($self) {
    my @conns = $self->_ours;
    return {
        $self->{counts}->%*,
        connections => scalar @conns,
        secret      => scalar(grep { $_->{is_secret} } @conns),
        read_only   => scalar(grep { $_->{is_read_only} } @conns),
        calls       => $self->{calls},
        held        => scalar $self->{held}->@*,
        faults      => $self->{faults}->done,
    };
}

# --- requests -----------------------------------------------------------------

sub request ($self, $conn, $request) {
    my $name = $request->{procedure} // 'batch';
    $name =~ s/\A(?:\[?dbo\]?\.)?\[?([^\]]*)\]?\z/$1/i;
    $request->{name} = $name;
    $self->{calls}{$name}++ if !defined $request->{sql};
    my $fault = defined $request->{sql} && $request->{sql} =~ /\ASET / ? undef : $self->{faults}->take($name);
    my $delay = $self->{delay_ms} + ($fault && $fault->{what} eq 'slow' ? $fault->{ms} : 0);
    return $self->_run($conn, $request, $fault) if $delay == 0 || defined $request->{sql};
    Mojo::IOLoop->timer($delay / 1000 => sub { $self->_run($conn, $request, $fault) });
    return;
}

sub _is_given_up ($conn, $request) {
    return !$conn->{stream} || !$conn->{request} || $conn->{request} != $request;
}

sub _run ($self, $conn, $request, $fault) {
    return if _is_given_up($conn, $request);
    my $what = $fault ? $fault->{what} : '';
    if ($what eq 'reset')  { return $conn->reset }
    if ($what eq 'hang')   { $request->{is_deaf} = $fault->{is_deaf}; return }
    if ($what eq 'hold')   { push $self->{held}->@*, sub { $self->_run($conn, $request, undef) }; return }
    my ($results, $failure) = $self->_results($conn, $request, $fault);
    if ($what eq 'lose_reply') { return $conn->reset }
    if ($what eq 'hang_after') { return }
    if ($what eq 'hold_after') {
        push $self->{held}->@*, sub { $self->_answer($conn, $request, $results, $failure, undef) };
        return;
    }
    $self->_answer($conn, $request, $results, $failure, $fault);
    return;
}

sub release ($self) {
    my @held = splice $self->{held}->@*;
    $_->() for @held;
    return;
}

# Result sets, or the error.
sub _results ($self, $conn, $request, $fault) {
    my $results = eval {
        refuse(number => $fault->{number}, severity => $fault->{severity} // 16) if $fault && $fault->{what} eq 'error';
        [defined $request->{sql} ? $self->_batch($conn, $request->{sql}) : $self->_call($request)];
    };
    return ($results, undef) if $results;
    my $error = $@;
    return ([], $error) if blessed $error && $error->isa('Parley::Tds::Refusal');
    $self->note("$request->{name}: $error");
    return ([], Parley::Tds::Refusal->of_sqlite($error));
}

sub _answer ($self, $conn, $request, $results, $failure, $fault) {
    my $is_batch = defined $request->{sql};
    my $what = $fault ? $fault->{what} : '';
    my $tokens = '';
    Parley::Tds::Fault::spoil($results, $what) if $fault && !$failure;
    for my $result (@$results) {
        $tokens .= $result->{columns}
            ? Parley::Tds::Wire::result($result->{columns}, $result->{rows},
            $is_batch ? Parley::Tds::Wire::DONE : Parley::Tds::Wire::DONEINPROC)
            : Parley::Tds::Wire::done(Parley::Tds::Wire::DONE,
            Parley::Tds::Wire::COUNT | Parley::Tds::Wire::MORE, $result->{count});
    }
    $tokens .= Parley::Tds::Wire::error(%$failure, procedure => $is_batch ? '' : $request->{name}) if $failure;
    my $end = $is_batch ? Parley::Tds::Wire::DONE : Parley::Tds::Wire::DONEPROC;
    if (!$failure) {
        $tokens .= Parley::Tds::Wire::status($fault && $what eq 'status' ? $fault->{number} : 0) if !$is_batch;
    }
    $tokens .= Parley::Tds::Wire::done($end, $failure ? Parley::Tds::Wire::FAILED : 0);
    if ($what eq 'cut') {
        $conn->answer_partly($request, $tokens, $fault->{part} // 0.5);
        $conn->close;
        return;
    }
    if ($what eq 'garbage') { $tokens = join '', map {chr} 1 .. 200 }    # 1 is no token
    $conn->answer($request, $tokens);
    return;
}

# --- procedures and statements ------------------------------------------------

sub _call ($self, $request) {
    my $declared = $self->{database}->schema->procedure($request->{name}) or refuse(number => 2812);
    my $run      = Parley::Tds::Procedures::find($declared->{name})        or refuse(number => 2812);
    my %param    = map { lc $_->{name} => $_ } $declared->{params}->@*;
    my (%value, $at);
    for my $given ($request->{params}->@*) {
        my $param = $given->{name} eq '' ? $declared->{params}[$at++] : $param{lc $given->{name} =~ s/\A@//r};
        refuse(number => $given->{name} eq '' ? 8144 : 8145) if !$param;
        refuse(number => 8162) if $given->{is_output};
        $value{$param->{name}} = convert($param->{type}, $given->{value});
    }
    for my $param ($declared->{params}->@*) {
        next if exists $value{$param->{name}};
        refuse(number => 201) if !exists $param->{default};
        $value{$param->{name}} = $param->{default};
    }
    return $run->($self->{database}, %value);
}

# Of the owner: what both languages understand. Others set options only.
sub _batch ($self, $conn, $sql) {
    return {count => 0} if $sql =~ /\A\s*(?:SET|USE) /i;
    refuse(number => 229, severity => 14) if $conn->{user} ne $self->{owner};
    $sql =~ s/\bdbo\.//g;
    $sql =~ s/\bN'/'/g;
    return $self->{database}->statement($sql);
}

1;
