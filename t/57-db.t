# parleyctl db: what is missing is run once, as a whole or not at all, by one
# at a time, and an error says where in which file.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";

use File::Copy qw(copy);
use File::Temp ();
use Mojo::JSON qw(decode_json);
use POSIX ();
use Test::More;

use Parley;
use Parley::MigrationDb;

my $db     = Parley::MigrationDb->start(owner => 'owner', password => 'pass-of-owner');
my $server = Parley->prepare(
    conf => {
        'mssql.server'     => '127.0.0.1',
        'mssql.port'       => $db->port,
        'mssql.database'   => 'Chat',
        'mssql.user'       => 'parley',
        'mssql.password'   => 'pass-of-parley',
        'mssql.encryption' => 'off',
    }
);
my $folder = File::Temp->newdir('parley-sql-XXXXXX', TMPDIR => 1);
copy($_, "$folder/") or die "$_: $!\n" for glob "$ENV{PARLEY_SRC}/etc/mssql/*.sql";
my @names = map { s{.*/}{}r } sort glob "$folder/*.sql";

sub slurp ($path) {
    open my $file, '<:raw', $path or die "$path: $!\n";
    local $/ = undef;
    return scalar <$file>;
}

sub spew ($path, $text) {
    open my $file, '>:raw', $path or die "$path: $!\n";
    print $file $text;
    close $file or die "$path: $!\n";
    return;
}

sub db ($verb, @more) {
    return $server->ctl('db', $verb, '--user', 'owner', '--password-stdin', '--files', "$folder", @more,
        {stdin => "pass-of-owner\n"});
}

sub states () {
    my ($code, $out) = db('status', '--json');
    return ($code, map { $_->{state} } decode_json($out)->{files}->@*);
}

subtest 'who may not' => sub {
    my ($code, undef, $err) = $server->ctl('db', 'migrate', '--files', "$folder");
    is $code, 1, 'the login of the server makes nothing';
    like $err, qr/--user/, 'and it says who could';
    ($code, undef, $err) = $server->ctl('db', 'status', '--user', 'owner', '--password-stdin',
        '--files', "$folder", {stdin => "wrong\n"});
    is $code, 1, 'a wrong password';
    like $err, qr/number=18456/, 'is said by number';
    unlike $err, qr/wrong/, 'and not shown';
    ($code) = $server->ctl('db', 'status', '--user', 'owner', '--files', "$folder");
    is $code, 2, 'a user without a password is a usage error';
    ($code, undef, $err) = $server->ctl('db', 'status', '--files', "$folder/none");
    is $code, 1, 'a folder that is not there';
    like $err, qr{/none: No such file}, 'is named';
    is $db->made, 0, 'nothing was made';
};

subtest 'an error' => sub {
    my $path = "$folder/$names[1]";
    my $good = slurp($path);
    my @lines = split /^/, $good;
    my ($at) = grep { $lines[$_] =~ /CREATE OR ALTER PROCEDURE dbo\.COB_GetUserById/ } keys @lines;
    $lines[$at + 5] = "NONSENSE\n";
    spew($path, join '', @lines);
    my ($code, $out, $err) = db('migrate');
    is $code, 1, 'it stops';
    is $out, "$names[0]: done\n", 'after the file before';
    my $line = $at + 6;
    like $err, qr/\Q$names[1]\E:$line: error 102 .*: CREATE OR ALTER PROCEDURE dbo\.COB_GetUserById/,
        'it says file, line, number and statement';
    unlike $err, qr/quotes data/, 'and not the text of the server';
    is_deeply [keys $db->notes->%*], [1], 'that file is not noted';
    ok !$db->objects->{COB_Authenticate_Get_User_List}, 'and nothing of it is there';
    spew($path, $good);
    is_deeply [states()], [1, 'applied', ('to do') x (@names - 1)], 'status: 1, and what is missing';
};

subtest 'migrate' => sub {
    my ($code, $out) = db('migrate');
    is $code, 0, 'it goes on';
    is $out, (join '', map { "$_: done\n" } @names[1 .. $#names]), 'where it was';
    ok $db->objects->{Parley_Write_Batch}, 'everything is there';
    is_deeply [states()], [0, ('applied') x @names], 'status: 0';
    my $made = $db->made;
    ($code, $out) = db('migrate');
    is "$code $out", "0 nothing to do\n", 'again: nothing';
    is $db->made, $made, 'and nothing was made';
    ($code, $out) = db('migrate', '--again', '--json');
    is decode_json($out)->{ran}, scalar @names, 'all once more, when it is asked for';
    my $procedures = () = join('', map { slurp("$folder/$_") } @names) =~ /^CREATE OR ALTER/mg;
    is $db->made, $made + $procedures, 'tables are left as they are';
};

subtest 'a changed file' => sub {
    my $path = "$folder/$names[2]";
    my $good = slurp($path);
    spew($path, "$good\n-- another one\n");
    is((states())[3], 'changed', 'status says so');
    my ($code, undef, $err) = db('migrate');
    is $code, 1, 'it is not run without a word';
    like $err, qr/\Q$names[2]\E was changed/, 'and named';
    spew($path, $good);
    my $new = sprintf '%03d-more.sql', @names + 1;
    spew("$folder/$new", "CREATE TABLE dbo.More (Id INT)\ngo\n");
    (undef, my $out) = db('migrate');
    is $out, "$new: done\n", 'a new one is run alone';
    unlink "$folder/$new";
    ($code, undef, $err) = db('migrate', '--again');
    is $code, 1, 'files that are older than the database are not run';
    like $err, qr/newer/, 'and it says why';
    delete $db->notes->{@names + 1};
    spew("$folder/$new", "CREATE TABLE dbo.More (Id INT)\n");
    ($code, undef, $err) = db('migrate');
    like $err, qr/\Q$new\E:1: error 2714/, 'a file that is not guarded fails the second time';
    unlink "$folder/$new";
    spew("$folder/9-x.sql", '');
    ($code, undef, $err) = db('status');
    is $code, 1, 'a file without its number';
    like $err, qr/9-x\.sql/, 'is named';
    unlink "$folder/9-x.sql";
};

# A migration that stands in the middle of the third file.
sub begin_one () {
    delete $db->notes->{3};
    delete $db->objects->{Parley_Write_Batch};
    $db->hold(qr/PROCEDURE dbo\.Parley_Write_Batch/);
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        spew("$folder/password", "pass-of-owner\n");
        open STDIN, '<', "$folder/password" or POSIX::_exit(126);
        open $_->[0], '>', '/dev/null' or POSIX::_exit(126) for [*STDOUT], [*STDERR];
        { no warnings 'exec'; exec Parley::program('parleyctl'), '-c', $server->conf,
            qw(db migrate --user owner --password-stdin --files), "$folder" }
        POSIX::_exit(127);
    }
    ok Parley::poll_until(10, sub { $db->is_holding }), 'one is at it';
    return $pid;
}

sub ends ($pid) {
    return Parley::poll_until(10, sub { waitpid($pid, POSIX::WNOHANG) == $pid });
}

subtest 'a connection that is lost' => sub {
    my $pid = begin_one();
    $db->cut;
    ok ends($pid), 'it ends';
    is $? >> 8, 1, 'and has failed';
    is_deeply [states()], [1, 'applied', 'applied', 'to do', ('applied') x (@names - 3)], 'its file is to do';
    ok !$db->objects->{Parley_Write_Batch}, 'nothing of it is there';
};

subtest 'two at once' => sub {
    my $pid = begin_one();
    my ($code, undef, $err) = db('migrate');
    is $code, 1, 'the other one is refused';
    like $err, qr/somebody else/, 'and it says why';
    $db->release;
    ok ends($pid), 'the first one ends';
    is $?, 0, 'and has done it';
    is_deeply [states()], [0, ('applied') x @names], 'once';
};

is $server->{starts}, 0, 'and no server was started';
done_testing;
