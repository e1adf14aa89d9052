# Parley::Tds::Values - a value into the type that was declared for it.
#
# As SQL Server converts parameters and what OPENJSON finds: with its errors.
package Parley::Tds::Values;
use v5.36;
use Exporter qw(import);
use Parley::Tds::Refusal qw(refuse);
our @EXPORT_OK = qw(convert utf16_length);

my $GUID = qr/\A\{?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?\z/i;
my $TIME = qr/\A(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,7}))?)?\z/;
my @DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31);

# Units of 16 bits.
sub utf16_length ($text) { return length($text) + ($text =~ tr/\x{10000}-\x{10ffff}//) }

sub _integer ($value, $least, $most) {
    return 0 + $value if $value =~ /\A[1-9]\d{0,8}\z/ || ($most > 2_147_483_647 && $value =~ /\A[1-9]\d{0,17}\z/);
    my ($sign, $digits) = "$value" =~ /\A\s*([-+]?)0*(\d+)\s*\z/ or refuse(number => 8114);
    refuse(number => 8115) if length $digits > 19 || (length $digits == 19 && $digits gt '9223372036854775807');
    my $number = $sign eq '-' ? -$digits : 0 + $digits;
    refuse(number => 8115) if $number < $least || $number > $most;
    return $number;
}

my %days;    # that were seen: there are few

sub _time ($value) {
    return $value if length $value == 23 && $days{substr $value, 0, 11} && $value =~ /T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}\z/;
    my ($year, $month, $day, $hour, $minute, $second, $part) = $value =~ $TIME or refuse(number => 241);
    refuse(number => 241)
        if $year < 1 || $month < 1 || $month > 12 || $day < 1 || $day > $DAYS[$month - 1]
        || ($month == 2 && $day == 29 && ($year % 4 || ($year % 100 == 0 && $year % 400)))
        || ($hour // 0) > 23 || ($minute // 0) > 59 || ($second // 0) > 59;
    %days = () if keys %days > 1000;
    $days{"$year-$month-${day}T"} = 1;
    return sprintf '%s-%s-%sT%s:%s:%s.%s', $year, $month, $day, map({ $_ // '00' } $hour, $minute, $second),
        substr(($part // '') . '000', 0, 3);
}

# type: "bigint", "nvarchar", "nvarchar(40)", ... as Schema.pm has them. What
# is too long for a parameter is cut without a word, as it is there.
sub convert ($type, $value) {
    return undef if !defined $value;    # also in a list
    return _integer($value, -9_223_372_036_854_775_807 - 1, 9_223_372_036_854_775_807) if $type eq 'bigint';
    return _integer($value, -2_147_483_648, 2_147_483_647) if $type eq 'int';
    return $value ? 1 : 0 if $type eq 'bit';
    return _time($value)  if $type eq 'datetime2';
    if ($type eq 'guid') {
        refuse(number => 8169) if $value !~ $GUID;
        return uc $value =~ tr/{}//dr;
    }
    my ($length) = $type =~ /\((\d+)\)\z/;
    chop $value while $length && length $value > $length / 2 && utf16_length($value) > $length;
    return "$value";
}

1;
