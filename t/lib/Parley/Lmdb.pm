# Parley::Lmdb - which bytes of an LMDB file are in use, read without LMDB.
#
#     my $map = Parley::Lmdb->read($bytes);
#     $map->pages             # how many pages the file has
#     $map->kind($page)       # meta, branch, leaf, overflow; free: none of them
#     $map->spans             # [offset, length] of all keys and values of rows
#
# For stories that damage a store: they must know what they have hit. Layout of
# mdb.c: a page has 16 bytes of header (number, pad, flags, lower, upper), then
# offsets of nodes; a node has 8 bytes of header, its key and its value. The
# list of free pages (table 0) is not followed.
package Parley::Lmdb;
use v5.36;

my $PAGE = 4096;
my %FLAG = (branch => 1, leaf => 2, overflow => 4, meta => 8);
my ($BIGDATA, $SUBDATA) = (1, 2);

sub read ($class, $bytes) {
    my $self = bless {bytes => $bytes, kinds => {0 => 'meta', 1 => 'meta'}, spans => []}, $class;
    # The younger of the two meta pages: magic, version, address, size of the
    # map, two trees (48 bytes each, the second is that of the tables), last
    # page, transaction.
    my ($meta) = sort { $b->{txn} <=> $a->{txn} } map {
        my $at = $_ * $PAGE + 16;
        {root => unpack('Q', substr $bytes, $at + 24 + 48 + 40, 8), txn => unpack('Q', substr $bytes, $at + 24 + 96 + 8, 8)}
    } 0, 1;
    $self->_walk($meta->{root});
    return $self;
}

sub pages ($self)        { return length($self->{bytes}) / $PAGE }
sub kind  ($self, $page) { return $self->{kinds}{$page} // 'free' }
sub spans ($self)        { return $self->{spans} }

sub used ($self, @kinds) {
    my %wanted = map { $_ => 1 } @kinds;
    return sort { $a <=> $b } grep { $wanted{$self->{kinds}{$_}} } keys $self->{kinds}->%*;
}

sub _walk ($self, $page) {
    return if $page == ~0;
    my ($flags, $lower) = unpack 'x10 S S', substr $self->{bytes}, $page * $PAGE, 16;
    my $is_branch = $flags & $FLAG{branch};
    die "page $page is neither branch nor leaf\n" if !($flags & ($FLAG{branch} | $FLAG{leaf}));
    $self->{kinds}{$page} = $is_branch ? 'branch' : 'leaf';
    for my $i (0 .. ($lower - 16) / 2 - 1) {
        my $offset = unpack 'S', substr $self->{bytes}, $page * $PAGE + 16 + 2 * $i, 2;
        $self->_node($page * $PAGE + $offset, $is_branch);
    }
    return;
}

sub _node ($self, $at, $is_branch) {
    my ($low, $high, $flags, $key_len) = unpack 'S4', substr $self->{bytes}, $at, 8;
    if ($is_branch) {
        $self->_walk($low | $high << 16 | $flags << 32);
        return;
    }
    my $len   = $low | $high << 16;
    my $value = $at + 8 + $key_len;
    if ($flags & $SUBDATA) {
        $self->_walk(unpack 'Q', substr $self->{bytes}, $value + 40, 8);
    } elsif ($flags & $BIGDATA) {
        my $first = unpack 'Q', substr $self->{bytes}, $value, 8;
        my $count = unpack 'L', substr $self->{bytes}, $first * $PAGE + 12, 4;
        $self->{kinds}{$_} = 'overflow' for $first .. $first + $count - 1;
        push $self->{spans}->@*, [$at + 8, $key_len], [$first * $PAGE + 16, $len];
    } else {
        push $self->{spans}->@*, [$at + 8, $key_len + $len];
    }
    return;
}

1;
