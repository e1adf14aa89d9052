# Memory runs out in one process under load (RLIMIT_AS of the running process is
# what it has): it refuses, or ends and is replaced, and nothing
# acknowledged is lost; with the limit lifted all is as before.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

plan skip_all => 'prlimit is missing' if system('command -v prlimit >/dev/null') != 0;
plan skip_all => 'a sanitizer and valgrind have their own idea of address space'
    if ($ENV{PARLEY_ASAN} // 'no') eq 'yes' || $ENV{PARLEY_VALGRIND} || $ENV{PARLEY_WRAPPER};

my $rounds = fault_rounds(1, 10);
my $server = Parley->start(
    conf         => {'store.map_size' => '4G', 'policy.may_message' => 'anyone',
        'supervisor.min_uptime' => '100ms'},    # this often, it would be given up
    allow_errors => [qr/ fatal out of memory/, qr/ storage-state /, qr/ store-failed /],
);
$server->add_users(1 .. 3);

sub size_of ($pid) { return (split / /, Parley::slurp("/proc/$pid/statm"))[0] * 4096 }
sub health () { return decode_json(($server->http_get('/health'))[1])->{status} }

# A new one, that has no free memory yet, may have what it has, and no more.
sub squeeze ($name) {
    my $pid   = $server->await_restart($name, $server->kill9($name));
    my $limit = size_of($pid);
    system('prlimit', "--pid=$pid", "--as=$limit:") == 0 or die "prlimit of $name\n";
    return $pid;
}

# Makes every process need memory: logins, long messages, history, pages of the
# console. Whoever is disconnected meanwhile is forgotten; each is a new device,
# as they acknowledge nothing.
my $device = 0;
sub need_memory () {
    my @clients = grep { $_ } map { my $id = 1 + $_ % 2; eval { $server->client($id, DeviceId => 'd' . ++$device) } } 1 .. 6;
    for my $client (@clients) {
        eval {
            send_text($client, [3], 'x' x 60_000) for 1 .. 3;
            $client->request('P_GET_MESSAGES', UserId => 3, Limit => 10);
        };
    }
    eval { $server->http_get('/metrics') };
    $_->drop for @clients;
    return;
}

my %ended;
for my $name (qw(worker-0 keeper directory console)) {
    my $load = Parley::Fault->load($server);
    my $died = 0;
    for my $round (1 .. $rounds) {
        my $pid = squeeze($name);
        need_memory() for 1 .. 2;
        $died++ if is_gone($pid);
        system "prlimit --pid=$pid --as=unlimited: 2>/dev/null" if !is_gone($pid);
        ok($load->await_messages(200), "$name without memory, round $round: messages flow");
        ok(Parley::poll_until(20, sub { (eval { health() } // '') eq 'ok' }), '... and all is well again');
    }
    diag "$name: $died of $rounds times it ended";
    $ended{$name} = $died;
    $load->finish("$name without memory");
    my $said = () = $server->log_text =~ /^\S+ error $name\[\d+\] fatal out of memory: /mg;
    is($said, $died, '... and each that ended has said why');
}
cmp_ok($ended{'worker-0'}, '>', 0, 'it did run out of memory');
is((grep { / process-errored / } split /\n/, $server->log_text), 0, 'nobody was given up');
$server->finish;
done_testing;
