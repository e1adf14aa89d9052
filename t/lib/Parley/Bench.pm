# Parley::Bench - runs the items of make bench and tells what came out.
#
# A run is one parleyload against one fresh server. Rounds are interleaved, so
# that what else happens on the machine falls on all items alike; medians and
# ranges are over the runs of an item.
package Parley::Bench;
use v5.36;

use Fcntl qw(LOCK_EX LOCK_UN);
use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use POSIX qw(ceil strftime);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

use Parley;
use Parley::Bench::Can;
use Parley::Bench::Items;
use Parley::Bench::Mssql;
use Parley::Bench::Table;

my $FORMAT_VERSION = 1;     # of bench.json
my $RUN_OVERHEAD_S = 6;     # start, users, logins, warm-up, stop
my $IDLE_FIRST     = 100_001;    # users of the connections beside a load

my $deep;    # the prepared store

sub now () { return clock_gettime(CLOCK_MONOTONIC) }

# --- what is to be done -----------------------------------------------------

# The items that match and can be done, with rounds and seconds; what cannot
# is said.
sub _plan (%arg) {
    my @items;
    for my $item (Parley::Bench::Items::items()) {
        next if $item->{name} !~ /$arg{items}/;
        if ($item->{needs} && !$item->{needs}->()) {
            say STDERR "bench: left out: $item->{title}";
            next;
        }
        my ($rounds, $seconds) =
            $item->{once} ? (1, $arg{seconds})
            : $item->{main} ? ($arg{rounds}, $arg{seconds})
            :                 (ceil($arg{rounds} * 3 / 5), $arg{seconds} / 3);
        push @items, {%$item, rounds => $rounds, seconds => $seconds, runs => []};
    }
    return @items;
}

sub _context ($dir) {
    my ($model) = Parley::slurp('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)/m;
    my ($kib)   = Parley::slurp('/proc/meminfo') =~ /^MemTotal:\s*(\d+)/m;
    chomp(my $kernel = Parley::slurp('/proc/sys/kernel/osrelease'));
    chomp(my $cores  = `getconf _NPROCESSORS_ONLN`);
    chomp(my $disk   = `stat -f -c %T '$dir'`);
    my ($version) = `@{[Parley::program('parleyd')]} -V` =~ /(\S+)\s*\z/;
    return {
        date       => strftime('%Y-%m-%d %H:%M', gmtime),
        version    => $version,
        cpu        => $model // 'unknown',
        cores      => $cores + 0,
        memory_mib => int(($kib // 0) / 1024),
        kernel     => $kernel,
        store_on   => $disk,
    };
}

# --- one run ----------------------------------------------------------------

sub _free_port () {
    my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1')
        or die "no port: $!\n";
    return $socket->sockport;
}

sub _deep_store () {
    return $deep if $deep;
    $deep = File::Temp->newdir('parley-bench-XXXXXX', TMPDIR => 1);
    say STDERR 'bench: filling a store with 10 million messages';
    my $fill = Parley::build_dir() . '/t/bench/fill';
    system($fill, '-d', "$deep", qw(-u 100000 -m 10000000 -b 20)) == 0
        or die "$fill failed\n";
    return $deep;
}

sub _certificate ($dir, $kind) {
    my @files = ("$dir/cert.pem", "$dir/key.pem");
    my $new   = $kind eq 'rsa' ? 'rsa:2048' : 'ec -pkeyopt ec_paramgen_curve:P-256';
    my $out   = `openssl req -x509 -newkey $new \\
        -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \\
        -keyout $files[1] -out $files[0] 2>&1`;
    die "openssl: $out" if $? != 0;
    return @files;
}

sub _prepare ($item, $db) {
    my $ops    = _free_port();
    my $server = Parley->prepare(
        conf => {
            'auth.auto_provision' => 'yes',
            'log.level'           => 'warn',
            'ops.listen'          => "127.0.0.1:$ops",
            'policy.may_message'  => 'anyone',
            'store.map_size'      => '32G',
            'store.presence_map_size' => '4G',
            ($item->{store} ? ('server.data_dir' => _deep_store()) : ()),
            ($item->{conf} // {})->%*,
            ($db ? $db->conf : ()),
        }
    );
    $server->{bench_ops} = $ops;
    my $is_tls = ($item->{scheme} // 'ws') eq 'wss';
    return $server if !$is_tls && !$item->{flood};
    my ($cert, $key) = _certificate($server->dir, $item->{key} // 'ec');
    my $port = _free_port();
    $server->set(
        'server.listen_tls' => "127.0.0.1:$port",
        'server.tls_cert'   => $cert,
        'server.tls_key'    => $key
    );
    $server->{bench_tls} = "wss://127.0.0.1:$port/ws";
    $server->{bench_url} = $server->{bench_tls} if $is_tls;
    return $server;
}

# Seconds until /ready says so, asked every millisecond.
sub _start ($server) {
    my $began    = now();
    my $deadline = $began + 60;
    $server->spawn;
    while (now() < $deadline) {
        my $socket = IO::Socket::INET->new("127.0.0.1:$server->{bench_ops}");
        if ($socket) {
            print {$socket} "GET /ready HTTP/1.0\r\n\r\n";
            my $line  = readline($socket) // '';
            my $ready = now() - $began;
            if ($line =~ / 200 /) {
                $server->await_ready;
                return $ready;
            }
        }
        select undef, undef, undef, 0.001;
    }
    die "the server was not ready in time\n" . $server->log_text;
}

sub _make_users ($server, $item) {
    return if $item->{store} || $item->{mssql};
    my $active = $item->{beside} ? 1000 : $item->{users} // 1000;
    my @ranges = ("1-$active");
    push @ranges, "$IDLE_FIRST-" . ($IDLE_FIRST + $item->{beside} - 1) if $item->{beside};
    for my $range (@ranges) {
        my ($code, undef, $err) =
            $server->ctl('user', 'add', '--range', $range, {timeout => 600});
        die "user add --range $range: $err" if $code != 0;
    }
    return;
}

sub _pin_workers ($server, $cores) {
    my $pids = $server->pids;
    for my $name (grep {/\Aworker-/} keys %$pids) {
        my ($number) = $name =~ /(\d+)/;
        my $out = `taskset -acp @{[$number % $cores]} $pids->{$name} 2>&1`;
        die "taskset: $out" if $? != 0;
    }
    return;
}

sub _command ($server, @args) {
    return (
        Parley::program('parleyload'), @args, '--quiet',
        '--url' => $server->{bench_url},
        '--server-pid' => $server->pid
    ) if $args[0] eq 'handshakes';
    return (
        Parley::program('parleyload'), @args,
        '--quiet',
        '--url'        => $server->{bench_url} // $server->ws_url,
        '--secret'     => $server->secret,
        '--first-user' => 1,
    );
}

# Connections that only are there; returns the process that holds them.
sub _connect_beside ($server, $item) {
    my @command = _command($server, 'connect', '-n', $item->{beside}, '--hold', 86_400,
        ($item->{beside_args} // ['--rate', 5000])->@*);
    $command[-1] = $IDLE_FIRST;
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        open STDOUT, '>', "$server->{dir}/beside" or POSIX::_exit(126);
        exec @command or POSIX::_exit(127);
    }
    my $is_up = Parley::poll_until(60 + $item->{beside} / 5000,
        sub { ($server->metric('parley_sessions') // 0) >= $item->{beside} });
    if (!$is_up) {
        kill KILL => $pid;
        waitpid $pid, 0;
        die "$item->{beside} connections: not all came up\n";
    }
    return $pid;
}

# Strangers who do handshakes and leave, all the time.
sub _flood_beside ($server, $item) {
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        open STDOUT, '>', '/dev/null' or POSIX::_exit(126);
        exec Parley::program('parleyload'), 'handshakes', '-n', $item->{flood}, '--quiet',
            '--duration' => 86_400,
            '--url'      => $server->{bench_tls}
            or POSIX::_exit(127);
    }
    my $is_up = Parley::poll_until(10, sub { ($server->metric('parley_tls_handshakes_total') // 0) > 10 });
    if (!$is_up) {
        _leave_beside($pid);
        die "no flood of handshakes\n";
    }
    return $pid;
}

sub _leave_beside ($pid) {
    return if !$pid;
    kill INT => $pid;
    waitpid $pid, 0;
    return;
}

# What parleyload says, as Perl data. Nothing of ours runs meanwhile.
sub _load ($server, $item, $db) {
    my @args    = map { $_ eq 'SECONDS' ? $item->{seconds} : $_ } $item->{load}->@*;
    my @command = _command($server, @args, '--json');
    push @command, '--run-dir', $server->run_dir if $args[0] ne 'handshakes';
    open my $out, '-|', @command or die "parleyload: $!\n";
    # Until it tells what came out.
    while ($db && !IO::Select->new($out)->can_read(0.5)) {
        $db->look($server);
    }
    my $text = do { local $/ = undef; readline $out };
    close $out;
    my $code = $? >> 8;
    my $run  = eval { decode_json($text // '') };
    die "parleyload ended with status $code and without a result\n" if !$run;
    return $run;
}

sub _run ($item, $context) {
    my $db     = $item->{mssql} ? Parley::Bench::Mssql->start($item->{users} // 1000) : undef;
    my $server = _prepare($item, $db);
    my $ready  = _start($server);
    _make_users($server, $item);
    _pin_workers($server, $context->{cores}) if $item->{pin};
    my $beside =
          $item->{beside} ? _connect_beside($server, $item)
        : $item->{flood}  ? _flood_beside($server, $item)
        :                   0;
    my $run    = eval { _load($server, $item, $db) };
    my $error  = $@;
    $run->{database} = $db->finish($server, $run) if $db && $run;
    _leave_beside($beside);
    my ($code, @errors) = $server->discard;
    die $error if !$run;
    $run->{start} = {ready_s => sprintf('%.4f', $ready) + 0};
    $code //= 137;    # it had to be killed
    warn "bench: $item->{name}: the server ended with status $code\n" if $code != 0;
    warn "bench: $item->{name}: logged: $_\n" for @errors;
    $run->{result}{ok} = JSON::PP::false if $code != 0 || @errors;
    return $run;
}

# --- all of them ------------------------------------------------------------

sub _say_run ($item, $round, $run) {
    my $figure = sub ($path) { Parley::Bench::Table::figure($run, $path) };
    my @told =
        map { defined $_->[1] ? sprintf("%s %.4g", @$_) : () }
        (['msg/s', $figure->('measured.delivered_per_s')],
        ['us/msg', $figure->('cpu.server_us_per_message')],
        ['p99 ms', $figure->('latency_delivered.p99_ms')],
        ['logins/s', $figure->('connections.logins_per_s')],
        ['us/handshake', $figure->('handshakes.server_us_per_handshake')],
        ['lag s', $figure->('database.lag_max_s')],
        ['strangers %', $figure->('cpu.other_percent')]);
    splice @told, -2, 1 if @told > 3 && !$run->{database};
    say STDERR "bench: round $round $item->{name}: ", join(', ', @told),
        $run->{result}{ok} ? '' : ' NOT SOUND';
    return;
}

sub _write ($out, $context, @items) {
    my %items = map {
        $_->{name} => {title => $_->{title}, seconds => $_->{seconds}, runs => $_->{runs}}
    } grep { $_->{runs}->@* } @items;
    my %all = (
        format         => 'parley-bench',
        format_version => $FORMAT_VERSION,
        context        => $context,
        items          => \%items,
    );
    Parley::spew("$out.json", JSON::PP->new->canonical->pretty->encode(\%all));
    Parley::spew("$out.md", Parley::Bench::Table::text($context, @items));
    return;
}

sub main (%arg) {
    my @items = _plan(%arg) or die "bench: no item matches\n";
    my ($most) = sort { $b <=> $a } map { $_->{rounds} } @items;
    my $needed = 0;
    $needed += $_->{rounds} * ($_->{seconds} + $RUN_OVERHEAD_S) for @items;
    printf STDERR "bench: %d items, about %d minutes\n", scalar @items, ceil($needed / 60);
    my $lock;
    if ($arg{lock}) {
        open $lock, '>>', $arg{lock} or die "$arg{lock}: $!\n";
    }
    my $context = _context($ENV{TMPDIR} // '/tmp');
    my $broken  = 0;
    for my $round (1 .. $most) {
        for my $item (grep { $_->{rounds} >= $round } @items) {
            _deep_store() if $item->{store};
            flock $lock, LOCK_EX if $lock;
            my $run = eval { _run($item, $context) };
            my $error = $@;
            flock $lock, LOCK_UN if $lock;
            if (!$run) {
                warn "bench: $item->{name}: $error";
                $broken++;
                next;
            }
            $broken++ if !$run->{result}{ok};
            push $item->{runs}->@*, $run;
            _say_run($item, $round, $run);
            _write($arg{out}, $context, @items);
        }
    }
    print Parley::slurp("$arg{out}.md");
    return $broken ? 1 : 0;
}

1;
