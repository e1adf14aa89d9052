# Parley::Tds::Schema - etc/mssql/*.sql as the double needs it.
#
# Role: tables and indexes are created from the files that a real server gets,
#       translated to SQLite; of procedures the names and parameters are taken
#       from there. Only what procedures do is written anew (Procedures.pm,
#       WriteBatch.pm).
package Parley::Tds::Schema;
use v5.36;

my $NOW = "(strftime('%Y-%m-%dT%H:%M:%f', 'now'))";

# Type of T-SQL to the affinity of SQLite.
my %AFFINITY = (
    BIGINT => 'INTEGER', INT => 'INTEGER', TINYINT => 'INTEGER', BIT => 'INTEGER',
    NVARCHAR => 'TEXT', VARCHAR => 'TEXT', CHAR => 'TEXT', DATETIME2 => 'TEXT', UNIQUEIDENTIFIER => 'TEXT',
    BINARY => 'BLOB',
);

sub load ($class, $folder) {
    my $self = bless {statements => [], columns => {}, procedures => {}}, $class;
    for my $path (sort glob "$folder/[0-9]*.sql") {
        open my $file, '<:encoding(UTF-8)', $path or die "$path: $!\n";
        local $/ = undef;
        my $text = <$file> =~ s/--[^\n]*//gr;
        $self->_batch($_) for split /^GO\s*$/m, $text;
    }
    die "$folder has no tables and procedures\n" if !$self->{columns}->%* || !$self->{procedures}->%*;
    return $self;
}

sub statements ($self)            { return $self->{statements}->@* }
sub procedure ($self, $name)      { return $self->{procedures}{lc $name} }
sub type ($self, $table, $column) { return $self->{columns}{$table}{$column} // die "no column $table.$column\n" }

sub _batch ($self, $sql) {
    if    ($sql =~ /^CREATE TABLE dbo\.(\w+) \(\n(.*)\n\);/ms) { $self->_table($1, $2) }
    elsif ($sql =~ /^CREATE (UNIQUE )?(?:CLUSTERED )?INDEX (\w+) ON dbo\.(\w+) (\([^)]*\))/m) {
        push $self->{statements}->@*, 'CREATE ' . ($1 // '') . "INDEX IF NOT EXISTS $2 ON $3 $4";
    }
    elsif ($sql =~ /^CREATE OR ALTER PROCEDURE dbo\.(\w+)\n(.*?)^AS$/ms) { $self->_procedure($1, $2) }
    elsif ($sql =~ /^INSERT dbo\.ParleyWriter/m) {
        push $self->{statements}->@*, 'INSERT OR IGNORE INTO ParleyWriter (Id, Batches) VALUES (1, 0)';
    }
    return;
}

# "NVARCHAR(128)": its short name, and how long it may be in UTF-16.
sub _short ($type) {
    my ($base, $length) = $type =~ /\A(\w+)(?:\((\w+)\))?\z/ or die "no type: $type\n";
    $base = lc $base;
    return ('guid',      0) if $base eq 'uniqueidentifier';
    return ('datetime2', 0) if $base eq 'datetime2';
    return ($base,       0) if !defined $length || $length eq 'MAX';
    return ("$base($length)", $base eq 'binary' ? 0 : $length);
}

sub _table ($self, $table, $body) {
    my @lines;
    for my $line (split /,[ \t]*\n/, $body) {
        $line =~ s/^\s+|\s+$//g;
        if ($line =~ /\ACONSTRAINT/) {
            $line =~ s/ (?:NON)?CLUSTERED//;
            $line =~ s/ISJSON\((\w+)\) = 1/json_valid($1)/;
            push @lines, $line =~ s/ DESC\b//gr;
            next;
        }
        my ($name, $type, $rest) = $line =~ /\A(\w+)\s+(\w+(?:\(\w+\))?)\s*(.*)\z/s or die "$table: what is $line?\n";
        my ($short, $length) = _short($type);
        my ($base) = $type =~ /\A(\w+)/;
        $self->{columns}{$table}{$name} = $short;
        $rest =~ s/COLLATE \w+ //;
        $rest =~ s/CONSTRAINT \w+ (?=DEFAULT)//;
        $rest =~ s/\(SYSUTCDATETIME\(\)\)/$NOW/;
        $rest .= sprintf ' CONSTRAINT Length_%s CHECK (%s IS NULL OR length(%s) <= %d OR utf16_length(%s) <= %d)',
            $name, $name, $name, $length / 2, $name, $length
            if $length;
        push @lines, "$name $AFFINITY{$base} $rest";
    }
    push $self->{statements}->@*, "CREATE TABLE IF NOT EXISTS $table (\n  " . join(",\n  ", @lines) . ')';
    return;
}

sub _procedure ($self, $name, $body) {
    my @params;
    while ($body =~ /\@(\w+) (\w+(?:\(\w+\))?)(?: = (NULL|\d+))?/g) {
        my ($param, $given, $default) = ($1, $2, $3);
        my ($type) = _short($given);
        push @params, {name => $param, type => $type,
            defined $default ? (default => $default eq 'NULL' ? undef : $default) : ()};
    }
    $self->{procedures}{lc $name} = {name => $name, params => \@params};
    return;
}

1;
