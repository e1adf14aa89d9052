# Parley::Bench::Mssql - SQL Server behind a run of make bench.
#
# It is the tests' one, every call 35 ms away, and has of the processors what
# nobody else wants, as if it were on a machine of its own.
package Parley::Bench::Mssql;
use v5.36;

use JSON::PP;

use Parley;
use Parley::Mssql;

sub start ($class, $users) {
    my $db = Parley::Mssql->start(delay => 35);
    $db->insert('Users (UserId, LoginName, DisplayName)', map {"($_, N'user$_', N'User $_')"} 1 .. $users);
    system 'chrt', '--idle', '-p', 0, $db->pid;
    return bless {db => $db, lag_s => 0}, $class;
}

sub conf ($self) { return ($self->{db}->conf, 'auth.auto_provision' => 'no') }

# From time to time while it is under load: how long does the oldest row wait?
sub look ($self, $server) {
    my $lag_s = $server->metric('parley_outbox_lag_seconds') // 0;
    $self->{lag_s} = $lag_s if $lag_s > $self->{lag_s};
    return;
}

# Figures for the result: {lag_max_s, rows_missing}; all that was acknowledged is
# to be there, once.
sub finish ($self, $server, $run) {
    Parley::poll_until(120, sub {
        my ($code, $out) = $server->ctl('outbox', 'list', '--json');
        return $code == 0 && JSON::PP::decode_json($out)->{waiting} == 0;
    });
    my $missing = $run->{messages}{acknowledged} - $self->{db}->count('Messages');
    $run->{result}{ok} = JSON::PP::false if $missing != 0;
    $self->{db}->finish;
    return {lag_max_s => $self->{lag_s}, rows_missing => $missing};
}

1;
