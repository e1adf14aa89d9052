# Parley::Doc - the examples of doc/protocol.md, taken apart and compared.
#
#     for my $block (Parley::Doc->blocks($text)) {
#         $block->{line}, $block->{not_run}     # why, where it says so
#         for my $step ($block->{steps}->@*) {
#             $step->{user}, $step->{arrow}, $step->{json}, $step->{line}
#         }
#     }
#
# A block is a run of indented lines, of which one begins with an arrow: what
# the client of user 1 sends (→), the reply to it (←), an event that comes by
# itself (⇐). A number before the arrow is another user's client: "2→". A line
# without an arrow goes on with the one before. "<!-- not run: why -->" before a
# block takes it out.
#
# Ids and times of the page are not those of a run. The names that they have on
# the page are learned from replies and events, and given to the server in what
# is sent; the same id on the page must be the same id in the run.
package Parley::Doc;
use v5.36;
use utf8;

use Mojo::JSON qw(decode_json from_json);
use Mojo::Util qw(encode);

sub blocks ($class, $text) {
    my (@blocks, $block, $not_run);
    my $number = 0;
    for my $line (split /\n/, $text) {
        $number++;
        if ($line =~ /\A<!-- not run: (.*?) -->\z/) { $not_run = $1; next }
        if ($line =~ /\A    (\d*)([→←⇐]) (.*)\z/) {
            if (!$block) {
                $block = {line => $number, not_run => $not_run, steps => []};
                push @blocks, $block;
            }
            push $block->{steps}->@*, {user => $1 || 1, arrow => $2, text => $3, line => $number};
        }
        elsif ($block && $line =~ /\A    \s*(\S.*)\z/) {
            $block->{steps}[-1]{text} .= " $1";
        }
        else {
            undef $block;
            undef $not_run if $line ne '';
        }
    }
    for my $step (map { $_->{steps}->@* } @blocks) {
        $step->{json} = eval { from_json($step->{text}) }
            // die "line $step->{line}: not JSON: $@";
    }
    return @blocks;
}

sub new ($class) { return bless {real => {}}, $class }

# Is what stands under this key another one in each run?
sub _varies ($key) {
    return $key ne 'UserId'
        && $key =~ /(?:Id|Seq|UpTo|ReplyTo|Time|At|Seen|Since|Epoch|Before|After|Cursor|Expires|Duration|username|credential)\z/;
}

# As the page has it -> as this run has it.
sub sent ($self, $value, $key = '') {
    return {map { $_ => $self->sent($value->{$_}, $_) } keys %$value} if ref $value eq 'HASH';
    return [map { $self->sent($_, $key) } @$value]                   if ref $value eq 'ARRAY';
    return $value if !defined $value || ref $value || $key eq 'RequestId' || !_varies($key);
    return $self->{real}{$value} // $value;
}

# What differs between the page's and the run's, or nothing. Lists of the page
# may be shorter. What the page calls the ids is learned if all is the same.
sub differs ($self, $page, $run) {
    my %learned = $self->{real}->%*;
    my $what    = _differs($page, $run, '', \%learned);
    $self->{real} = \%learned if !defined $what;
    return $what;
}

sub _differs ($page, $run, $key, $learned) {
    return _object_differs($page, $run, $key, $learned) if ref $page eq 'HASH';
    if (ref $page eq 'ARRAY') {
        return "$key: no list" if ref $run ne 'ARRAY';
        my @left = @$run;
        ENTRY: for my $entry (@$page) {
            my $why = 'the list is shorter';
            for my $i (0 .. $#left) {
                my %trial = %$learned;
                $why = _differs($entry, $left[$i], $key, \%trial);
                next if defined $why;
                %$learned = %trial;
                splice @left, $i, 1;
                next ENTRY;
            }
            return "$key: $why";
        }
        return;
    }
    return if !defined $page && !defined $run;
    return if $key eq 'LastSeen';    # of one who never came it is null
    return "$key: null on one side" if !defined $page || !defined $run;
    return "$key: a list or an object" if ref $run && !Mojo::JSON::true->isa(ref $run);
    if ($key ne 'RequestId' && _varies($key)) {
        my $known = $learned->{$page} //= $run;
        return $known eq $run || $key =~ /(?:Time|At|Seen|Since|After|Duration|Expires|Cursor|Seq|credential)\z/
            ? undef
            : "$key: $page was $known and is $run";
    }
    ($page, $run) = map {s/\d+/N/gr} $page, $run if $key eq 'Message';    # seconds to wait
    return "$page" eq "$run" ? undef : "$key: '$page' on the page, '$run' in the run";
}

sub _object_differs ($page, $run, $key, $learned) {
    return "$key: no object" if ref $run ne 'HASH';
    my $keys = join ' ', sort keys %$page;
    my $have = join ' ', sort keys %$run;
    return "$key: fields ($keys) on the page, ($have) in the run" if $keys ne $have;
    for my $name (sort keys %$page) {
        my $why = _differs($page->{$name}, $run->{$name}, $name, $learned);
        return $why if defined $why;
    }
    return;
}

1;
