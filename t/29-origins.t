# [server] allowed_origins: which pages a browser may connect from.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Raw;
use Test::More;

my $server = Parley->start(tls => 0, conf => {
    'server.allowed_origins' => 'https://chat.example.org, http://localhost:3334',
});

sub answer_to (@origins) {
    my $raw  = Parley::Raw->connect($server->address);
    my $head = Parley::Raw->upgrade_head();
    $head =~ s/\r\n\r\n\z/join '', "\r\n", map({"Origin: $_\r\n"} @origins), "\r\n"/e;
    $raw->write($head);
    my $answer = $raw->read_until(qr/\r\n\r\n/);
    $raw->close;
    return $answer;
}

sub status_of (@origins) { return answer_to(@origins) =~ m{\AHTTP/1\.1 (\d+) } ? $1 : 0 }

is(status_of(), 101, 'what is no browser sends no Origin and is served');
is(status_of($_), 101, "$_ is allowed")
    for 'https://chat.example.org', 'https://chat.example.org:443', 'HTTPS://CHAT.example.org',
    'http://localhost:3334';
is(status_of($_), 403, "$_ is not")
    for 'http://chat.example.org', 'https://example.org', 'https://chat.example.org.evil.example',
    'https://evil.example', 'http://localhost', 'null', '';
is(status_of(('https://chat.example.org') x 2), 403, 'two of them are not understood');
like(answer_to('https://evil.example'), qr/^Connection: close\r$/m, 'the connection ends');
unlike($server->log_text, qr/evil\.example/, 'what was sent is not in the log');
like($server->log_text, qr/connection-refused .*why="pages of this origin may not connect/, '... that it was refused is');

$server->set('server.allowed_origins' => 'https://chat.example.org/');
my ($code, undef, $error) = $server->ctl('reload');
is($code, 1, 'what is no origin is refused');
like($error, qr{:\d+: allowed_origins: "https://chat\.example\.org/"}, '... by name and line');
$server->allow_errors(qr/reload-refused/);
is(status_of('https://chat.example.org'), 101, '... the old ones stay');

$server->set('server.allowed_origins' => '');
is(($server->ctl('reload'))[0], 0, 'without any');
ok($server->await_log(qr/reload-done/, 60), '... in force');
is(status_of('https://evil.example'), 101, '... all are');

$server->finish;
done_testing;
