# Parley::Tds::Database - SQLite behind the double.
#
# One file: what was committed is there when the double was killed and comes
# again. Texts are characters.
package Parley::Tds::Database;
use v5.36;

use DBI;

use Parley::Tds::Values ();

sub open ($class, $path, $schema) {
    my $dbh = DBI->connect("dbi:SQLite:dbname=$path", '', '',
        {RaiseError => 1, PrintError => 0, AutoCommit => 1, sqlite_unicode => 1});
    $dbh->sqlite_create_function('utf16_length', 1, \&Parley::Tds::Values::utf16_length);
    # Nobody pulls the plug of a test; a killed process loses nothing.
    $dbh->do("PRAGMA $_") for 'journal_mode = WAL', 'synchronous = OFF', 'temp_store = MEMORY';
    my $self = bless {dbh => $dbh, schema => $schema}, $class;
    $dbh->do($_) for $schema->statements;
    return $self;
}

sub schema ($self) { return $self->{schema} }

# Rows that it changed.
sub run ($self, $sql, @values) {
    my $count = $self->{dbh}->prepare_cached($sql)->execute(@values);
    return $count == 0 ? 0 : 0 + $count;
}

# Rows, each a list.
sub rows ($self, $sql, @values) {
    return $self->{dbh}->selectall_arrayref($self->{dbh}->prepare_cached($sql), undef, @values);
}

# Columns of a table, as a result set of their types.
sub select ($self, $table, $columns, $rest, @values) {
    return {
        columns => [map { [$_, $self->{schema}->type($table, $_)] } @$columns],
        rows    => $self->rows('SELECT ' . join(', ', map {"t.$_"} @$columns) . " FROM $table AS t $rest", @values),
    };
}

# All that $code does or nothing.
sub transaction ($self, $code) {
    $self->{dbh}->begin_work;
    my $result = eval { $code->() };
    if (my $error = $@) {
        $self->{dbh}->rollback;
        die $error;
    }
    $self->{dbh}->commit;
    return $result;
}

# A statement by itself: a result set with types by what is found, or a count.
sub statement ($self, $sql) {
    my $sth = $self->{dbh}->prepare($sql);
    my $count = $sth->execute;
    return {count => 0 + $count} if !$sth->{NUM_OF_FIELDS};
    my $rows = $sth->fetchall_arrayref;
    my @names = $sth->{NAME}->@*;
    my @columns = map {
        my $at = $_;
        [$names[$at], (grep { defined $_->[$at] && $_->[$at] !~ /\A-?\d{1,18}\z/ } @$rows) ? 'nvarchar' : 'bigint']
    } 0 .. $#names;
    return {columns => \@columns, rows => $rows};
}

1;
