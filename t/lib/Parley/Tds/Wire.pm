# Parley::Tds::Wire - values and tokens of TDS 7.4 as bytes, [MS-TDS] 2.2.
#
#     my $reader = Parley::Tds::Wire->new($bytes);
#     my ($type, $value) = $reader->typed;          # of a parameter
#     my $bytes = Parley::Tds::Wire::result([['Id', 'bigint']], [[7]]);
#
# Texts are Perl's characters, times "2026-12-01T10:20:30.123", GUIDs their
# text in capitals, NULL is undef. What does not fit dies.
package Parley::Tds::Wire;
use v5.36;

use Encode qw(decode encode);
use Time::Local qw(timegm_modern);

use constant {
    DONE       => 0xfd,
    DONEPROC   => 0xfe,
    DONEINPROC => 0xff,
    MORE       => 0x01,    # status of DONE: something follows
    FAILED     => 0x02,
    COUNT      => 0x10,    # its number of rows is one
    ATTENTION  => 0x20,
};

my $COLLATION = pack 'C5', 0x09, 0x04, 0xd0, 0x00, 0x34;
my $PLP_NULL  = pack 'Q<', ~0;
my $DAYS      = 719_162;                                   # from 0001-01-01 to 1970-01-01

# --- reading ------------------------------------------------------------------

sub new ($class, $bytes) { return bless {bytes => $bytes, at => 0}, $class }
sub left ($self)         { return length($self->{bytes}) - $self->{at} }

sub bytes ($self, $count) {
    die "a message of TDS ends too early\n" if $count > $self->left;
    my $bytes = substr $self->{bytes}, $self->{at}, $count;
    $self->{at} += $count;
    return $bytes;
}

sub u8  ($self)         { return unpack 'C',  $self->bytes(1) }
sub u16 ($self)         { return unpack 'v',  $self->bytes(2) }
sub u32 ($self)         { return unpack 'V',  $self->bytes(4) }
sub u64 ($self)         { return unpack 'Q<', $self->bytes(8) }
sub text ($self, $chars) { return utf16($self->bytes(2 * $chars)) }

# Encode refuses what SQL Server takes: noncharacters (U+FFFF, U+10FFFF), and
# halves of characters. These go unit by unit.
sub utf16 ($bytes) {
    my $text = eval { decode('UTF-16LE', my $copy = $bytes, Encode::FB_CROAK) };
    return $text if defined $text;
    no warnings qw(surrogate nonchar);
    my @units = unpack 'v*', $bytes;
    $text = '';
    while (@units) {
        my $unit = shift @units;
        if (($unit & 0xfc00) == 0xd800 && @units && ($units[0] & 0xfc00) == 0xdc00) {
            $unit = 0x10000 + (($unit & 0x3ff) << 10) + ((shift @units) & 0x3ff);
        }
        $text .= chr $unit;
    }
    return $text;
}

sub _utf16_bytes ($text) {
    my $bytes = eval { encode('UTF-16LE', my $copy = $text, Encode::FB_CROAK) };
    return $bytes if defined $bytes;
    return pack 'v*', map { $_ < 0x10000 ? $_ : (0xd800 + (($_ - 0x10000) >> 10), 0xdc00 + (($_ - 0x10000) & 0x3ff)) }
        unpack 'W*', $text;
}

# A value in parts, of any length.
sub plp ($self) {
    my $bytes = '';
    my $total = $self->u64;
    return if $total == ~0;
    while (my $count = $self->u32) {
        $bytes .= $self->bytes($count);
    }
    return $bytes;
}

my %UNSIGNED = (1 => 'C', 2 => 's<', 4 => 'l<', 8 => 'q<');

sub _short ($self) {
    my $count = $self->u16;
    return $count == 0xffff ? undef : $self->bytes($count);
}

sub _long ($self) {
    my $count = $self->u32;
    return $count == 0xffff_ffff ? undef : $self->bytes($count);
}

# TYPE_INFO and value of a parameter: its type's number and what it says.
sub typed ($self) {
    my $type  = $self->u8;
    my $value = $self->_value($type);
    return ($type, $value);
}

sub _value ($self, $type) {
    if ($type == 0x26 || $type == 0x68 || $type == 0x6d || $type == 0x24) {    # INTN BITN FLTN GUID
        my $max   = $self->u8;
        my $count = $self->u8;
        die "a value is longer than its type\n" if $count > $max;
        return if $count == 0;
        my $bytes = $self->bytes($count);
        return guid_text($bytes) if $type == 0x24;
        return unpack $count == 8 ? 'd<' : 'f<', $bytes if $type == 0x6d;
        return unpack $UNSIGNED{$count} // die("a number of $count bytes\n"), $bytes;
    }
    if ($type == 0xe7 || $type == 0xef || $type == 0xa7 || $type == 0xaf) {    # texts, wide and narrow
        my $max = $self->u16;
        $self->bytes(5);
        my $bytes = $max == 0xffff ? $self->plp : $self->_short;
        return defined $bytes ? _characters($bytes, $type >= 0xe0) : undef;
    }
    if ($type == 0xa5 || $type == 0xad) {                                      # VARBINARY BINARY
        my $max = $self->u16;
        return $max == 0xffff ? $self->plp : $self->_short;
    }
    if ($type == 0x63 || $type == 0x23) {                                      # NTEXT TEXT
        $self->u32;
        $self->bytes(5);
        my $bytes = $self->_long;
        return defined $bytes ? _characters($bytes, $type == 0x63) : undef;
    }
    if ($type == 0x22) {                                                       # IMAGE
        $self->u32;
        return $self->_long;
    }
    die sprintf "type 0x%02x is none of ours\n", $type;
}

sub _characters ($bytes, $is_wide) {
    return $is_wide ? utf16($bytes) : decode('cp1252', $bytes);
}

sub guid_text ($bytes) {
    my @parts = unpack 'V v v n H12', $bytes;
    return sprintf '%08X-%04X-%04X-%04X-%s', @parts[0 .. 3], uc $parts[4];
}

# --- writing ------------------------------------------------------------------

# A text with its length in characters of UTF-16 before it.
sub name ($text, $size) {
    my $wide = _utf16_bytes($text);
    return pack($size, length($wide) / 2) . $wide;
}

sub plp_bytes ($bytes) {
    return pack('Q<', length $bytes) . ($bytes eq '' ? '' : pack 'V/a*', $bytes) . pack 'V', 0;
}

sub _number ($size, $pack) {
    return [
        pack('CC', 0x26, $size),
        sub ($value) { return defined $value ? pack("C$pack", $size, $value) : "\0" }
    ];
}

# "nvarchar", "nvarchar(20)": without a length MAX.
sub _text ($type, $encoding, $width, $length) {
    return [
        pack('Cv', $type, $length ? $length * $width : 0xffff) . $COLLATION,
        sub ($value) {
            return $length ? pack('v', 0xffff) : $PLP_NULL if !defined $value;
            my $bytes = $encoding eq 'UTF-16LE' ? _utf16_bytes($value) : encode($encoding, $value);
            return $length ? pack('v/a*', $bytes) : plp_bytes($bytes);
        }
    ];
}

sub _guid () {
    return [
        pack('CC', 0x24, 16),
        sub ($value) {
            return "\0" if !defined $value;
            my @parts = map { hex } (split /-/, $value)[0 .. 3];
            return pack 'C V v v n H12', 16, @parts, substr $value, -12;
        }
    ];
}

# DATETIME2(3): milliseconds of the day, and days, of three bytes.
sub _time () {
    return [
        pack('CC', 0x2a, 3),
        sub ($value) {
            return "\0" if !defined $value;
            my ($year, $month, $day, $hour, $minute, $second, $ms) =
                $value =~ /\A(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{3})\z/
                or die "'$value' is no time\n";
            my $days = timegm_modern(0, 0, 0, $day, $month - 1, $year) / 86400 + $DAYS;
            my $time = (($hour * 60 + $minute) * 60 + $second) * 1000 + $ms;
            return pack 'CVvC', 7, $time, $days & 0xffff, $days >> 16;
        }
    ];
}

sub _type ($name) {
    my ($base, $length) = $name =~ /\A(\w+)(?:\((\d+)\))?\z/ or die "no type: $name\n";
    return _number(8, 'q<') if $base eq 'bigint';
    return _number(4, 'l<') if $base eq 'int';
    return [pack('CC', 0x68, 1), sub ($bit) { return defined $bit ? pack('CC', 1, $bit ? 1 : 0) : "\0" }]
        if $base eq 'bit';
    return _text(0xe7, 'UTF-16LE', 2, $length) if $base eq 'nvarchar';
    return _text(0xa7, 'cp1252',   1, $length) if $base eq 'varchar';
    return _guid() if $base eq 'guid';
    return _time() if $base eq 'datetime2';
    die "no type: $name\n";
}

my %types;

sub columns ($columns) {
    my $bytes = pack 'Cv', 0x81, scalar @$columns;
    for my $column (@$columns) {
        my $type = $types{$column->[1]} //= _type($column->[1]);
        $bytes .= pack('Vv', 0, 0x09) . $type->[0] . name($column->[0], 'C');
    }
    return $bytes;
}

sub row ($columns, $row) {
    my $bytes = "\xd1";
    for my $at (0 .. $#$columns) {
        $bytes .= ($types{$columns->[$at][1]} //= _type($columns->[$at][1]))->[1]->($row->[$at]);
    }
    return $bytes;
}

# A whole result set, something behind it.
sub result ($columns, $rows, $token = DONEINPROC) {
    return join '', columns($columns), (map { row($columns, $_) } @$rows),
        done($token, COUNT | MORE, scalar @$rows);
}

sub done ($token, $status, $rows = 0) { return pack 'CvvQ<', $token, $status, 0, $rows }

sub error (%arg) {
    my $body = pack('lCC', $arg{number}, $arg{state} // 1, $arg{severity} // 16)
        . name($arg{text} // "error $arg{number}, and the data of a patient", 'v')
        . name('double', 'C')
        . name($arg{procedure} // '', 'C')
        . pack 'V', $arg{line} // 1;
    return pack 'Cv/a*', 0xaa, $body;
}

sub info ($number, $text) {
    my $body = pack('lCC', $number, 1, 0) . name($text, 'v') . name('double', 'C') . name('', 'C') . pack 'V', 1;
    return pack 'Cv/a*', 0xab, $body;
}

sub status ($value) { return pack 'Cl<', 0x79, $value }

# 1 database, 2 language, 4 packet size; 7 collation is of bytes.
sub change ($kind, $new, $old) {
    my $body = $kind == 7 ? pack('C', 7) . pack('C/a*', $COLLATION) . "\0" : pack('C', $kind) . name($new, 'C') . name($old, 'C');
    return pack 'Cv/a*', 0xe3, $body;
}

sub login_ack () {
    my $body = pack('CN', 1, 0x74000004) . name('Microsoft SQL Server', 'C') . pack 'C4', 15, 0, 0x10, 0;
    return pack 'Cv/a*', 0xad, $body;
}

1;
