# What holds of every back end of the directory holds of `mssql`.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Parley::Directory;
use Parley::Mssql;
use Parley::Story;
use Test::More;

my $db = Parley::Mssql->start;
$db->add_users(1 .. 3);
my $server = Parley->start(conf => {$db->conf, 'directory.request_timeout' => '300ms', 'auth.password_attempts' => 0});
my $directory = Parley::Directory->new(
    server => $server, name => sub ($id) {"user$id"}, password => sub ($id) {'pass-1'});

my ($alice, $alice_login) = $directory->passwords;
$alice->{session} = $alice_login;
my $other = worker_of($server, $alice) eq 'worker-0' ? 'worker-1' : 'worker-0';
my $carla = client_on($server, $other, 3);
$directory->changes($alice, $carla);
$directory->blocks($alice, $carla);
$directory->hangs($alice, $carla);
$server->finish;
done_testing;
