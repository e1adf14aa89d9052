# Parley::Clock - the wall clock of a server's processes, set by a story.
#
#     plan skip_all => 'libfaketime is missing' if !Parley::Clock->is_there;
#     my $clock  = Parley::Clock->new;
#     my $server = Parley->prepare(wrapper => [$clock->wrapper]);
#     $clock->set('+86400');    # a day ahead, from now on
#
# libfaketime reads the offset from a file each time a process asks for the
# time; the monotonic clock stays.
package Parley::Clock;
use v5.36;

use File::Temp;
use Parley;

my ($LIBRARY) = glob '/usr/lib/*/faketime/libfaketime.so.1 /usr/lib/faketime/libfaketime.so.1';

sub is_there ($class) { return $LIBRARY && -e $LIBRARY ? 1 : 0 }

sub new ($class) {
    my $self = bless {dir => File::Temp->newdir('parley-clock-XXXXXX', TMPDIR => 1)}, $class;
    $self->set('+0');
    return $self;
}

# Put before the command of the server.
sub wrapper ($self) {
    return (
        'env', "LD_PRELOAD=$LIBRARY", "FAKETIME_TIMESTAMP_FILE=$self->{dir}/now",
        'FAKETIME_NO_CACHE=1', 'DONT_FAKE_MONOTONIC=1', 'FAKETIME_DONT_FAKE_MONOTONIC=1',
    );
}

# Seconds ahead of the truth; all processes see it at once.
sub set ($self, $offset) {
    Parley::spew("$self->{dir}/next", "$offset\n");
    rename "$self->{dir}/next", "$self->{dir}/now" or die "rename: $!\n";
    return;
}

1;
