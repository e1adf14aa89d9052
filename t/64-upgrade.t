# Another program in the place of the running one, under load: nothing
# acknowledged is lost, no connection is refused; and one that is not fit for
# it changes nothing.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::IP;
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

plan skip_all => 'a wrapper would be executed once only' if $ENV{PARLEY_WRAPPER};

my $rounds = fault_rounds(3, 20);
my $built  = Parley::program('parleyd');
my $folder = File::Temp->newdir('parley-test-XXXXXX', TMPDIR => 1);
my $file   = "$folder/parleyd";
my $image  = Parley::slurp($built);
my ($version) = `$built -V` =~ /^parleyd (\S+)/;

# As dpkg does it: a new file is renamed over the old one.
sub install ($content, $mode = 0755) {
    Parley::spew("$file.new", $content);
    chmod $mode, "$file.new" or die "chmod: $!\n";
    rename "$file.new", $file or die "rename: $!\n";
    return;
}

# The built program with other bytes in the place of some.
sub patched ($from, $to) {
    my $content = $image;
    die "a patch changes no length\n"   if length $from != length $to;
    die "\"$from\" is not in parleyd\n" if ($content =~ s/\Q$from\E/$to/g) < 1;
    return $content;
}

# One that is good as a probe; what takes over is another one.
sub two_faced ($content) {
    my $second = "$folder/second";
    unlink $second;
    Parley::spew($second, $content);
    chmod 0755, $second or die "chmod: $!\n";
    install("#!/bin/sh\ncase \"\$*\" in\n*--probe*) exec $built \"\$@\" ;;\nesac\nexec $second \"\$@\"\n");
    return;
}

# The last digit is another one: as long, and never the same.
my $next_version = $version =~ s/(\d)\z/($1 + 1) % 10/er;
my $next         = patched("$version\0", "$next_version\0");

install($image);
{
    no warnings 'redefine';
    my $program = \&Parley::program;
    *Parley::program = sub ($name) { return $name eq 'parleyd' ? $file : $program->($name) };
}

my $server = Parley->start(conf => {'auth.auto_provision' => 'yes', 'policy.may_message' => 'anyone'});
$server->add_users(1, 2);

sub pid_file () { return Parley::slurp($server->run_dir . '/parleyd.pid') =~ s/\n//r }
sub running_version () { return decode_json(($server->ctl('version', '--json'))[1])->{parleyd} }

sub upgrade_is_refused ($name, $pattern) {
    my $before = $server->pids;
    my ($code, undef, $err) = $server->ctl('upgrade');
    is($code, 1, "$name: refused");
    like($err, $pattern, '... with the cause');
    is_deeply($server->pids, $before, '... nobody notices');
    return;
}

# --- under load -------------------------------------------------------------

# Knock again and again: the answer is how often, and what went wrong.
sub knock ($address) {
    pipe my $reader, my $writer or die "pipe: $!\n";
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        my ($count, %failed, $is_over) = (0);
        local $SIG{TERM} = sub { $is_over = 1 };
        while (!$is_over) {
            my $socket = IO::Socket::IP->new(PeerAddr => $address, Timeout => Parley::scaled(10));
            $count++;
            $failed{$!}++ if !$socket && !$is_over;
            select undef, undef, undef, 0.002;
        }
        print {$writer} join "\n", $count, map {"$_: $failed{$_}"} keys %failed;
        close $writer;
        POSIX::_exit(0);
    }
    close $writer;
    return sub {
        kill TERM => $pid;
        my @lines = <$reader>;
        waitpid $pid, 0;
        chomp @lines;
        return @lines;
    };
}

my $pid     = $server->pid;
my $pids    = $server->pids;
my $knocked = knock($server->address);
my $IDLE    = is_long_run() ? 5000 : 200;
my $idle    = idle_clients($server, $IDLE);
my $load    = Parley::Fault->load($server, pairs => 50);
my @versions;
for my $n (1 .. $rounds) {
    install($n % 2 ? $next : $image);
    my ($code, undef, $err) = $server->ctl('upgrade', {timeout => 120});
    is($code, 0, "upgrade $n under load") or diag($err);
    push @versions, running_version();
    ok($load->await_messages(20), '... messages flow');
}
is_deeply(\@versions, [map { $_ % 2 ? $next_version : $version } 1 .. $rounds],
    'each time the other version runs');
my ($count, @failed) = $knocked->();
is_deeply(\@failed, [], "none of $count connections was refused");
my $connections = $idle->();
cmp_ok($connections->{dropped} // $IDLE, '<=', $IDLE / 100,
    "$connections->{dropped} of $IDLE idle clients were disconnected");
$load->finish('upgrades');
is($server->pids->{supervisor}, $pid, 'the supervisor is the same process');
is(pid_file(), $pid, '... as its file says');
my $now = $server->pids;
is_deeply([sort keys %$now], [sort keys %$pids], '... with the same children');
is(scalar(grep { $_ ne 'supervisor' && $now->{$_} == $pids->{$_} } keys %$now), 0, '... all of them new');

# --- SIGUSR2 ----------------------------------------------------------------

install($image);
my $done = () = $server->log_text =~ / upgrade-done /g;
kill USR2 => $pid;
ok(Parley::poll_until(60, sub { (() = $server->log_text =~ / upgrade-done /g) > $done }),
    'SIGUSR2 does the same');

# --- one that is not fit ----------------------------------------------------

$server->allow_errors(qr/ upgrade-(?:refused|failed) /, qr/ panic .* default of policy\.may_message is refused/);
my $alice = $server->client(1);
my $bruno = $server->client(2);

install("#!/bin/sh\nexit 0\n");
upgrade_is_refused('a program that ends at once', qr/ended without a verdict/);
my ($layout) = map { unpack 'L', $_ } $image =~ /parleyd-layout-version:\0(....)/s;
install(patched("parleyd-layout-version:\0" . pack('L', $layout), "parleyd-layout-version:\0" . pack('L', 77)));
upgrade_is_refused('another layout of the shared memory',
    qr/share memory of layout $layout, this program has layout 77/);
install($image, 0777);
upgrade_is_refused('a file that others can write to', qr/\Q$file\E: others can write to it/);
install($image, 0644);
upgrade_is_refused('one that is not executable', qr/\Q$file\E: it is not executable/);
install("\x7fELF of nothing");
upgrade_is_refused('garbage', qr/cannot execute it: Exec format error/);
unlink $file or die "unlink: $!\n";
upgrade_is_refused('no file', qr/\Q$file\E: No such file/);
SKIP: {
    skip 'only root can give files away', 3 if $> != 0;
    install($image);
    chown 65534, -1, $file or die "chown: $!\n";
    upgrade_is_refused('a file of somebody else', qr/belongs neither to root nor/);
}
install($image);
$server->set('server.node' => 7);
upgrade_is_refused('a setting that needs a restart', qr/the setting server\.node has changed/);
$server->set('server.node' => undef, 'policy.may_message' => 'nobody');
upgrade_is_refused('a configuration that is bad', qr/may_message/);
$server->set('policy.may_message' => 'anyone');
is($_->request('P_HEARTBEAT')->{Reason}, 'OK', 'clients stay, and are served') for $alice, $bruno;

# --- one that passes the probe and does not come up -------------------------

sub goes_back ($name, $pattern) {
    my ($code, undef, $err) = $server->ctl('upgrade', {timeout => 120});
    is($code, 1, "$name: said to have failed");
    like($err, qr/did not come up: $pattern; version \Q$version\E goes on/, '... and why');
    is(pid_file(), $pid, '... the supervisor is back');
    return;
}

sub settles () {
    return Parley::poll_until(60, sub {
        my $status = $server->status // return 0;
        my @busy = grep { $_->{state} ne 'running' } $status->{processes}->@*;
        return !@busy;
    });
}

my $before = $server->pids;
two_faced(patched("contacts|anyone\0", "kontakts|anyone\0"));
goes_back('a program that crashes when it begins', qr/it crashed in its start/);
is_deeply($server->pids, $before, '... no child has noticed');
is($_->request('P_HEARTBEAT')->{Reason}, 'OK', '... no client either') for $alice, $bruno;
$_->close for $alice, $bruno;

$before = $server->pids;
$load = Parley::Fault->load($server, pairs => 50);
two_faced(patched("%s/%s.mdb\0", "%s/%s.mdx\0"));
$server->allow_errors(qr/ error worker-\d+\[\d+\] fatal .*main\.mdx/);
goes_back('a program whose workers do not start', qr/its process worker-\d does not start/);
ok(settles(), '... every process runs again');
ok($load->await_messages(20), '... messages flow');
$load->finish('an upgrade and back');
$now = $server->pids;
is($now->{$_}, $before->{$_}, "... $_ was not touched") for qw(keeper directory console);
is(running_version(), $version, '... by the old program');
is(send_text($server->client(1), [2], 'after all')->{Reason}, 'OK', '... which serves');

install($next);
is(($server->ctl('upgrade', {timeout => 120}))[0], 0, 'a good one can follow');
is(running_version(), $next_version, '... and runs');
$server->finish;

# --- in the background, with TLS --------------------------------------------

install($image);
my $tls = Parley->prepare(tls => 1, conf => {'auth.auto_provision' => 'yes'});
my ($code, undef, $err) = $tls->run([$file, '-c', $tls->conf]);
is($code, 0, 'in the background') or diag($err);
install($next);
is(($tls->ctl('upgrade', {timeout => 120}))[0], 0, '... it can be replaced');
is(decode_json(($tls->ctl('version', '--json'))[1])->{parleyd}, $next_version, '... by the new version');
$tls->status;
is($tls->client(1)->request('P_HEARTBEAT')->{Reason}, 'OK', '... which has the certificates');
two_faced(patched("contacts|anyone\0", "kontakts|anyone\0"));
is(($tls->ctl('upgrade', {timeout => 120}))[0], 1, '... and it goes back');
ok($tls->await_log(qr/upgrade-failed.*\n(?:.*\n)*.* reload-done /, 60), '... to workers that see its keys');
is($tls->client(2)->request('P_HEARTBEAT')->{Reason}, 'OK', '... and are served with TLS');

# Files that vanish at the wrong moment are not needed for the way back.
my ($cert) = $tls->{settings}{'server.tls_cert'};
install("#!/bin/sh\ncase \"\$*\" in\n*--handover*) mv $cert $cert.kept ;;\nesac\nexec $built \"\$@\"\n");
is(($tls->ctl('upgrade', {timeout => 120}))[0], 1, 'a certificate vanishes while another program begins');
is($tls->client(1)->request('P_HEARTBEAT')->{Reason}, 'OK', '... it is served all the same');
rename "$cert.kept", $cert or die "rename: $!\n";

SKIP: {
    skip 'waits for the whole patience; part of make check-faults', 2 if !is_long_run();
    my $conf = $tls->conf;
    install("#!/bin/sh\ncase \"\$*\" in\n*--handover*) mv $conf $conf.kept; mkfifo $conf ;;\nesac\n"
            . "exec $built \"\$@\"\n");
    my ($hung, undef, $why) = $tls->ctl('upgrade', {timeout => 120});
    rename "$conf.kept", $conf or die "rename: $!\n";
    diag $why;
    is($hung, 1, 'a program that hangs when it begins: said to have failed');
    like($why, qr/did not come up: it hung in its start/, '... and why');
}
is(($tls->ctl('stop'))[0], 0, '... and it can be stopped');
ok(!-e $tls->run_dir . '/parleyd.pid', '... in order');

done_testing;
