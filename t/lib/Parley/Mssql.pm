# Parley::Mssql - a database for a story of backend = mssql.
#
#     my $db = Parley::Mssql->start;
#     $db->add_users(1 .. 3);                   # all in each other's lists
#     my $server = Parley->start(conf => {$db->conf});
#     is_deeply $db->bodies('1-2'), ['first', 'second'];
#     $db->fault(at => 'Parley_Write_Batch', what => 'lose_reply', times => 1);
#
# It is the double (tds-server beside this folder) unless PARLEY_TEST_MSSQL
# names a real server, "host:port", with PARLEY_TEST_MSSQL_DATABASE,
# PARLEY_TEST_MSSQL_OWNER and _OWNER_PASSWORD (runs statements),
# PARLEY_TEST_MSSQL_USER and _PASSWORD (runs procedures); there everything in
# the tables of etc/mssql is deleted first, and can_fail is false: nothing can
# be made to go wrong. Statements come over FreeTDS' ODBC to both.
package Parley::Mssql;
use v5.36;
use utf8;

use Cwd qw(abs_path);
use DBI;
use File::Path qw(remove_tree);
use File::Temp ();
use IO::Socket::INET;
use IPC::Open2 qw(open2);
use Mojo::JSON qw(decode_json encode_json);

use Parley;
use Parley::Tls;

my $OWNER = $$;
my @alive;

my @TABLES = qw(Users UserContacts Messages MessageRecipients Receipts Groups GroupMembers Collaborations
    CollaborationParticipants DeviceTokens);
# "pass-1", as parleyctl db hash makes it, once: scrypt is slow on purpose.
my $hash;

# Arguments: delay in ms of every request; tls => 1.
sub start ($class, %arg) {
    my $dir  = File::Temp->newdir('parley-mssql-XXXXXX', TMPDIR => 1, CLEANUP => 0);
    my $self = bless {dir => "$dir", delay => $arg{delay} // 0}, $class;
    push @alive, $self;
    if (my $real = $ENV{PARLEY_TEST_MSSQL}) {
        $self->@{qw(host port)} = $real =~ /\A(.+):(\d+)\z/ or die "PARLEY_TEST_MSSQL=$real: expected host:port\n";
        $self->{is_real} = 1;
        $self->@{qw(database owner owner_password user password)} =
            map { $ENV{"PARLEY_TEST_MSSQL_$_"} // die "PARLEY_TEST_MSSQL_$_ is not set\n" }
            qw(DATABASE OWNER OWNER_PASSWORD USER PASSWORD);
        $self->sql("DELETE FROM dbo.$_") for @TABLES;
        return $self;
    }
    $self->@{qw(cert key)} = Parley::Tls::make("$dir", 'ec', names => 'DNS:localhost') if $arg{tls};
    $self->@{qw(host database owner owner_password user password)} =
        ($arg{tls} ? 'localhost' : '127.0.0.1', 'chat', 'owner', 'pass-of-owner', 'parley', 'pass-of-parley');
    $self->launch;
    return $self;
}

sub pid ($self)      { return $self->{pid} }
sub can_fail ($self) { return !$self->{is_real} }

# Settings of a server that uses it.
sub conf ($self) {
    Parley::spew("$self->{dir}/password", "$self->{password}\n");
    chmod 0600, "$self->{dir}/password" or die "chmod: $!\n";
    return (
        'directory.backend'   => 'mssql',
        'mssql.server'        => $self->{host},
        'mssql.port'          => $self->{port},
        'mssql.database'      => $self->{database},
        'mssql.user'          => $self->{user},
        'mssql.password_file' => "$self->{dir}/password",
        'mssql.encryption'    => $self->{cert} ? 'verify' : 'off',
        $self->{cert} ? ('mssql.ca_file' => $self->{cert}) : (),
    );
}

# --- the process --------------------------------------------------------------

# Again on the port of before, if there was one: what was committed is there.
sub launch ($self) {
    my @options = ('--file', "$self->{dir}/chat.db", '--delay', $self->{delay});
    push @options, '--port', $self->{port} if $self->{port};
    push @options, '--cert', $self->{cert}, '--key', $self->{key} if $self->{cert};
    push @options, '--verbose' if $ENV{TDS_SERVER_VERBOSE};
    $self->{pid} = open2(my $out, $self->{stdin}, $^X, abs_path(__FILE__ =~ s{Parley/Mssql\.pm\z}{tds-server}r), @options);
    my $line = <$out> // die "the database does not start\n";
    ($self->{port}, my $control) = $line =~ /\A(\d+) (\d+)\n\z/ or die "the database says $line";
    $self->{control} = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $control) or die "no control: $@\n";
    return;
}

# At once, as if the machine had lost its power.
sub kill ($self) {
    delete $self->{dbh};
    CORE::kill 'KILL', $self->{pid} if $self->{pid};
    waitpid $self->{pid}, 0 if $self->{pid};
    delete $self->@{qw(pid stdin control)};
    return;
}

sub finish ($self) {
    local ($?, $!);
    $self->{dbh}->disconnect if $self->{dbh};
    $self->kill;
    remove_tree($self->{dir});
    return;
}

END {
    if ($$ == $OWNER) {
        $_->finish for @alive;
    }
}

sub _order ($self, $op, %arg) {
    my $control = $self->{control} // die "a real database takes no orders\n";
    print {$control} encode_json({op => $op, %arg}), "\n";
    return decode_json(scalar <$control> // die "the database has gone\n");
}

# What is to go wrong: Parley/Tds/Fault.pm.
sub fault ($self, %fault) { return $self->_order('fault', %fault) }
sub clear ($self)         { return $self->_order('clear') }
sub counters ($self)      { return $self->_order('counters') }
sub release ($self)       { return $self->_order('release') }
sub delay ($self, $ms)    { return $self->_order('delay', ms => $ms) }
sub kill_connections ($self) { return $self->_order('kill') }

# Until a fault of this kind has happened so often: true if it has.
sub await_fault ($self, $what, $times = 1, $seconds = 20) {
    return Parley::poll_until($seconds, sub { ($self->counters->{faults}{$what} // 0) >= $times });
}

# --- statements ---------------------------------------------------------------

sub _dbh ($self) {
    my ($driver) = glob '/usr/lib/*/odbc/libtdsodbc.so';
    return $self->{dbh} //= DBI->connect(
        "dbi:ODBC:DRIVER=$driver;SERVER=$self->{host};PORT=$self->{port};DATABASE=$self->{database};"
            . 'TDS_Version=7.4;ClientCharset=UTF-8;APP=story',
        $self->{owner}, $self->{owner_password},
        {RaiseError => 1, PrintError => 0, LongReadLen => 16 << 20, odbc_utf8_on => 1});
}

# Rows as hashes; of a change nothing. "?" takes a value: a number, or a text.
sub sql ($self, $sql, @values) {
    $sql =~ s/\?/my $value = shift @values; !defined $value ? 'NULL' : $value =~ m{\A-?\d+\z} ? $value : "N'" . $value =~ s{'}{''}gr . "'"/ge;
    my $sth = $self->_dbh->prepare($sql, {odbc_exec_direct => 1});
    $sth->execute;
    return [] if !$sth->{NUM_OF_FIELDS};
    return $sth->fetchall_arrayref({});
}

sub count ($self, $table) { return 0 + $self->sql("SELECT COUNT(*) AS Rows_ FROM dbo.$table")->[0]{Rows_} }

sub hash_of_password ($self, $password) {
    my $conf = "$self->{dir}/no.conf";
    Parley::spew($conf, '');
    my $pid = open2(my $out, my $in, Parley::program('parleyctl'), '-c', $conf, 'db', 'hash');
    print {$in} "$password\n";
    close $in;
    my $line = <$out>;
    waitpid $pid, 0;
    chomp $line;
    return $line;
}

# user1 ..., "User 1", each in the list of all others; password "pass-1" for all.
sub add_users ($self, @ids) {
    $hash //= $self->hash_of_password('pass-1');
    my @old = map { $_->{UserId} } $self->sql('SELECT UserId FROM dbo.Users')->@*;
    $self->insert('Users (UserId, LoginName, DisplayName, Role, Profile, PasswordHash)',
        map { "($_, N'user$_', N'User $_', N'doctor', N'{\"Room\":\"$_\"}', '$hash')" } @ids);
    $self->befriend(@old, @ids);
    return;
}

# Pairs that are not there yet.
sub befriend ($self, @ids) {
    my %is_there = map { ("$_->{UserId} $_->{ContactId}" => 1) }
        $self->sql('SELECT UserId, ContactId FROM dbo.UserContacts')->@*;
    my @pairs;
    for my $one (@ids) {
        push @pairs, map { $_ == $one || $is_there{"$one $_"} ? () : "($one, $_)" } @ids;
    }
    $self->insert('UserContacts (UserId, ContactId)', @pairs);
    return;
}

# SQL Server takes 1,000 rows at most.
sub insert ($self, $into, @rows) {
    while (my @some = splice @rows, 0, 500) {
        $self->sql("INSERT INTO dbo.$into VALUES " . join ', ', @some);
    }
    return;
}

# Texts of a conversation in order.
sub bodies ($self, $conversation) {
    return [map { $_->{Body} }
            $self->sql('SELECT Body FROM dbo.Messages WHERE ConversationId = ? ORDER BY MessageId', $conversation)->@*];
}

1;
