# What scripts rely on: parleyctl's exit codes and JSON, the ops port, and
# what the supervisor does with processes that die, hang or are replaced.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use Mojo::JSON qw(decode_json);
use Test::More;

use Parley;

sub json_of ($server, @args) {
    my ($code, $out) = $server->ctl(@args, '--json');
    return ($code, decode_json($out));
}

my $server = Parley->prepare(conf => {'server.workers' => 2});

subtest 'before the server runs' => sub {
    my ($code, $out, $err) = $server->ctl('status');
    is $code, 3, 'status: not running';
    like $err, qr/not running/, 'and says so';
    ($code) = $server->ctl('user', 'list');
    is $code, 3, 'user list: not running';
    ($code) = $server->ctl('stop');
    is $code, 3, 'stop: not running';
    ($code, $out) = $server->ctl('token', 7);
    is $code, 0, 'a token needs no server';
    is scalar(split /\./, $out), 3, 'and has three parts';
};

$server->launch;

subtest 'usage' => sub {
    for my $words (
        [], ['nonsense'], ['user'], ['user', 'add', 5], ['user', 'add', 0, 'x'],
        ['user', 'list', '--nonsense'], ['user', 'list', '--limit'],
        ['token'], ['token', 'x'], ['token', 1, '--ttl', 0], ['restart'],
        ['user', 'add', '--range', '9-1'], ['contact', 'add', 4, 4],
        ['user', 'passwd', 1], ['status', 'extra'])
    {
        my ($code, undef, $err) = $server->ctl(@$words);
        is $code, 2, "usage error: @$words";
        isnt $err, '', 'with a message';
    }
    my ($code, $out) = $server->ctl('-h');
    is $code, 0, 'help is no error';
    like $out, qr/^  user add /m, 'and lists the verbs';
};

subtest 'users' => sub {
    my ($code, $out, $err) = $server->ctl('user', 'add', 1, 'Zoë');
    is $code, 0, 'a user is created' or diag $err;
    ($code, $out, $err) = $server->ctl('user', 'add', 1, 'Zoë');
    is $code, 1, 'not twice';
    like $err, qr/exists already/, 'and it says why';
    ($code) = $server->ctl('user', 'add', 2, 'Bo', '--password-stdin', {stdin => "pass\n"});
    is $code, 0, 'with a password';
    ($code) = $server->ctl('user', 'add', 3, 'C', '--password-stdin', {stdin => "\n"});
    is $code, 1, 'an empty password is refused';

    my ($rc, $json) = json_of($server, 'user', 'show', 1);
    is $json->{user}{name}, "Zo\x{eb}", 'names are kept';
    ok !$json->{user}{has_password}, 'no password';
    (undef, $json) = json_of($server, 'user', 'show', 2);
    ok $json->{user}{has_password}, 'a password';
    unlike Mojo::JSON::encode_json($json), qr/scrypt/, 'a hash is never shown';

    (undef, $json) = json_of($server, 'user', 'add', '--range', '1000-2600');
    is $json->{created}, 1601, 'a range is created in pieces';
    (undef, $json) = json_of($server, 'user', 'add', '--range', '1000-2600');
    is $json->{created}, 0, 'and only once';
    (undef, $json) = json_of($server, 'user', 'list', '--limit', 2);
    is_deeply [map { $_->{id} } $json->{users}->@*], [1, 2], 'the first page';
    is $json->{next_cursor}, 2, 'has a successor';
    (undef, $json) = json_of($server, 'user', 'list', '--cursor', 2598);
    is_deeply [map { $_->{id} } $json->{users}->@*], [2599, 2600], 'the last page';
    is $json->{next_cursor}, undef, 'has none';

    ($code) = $server->ctl('user', 'passwd', 1, '--password-stdin', {stdin => "new\n"});
    is $code, 0, 'a password is set';
    ($code) = $server->ctl('user', 'passwd', 99, '--password-stdin', {stdin => "new\n"});
    is $code, 1, 'not for a stranger';
    ($code) = $server->ctl('user', 'remove', 2600);
    is $code, 0, 'a user is removed';
    ($code, $json) = json_of($server, 'user', 'show', 2600);
    is $code, 1, 'and is gone';
    is $json->{ok}, Mojo::JSON->false, 'which JSON says as well';
    is $json->{code}, 1, 'with the code';
};

subtest 'contacts' => sub {
    my ($code, undef, $err) = $server->ctl('contact', 'add', 1, 2);
    is $code, 0, 'two users' or diag $err;
    ($code, undef, $err) = $server->ctl('contact', 'add', 1, 99);
    is $code, 1, 'a stranger is refused';
    like $err, qr/no user 99/, 'by name';
    ($code) = $server->ctl('contact', 'add', 1, 1000, '--one-way');
    is $code, 0, 'one way';
    my (undef, $json) = json_of($server, 'contact', 'list', 1);
    is_deeply [map { [$_->@{qw(id listed listed_by)}] } $json->{contacts}->@*],
        [[2, 1, 1], [1000, 1, 0]], 'the list shows which';
    (undef, $json) = json_of($server, 'contact', 'add', '--pairs', 1000, 800);
    is $json->{pairs}, 800, 'pairs in pieces';
    (undef, $json) = json_of($server, 'contact', 'list', 1799);
    is_deeply [map { $_->{id} } $json->{contacts}->@*], [2599], 'the last pair';
    ($code) = $server->ctl('contact', 'remove', 1, 2);
    (undef, $json) = json_of($server, 'contact', 'list', 2);
    is_deeply $json->{contacts}, [], 'removed on both sides';
};

subtest 'status' => sub {
    my $status = $server->status;
    is_deeply [map { $_->{name} } $status->{processes}->@*],
        [qw(supervisor keeper directory console worker-0 worker-1 holder-0 holder-1)],
        'every configured process';
    is_deeply [grep { $_->{state} ne 'running' } $status->{processes}->@*], [], 'all run';
    is_deeply [grep { !kill 0 => $_->{pid} } $status->{processes}->@*], [], 'and live';
    is $status->{processes}[0]{pid}, $server->pid, 'the supervisor is ours';
    like $status->{listen}[0], qr/\A127\.0\.0\.1:[1-9]\d+\z/, 'the port that was chosen';
    my ($code, $out) = $server->ctl('status');
    is $code, 0, 'for people, too';
    like $out, qr/^worker-1 +\d+ running /m, 'a line per process';
    ($code, $out) = $server->ctl('version', '--json');
    my $version = decode_json($out);
    is $version->{parleyd}, $version->{parleyctl}, 'one version';
};

subtest 'the ops port' => sub {
    my ($code, $body, $headers) = $server->http_get('/live');
    is $code, 200, 'live';
    ($code, $body) = $server->http_get('/health');
    is decode_json($body)->{status}, 'ok', 'healthy';
    is decode_json($body)->{parts}{keeper}{state}, 'running', 'in all parts';
    ($code, $body, $headers) = $server->http_get('/');
    is $code, 200, 'the page';
    like $headers->content_type, qr{\Atext/html}, 'is HTML';
    is $headers->header('X-Content-Type-Options'), 'nosniff', 'nosniff';
    like $headers->header('Content-Security-Policy'), qr/default-src 'none'/, 'policy';
    ($code, $body) = $server->http_get('/demo.json');
    my ($port) = $server->address =~ /:(\d+)\z/;
    is_deeply decode_json($body),
        {WebSocketPort => $port, WebSocketPath => '/ws', Demo => Mojo::JSON->false},
        'no demo unless configured';
    for my $path ('/nothing.html', '/Makefile.inc', '/..%2f..%2fetc%2fpasswd') {
        ($code) = $server->http_get($path);
        is $code, 404, "404 for $path";
    }
    my $tx = $server->{ua}->post($server->ops_url . '/live' => 'x');
    is $tx->res->code, 405, 'nothing is posted';
    $tx = $server->{ua}->head($server->ops_url . '/live');
    is $tx->res->code, 200, 'HEAD';
    is $tx->res->headers->content_length, 5, 'with the length';
    ok $server->metric('parley_commits_total', process => 'keeper') > 0, 'commits are counted';
    is $server->metric('parley_process_up'), 8, 'eight processes are up';
};

subtest 'only one' => sub {
    my @parleyd = (Parley::program('parleyd'), '-f', '-c');
    my ($code, undef, $err) = $server->run([@parleyd, $server->conf]);
    is $code, 1, 'a second server with the same run folder is refused';
    like $err . $server->log_text, qr/another parleyd/, 'and told why';
    $server->allow_errors(qr/another parleyd/);

    my $other = Parley->prepare(conf => {'server.data_dir' => $server->{settings}{'server.data_dir'}});
    ($code) = $server->run([@parleyd, $other->conf]);
    is $code, 1, 'one with the same store, too';
    like $other->log_text, qr/uses the store/, 'and told why';

    $other = Parley->prepare(conf => {'server.listen' => $server->address});
    ($code) = $server->run([@parleyd, $other->conf]);
    is $code, 1, 'one with the same port, too';
    like $other->log_text, qr/another server listens/, 'and told why';
    ok $server->status->{ready}, 'the first one does not mind';
};

subtest 'a killed process has a successor' => sub {
    for my $name (qw(worker-1 directory console keeper)) {
        my $old = $server->kill9($name);
        ok $server->await_restart($name, $old), $name;
        is $server->process($name)->{restarts}, 1, 'counted';
    }
    my ($code) = $server->ctl('user', 'add', 4, 'after the kills');
    is $code, 0, 'and everything works';
};

subtest 'a process that always dies is given up' => sub {
    $server->allow_errors(qr/process-errored name=worker-1 /);
    my $state = '';
    for (1 .. 20) {
        my $process = Parley::poll_until(
            20,
            sub {
                my $seen = $server->process('worker-1') // return;
                return $seen if $seen->{state} eq 'errored';
                return $seen->{pid} && $seen->{state} eq 'running' ? $seen : undef;
            }
        );
        $state = $process->{state};
        last if $state ne 'running';
        kill ABRT => $process->{pid};    # -9 would count as somebody's wish
        Parley::poll_until(5, sub { !kill 0 => $process->{pid} });
    }
    is $state, 'errored', 'after ten short lives';
    my ($code, $body) = $server->http_get('/health');
    is decode_json($body)->{status}, 'degraded', 'the server is degraded';
    ($code) = $server->http_get('/ready');
    is $code, 200, 'and goes on';
    for (1 .. 8) {
        my ($host, $port) = split /:/, $server->address;
        my $socket = IO::Socket::INET->new(PeerHost => $host, PeerPort => $port);
        ok $socket, 'no connection waits for the worker that is down' or last;
    }
    ($code) = $server->ctl('restart', 'worker-1');
    is $code, 0, 'restart brings it back';
    is $server->process('worker-1')->{state}, 'running', 'for good';
};

subtest 'restart and reload' => sub {
    my $pids = $server->pids;
    my ($code, undef, $err) = $server->ctl('restart', 'worker-0');
    is $code, 0, 'restart' or diag $err;
    isnt $server->pids->{'worker-0'}, $pids->{'worker-0'}, 'another process';
    ($code) = $server->ctl('restart', 'supervisor');
    is $code, 1, 'not the supervisor';
    ($code) = $server->ctl('restart', 'worker-9');
    is $code, 1, 'not what is not there';

    $pids = $server->pids;
    $server->set('policy.may_message' => 'nobody');
    $server->allow_errors(qr/reload-refused/);
    kill HUP => $server->pid;
    ok $server->await_log(qr/reload-refused.*may_message/), 'a bad configuration is refused';
    $server->set('policy.may_message' => 'anyone', 'server.deflate' => 'yes', 'store.map_size' => '300M');
    is_deeply $server->pids, $pids, 'and nothing changes';
    ($code, my $out, $err) = $server->ctl('reload');
    is $code, 0, 'a good one is taken' or diag $err;
    is $out, <<'END', 'and says what it does';
applied: policy.may_message
applied by new processes: server.deflate
needs a restart, the old value stays: store.map_size
processes are being replaced, one at a time
END
    ok $server->await_log(qr/setting-needs-restart key=store\.map_size/), 'as far as it can be';
    ok $server->await_log(qr/reload-done/, 60), 'by every process';
    my $now = $server->pids;
    is_deeply [grep { $now->{$_} == $pids->{$_} } sort keys %$pids], ['supervisor'],
        'all but the supervisor were replaced';
};

subtest 'stop' => sub {
    my ($code) = $server->ctl('stop');
    is $code, 0, 'stop';
    is $server->await_exit, 0, 'the server has ended';
    ($code) = $server->ctl('status');
    is $code, 3, 'and status says so';
    ok !-e $server->run_dir . "/$_", "$_ is gone" for qw(parleyd.pid control.sock supervisor.sock);
};

$server->finish;
done_testing;
