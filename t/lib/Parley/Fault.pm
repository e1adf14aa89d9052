# Parley::Fault - load with a ledger, while a story breaks something.
#
#     my $rounds = fault_rounds(3, 200);    # make check, make check-faults
#     my $load   = Parley::Fault->load($server, pairs => 50, rate => 2000);
#     for my $n (1 .. $rounds) {
#         $load->alive or last;
#         ...                               # break something, see it heal
#     }
#     $load->finish('200 kills of the keeper');
#
#     my $idle = idle_clients($server, 500);    # logged in, and silent
#     ...
#     my $connections = $idle->();              # {dropped => 0, ...}
#
# The ledger is parleyload's: it knows what was acknowledged and what arrived,
# sends again what was not answered, comes back when it is disconnected, and
# fails when an acknowledged message is missing, comes twice or out of order.
package Parley::Fault;
use v5.36;

use Exporter qw(import);
use JSON::PP qw(decode_json);
use Parley;
use POSIX qw(WNOHANG);
use Test::More;

our @EXPORT = qw(fault_rounds idle_clients is_long_run is_gone);

# Users of the load: far above those that a story makes for itself.
my $FIRST_USER = 10_000;

# make check-faults sets it: every row with the rounds that are demanded.
sub is_long_run () { return $ENV{PARLEY_FAULT_ROUNDS} ? 1 : 0 }

# The rounds of one row. PARLEY_FAULT_ROUNDS=long asks for all, a number for
# so many.
sub fault_rounds ($short, $long) {
    my $wanted = $ENV{PARLEY_FAULT_ROUNDS} || return $short;
    return $wanted =~ /\A\d+\z/ ? $wanted : $long;
}

# No such process, or one that only waits to be reaped: whose child it is may
# not be ours to know.
sub is_gone ($pid) {
    my $stat = Parley::slurp("/proc/$pid/stat");
    return $stat eq '' || $stat =~ /\) [ZX] / ? 1 : 0;
}

# So many clients that do nothing; parleyload counts every connection that ends
# before its time. The users are those from 100,000 on: auth.auto_provision. The
# answer ends it and returns its figures.
sub idle_clients ($server, $count) {
    my $out      = $server->dir . '/idle.json';
    my $sessions = sub { $server->metric('parley_sessions') // 0 };
    my $wanted   = $sessions->() + $count;
    my @command  = (
        Parley::program('parleyload'), 'connect', '--quiet', '--json',
        '-n',           $count,
        '--rate',       2000,
        '--timeout',    Parley::scaled(30),
        '--hold',       86400,
        '--first-user', 100_000,
        '--url',        $server->ws_url,
        '--secret',     $server->secret,
    );
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        Parley::clean_environment();
        open STDOUT, '>', $out or POSIX::_exit(126);
        { no warnings 'exec'; exec @command }
        POSIX::_exit(127);
    }
    Parley::poll_until(60, sub { $sessions->() >= $wanted }) or die "not all of $count are logged in\n";
    return sub {
        kill INT => $pid;
        Parley::poll_until(60, sub { waitpid($pid, WNOHANG) == $pid }) or return {};
        return decode_json(Parley::slurp($out))->{connections};
    };
}

# Start parleyload pairs against the server; its users are made at the first
# time. pairs (20), rate (2000 messages/s of all together, divided by
# PARLEY_SLOW) or window (closed loop), size (200 bytes), drain (60 s to get
# everything after the last send), args => [more options].
# groups => N, members => M: messages to whole groups instead; the server needs
# policy.may_message = anyone. It sends until finish says stop.
sub load ($class, $server, %arg) {
    my $pairs = $arg{pairs} // ($arg{groups} ? $arg{groups} * $arg{members} / 2 : 20);
    _make_users($server, $pairs);
    $arg{db}->add_users($FIRST_USER .. $FIRST_USER + 2 * $pairs - 1) if $arg{db};
    my $self = bless {server => $server, out => $server->dir . '/load-' . ++$server->{loads}}, $class;
    my $rate = ($arg{rate} // 2000) / Parley::scaled(1);
    my @command = (
        Parley::program('parleyload'),
        ($arg{groups} ? ('groups', '-n', $arg{groups}, '--members', $arg{members}) : ('pairs', '-n', $pairs)),
        '--quiet', '--json', '--churn',
        ($arg{window} ? ('--window', $arg{window}) : ('--rate', $rate)),
        '--size',       $arg{size} // 200,
        '--duration',   86400,
        '--warmup',     0,
        '--drain',      Parley::scaled($arg{drain} // 60),
        '--url',        $server->ws_url,
        '--secret',     $server->secret,
        '--first-user', $FIRST_USER,
        ($arg{args} // [])->@*,
    );
    $self->{pid} = fork // die "fork: $!\n";
    if ($self->{pid} == 0) {
        Parley::clean_environment();
        open STDIN,  '<', '/dev/null'          or POSIX::_exit(126);
        open STDOUT, '>', "$self->{out}.json"  or POSIX::_exit(126);
        open STDERR, '>', "$self->{out}.error" or POSIX::_exit(126);
        { no warnings 'exec'; exec @command }
        POSIX::_exit(127);
    }
    $self->await_messages(1);
    return $self;
}

sub _make_users ($server, $pairs) {
    return if ($server->{load_pairs} // 0) >= $pairs;
    my $last = $FIRST_USER + 2 * $pairs - 1;
    my ($code, undef, $error) = $server->ctl('user', 'add', '--range', "$FIRST_USER-$last");
    ($code, undef, $error) = $server->ctl('contact', 'add', '--pairs', $FIRST_USER, $pairs) if $code == 0;
    die "users of the load: $error\n" if $code != 0;
    $server->{load_pairs} = $pairs;
    return;
}

# Stored since the server's memory was made, as the keeper counts.
sub messages ($self) {
    return eval { $self->{server}->metric('parley_messages_total', process => 'keeper') } // 0;
}

# True when so many more have been stored: it flows (again).
sub await_messages ($self, $more, $seconds = 30) {
    my $from = $self->messages;
    return Parley::poll_until($seconds, sub {
        die "parleyload has ended: " . Parley::slurp("$self->{out}.error") if !$self->is_alive;
        my $now = $self->messages;
        $from = 0 if $now < $from;    # the memory is a new one
        return $now >= $from + $more;
    });
}

sub is_alive ($self) {
    return 0 if defined $self->{status};
    $self->{status} = $? if waitpid($self->{pid}, WNOHANG) == $self->{pid};
    return !defined $self->{status};
}

# No more is sent, what is missing may still come; then the verdict: four
# claims. Returns parleyload's report.
sub finish ($self, $name) {
    kill INT => $self->{pid} if $self->is_alive;
    Parley::poll_until(120, sub { !$self->is_alive }) or kill KILL => $self->{pid};
    my $json   = Parley::slurp("$self->{out}.json");
    my $report = eval { decode_json($json) } // {};
    is($self->{status}, 0, "$name: nothing acknowledged is lost, repeated or out of order")
        or diag($json, Parley::slurp("$self->{out}.error"));
    is($report->{violations}{lost}, 0, '... as the ledger says');
    cmp_ok($report->{messages}{acknowledged} // 0, '>', 0, '... of something');
    my ($code, $out, $error) = $self->{server}->ctl('check', {timeout => Parley::scaled(60)});
    is($code, 0, '... and every row of the store is sound') or diag($out, $error);
    return $report;
}

sub DESTROY ($self) {
    local ($?, $!);
    if ($self->is_alive) {
        kill KILL => $self->{pid};
        waitpid $self->{pid}, 0;
    }
    return;
}

1;
