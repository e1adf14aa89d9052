# The database fails in every way there is while messages flow, and so does the
# process that writes to it: in the end each message is there once, none is
# missing, and none was written before one that is older.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Mssql;
use Test::More;

my $db = Parley::Mssql->start(delay => 5);
plan skip_all => 'a real server cannot be made to fail' if !$db->can_fail;
my $rounds = fault_rounds(1, 100);
my $server = Parley->start(
    conf         => {$db->conf, 'mssql.query_timeout' => '300ms', 'store.map_size' => '2G'},
    allow_errors => [qr/mssql-/, qr/breaker-state/]);

sub outbox () {
    my ($code, $out) = $server->ctl('outbox', 'list', '--json');
    return $code == 0 ? decode_json($out) : {waiting => -1, dead => []};
}

# Batches that the database has finished since: the fault is over when some have.
sub batches () { return $db->sql('SELECT Batches FROM dbo.ParleyWriter')->[0]{Batches} }

sub await_batches ($more) {
    my $from = batches();
    return Parley::poll_until(60, sub { batches() >= $from + $more });
}

sub kill_directory () {
    my $pid = $server->pids->{directory};
    $server->kill9('directory');
    return $server->await_restart('directory', $pid);
}

sub fails ($what, %more) {
    return sub {
        my $before = $db->counters->{faults}{$what} // 0;
        $db->fault(at => 'Parley_Write_Batch', what => $what, times => 1, %more);
        return $db->await_fault($what, $before + 1, 60);
    };
}

# The directory is killed while the database has a batch in hand.
sub killed_in ($what) {
    return sub {
        $db->fault(at => 'Parley_Write_Batch', what => $what, times => 1);
        Parley::poll_until(60, sub { $db->counters->{held} }) or return 0;
        kill_directory() or return 0;
        $db->release;
        return 1;
    };
}

my @rows = (
    ['the reply is lost after the commit',          fails('lose_reply')],
    ['the connection is reset before it',           fails('reset')],
    ['the reply ends in the middle of a row',       fails('cut', part => 0.6)],
    ['... in the middle of a header',               fails('cut', part => 0.05)],
    ['the database hangs',                          fails('hang')],
    ['... and does not hear that it is called off', fails('hang', is_deaf => 1)],
    ['... after the commit',                        fails('hang_after')],
    ['a deadlock',                                  fails('error', number => 1205, severity => 13)],
    ['a lost race',                                 fails('error', number => 2627, severity => 14)],
    ['a database that is read-only',                fails('error', number => 3906)],
    ['a full log',                                  fails('error', number => 9002, severity => 17)],
    ['a result set too many',                       fails('extra_result')],
    ['counts that are NULL',                        fails('nulls')],
    ['counts that are texts',                       fails('wrong_types')],
    ['counts that are wrong',                       fails('liar')],
    ['no counts',                                   fails('no_rows')],
    ['bytes that mean nothing',                     fails('garbage')],
    ['a procedure that returns 1',                  fails('status', number => 1)],
    ['flapping', sub { $db->kill_connections for 1 .. 3; return 1 }],
    ['kill -9 of the database', sub { $db->kill; $db->launch; return 1 }],
    ['kill -9 of the directory', \&kill_directory],
    ['... before the batch is executed', killed_in('hold')],
    ['... after it was committed',       killed_in('hold_after')],
);

my $load = Parley::Fault->load($server, rate => 1000, db => $db);
await_batches(5) or BAIL_OUT('nothing is written');
for my $row (@rows) {
    my ($name, $break) = @$row;
    my $done = 0;
    for (1 .. $rounds) {
        last if !$load->is_alive || !$break->() || !await_batches(5);
        $done++;
    }
    is($done, $rounds, "$name: it goes on");
    $db->clear;
}
my $report = $load->finish('faults of the database');

ok(Parley::poll_until(90, sub { outbox()->{waiting} == 0 }), 'all of it is written in the end');
is(scalar outbox()->{dead}->@*, 0, '... no row was given up') if ref outbox()->{dead};
my $expected = $report->{messages}{acknowledged};
is($db->count('Messages'), $expected, "... $expected messages, each once");
is($db->sql('SELECT COUNT(DISTINCT MessageGuid) AS N FROM dbo.Messages')->[0]{N}, $expected, '... under a GUID of its own');
is( $db->sql(
        'SELECT COUNT(*) AS N FROM (SELECT StoredAt, LAG(StoredAt) OVER (PARTITION BY ConversationId ORDER BY MessageId) AS Before'
            . ' FROM dbo.Messages) AS m WHERE m.Before > m.StoredAt')->[0]{N},
    0, '... in the order of each conversation');
is($db->sql('SELECT COUNT(*) AS N FROM dbo.Messages WHERE MessageId NOT IN (SELECT MessageId FROM dbo.MessageRecipients)')->[0]{N},
    0, '... with its receiver');
$server->finish;
done_testing;
