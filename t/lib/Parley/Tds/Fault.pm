# Parley::Tds::Fault - what the double does wrong, and when.
#
#     $faults->add({at => 'Parley_Write_Batch', what => 'lose_reply', times => 1});
#
# at     a procedure, "*" for all of them, or a step: prelogin, login
# what   slow (ms)        that much slower
#        hang             no answer; is_deaf: nor to an attention
#        hold             no execution until "release"
#        reset            the connection is reset before it is executed
#        error (number, severity)   instead of it; at login: refused with number
#        lose_reply       executed, then the connection is reset
#        hang_after       executed, and no answer
#        hold_after       executed, the answer waits for "release"
#        cut (part)       this part of the answer's bytes, then the end
#        garbage          bytes that mean nothing
#        status (number)  the procedure returns that
#        extra_result     another result set comes first
#        nulls, wrong_types, no_rows   what the rows are like
#        liar             of numbers one more than it should be
#        downgrade        at prelogin: "only the login is to be encrypted"
# skip   so many are let through first; times: so many are hit (without: all)
package Parley::Tds::Fault;
use v5.36;

sub new ($class) { return bless {list => [], done => {}}, $class }

sub add ($self, $fault) {
    push $self->{list}->@*, {skip => 0, times => -1, %$fault};
    return;
}

sub clear ($self) { $self->{list} = []; return }
sub done ($self)  { return $self->{done} }

# The first that is to happen now. kinds: only these; none: any.
sub take ($self, $at, @kinds) {
    for my $fault ($self->{list}->@*) {
        next if $fault->{times} == 0 || ($fault->{at} ne $at && !($fault->{at} eq '*' && !@kinds));
        next if @kinds && !grep { $_ eq $fault->{what} } @kinds;
        if ($fault->{skip} > 0) {
            $fault->{skip}--;
            next;
        }
        $fault->{times}-- if $fault->{times} > 0;
        $self->{done}{$fault->{what}}++;
        return $fault;
    }
    return;
}

# Result sets as they should not be.
sub spoil ($results, $what) {
    my ($result) = grep { $_->{columns} } @$results or return;
    if ($what eq 'extra_result') {
        unshift @$results, {columns => [['Surprise', 'nvarchar(20)']], rows => [['secret of a patient']]};
    }
    elsif ($what eq 'no_rows') { $result->{rows} = [] }
    elsif ($what eq 'nulls')   { $result->{rows} = [map { [map {undef} @$_] } $result->{rows}->@*] }
    elsif ($what eq 'liar') {
        $result->{rows} = [map { [map { defined && /\A\d+\z/ ? $_ + 1 : $_ } @$_] } $result->{rows}->@*];
    }
    elsif ($what eq 'wrong_types') {
        my @is_text = map { $_->[1] =~ /char/ ? 1 : 0 } $result->{columns}->@*;
        $result->{columns} = [map { [$_->[0], $_->[1] =~ /char/ ? 'bigint' : 'nvarchar'] } $result->{columns}->@*];
        $result->{rows} = [map { my $row = $_; [map { $is_text[$_] ? 7 : "no number" } 0 .. $#$row] }
                $result->{rows}->@*];
    }
    return;
}

1;
