# etc/mssql: what the files say fits together, and what the server calls by
# default is there. Nothing is run: there is no SQL Server here.
use v5.36;
use FindBin;
use Test::More;

my $top = $ENV{PARLEY_SRC} // "$FindBin::Bin/..";

sub slurp ($path) {
    open my $file, '<:raw', "$top/$path" or die "$path: $!\n";
    local $/ = undef;
    return scalar <$file>;
}

# Without comments and texts in quotes, which may hold anything.
sub bare ($sql) { return $sql =~ s/--[^\n]*|N?'[^']*'//gr }

my @names = map { s{.*/}{}r } sort glob "$top/etc/mssql/*.sql";
cmp_ok(scalar @names, '>=', 4, 'the files are found');
is_deeply([map { $_ + 0 } map {/\A(\d{3})-[a-z-]+\.sql\z/} @names], [1 .. @names],
    'they are numbered from 1, none left out, none twice');
my %file = map { $_ => slurp("etc/mssql/$_") } @names;
my $make = slurp('etc/Makefile.inc');
like($make, qr{^\tetc/mssql/\Q$_\E(?: \\)?$}m, "$_ is installed") for @names;

# --- batches ------------------------------------------------------------------

my (%procedure, %table, @granted, @unguarded, @crowded, @without_settings);
for my $name (@names) {
    my @batches = split /^GO\n/m, $file{$name};
    push @without_settings, $name
        if bare($batches[0]) !~ /\A\s*SET QUOTED_IDENTIFIER ON;\s*SET ANSI_NULLS ON;/;
    like($file{$name}, qr/^GO\n\z/m, "$name: ends with a batch that is over");
    for my $batch (@batches[1 .. $#batches]) {
        my $sql = $batch =~ s/--[^\n]*//gr =~ s/\A\s+//r;
        if ($sql =~ /\ACREATE OR ALTER PROCEDURE dbo\.(\w+)\n(.*?)\nAS\nBEGIN\n(.*)\nEND\n\z/s) {
            my ($procedure, $parameters, $body) = ($1, $2, $3);
            ok(!$procedure{$procedure}, "$procedure is made once");
            $procedure{$procedure} =
                {parameters => [$parameters =~ /\@(\w+) /g], body => $body, comment => scalar $batch =~ /\A--/};
        }
        elsif ($sql =~ /PROCEDURE/) { push @crowded, substr $sql, 0, 60 }
        $table{$1} = $sql if $sql =~ /\ACREATE TABLE|^CREATE TABLE dbo\.(\w+) /m;
        push @unguarded, substr($sql, 0, 60)
            if $sql =~ /^CREATE (?!OR ALTER)/m && $sql !~ /\AIF (?:OBJECT_ID|DATABASE_PRINCIPAL_ID|NOT EXISTS)\b.*\nCREATE /;
        push @granted, $sql =~ /^GRANT EXECUTE ON OBJECT::dbo\.(\w+) TO ParleyServer;$/mg;
        is(() = $sql =~ /\bGRANT\b/g, () = $sql =~ /^GRANT EXECUTE ON OBJECT::dbo\./mg,
            "$name: nothing but EXECUTE is granted")
            if $sql =~ /GRANT/;
    }
}
is_deeply(\@unguarded,        [], 'what is made is looked for before, so that a file can be run again');
is_deeply(\@crowded,          [], 'a procedure stands alone in its batch, in the one form');
is_deeply(\@without_settings, [], 'each file sets what is stored with procedures and indexes');
is_deeply([sort @granted], [sort keys %procedure], 'the role may run each procedure, each named once');
is_deeply([grep { !$procedure{$_}{comment} } sort keys %procedure], [], 'each has its contract above it');

# --- procedures ---------------------------------------------------------------

for my $name (sort keys %procedure) {
    my $body = $procedure{$name}{body};
    like($body, qr/\A  SET NOCOUNT ON;\n/, "$name: no counts between result sets");
    like($body, qr/\n  RETURN 0;\z/,       "$name: returns 0");
    like($body, qr/^  SET XACT_ABORT ON;$/m, "$name: an error rolls back")
        if bare($body) =~ /\b(?:INSERT|UPDATE|DELETE)\b/;
    next if $body !~ /BEGIN TRANSACTION/;
    like($body, qr/BEGIN TRY\n    BEGIN TRANSACTION;\n.*\n    COMMIT TRANSACTION;\n  END TRY\n/s,
        "$name: commits what it began");
    like($body, qr/BEGIN CATCH\n    IF XACT_STATE\(\) <> 0\n      ROLLBACK TRANSACTION;\n    THROW;\n  END CATCH/,
        "$name: and tells the error");
}

# Tables that it names are there, and their columns where it lists them.
for my $name (sort keys %procedure) {
    my $sql = bare($procedure{$name}{body});
    my %seen;
    my @strange = grep { !$table{$_} && !$seen{$_}++ } $sql =~ /\bdbo\.(\w+)/g;
    is_deeply(\@strange, [], "$name: its tables are there");
    while ($sql =~ /\bINSERT dbo\.(\w+) \(([^)]*)\)/g) {
        my ($into, @columns) = ($1, split /,\s*/, $2);
        is_deeply([grep { $table{$into} !~ /^  \Q$_\E /m } @columns], [], "$name: so are the columns of $into");
    }
}

# --- what the server calls ----------------------------------------------------

my @calls = slurp('src/base/conf.def') =~ /^CONF\(mssql_procedures, \w+, STRING, "([^"]+)"/mg;
cmp_ok(scalar @calls, '>=', 5, 'the default procedures are found');
for my $call (@calls) {
    my ($name, $parameters, undef, $columns) = $call =~ /\A(\w+)\(([^)]*)\)( -> (.*))?\z/;
    my $procedure = $procedure{$name // ''};
    ok($procedure, "$name is there") or next;
    my %has = map { $_ => 1 } $procedure->{parameters}->@*;
    is_deeply([grep { !$has{$_} } $parameters =~ /\@(\w+) =/g], [], '... with its parameters');
    my ($first) = $procedure->{body} =~ /^(?:  |  IF [^\n]*\n    )(SELECT .*?);/ms;
    is_deeply([grep { $first !~ /\b\Q$_\E\b(?= *(?:,|\n|\z))/ } ($columns // '') =~ /(\w+) =/g],
        [], '... and the columns of its answer')
        or diag $first;
}

my @kinds = slurp('src/directory/mssql_row.c') =~ /put_(?:kind|receipt)\(&?row, "(\w+)"\)/g;
push @kinds, slurp('src/directory/mssql_row.c') =~ /put_kind\(row, is_deleted \? "(\w+)" : "(\w+)"\)/;
cmp_ok(scalar @kinds, '>=', 6, 'the kinds of rows are found');
my $batch = $procedure{Parley_Write_Batch}{body};
my ($known) = $batch =~ /r\.Kind NOT IN \(([^)]*)\)\)\n +THROW/;
like($known, qr/'\Q$_\E'/, "a row of kind $_ is known")                    for @kinds;
like($batch, qr/r\.Kind (?:= '\Q$_\E'|IN \([^)]*'\Q$_\E')/, "$_ is applied") for $known =~ /'(\w+)'/g;

done_testing;
