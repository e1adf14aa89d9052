# Processes die at random for minutes under load; nothing acknowledged is
# lost, nothing comes twice or out of order, every request is answered on a
# connection that stayed. Not part of make check:
#
#     SOAK=300 SEED=n RATE=2000 PAIRS=100 make check-kills
#
# The load is parleyload's, which keeps the ledger; the killing is ours.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../lib";
use JSON::PP;
use Parley;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{SOAK} // 300;
my $seed    = $ENV{SEED}            // time ^ $$;
my $rate    = $ENV{RATE}            // 2000;
my $pairs   = $ENV{PAIRS}           // 100;
my $first   = 1000;
diag "SEED=$seed, $seconds s, $pairs pairs at $rate messages/s";
srand $seed;

my $server = Parley->start(
	conf         => {'server.workers' => 2},
	allow_errors => [qr/directory/]);
my $last = $first + 2 * $pairs - 1;
is(($server->ctl('user', 'add', '--range', "$first-$last"))[0], 0, 'users exist');
is(($server->ctl('contact', 'add', '--pairs', $first, $pairs))[0],
    0, 'pairs know each other');

my @victims = qw(worker-0 worker-1 keeper keeper directory);
my $report  = $server->dir . '/parleyload.json';
my $load    = fork // die "fork: $!";
if ($load == 0) {
	open STDOUT, '>', $report or die "$report: $!";
	exec Parley::program('parleyload'), 'pairs', '--churn', '--quiet', '--json',
	    '-n',          $pairs,          '--rate',       $rate,
	    '--size',      200,             '--duration',   $seconds,
	    '--warmup',    1,               '--drain',      60,
	    '--url',       $server->ws_url, '--secret',     $server->secret,
	    '--server-pid', $server->pid,   '--first-user', $first;
}

my %kills;
my $end = time + $seconds;
my $waited;
until (time > $end || ($waited = waitpid($load, 1)) == $load) {
	my $pause = time + 0.1 + rand 0.9;
	Parley::tick() while time < $pause;
	my @now = rand() < 0.05 ? (qw(worker-0 worker-1 keeper directory)) : $victims[rand @victims];
	my $pids = $server->pids // next;
	for my $name (@now) {
		$pids->{$name} or next;
		kill KILL => $pids->{$name} and $kills{$name}++;
	}
}
waitpid $load, 0 if !$waited || $waited != $load;
my $code = $? >> 8;
is($code, 0, 'parleyload found nothing wrong');
my $json = do { local (@ARGV, $/) = $report; <> };
my $result = eval { decode_json($json) } // {};
diag join ' ', 'kills:', map { "$_=$kills{$_}" } sort keys %kills;
diag $json if $code != 0;
is_deeply([grep { $_->{state} ne 'running' } $server->status->{processes}->@*],
    [], 'every process is back');
$server->finish;
done_testing;
