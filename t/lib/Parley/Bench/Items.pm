# Parley::Bench::Items - what make bench measures: one row each.
#
#   name      key in bench.json
#   title     in the table
#   load      arguments of parleyload; SECONDS stands for the measured time
#   main      1: full time and all rounds; else a third and three fifths
#   once      1: one run, whatever the rounds
#   conf      settings of the server
#   users     users to be made before (1..N), 1000 unless the store has them
#   store     'deep': the prepared store with 10 million messages and a
#             backlog for each of 100,000 users
#   pin       1: worker N may use core N (modulo their number) only
#   beside    N: so many idle connections of other users, held all the time;
#             beside_args: more arguments for them
#   scheme    'wss': over TLS
#   key       'rsa': RSA-2048 in the certificate, else ECDSA P-256
#   mssql     1: [directory] backend = mssql, Parley::Bench::Mssql
#   flood     N: so many strangers do TLS handshakes all the time
#   needs     sub that says whether this build and machine can do it
#
# Ratios compare the medians of one figure of two items.
package Parley::Bench::Items;
use v5.36;

my @pairs = (qw(pairs -n 500 --size 200 --duration SECONDS --warmup 2));
# Long enough to be compressed (deflate_min_size).
my @long = (qw(pairs -n 500 --size 1000 --duration SECONDS --warmup 2));

# Clients that hardly ever speak, and as many workers as they need descriptors.
my @million = (
    'server.workers'       => 56,
    'server.ping_interval' => '300s',
    'store.map_size'       => '64G',
);

sub items () {
    return (
        {name => 'window-8', title => 'closed loop, window 8', main => 1, load => [@pairs, '--window', 8]},
        {name => 'window-1', title => 'closed loop, window 1', main => 1, load => [@pairs, '--window', 1]},
        {name => 'rate-5000', title => 'open loop, 5,000/s', main => 1, load => [@pairs, '--rate', 5000]},
        {name => 'rate-20000', title => 'open loop, 20,000/s', main => 1, load => [@pairs, '--rate', 20000]},
        {
            name  => 'mssql-rate-5000',
            title => 'SQL Server 35 ms away, open loop, 5,000/s',
            main  => 1,
            load  => [@pairs, '--rate', 5000],
            mssql => 1,
        },
        {
            name  => 'outbox-window-8',
            title => 'outbox on, window 8',
            load  => [@pairs, '--window', 8],
            conf  => {'directory.rehearse_outbox' => 'yes'},
            needs => \&Parley::Bench::Can::outbox,
        },
        {
            name  => 'outbox-window-1',
            title => 'outbox on, window 1',
            load  => [@pairs, '--window', 1],
            conf  => {'directory.rehearse_outbox' => 'yes'},
            needs => \&Parley::Bench::Can::outbox,
        },
        {
            name   => 'tls-window-8',
            title  => 'TLS, window 8',
            load   => [@pairs, '--window', 8],
            scheme => 'wss',
            needs  => \&Parley::Bench::Can::tls,
        },
        (
            map {
                {
                    name   => "tls-handshakes-$_",
                    title  => 'TLS handshakes, ' . ($_ eq 'rsa' ? 'RSA-2048' : 'ECDSA P-256'),
                    load   => [qw(handshakes -n 20 --duration SECONDS)],
                    key    => $_,
                    scheme => 'wss',
                    needs  => \&Parley::Bench::Can::tls,
                }
            } qw(ec rsa)
        ),
        {
            name  => 'tls-flood',
            title => 'open loop, 5,000/s, in a flood of TLS handshakes',
            load  => [@pairs, '--rate', 5000],
            flood => 20,
            needs => \&Parley::Bench::Can::tls,
        },
        {
            name   => 'tls-idle-10000',
            title  => 'TLS, 10,000 idle connections',
            load   => [qw(connect -n 10000 --rate 1000 --hold 5)],
            users  => 10_000,
            scheme => 'wss',
            needs  => \&Parley::Bench::Can::tls,
        },
        {
            name  => 'deflate-window-8',
            title => 'compressed, 1,000 bytes, window 8',
            load  => [@long, '--window', 8, '--deflate'],
            conf  => {'server.deflate' => 'yes'},
        },
        {
            name  => 'long-window-8',
            title => 'the same, not compressed',
            load  => [@long, '--window', 8],
        },
        (
            map {
                {
                    name  => "workers-$_",
                    title => "$_ pinned worker" . ($_ > 1 ? 's' : '') . ', window 8',
                    load  => [@pairs, '--window', 8],
                    conf  => {'server.workers' => $_},
                    pin   => 1,
                }
            } 1,
            2,
            4
        ),
        {
            name   => 'connected-10000',
            title  => '10,000 connected, window 8',
            load   => [@pairs, '--window', 8],
            users  => 11_000,
            beside => 10_000,
        },
        {
            name  => 'backlog',
            title => '10 million stored, backlogs of 100,000 users, window 8',
            load  => [@pairs, '--window', 8],
            store => 'deep',
        },
        {
            name  => 'idle-10000',
            title => '10,000 idle connections',
            load  => [qw(connect -n 10000 --rate 5000 --hold 5)],
            users => 10_000,
        },
        {
            name  => 'pings',
            title => "3,333 pings/s, as for a million clients every 300 s",
            load  => [qw(connect -n 10000 --rate 5000 --hold 12)],
            conf  => {'server.ping_interval' => '3s'},
            users => 10_000,
        },
        {
            name  => 'logins',
            title => '15,000 logins, 12,000/s offered',
            load  => [qw(connect -n 15000 --rate 12000 --hold 1)],
            users => 15_000,
        },
        {
            name   => 'connected-10000-56',
            title  => '10,000 connected, 56 workers, window 8',
            load   => [@pairs, '--window', 8, '--timeout', 120],
            once   => 1,
            conf   => {@million},
            users  => 11_000,
            beside => 10_000,
            needs  => \&Parley::Bench::Can::million,
        },
        {
            name        => 'connected-1000000',
            title       => 'a million connected, window 8',
            load        => [@pairs, '--window', 8, '--timeout', 120],
            once        => 1,
            conf        => {@million},
            beside      => 1_000_000,
            beside_args => [qw(--processes 56 --rate 12000 --timeout 120)],
            needs       => \&Parley::Bench::Can::million,
        },
        {
            name  => 'idle-1000000',
            title => 'a million idle connections',
            load  => [qw(connect -n 1000000 --processes 56 --rate 12000 --timeout 120 --hold 60)],
            once  => 1,
            conf  => {@million},
            users => 1_000_000,
            needs => \&Parley::Bench::Can::million,
        },
    );
}

# What has to be reached: item, figure, '>=' or '<=', at least, goal, words.
sub demands () {
    my ($cost, $rate) = ('cpu.server_us_per_message', 'measured.delivered_per_s');
    my ($p50, $p99) = map {"latency_delivered.${_}_ms"} qw(p50 p99);
    return (
        ['window-8',   $rate, '>=', 60_000, 100_000, 'messages per second'],
        ['window-8',   $cost, '<=', 20,     12,      'server CPU per message, us'],
        ['window-1',   $rate, '>=', 22_000, 38_000,  'messages per second'],
        ['window-1',   $cost, '<=', 35,     27,      'server CPU per message, us'],
        ['rate-5000',  $p50,  '<=', 3,      2,       'p50, ms'],
        ['rate-5000',  $p99,  '<=', 12,     6,       'p99, ms'],
        ['rate-5000',  $cost, '<=', 200,    150,     'server CPU per message, us'],
        ['rate-20000', $p99,  '<=', 40,     20,      'p99, ms'],
        ['mssql-rate-5000', 'database.lag_max_s',    '<=', 2, 2, 'longest that a row waited, s'],
        ['mssql-rate-5000', 'database.rows_missing', '<=', 0, 0, 'messages not in the database'],
        ['idle-10000', 'memory.after_kib', '<=', 65_536, 65_536, 'whole daemon, KiB'],
        ['idle-1000000', 'memory.per_connection_bytes', '<=', 1536, 1536, 'bytes per connection'],
        ['idle-1000000', 'connections.dropped', '<=', 0, 0, 'dropped'],
        ['pings', 'cpu_hold.server_percent', '<=', 20, 20, 'server, % of a core'],
        ['pings', 'connections.dropped', '<=', 0, 0, 'dropped'],
        ['idle-1000000', 'connections.logins_per_s', '>=', 10_000, 10_000, 'logins per second'],
        ['logins', 'connections.logins_per_s', '>=', 10_000, 10_000, 'logins per second'],
        ['backlog', 'start.ready_s', '<=', 2, 2, 'ready after a start, s'],
        ['tls-idle-10000', 'memory.per_connection_bytes', '<=', 8192, 8192, 'bytes per connection'],
    );
}

# item, item it is compared with, figure, '>=' or '<=', demanded ratio.
sub ratios () {
    my ($cost, $rate) = ('cpu.server_us_per_message', 'measured.delivered_per_s');
    return (
        ['mssql-rate-5000',   'rate-5000', 'latency_delivered.p99_ms', '<=', 1.5],
        ['outbox-window-8',   'window-8', $rate, '>=', 0.8],
        ['outbox-window-1',   'window-1', $rate, '>=', 0.8],
        ['tls-window-8',      'window-8', $rate, '>=', 0.6],
        ['tls-flood',         'rate-5000', 'latency_delivered.p99_ms', '<=', 2],
        ['backlog',           'window-8', $cost, '<=', 1.5],
        ['connected-10000',   'window-8', $cost, '<=', 1.5],
        ['connected-1000000', 'connected-10000-56', $cost, '<=', 1.5],
    );
}

1;
