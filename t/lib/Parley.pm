# Parley.pm - a private parleyd for one test.
#
#     my $server = Parley->start(conf => {'policy.may_message' => 'anyone'});
#     $server->add_users(1, 2);
#     my $alice = $server->client(1);
#     my $reply = $alice->request('P_SEND_MESSAGE', ...);
#     $server->finish;        # stops it; three tests: exit, errors, leftovers
#
# It has its own folders, ports chosen by the system and its own process
# group; whatever happens to the test, the END block takes all of it away and
# keeps the log of a failure under PARLEY_BUILD/t/failed/.
package Parley;
use v5.36;

use Digest::SHA qw(hmac_sha256);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp ();
use MIME::Base64 qw(encode_base64url);

# libev reaps every child of the process, and their exit codes with them; the
# first module that loads Mojo::IOLoop settles which reactor it is.
BEGIN { $ENV{MOJO_REACTOR} = 'Mojo::Reactor::Poll' }
use Mojo::IOLoop;
use Mojo::JSON qw(decode_json encode_json);
use Mojo::UserAgent;
use POSIX qw(WNOHANG);
use Test::More ();
use Time::HiRes qw(time);

use Parley::Client;
use Parley::Tls;

die "Mojo::IOLoop was loaded before Parley, with libev: load Parley first\n"
    if ref Mojo::IOLoop->singleton->reactor ne $ENV{MOJO_REACTOR};

my $OWNER  = $$;
my $SECRET = 'secret-of-the-tests-0123456789abcdef';
my @alive;

$SIG{PIPE} = 'IGNORE';
$SIG{$_} = sub { exit 130 }
    for qw(INT TERM HUP);    # so that END runs

# --- places and time --------------------------------------------------------

sub source_dir { return $ENV{PARLEY_SRC} // _up(__FILE__) }
sub build_dir  { return $ENV{PARLEY_BUILD} // source_dir() }

sub _up ($file) {
    require File::Spec;
    my $path = File::Spec->rel2abs($file);
    $path =~ s{/t/lib/Parley\.pm\z}{};
    return $path;
}

# Deadlines are generous and scaled; a test never waits for one to pass.
sub scaled ($seconds) { return $seconds * ($ENV{PARLEY_SLOW} // 1) }

# Let clients of this process breathe for at most 10 ms.
sub tick () {
    my $id = Mojo::IOLoop->timer(0.01 => sub { });
    Mojo::IOLoop->one_tick;
    Mojo::IOLoop->remove($id);
    return;
}

# The first true value of $check, or undef when the deadline has passed.
sub poll_until ($seconds, $check) {
    my $deadline = time + scaled($seconds);
    while (1) {
        my $value = $check->();
        return $value if $value;
        return        if time >= $deadline;
        tick();
    }
}

# --- start ------------------------------------------------------------------

sub program ($name) {
    for my $folder (qw(. src src/load)) {
        my $path = build_dir() . "/$folder/$name";
        return $path if -x $path && -f _;
    }
    die "$name is not built in " . build_dir() . "\n";
}

# Arguments: conf => {'section.key' => value}, merged over the tests' own;
# tls => 1: clients of this file come over TLS (PARLEY_TLS=1 does it for all);
# wrapper => [command...], put before parleyd (PARLEY_WRAPPER does the same);
# allow_errors => [qr/.../], log lines of level error that are expected.
sub start ($class, %arg) {
    my $self = $class->prepare(%arg);
    $self->launch;
    return $self;
}

# Folders and configuration only.
sub prepare ($class, %arg) {
    my $dir = File::Temp->newdir('parley-test-XXXXXX', TMPDIR => 1, CLEANUP => 0);
    my $shm = -w '/dev/shm' ? '/dev/shm' : "$dir";
    my $run = File::Temp->newdir('parley-test-XXXXXX', DIR => $shm, CLEANUP => 0);
    my $self = bless {
        dir          => "$dir",
        run_dir      => "$run",
        secret       => $SECRET,
        wrapper      => $arg{wrapper} // [split ' ', $ENV{PARLEY_WRAPPER} // ''],
        allow_errors => $arg{allow_errors} // [],
        starts       => 0,
    }, $class;
    push @alive, $self;
    my %conf = (
        'server.listen'          => '127.0.0.1:0',
        'server.data_dir'        => "$dir/data",
        'server.run_dir'         => "$run",
        'server.user'            => '',
        'server.workers'         => 2,
        'server.drain_window'    => '5s',
        'auth.jwt_hs256_secret'  => $SECRET,
        'ops.listen'             => '127.0.0.1:0',
        'ops.pages'              => source_dir() . '/www',
        'store.map_size'         => '256M',
        'store.min_free'         => 0,    # whatever the disk of this machine has
        'store.presence_map_size' => '64M',
        # stories stop a process for a while; t/66-watchdog.t sets its own
        'supervisor.watchdog_timeout' => scaled(30) . 's',
        'log.target'             => "$dir/parleyd.log",
        'log.level'              => 'info',
        ($arg{conf} // {})->%*,
    );
    if ($arg{tls} // $ENV{PARLEY_TLS}) {
        my ($cert, $key) = Parley::Tls::make("$dir", 'ec');
        %conf = ('server.listen_tls' => '127.0.0.1:0', 'server.tls_cert' => $cert,
            'server.tls_key' => $key, %conf);
        $self->{is_tls} = 1;
    }
    mkdir "$dir/data", 0700 or die "$dir/data: $!\n";
    $self->{settings} = \%conf;
    $self->write_conf;
    return $self;
}

# Change settings of a server (undef removes one); reload or restart applies.
sub set ($self, %change) {
    for my $key (keys %change) {
        if (defined $change{$key}) {
            $self->{settings}{$key} = $change{$key};
        } else {
            delete $self->{settings}{$key};
        }
    }
    $self->write_conf;
    return;
}

sub write_conf ($self) {
    my %section;
    while (my ($name, $value) = each $self->{settings}->%*) {
        my ($section, $key) = split /\./, $name, 2;
        $section{$section} .= "$key = $value\n";
    }
    my $text = join "\n", map {"[$_]\n$section{$_}"} sort keys %section;
    spew($self->conf, $text);
    chmod 0600, $self->conf;
    return;
}

sub launch ($self) {
    $self->spawn;
    $self->await_ready;
    return;
}

# Only the process; await_ready says when it can be used.
sub spawn ($self) {
    my @command = ($self->{wrapper}->@*, program('parleyd'), '-f', '-c', $self->conf);
    $self->{starts}++;
    my $stderr = "$self->{dir}/stderr";
    my $pid    = fork // die "fork: $!\n";
    if ($pid == 0) {
        setpgrp;
        clean_environment();
        open STDIN,  '<',  '/dev/null' or POSIX::_exit(126);
        open STDOUT, '>>', $stderr     or POSIX::_exit(126);
        open STDERR, '>>', $stderr     or POSIX::_exit(126);
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
        { no warnings 'exec'; exec @command }
        POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    $self->{exit} = undef;
    $self->{status} = undef;
    return;
}

sub clean_environment () {
    delete @ENV{grep {/\APARLEY_/} keys %ENV};
    return;
}

sub await_ready ($self) {
    my $ready = poll_until(
        30,
        sub {
            die "parleyd ended with status $self->{exit}\n" . $self->log_text
                if $self->_reap;
            my $status = $self->status // return 0;
            return 0 if !(($status->{listen} // [])->@* || ($status->{listen_tls} // [])->@*);
            return 1 if !$status->{ops};
            my ($code) = $self->http_get('/ready');
            return ($code // 0) == 200;
        }
    );
    die "parleyd was not ready in time\n" . $self->log_text if !$ready;
    return;
}

# --- what a test asks -------------------------------------------------------

sub conf    ($self) { return "$self->{dir}/parleyd.conf" }
sub dir     ($self) { return $self->{dir} }
sub run_dir ($self) { return $self->{run_dir} }
sub secret  ($self) { return $self->{secret} }
sub pid     ($self) { return $self->{pid} }

# Fresh from parleyctl, or undef when there is no answer.
sub status ($self) {
    my ($code, $out) = $self->ctl('status', '--json');
    return if $code != 0;
    my $status = eval { decode_json($out) } // return;
    $self->{status} = $status;
    return $status;
}

sub address ($self, $index = 0) {
    my $status = $self->{status} // $self->status // die "no status\n";
    return $status->{listen}[$index];
}
sub tls_address ($self, $index = 0) {
    my $status = $self->{status} // $self->status // die "no status\n";
    return $status->{listen_tls}[$index];
}

sub ws_url ($self) {
    return 'wss://' . $self->tls_address . '/ws' if $self->{is_tls};
    return 'ws://' . $self->address . '/ws';
}

sub ops_url ($self) {
    my $status = $self->{status} // $self->status // die "no status\n";
    return "http://$status->{ops}";
}

# Of the ops port: (status, body, headers); an empty list without an answer.
sub http_get ($self, $path, %headers) {
    my $ua = $self->{ua} //= Mojo::UserAgent->new(
        connect_timeout    => scaled(5),
        inactivity_timeout => scaled(10),
        max_connections    => 0,
    );
    my $tx = eval { $ua->get($self->ops_url . $path, {%headers}) } // return;
    my $res = $tx->res;
    return if !defined $res->code;
    return ($res->code, $res->body, $res->headers);
}

# Value of a metric from /metrics, summed over its labels unless they are
# given: metric('parley_messages_total', process => 'keeper').
sub metric ($self, $name, %label) {
    my ($code, $body) = $self->http_get('/metrics');
    die "/metrics: " . ($code // 'no answer') . "\n" if ($code // 0) != 200;
    my ($sum, $seen) = (0, 0);
    while ($body =~ /^\Q$name\E(?:\{([^}]*)\})? (\S+)/mg) {
        my ($labels, $value) = ($1 // '', $2);
        next if grep { index($labels, qq($_="$label{$_}")) < 0 } keys %label;
        $sum += $value;
        $seen = 1;
    }
    return $seen ? $sum : undef;
}

# Run parleyctl: (exit code, stdout, stderr). A hash as last argument may
# give {stdin => text}. While it runs, clients of this test stay alive.
sub ctl ($self, @args) {
    my $option = ref $args[-1] ? pop @args : {};
    return $self->run([program('parleyctl'), '-c', $self->conf, @args], $option);
}

sub run ($self, $command, $option = {}) {
    my %file = map { $_ => "$self->{dir}/run-$$-$_" } qw(in out err);
    spew($file{in}, $option->{stdin} // '');
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        clean_environment();
        @ENV{keys $option->{env}->%*} = values $option->{env}->%* if $option->{env};
        open STDIN,  '<', $file{in}  or POSIX::_exit(126);
        open STDOUT, '>', $file{out} or POSIX::_exit(126);
        open STDERR, '>', $file{err} or POSIX::_exit(126);
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
        { no warnings 'exec'; exec @$command }
        POSIX::_exit(127);
    }
    my $done = poll_until($option->{timeout} // 30, sub { waitpid($pid, WNOHANG) == $pid });
    if (!$done) {
        kill KILL => $pid;
        waitpid $pid, 0;
        die "no end in time: @$command\n";
    }
    my $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    my @text = map { slurp($file{$_}) } qw(out err);
    unlink values %file;
    return ($code, @text);
}

# Users "User N" with password "password-N"; with two or more ids all of them
# are contacts of each other.
sub add_users ($self, @ids) {
    for my $id (@ids) {
        my ($code, undef, $err) =
            $self->ctl('user', 'add', $id, "User $id", '--password-stdin',
            {stdin => "password-$id\n"});
        die "user add $id: $err", $self->whereabouts if $code != 0;
    }
    while (@ids > 1) {
        my $id = shift @ids;
        $self->add_contact($id, $_) for @ids;
    }
    return;
}

sub add_contact ($self, $left, $right) {
    my ($code, undef, $err) = $self->ctl('contact', 'add', $left, $right);
    die "contact add $left $right: $err" if $code != 0;
    return;
}

# --- tokens -----------------------------------------------------------------

# HS256 for a user; a claim of undef is left out.
sub token ($self, $id, %claims) {
    my %all = (sub => "$id", name => "User $id", exp => int(time) + 3600, %claims);
    delete @all{grep { !defined $all{$_} } keys %all};
    return sign({alg => 'HS256', typ => 'JWT'}, \%all, $self->{secret});
}

sub sign ($header, $claims, $secret) {
    my $head = join '.', map { encode_base64url(encode_json($_)) } $header, $claims;
    return "$head." . encode_base64url(hmac_sha256($head, $secret));
}

# --- clients ----------------------------------------------------------------

# Connected, nothing sent yet.
sub connect ($self, %arg) {
    return Parley::Client->connect($self->ws_url, %arg);
}

# Connected and logged in by token, as device "device-ID" unless DeviceId is
# given; further fields go into P_AUTHENTICATE.
sub client ($self, $id, %fields) {
    my $client = $self->connect;
    my $reply  = $client->request(
        'P_AUTHENTICATE',
        Token    => $self->token($id),
        DeviceId => "device-$id",
        %fields
    );
    die "login of $id: " . encode_json($reply) . "\n" if $reply->{Reason} ne 'OK';
    $client->{session} = $reply;
    return $client;
}

# --- processes --------------------------------------------------------------

# name => pid of the running processes.
# Where each process is, for a failure that nobody can explain afterwards.
sub whereabouts ($self) {
    my $pids = $self->pids;
    my @lines;
    for my $name (sort keys %$pids) {
        my $proc = "/proc/$pids->{$name}";
        my %text = map { $_ => (-r "$proc/$_" ? slurp("$proc/$_") : '') } qw(wchan syscall status);
        my ($state) = $text{status} =~ /^State:\s*(.*)/m;
        push @lines, "$name $pids->{$name}: " . ($state // 'gone') . ", $text{wchan}, $text{syscall}";
    }
    return join "\n", @lines, '';
}

sub pids ($self) {
    my $status = $self->status // return {};
    return {
        map  { $_->{name} => $_->{pid} }
        grep { $_->{pid} } $status->{processes}->@*
    };
}

sub process ($self, $name) {
    my $status = $self->status // return;
    my ($process) = grep { $_->{name} eq $name } $status->{processes}->@*;
    return $process;
}

# Kill one process by its name; returns the pid it had.
sub kill9 ($self, $name) {
    my $pid = $self->pids->{$name} // die "no process $name\n";
    kill KILL => $pid or die "kill $pid: $!\n";
    return $pid;
}

# Wait until the process has another pid and runs; returns that.
sub await_restart ($self, $name, $old_pid) {
    my $pid = poll_until(
        20,
        sub {
            my $process = $self->process($name) // return 0;
            return 0 if !$process->{pid} || $process->{pid} == $old_pid;
            return $process->{state} eq 'running' ? $process->{pid} : 0;
        }
    );
    die "$name was not restarted in time\n" . $self->log_text if !$pid;
    return $pid;
}

# --- log --------------------------------------------------------------------

sub log_text ($self) {
    return join '', map { slurp("$self->{dir}/$_") } qw(parleyd.log stderr);
}

# Wait for a line of the log; returns the match's first group or the match.
sub await_log ($self, $pattern, $seconds = 10) {
    return poll_until($seconds,
        sub { return $self->log_text =~ $pattern ? $1 // $& : '' });
}

sub error_lines ($self) {
    my @lines = grep {
        /\A\S+Z error /
            || /"level":"error"/
            || /Sanitizer|runtime error:|panic/
    } split /\n/, $self->log_text;
    for my $allowed ($self->{allow_errors}->@*) {
        @lines = grep { $_ !~ $allowed } @lines;
    }
    return @lines;
}

sub allow_errors ($self, @patterns) {
    push $self->{allow_errors}->@*, @patterns;
    return;
}

# --- end --------------------------------------------------------------------

sub _reap ($self) {
    return 1 if !$self->{pid};
    return 0 if waitpid($self->{pid}, WNOHANG) != $self->{pid};
    $self->{exit} = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    return 1;
}

# SIGTERM and wait: the exit code, or undef when it had to be killed.
sub stop ($self, $signal = 'TERM') {
    return $self->{exit} if !$self->{pid} || defined $self->{exit};
    kill $signal => $self->{pid};
    return $self->await_exit;
}

# Wait for an end that something else has asked for.
sub await_exit ($self, $seconds = 25) {
    my $ended = poll_until($seconds, sub { $self->_reap });
    if (!$ended) {
        Test::More::diag('parleyd did not stop in time; killed');
        $self->_destroy_processes;
        return;
    }
    return $self->{exit};
}

sub _group_is_alive ($self) { return $self->{pid} && kill 0 => -$self->{pid} }

sub _destroy_processes ($self) {
    return if !$self->{pid};
    kill KILL => -$self->{pid};
    waitpid $self->{pid}, 0 if !defined $self->{exit};
    $self->{exit} //= 137;
    return;
}

# The end of every test with a server: stop, then three claims.
sub finish ($self) {
    my $code = $self->stop;
    Test::More::is($code, 0, 'the server stops with exit code 0');
    my $left = !poll_until(5, sub { !$self->_group_is_alive });
    Test::More::ok(!$left, 'no process is left behind');
    my @errors = $self->error_lines;
    Test::More::is_deeply(\@errors, [], 'the log has no unexpected error');
    $self->_destroy_processes;
    $self->{finished} = 1;
    return;
}

# Stop it and leave nothing, without a claim: (exit code, error lines...).
sub discard ($self) {
    my $code   = $self->stop;
    my @errors = $self->error_lines;
    $self->_remove(0);
    @alive = grep { $_ != $self } @alive;
    return ($code, @errors);
}

sub _remove ($self, $has_failed) {
    $self->_destroy_processes;
    if ($has_failed) {
        my ($name) = $0 =~ m{([^/]+?)(?:\.t)?\z};
        my $keep = build_dir() . '/t/failed';
        make_path($keep, {error => \my $ignored});
        $keep .= "/$name-$$-" . (1 + grep { $_->{kept} } @alive) . '.log';
        spew($keep, $self->log_text);
        $self->{kept} = 1;
        my @tail = split /\n/, $self->log_text;
        splice @tail, 0, -40 if @tail > 40;
        Test::More::diag("log kept in $keep; its end:");
        Test::More::diag("  $_") for @tail;
    }
    remove_tree($self->{dir}, $self->{run_dir}, {error => \my $ignored});
    return;
}

END {
    if ($$ == $OWNER) {
        my $status     = $?;
        my $passing    = Test::More->builder->is_passing;
        my $has_failed = $status != 0 || !$passing;
        for my $server (@alive) {
            if (!$server->{finished} && $server->{starts} && !$has_failed) {
                Test::More::diag('a server was started and never finished');
                $status = 254;
            }
            $server->_remove($has_failed || $status != 0);
        }
        $? = $status;
    }
}

# --- files ------------------------------------------------------------------

sub slurp ($path) {
    open my $file, '<:raw', $path or return '';
    local $/ = undef;
    return scalar <$file> // '';
}

sub spew ($path, $text) {
    open my $file, '>:raw', $path or die "$path: $!\n";
    print {$file} $text or die "$path: $!\n";
    close $file or die "$path: $!\n";
    return;
}

1;
