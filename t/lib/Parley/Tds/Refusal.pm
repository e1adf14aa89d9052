# Parley::Tds::Refusal - an error of SQL Server, thrown.
package Parley::Tds::Refusal;
use v5.36;
use Exporter qw(import);
our @EXPORT_OK = qw(refuse);

# Arguments: number => of sys.messages; severity, line, text.
sub refuse (%arg) {
    die bless {severity => 16, line => 1, %arg}, __PACKAGE__;
}

# What SQLite says, as SQL Server would.
sub of_sqlite ($class, $error) {
    my $number =
          $error =~ /UNIQUE constraint failed/        ? 2627
        : $error =~ /NOT NULL constraint failed/      ? 515
        : $error =~ /CHECK constraint failed: Length/ ? 2628
        : $error =~ /CHECK constraint failed/         ? 547
        : $error =~ /no such table/                   ? 208
        : $error =~ /no such column/                  ? 207
        : $error =~ /syntax error|incomplete input/   ? 102
        :                                               50000;
    return bless {severity => 16, line => 1, number => $number, text => $error}, $class;
}

1;
