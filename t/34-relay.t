# A browser takes the IceServers of a call as they are, and gets through
# coturn with them where there is no other way.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use File::Path qw(remove_tree);
use File::Temp ();
use Mojo::JSON qw(encode_json);
use Parley;
use Parley::Turn;
use Mojo::Server::Daemon;
use Mojolicious;
use POSIX ();
use Test::More;

my ($chromium) = grep { -x && -f _ } map {"$_/chromium"} split /:/, $ENV{PATH};
plan skip_all => 'no chromium'                     if !$chromium && !$ENV{CI};
plan skip_all => 'no turnserver (Debian: coturn)' if !Parley::Turn::program() && !$ENV{CI};

my $secret = 'a-secret-of-two-servers-0123456789';
my $turn   = Parley::Turn->start($secret);
my $server = Parley->start(
    conf => {
        'ice.stun_urls'   => 'stun:127.0.0.1:' . $turn->{port},
        'ice.turn_urls'   => $turn->url,
        'ice.turn_secret' => $secret,
    }
);
$server->add_users(1, 2);
my ($alice, $bruno) = map { $server->client($_) } 1, 2;
my $made = $alice->request(
    'P_COLLABORATION_CREATE',
    ToUserList            => [2],
    Kind                  => 'DATA',
    ClientCollaborationId => 'c-1'
);
my $joined = $bruno->request('P_COLLABORATION_ACCEPT', CollaborationId => $made->{CollaborationId});

# Both ends in one page, each with the servers of its user, and relays only.
my $page = <<'HTML';
<!DOCTYPE html><title>relay</title><script>
const lines = [];
const tell = () => fetch('/told', { method: 'POST', body: lines.join('\n') });
const log = (line, is_last) => { lines.push(line); if (is_last) tell(); };
const end = (servers) => new RTCPeerConnection({ iceServers: servers, iceTransportPolicy: 'relay' });
(async () => {
  const [first, second] = SERVERS.map(end);
  for (const [one, other] of [[first, second], [second, first]]) {
    one.onicecandidate = (e) => {
      if (!e.candidate) return;
      log('candidate ' + e.candidate.type);
      other.addIceCandidate(e.candidate);
    };
    one.onicecandidateerror = (e) => log('refused ' + e.errorCode, e.errorCode === 401);
  }
  second.ondatachannel = (e) => {
    e.channel.onmessage = (m) => log('received ' + m.data, true);
  };
  const channel = first.createDataChannel('x');
  channel.onopen = () => channel.send('through the relay');
  await first.setLocalDescription();
  await second.setRemoteDescription(first.localDescription);
  await second.setLocalDescription();
  await first.setRemoteDescription(second.localDescription);
})().catch((e) => log('exception ' + e, true));
</script>
HTML

# What the page has told, line by line.
sub browse (@servers) {
    my $told;
    my $app = Mojolicious->new;
    $app->log->level('fatal');
    my $html = $page =~ s/SERVERS/encode_json(\@servers)/er;
    $app->routes->get('/' => sub ($c) { $c->render(data => $html, format => 'html') });
    $app->routes->post('/told' => sub ($c) { $told //= $c->req->body; $c->render(text => '') });
    my $daemon  = Mojo::Server::Daemon->new(app => $app, listen => ['http://127.0.0.1'], silent => 1)->start;
    my $profile = File::Temp->newdir('parley-chromium-XXXXXX', TMPDIR => 1, CLEANUP => 0);
    my $pid     = fork // die "fork: $!\n";
    if ($pid == 0) {
        setpgrp;
        open STDERR, '>', '/dev/null' or POSIX::_exit(126);
        { no warnings 'exec'; exec $chromium, qw(--headless=new --no-sandbox --disable-gpu --no-first-run),
            "--user-data-dir=$profile", 'http://127.0.0.1:' . $daemon->ports->[0] . '/' }
        POSIX::_exit(127);
    }
    Parley::poll_until(60, sub { defined $told });
    kill KILL => -$pid;
    waitpid $pid, 0;
    remove_tree("$profile", {error => \my $ignored});
    return split /\n/, $told // 'nothing';
}

my @lines = browse($made->{IceServers}, $joined->{IceServers});
is($lines[-1], 'received through the relay', 'bytes go from browser to browser through the relay');
is(scalar(grep {/\Acandidate (?!relay)/} @lines), 0, '... no other way was there');
my $wrong = Mojo::JSON::decode_json(encode_json($made->{IceServers}));
$wrong->[1]{credential} =~ tr/A-Za-z/B-ZAb-za/;
@lines = browse($wrong, $wrong);
is($lines[-1], 'refused 401', 'with other credentials there is none');
is(scalar(grep {/\Acandidate/} @lines), 0, '... at all');
$server->finish;
$turn->finish;
done_testing;
