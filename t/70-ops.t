# What an operator reads and sets: configuration, log, tokens, metrics, and
# answers while a process hangs. The verbs of parleyctl are in t/60-ctl.t.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use utf8;
use Encode qw(encode);
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Story;
use Test::More;

# --- configuration ----------------------------------------------------------

my $server  = Parley->prepare(conf => {'log.level' => 'debug', 'auth.auto_provision' => 'yes'});
my $parleyd = Parley::program('parleyd');
my $file    = $server->dir . '/some.conf';

sub check ($text, %env) {
    Parley::spew($file, $text);
    return $server->run([$parleyd, '-t', '-c', $file], {env => \%env});
}

my $mssql = "[directory]\nbackend = mssql\n[mssql]\nserver = db.example.org\n"
    . "database = chat\nuser = parley\npassword = some\n";

for my $case (
    ["[server]\n# two\nworkres = 2\n", qr/some\.conf:3: .*"workres".*"workers"/, 'an unknown key'],
    ["[servr]\nworkers = 2\n",   qr/some\.conf:1: .*"servr".*"server"/,  'an unknown section'],
    ["[server]\nworkers = 99\n", qr/some\.conf:2: workers: .* 0 to 64/,  'a number out of range'],
    ["[server]\nping_interval = soon\n", qr/some\.conf:2: ping_interval: /, 'no duration'],
    ["[store]\nmap_size = 1\n",  qr/some\.conf:2: map_size: /,           'a size out of range'],
    ["[log]\nlevel = loud\n",    qr/some\.conf:2: level: .*debug/,       'none of the choices'],
    ["[auth]\nauto_provision = maybe\n", qr/some\.conf:2: auto_provision: /, 'neither yes nor no'],
    ["[auth]\njwt_hs256_secret = short\n", qr/:2: jwt_hs256_secret: .*32/,   'a short secret'],
    ["${mssql}pool_min = 21\n", qr/:8: pool_min: is more than pool_max/,     'too small a pool'],
    ["$mssql\[mssql_procedures]\nusr = P()\n", qr/:9: .*"usr".*"user"/,      'an unknown procedure'],
    [
        "$mssql\[mssql_procedures]\n\nuser = P(\@I = id) -> I = id, N = nmae\n",
        qr/:10: user: no column .*"nmae".*"name"/,
        'a column without a meaning'
    ],
    [
        "$mssql\[mssql_procedures]\nuser = P(\@I = id -> I = id\n",
        qr/:9: user: .*not closed.*such as "COB_GetUserById\(/,
        'a procedure that is half written'
    ],
    ) {
    my ($text, $pattern, $name) = @$case;
    my ($code, undef, $err) = check($text);
    is($code, 1, "$name is refused");
    like($err, $pattern, '... with its place and what is right');
    unlike($err, qr/\bshort\b/, '... without the secret') if $text =~ /secret/;
}
my ($code, $out, $err) = check($mssql);
is($code, 0, 'without a word about procedures those of etc/mssql are meant') or diag($err);
($code, $out, $err) = check('');
is($code, 0, 'an empty file is a configuration');
($code, undef, $err) = check('', PARLEY_SERVER_WORKERS => 'many');
is($code, 1, 'a bad value of the environment is refused');
like($err, qr/environment: PARLEY_SERVER_WORKERS: /, '... by its name');
($code, undef, $err) = check('', PARLEY_SERVER_WORKRES => 2);
is($code, 1, 'an unknown name of the environment is refused');
like($err, qr/did you mean "PARLEY_SERVER_WORKERS"/, '... with the nearest one');
($code, undef, $err) = $server->run([$parleyd, '-t', '-c', $server->dir . '/none']);
is($code, 1, 'a file that is not there is refused');
like($err, qr{/none: No such file}, '... by its name');

sub effective ($path, %env) {
    my ($code, $out) = $server->run([$parleyd, '-T', '-c', $path], {env => \%env});
    is($code, 0, '-T prints what is in effect');
    return $out;
}
Parley::spew($file, "[server]\nworkers = 3\nlisten = 127.0.0.1:0, [::1]:4444\nping_interval = 1500ms\n"
        . "max_message_size = 3M\n[auth]\njwt_hs256_secret = " . $server->secret . "\n");
my $printed = effective($file, PARLEY_POLICY_MAY_MESSAGE => 'anyone', PARLEY_SERVER_WORKERS => 5);
like($printed, qr/^workers = 5$/m,          '... the environment goes before the file');
like($printed, qr/^may_message = anyone$/m, '... and before the default');
like($printed, qr/^ping_interval = 1500ms$/m, '... the file before the default');
like($printed, qr/^auth_timeout = 10s$/m,   '... with the defaults');
unlike($printed, qr/secret-of-the-tests/, '... never a secret');
Parley::spew($file, $printed);
my $reread = $printed =~ s/^; (jwt_hs256_secret =).*/$1/mr;
is(effective($file), $reread, '... what it prints means the same, but for the secret');

# --- tokens -----------------------------------------------------------------

$server->launch;
$server->add_users(1, 2);
($code, $out) = $server->ctl('token', 1);
chomp $out;
my $alice = $server->connect;
my $reply = $alice->request('P_AUTHENTICATE', Token => $out, DeviceId => 'x');
is_deeply([@$reply{qw(Reason UserId Name)}], ['OK', 1, 'User 1'], 'parleyctl token logs a user in');
($code, $out) = $server->ctl('token', 77, '--ttl', 60, '--name', encode('UTF-8', 'Zoë'), '--json');
my $nora = $server->connect;
$reply = $nora->request('P_AUTHENTICATE', Token => decode_json($out)->{token}, DeviceId => 'x');
is_deeply([@$reply{qw(Reason Name)}], ['OK', 'Zoë'], '... or makes a new one, with auto_provision');

# --- the log ----------------------------------------------------------------

my $secret = 'never-in-the-log';
my $bruno  = $server->client(2);
send_text($alice, [2], "$secret-body", Type => "$secret-type",
    Attachment => {Url => "https://$secret", Name => $secret});
take_messages($bruno, 1);
send_text($alice, [99], "$secret-refused");
$alice->request('P_UPDATE_STATUS', Status => 'BUSY', StatusText => $secret);
$alice->request('P_UPDATE_USER', Profile => {Note => $secret});
$alice->send_text(qq({"Command":"P_SEND_MESSAGE","Message":"$secret));
is($alice->next_reply->{Reason}, 'BAD_REQUEST', 'what is no JSON is refused');
my $other = $server->connect;
$other->request('P_AUTHENTICATE', UserName => '1', Password => $secret, DeviceId => $secret);
$other->request('P_AUTHENTICATE', Token => "$secret.$secret.$secret", DeviceId => 'x');
my $token = $server->token(1, note => $secret);
$other->request('P_AUTHENTICATE', Token => $token, DeviceId => 'y');
$other->request('P_GET_MESSAGES', UserId => 2);
$server->ctl('user', 'passwd', 1, '--password-stdin', {stdin => "$secret\n"});
$server->ctl('stop');
is($server->await_exit, 0, 'after all kinds of requests it stops');
my $log = $server->log_text;
like($log, qr/ debug /, 'the log of level debug');
unlike($log, qr/\Q$secret\E/, '... has no text, no password and no profile of anybody');
my ($signature) = $token =~ /([^.]+)\z/;
my $key = $server->secret;
unlike($log, qr/\Q$signature\E/, '... no token');
unlike($log, qr/\Q$key\E/, '... and no secret of the server');
my @odd = grep { !/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?:error|warn|info|debug) [a-z]+(?:-\d+)?\[\d+\] [a-z-]+(?: |\z)/ }
    split /\n/, $log;
is_deeply(\@odd, [], '... is all of one form: time, level, process, event');

$server->set('log.format' => 'json', 'log.level' => 'info');
unlink $server->dir . '/parleyd.log';
$server->launch;
my $path = $server->dir . '/parleyd.log';
$alice = $server->client(1);
my @bad = grep { !eval { my $line = decode_json($_); $line->{level} && $line->{event} } }
    split /\n/, Parley::slurp($path);
is_deeply(\@bad, [], 'with format = json each line is an object with a level and an event');
is(scalar(grep { decode_json($_)->{event} eq 'session-open' } split /\n/, Parley::slurp($path)),
    1, '... the login is one of them');

rename $path, "$path.1" or die "$path: $!\n";
$server->client(2);
unlike(Parley::slurp($path), qr/user.{1,4}2/, 'a log that was renamed is still written to');
like(Parley::slurp("$path.1"), qr/session-open/, '... under its new name');
kill USR1 => $server->pid;
ok(Parley::poll_until(10, sub { -e $path }), 'SIGUSR1 opens a new one');
# Each process opens it when it has read the signal: it shows in what it writes.
for my $worker (qw(worker-0 worker-1)) {
    ok(Parley::poll_until(20, sub {
        my $client = $server->client(2);
        $client->close;
        return Parley::slurp($path) =~ /"\Q$worker\E"|\Q$worker\E\W/;
    }), "... for $worker, too");
}
my $size = -s "$path.1";
$server->client(2) for 1 .. 10;
is(-s "$path.1", $size, '... and nothing goes to the old one any more');

# --- while a process hangs --------------------------------------------------

my $pids = $server->pids;
for my $name (qw(keeper directory console worker-0)) {
    kill STOP => $pids->{$name};
    my $started = now();
    my $status  = $server->status;
    cmp_ok(now() - $started, '<', Parley::scaled(3), "status answers while $name hangs");
    is(scalar $status->{processes}->@*, 8, '... with all processes');
    my $aged = Parley::poll_until(10, sub { $server->process($name)->{heartbeat_age_ms} > 1500 });
    ok($aged, '... and shows that its heart does not beat');
    if ($name eq 'keeper') {
        ($code, undef, $err) = $server->ctl('user', 'add', 50, 'late');
        is($code, 1, '... what needs it fails');
        isnt($err, '', '... and says so');
        ok(Parley::poll_until(20, sub { (($server->http_get('/health'))[0] // 200) != 200 }),
            '... /health turns bad');
    }
    is(($server->http_get('/live'))[0], 200, '... the console answers') if $name ne 'console';
    kill CONT => $pids->{$name};
    ok(Parley::poll_until(10, sub { $server->process($name)->{heartbeat_age_ms} < 1500 }),
        '... it goes on');
}
ok(Parley::poll_until(10, sub { ($server->http_get('/health'))[0] == 200 }), 'then all is well');
is_deeply($server->pids, $pids, '... nobody was replaced');

# --- metrics ----------------------------------------------------------------

send_text($alice, [2], 'counted');
($code, my $metrics, my $headers) = $server->http_get('/metrics');
is($code, 200, 'there are metrics');
like($headers->content_type, qr{\Atext/plain; version=0\.0\.4}, '... of the type that scrapers want');
is($server->metric('parley_messages_total'), 1, '... a message was counted');
is($server->metric('parley_messages_total', process => 'keeper'), 1, '... by the keeper');
SKIP: {
    skip 'promtool is not installed', 1 if system('promtool --version >/dev/null 2>&1') != 0;
    Parley::spew($file, $metrics);
    ($code, $out, $err) = $server->run(['sh', '-c', 'promtool check metrics < "$0"', $file]);
    is($code, 0, '... and Prometheus likes their form') || diag $out, $err;
}

$server->finish;
done_testing;
