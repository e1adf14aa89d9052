# The init script: starts, stops, and says why it could not.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Test::More;

plan skip_all => 'needs start-stop-daemon and the LSB functions'
    if !-x '/usr/sbin/start-stop-daemon' && !-x '/sbin/start-stop-daemon' || !-r '/lib/lsb/init-functions';
plan skip_all => 'only root may use it'                   if $> != 0;
plan skip_all => 'a wrapper would be taken for the daemon' if $ENV{PARLEY_WRAPPER};

my $server = Parley->prepare;
my $script = $server->dir . '/init';

# The one that would be installed, with the paths of this build.
sub write_script (%path) {
    my $text = Parley::slurp(Parley::build_dir() . '/init.d/parley');
    $text =~ s/^$_=.*$/$_=$path{$_}/m or die "no $_\n" for keys %path;
    $text =~ s{/etc/default/parley}{$script.default}g;
    Parley::spew($script, $text);
    return;
}

write_script(
    DAEMON        => Parley::program('parleyd'),
    CTL           => Parley::program('parleyctl'),
    CONF          => $server->conf,
    START_TIMEOUT => 30 * Parley::scaled(1),
);

sub init ($verb) {
    my ($code, $out, $err) = $server->run(['/bin/sh', $script, $verb], {timeout => 120});
    return ($code, $out . $err);
}

# It is not a child of ours: a test that dies must not leave it.
END { local $?; init('stop') if $server && -e $script }

my ($code, $said) = init('start');
is($code, 0, 'start') or diag($said);
ok($server->status->{ready}, '... it is ready when that ends');
is((init('status'))[0], 0, '... status');
($code, $said) = init('start');
is($code, 0, 'started twice');
like($said, qr/already running/, '... says so');
is((init('reload'))[0],  0, 'reload');
is((init('restart'))[0], 0, 'restart');
ok($server->status->{ready}, '... it is ready again');
is((init('stop'))[0], 0, 'stop');
is((init('status'))[0], 3, '... it is down');

# --- it cannot start --------------------------------------------------------

my $good = Parley::slurp($server->conf);
Parley::spew($server->conf, "[server]\nworkerz = 2\n");
($code, $said) = init('start');
is($code, 6, 'a configuration with a mistake is none (LSB: 6)');
like($said, qr/:2: .*workers/, '... where it is');
Parley::spew($server->conf, $good);

my $store = $server->dir . '/data/main.mdb';
rename $store, "$store.aside" or die "$store: $!\n";
Parley::spew($store, "\0" x 65536);
$server->allow_errors(qr/ (?:keeper|supervisor|directory|worker-\d)\[/);
($code, $said) = init('start');
is($code, 1, 'a store that is damaged');
like($said, qr/ error keeper\[\d+\] \S/, '... the last words of the keeper are shown');
like($said, qr/more in \Q${\ $server->dir}\E/, '... and where there is more');
is((init('stop'))[0], 0, '... it has stayed up to say so, and stops');
mkdir $server->dir . '/kept' or die "mkdir: $!\n";
rename "$store.aside", $server->dir . '/kept/main.mdb' or die "$store: $!\n";
is(($server->ctl('restore', $server->dir . '/kept'))[0], 0, 'the store is put back');
is((init('start'))[0], 0, '... and it starts');
is((init('stop'))[0],  0, '... and stops');

is_deeply([$server->error_lines], [], 'the log has no other error');
$server->discard;
done_testing;
