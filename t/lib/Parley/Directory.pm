# Parley::Directory - what holds of every back end of the directory.
#
#     my $directory = Parley::Directory->new(
#         server => $server, name => sub ($id) {...}, password => sub ($id) {...});
#     $directory->passwords; $directory->changes; $directory->hangs;
#
# Users 1 to 3 are there, each in the lists of the others; name and password are
# what user $id logs in with; nobody has the id 99. [directory] request_timeout
# is 300 ms and no limit is on attempts.
package Parley::Directory;
use v5.36;
use utf8;

use Parley::Story;
use Test::More;

sub new ($class, %arg) { return bless {%arg}, $class }

sub login ($self, $client, $name, $password) {
    return $client->request('P_AUTHENTICATE', UserName => $name, Password => $password, DeviceId => 'by-password');
}

# scrypt takes its time, more so on a busy machine: "not now" is an answer too.
sub login_patiently ($self, @arg) {
    my $reply;
    Parley::poll_until(20, sub { ($reply = $self->login(@arg))->{Reason} ne 'UNAVAILABLE' });
    return $reply;
}

sub credentials ($self, $id) { return ($self->{name}->($id), $self->{password}->($id)) }

# Who he is. @return user 1's client, logged in by password, and his reply
sub passwords ($self) {
    my $server = $self->{server};
    my $client = $server->connect;
    my ($name, $password) = $self->credentials(1);
    my $wrong  = $self->login_patiently($client, $name, 'not-it');
    is($wrong->{Reason}, 'AUTH_FAILED', 'a wrong password is refused');
    my $nobody = $self->login_patiently($client, $self->{name}->(99), $password);
    delete @$_{qw(RequestId)} for $wrong, $nobody;
    is_deeply($nobody, $wrong, '... exactly like a user who does not exist');
    my $reply = $self->login_patiently($client, $name, $password);
    is($reply->{Reason}, 'OK', 'the right one is taken, on the same connection');
    is_deeply([@$reply{qw(UserId Name)}], [1, 'User 1'], '... for its user');
    is_deeply([map { $_->{UserId} } $reply->{Users}->@*], [2, 3], '... with the list');
    return ($client, $reply);
}

# What users change of themselves is seen by the others at once, on every worker.
# $alice is user 1, $carla user 3, on another worker.
sub changes ($self, $alice, $carla) {
    my %profile = (Title => 'Dr. phil.', Languages => ['de', 'fr'], About => '🌿');
    is($carla->request('P_UPDATE_USER', Name => 'Carla Müller', Profile => \%profile)->{Reason},
        'OK', 'a user changes name and profile');
    my $user = $alice->request('P_GET_USER', UserId => 3)->{User};
    is($user->{Name}, 'Carla Müller', '... which the others see at once');
    is_deeply($user->{Profile}, \%profile, '... all of it');
    is(user_in($alice->request('P_GET_ALL_USER', Refresh => \1)->{Users}, 3)->{Name}, 'Carla Müller', '... in lists, too');
    send_text($carla, [1], 'this is my new name');
    is((take_messages($alice, 1))[0]{FromUser}{Name}, 'Carla Müller', '... and on what comes from there');
    is($carla->request('P_UPDATE_USER', Profile => {})->{Reason}, 'OK', 'a profile may be emptied');
    is_deeply($alice->request('P_GET_USER', UserId => 3)->{User}{Profile}, {}, '... and is');
    is($alice->request('P_GET_USER', UserId => 3)->{User}{Name}, 'Carla Müller', '... the name stays');
    is($alice->request('P_GET_USER', UserId => 99)->{Reason}, 'NOT_FOUND', 'nobody is nobody');

    # Both ways between two workers: the first question after the reply knows.
    my (@took, @late);
    for my $n (1 .. 40) {
        my ($changed, $asks, $id) = $n % 2 ? ($carla, $alice, 3) : ($alice, $carla, 1);
        $changed->request('P_UPDATE_USER', Name => "Name $n");
        my $at  = now();
        my $one = $asks->request('P_GET_USER', UserId => $id)->{User}{Name};
        push @took, now() - $at;
        my $list = user_in($asks->request('P_GET_ALL_USER')->{Users}, $id)->{Name};
        push @late, "$n: $one, $list" if $one ne "Name $n" || $list ne "Name $n";
    }
    is_deeply(\@late, [], '40 new names are seen on the other worker at the first question');
    cmp_ok((sort { $a <=> $b } @took)[-1], '<', Parley::scaled(0.1), '... within 100 ms after the reply');
    note 'the slowest ' . int((sort { $a <=> $b } @took)[-1] * 1000) . ' ms';
    return;
}

# Who blocks somebody is seen by him no more.
sub blocks ($self, $alice, $carla) {
    is($carla->request('P_BLOCK', UserId => 1)->{Reason}, 'OK', 'somebody blocks another one');
    is($alice->request('P_GET_USER', UserId => 3)->{Reason}, 'NOT_FOUND', '... and does not exist for him, at once');
    is(user_in($alice->request('P_GET_ALL_USER')->{Users}, 3), undef, '... in lists, too');
    is($carla->request('P_UNBLOCK', UserId => 1)->{Reason}, 'OK', '... until the block ends');
    is($alice->request('P_GET_USER', UserId => 3)->{Reason}, 'OK', '... and he is there again');
    return;
}

# It hangs: nobody waits for long, what needs it is UNAVAILABLE, all else goes on.
sub hangs ($self, $alice, $carla) {
    my $server = $self->{server};
    my $pid    = $server->pids->{directory};
    my ($name, $password) = $self->credentials(1);
    kill STOP => $pid;
    my $started = now();
    my $waiting = $server->connect;
    my $reply   = $self->login($waiting, $name, $password);
    is($reply->{Reason}, 'UNAVAILABLE', 'a password login is answered while the directory hangs');
    cmp_ok($reply->{RetryAfter}, '>', 0, '... with a time to come back');
    cmp_ok(now() - $started, '<', Parley::scaled(5), '... soon');
    $reply = $alice->request('P_GET_ALL_USER');
    is($reply->{Reason}, 'UNAVAILABLE', 'so is the list');
    cmp_ok($reply->{RetryAfter}, '>', 0, '... with a time to ask again');
    is($alice->request('P_GET_USER', UserId => 99)->{Reason},
        'UNAVAILABLE', 'nobody is said not to exist without its word');
    my $new = $server->client(3, DeviceId => 'new');
    is_deeply([grep { $_ == 1 } map { $_->{UserId} } $new->session->{Users}->@*], [1], 'token logins go on, with the list');
    is(send_text($alice, [3], 'messages go on')->{Reason}, 'OK', 'messages go on');
    is((take_messages($_, 1))[0]{Message}, 'messages go on', '... and arrive') for $carla, $new;
    kill CONT => $pid;
    is($self->login_patiently($waiting, $name, $password)->{Reason}, 'OK', 'it goes on: password logins do, too');
    is(Parley::poll_until(10, sub {
        my $reply = $waiting->request('P_GET_ALL_USER');
        $reply->{Reason} eq 'OK' && scalar $reply->{Users}->@* ? 1 : 0;
    }), 1, '... and lists');
    is($server->pids->{directory}, $pid, '... and it is the same process');
    cmp_ok($server->metric('parley_directory_unavailable_total'), '>=', 3, 'what was refused is counted');
    return;
}

1;
