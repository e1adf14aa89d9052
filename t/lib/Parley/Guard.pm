# Parley::Guard - what must hold after any test with hostile input.
#
#     my $guard = Parley::Guard->watch($server);
#     my $token = $guard->token($server->token(1));
#     my $body  = $guard->secret('what Alice told Bruno');
#     ...
#     $guard->finish;    # same processes, no secret in the log, no error
package Parley::Guard;
use v5.36;

use Test::More ();

# Parts of a token that are too short to be told from chance.
my $TELLING = 16;

sub watch ($class, $server) {
    my $self = bless {server => $server, secrets => {}, pids => $server->pids}, $class;
    $self->secret($server->secret);
    return $self;
}

# Remember a text that the log must never hold; returns it.
sub secret ($self, $text) {
    $self->{secrets}{$text} = 1;
    return $text;
}

# The same for a token and for each part of it that means something.
sub token ($self, $token) {
    my (undef, @parts) = split /[.]/, $token;
    $self->secret($_) for grep { length >= $TELLING } $token, @parts;
    return $token;
}

# For a deliberate restart: from now on these are the processes.
sub renew ($self) {
    $self->{pids} = $self->{server}->pids;
    return;
}

sub memory_kib ($self, $name) {
    my $pid  = $self->{pids}{$name} // die "no process $name\n";
    my $text = Parley::slurp("/proc/$pid/status");
    return $text =~ /^VmRSS:\s+(\d+) kB/m ? $1 : die "no VmRSS of $name\n";
}

# All workers together.
sub workers_kib ($self) {
    my $sum = 0;
    $sum += $self->memory_kib($_) for grep {/\Aworker-/} keys $self->{pids}->%*;
    return $sum;
}

sub finish ($self) {
    my $server = $self->{server};
    Test::More::is_deeply($server->pids, $self->{pids}, 'every process is still the same one');
    my $log  = $server->log_text;
    my @told = grep { index($log, $_) >= 0 } keys $self->{secrets}->%*;
    Test::More::ok(length $log, 'there is a log');
    Test::More::is(scalar @told, 0, 'it holds no token, password or message')
        || Test::More::diag("found: $_") for @told ? @told : ('');
    $server->finish;
    return;
}

1;
