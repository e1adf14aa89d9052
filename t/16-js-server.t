# The JavaScript client against a server whose processes are killed: messages,
# groups and a call (t/js/server/story.mjs tells it, this file does the killing).
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Open2  qw(open2);
use Mojo::JSON  qw(decode_json encode_json);
use Parley;
use Test::More;

plan skip_all => 'node is missing' if !$ENV{CI} && !`node --version 2>/dev/null`;

my $server = Parley->start;
$server->add_users(1, 2, 3);
my %tokens = map { $_ => $server->token($_) } 1 .. 3;
my ($port) = $server->address =~ /:(\d+)\z/;

my $pid = open2(my $from, my $to, 'node', Parley::source_dir() . '/t/js/server/story.mjs',
    $port, encode_json(\%tokens));
$to->autoflush;
my $is_told = 0;
while (my $line = <$from>) {
    my $said = decode_json($line);
    if (my $name = $said->{kill}) {
        my $old = $server->kill9($name);
        $server->await_restart($name, $old);
        print {$to} "done\n";
    }
    elsif ($said->{end}) {
        $is_told = 1;
    }
    else {
        ok($said->{ok}, $said->{name}) or diag($said->{error});
    }
}
waitpid $pid, 0;
is($?, 0, 'the story comes to its end') or diag($server->whereabouts);
ok($is_told, '... in its last line');
$server->finish;
done_testing;
