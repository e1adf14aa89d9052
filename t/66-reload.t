# Reloads under load, with a ledger: what needs no new processes drops no
# connection; what is bad is refused whole.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

my $SEED = $ENV{PARLEY_SEED} // 20261124;
srand $SEED;

my $server = Parley->start(conf => {
    'server.workers'          => 2,
    'policy.max_text_size'    => '64K',
    'supervisor.max_restarts' => 10,
}, allow_errors => [qr/reload-refused/]);
$server->add_users(1 .. 3);
my $load = Parley::Fault->load($server, pairs => 10, rate => 2000);
my @idle = map { $server->client(1 + $_ % 2, DeviceId => "idle-$_") } 1 .. 10;

# parleyctl with a file of its own: the daemon's may be a bad one.
my $own = $server->dir . '/ctl.conf';
Parley::spew($own, Parley::slurp($server->conf));

sub ctl (@args) { return $server->run([Parley::program('parleyctl'), '-c', $own, @args]) }

my $pids = $server->pids;

sub in_force () {
    my ($code, $out) = ctl('settings', '--json');
    die "no settings\n" if $code != 0;
    return decode_json($out)->{settings};
}

# The same, of a file: what parleyd -T says.
sub in_file ($path) {
    my ($code, $out) = $server->run([Parley::program('parleyd'), '-T', '-c', $path]);
    return if $code != 0;
    my ($section, %setting) = '';
    for (split /\n/, $out) {
        $section = $1 if /\A\[(\w+)\]/;
        $setting{"$section.$1"} = $2 if /\A(?:; )?(\w+) = ?(.*)\z/;
    }
    return \%setting;
}

sub reload () {
    my ($code, $out, $error) = ctl('reload', '--json');
    return ($code, eval { decode_json($out) } // {}, $error);
}

# Without workers that a mutated file has asked for.
sub remaining () {
    my $now = $server->pids;
    return {map { $_ => $now->{$_} } grep { exists $pids->{$_} } keys %$now};
}

sub dropped () { return scalar grep { $_->is_closed } @idle }

# --- good ones --------------------------------------------------------------

my %choices = (
    'policy.may_message'          => [qw(anyone contacts)],
    'policy.max_text_size'        => [qw(32K 64K 100K)],
    'policy.inbox_window'         => [128, 256, 512],
    'server.auth_timeout'         => [qw(10s 20s 1m)],
    'server.max_message_size'     => [qw(512K 1M 2M)],
    'server.drain_window'         => [qw(3s 5s 7s)],
    'server.write_timeout'        => [qw(50s 60s)],
    'server.max_connections'      => [500, 1000, 0],
    'auth.password_attempts'      => [5, 10, 0],
    'log.level'                   => [qw(info warn)],
    'log.format'                  => [qw(text json)],
    'supervisor.max_restarts'     => [5, 10, 20],
    'supervisor.watchdog_timeout' => [map { Parley::scaled($_) . 's' } 30, 40],
    'directory.request_timeout'   => [qw(5s 8s)],
    'store.device_retention'      => [qw(20d 30d)],
);
my (@wrong, %seen);
my $rounds = fault_rounds(10, 100);
for my $n (1 .. $rounds) {
    my $before = in_force();
    my @keys   = sort keys %choices;
    my %change = map { $_ => $choices{$_}[rand $choices{$_}->@*] }
        map { $keys[rand @keys] } 1 .. 1 + int rand 4;
    $server->set(%change);
    my ($code, $answer, $error) = reload();
    push @wrong, "$n: exit $code $error" if $code != 0;
    my $after    = in_force();
    my @differ   = sort grep { $before->{$_} ne $after->{$_} } keys %$after;
    my $expected = in_file($server->conf);
    push @wrong, "$n: $_ is $after->{$_}, the file says $expected->{$_}"
        for grep { $after->{$_} ne $expected->{$_} } keys %change;
    push @wrong, "$n: answer " . join(' ', $answer->{applied}->@*) . ", changed @differ"
        if "@differ" ne join ' ', sort $answer->{applied}->@*;
    push @wrong, "$n: replaces processes" if $answer->{replacing};
    $seen{$_}++ for @differ;
}
is_deeply(\@wrong, [], "$rounds reloads of settings that need no new process: each in force, and named");
cmp_ok(scalar keys %seen, '>=', 3, '... of many settings');
is_deeply($server->pids, $pids, '... with the same processes');
is(dropped(), 0, '... no connection is dropped');
$server->set('log.level' => 'info', 'log.format' => 'text');
reload();

# They do what they say, also on connections that are open.
$server->set('policy.max_text_size' => '250');    # the load's are shorter
is((reload())[0], 0, 'shorter texts');
my $long = send_text($idle[0], [2], 'x' x 251);
is($long->{Reason}, 'TOO_LARGE', '... are asked for at once on a connection that is open');
$server->set('policy.max_text_size' => undef, 'policy.inbox_window' => undef, 'policy.may_message' => 'contacts');
reload();
is(send_text($idle[0], [2], 'x' x 251)->{Reason}, 'OK', '... and taken again');
my ($code, $answer) = reload();
is_deeply([$code, map { scalar $answer->{$_}->@* } qw(applied by_new_processes needs_restart)], [0, 0, 0, 0],
    'a reload without a difference changes nothing');
is_deeply($server->pids, $pids, '... and replaces nobody');

# --- mutated ones -----------------------------------------------------------

my $good = Parley::slurp($server->conf);
# Their change would be right, and end the load: they are not mutated.
$good =~ s/^\[auth\]\n((?:.+\n)*)//m or die "no [auth]\n";
my $auth  = "\n[auth]\n$1";
my @words = ("\0", "\xff", '=', '[', ']', ';', '#', '"', "\n", ' ', '0', '9', '-', 'K', 'x' x 5000, '%s', 'ms');

sub mutate ($text) {
    my $way = int rand 8;
    my @lines = split /(?<=\n)/, $text;
    my $at    = int rand @lines;
    if    ($way == 0) { splice @lines, $at, 1 }
    elsif ($way == 1) { splice @lines, $at, 0, $lines[rand @lines] }
    elsif ($way == 2) { @lines[$at, 0] = @lines[0, $at] }
    elsif ($way == 3) { return substr $text, 0, int rand length $text }
    elsif ($way == 4) { $lines[$at] =~ s/\d+/int rand 1e6/e }
    elsif ($way == 5) { $lines[$at] =~ s/(\w)(\w)/$2$1/ }
    else              { substr $text, int rand length $text, int rand 3, $words[rand @words]; return $text }
    return join '', @lines;
}

my ($refused, $taken, $rolled) = (0, 0, 0);
@wrong = ();
$rounds = fault_rounds(40, 500);
for my $n (1 .. $rounds) {
    my $text = $good;
    $text = mutate($text) for 0 .. rand 3;
    Parley::spew($server->conf, $text . $auth);
    my $before = in_force();
    my ($code, $answer, $error) = reload();
    my $after = in_force();
    my $file  = in_file($server->conf);
    if ($code != 0) {
        $refused++;
        push @wrong, "$n: refused, but " . join ' ', grep { $before->{$_} ne $after->{$_} } keys %$after
            if grep { $before->{$_} ne $after->{$_} } keys %$after;
        push @wrong, "$n: $error" if $error !~ /\A[^\n]+\n\z/;
        push @wrong, "$n: no place in: $error"
            if $error !~ /\Q@{[$server->conf]}\E:\d+: / && $error !~ /\[\w+\] \w+|\.pem: /;
        next;
    }
    $taken++;
    $rolled++ if $answer->{replacing};
    push @wrong, "$n: taken, but parleyd -T refuses it" if !$file;
    my %kept = map { $_ => 1 } $answer->{needs_restart}->@*;
    push @wrong, "$n: $_ is $after->{$_}, the file says $file->{$_}"
        for grep { $file && !$kept{$_} && $after->{$_} ne $file->{$_} } keys %$after;
    push @wrong, "$n: $_ has changed" for grep { $kept{$_} && $after->{$_} ne $before->{$_} } keys %$after;
}
is_deeply(\@wrong, [], "$rounds mutated files (seed $SEED): each is taken or refused whole");
# About one in five is taken; of few there may be fewer.
my $least = is_long_run() ? $rounds / 10 : 1;
cmp_ok($refused, '>=', $least, "... $refused refused");
cmp_ok($taken,   '>=', $least, "... $taken taken");
is($rolled, 0, '... none asked for new processes');
Parley::spew($server->conf, $good . $auth);
reload();
is_deeply(remaining(), $pids, '... they are the same');
is(dropped(), 0, '... no connection is dropped');

# --- by new processes, one at a time ----------------------------------------

is_deeply([map { $_->request('P_HEARTBEAT')->{Reason} } @idle], [('OK') x @idle], 'all are served as before');
my $report = $load->finish('reloads that need no new processes');
is($report->{connections}{dropped}, 0, '... and the load was never disconnected');

$server->set('server.deflate' => 'yes', 'store.map_size' => '300M');
$least = 2;
($code, $answer) = reload();
is_deeply([@$answer{qw(by_new_processes needs_restart replacing)}],
    [['server.deflate'], ['store.map_size'], JSON::PP::true()], 'a setting for new processes, and one for a restart');
my $done = Parley::poll_until(60, sub {
    my @workers = grep { $_->{name} =~ /\Aworker/ } ($server->status // return 0)->{processes}->@*;
    my $running = grep { $_->{state} eq 'running' } @workers;
    $least = $running if $running < $least;
    return $server->log_text =~ /reload-done serial=2/;
});
ok($done, '... all are replaced');
my $now = $server->pids;
is_deeply([grep { $now->{$_} == $pids->{$_} } sort keys %$now], ['supervisor'], '... all but the supervisor');
cmp_ok($least, '>=', 1, '... one worker at a time');
is_deeply([map { $_->request('P_HEARTBEAT')->{Reason} } @idle], [('OK') x @idle], '... no client has noticed');

$server->finish;
done_testing;
