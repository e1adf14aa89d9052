# The disk of the store runs full to the last byte under load, again and again,
# with the guard that keeps some of it free and without: messages are refused,
# nothing else, and all goes on by itself when there is room. Needs root, for a
# small tmpfs of its own.
use v5.36;
use File::Temp;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::JSON qw(decode_json);
use Parley;
use Parley::Fault;
use Parley::Story;
use Test::More;

plan skip_all => 'needs root to mount a small tmpfs' if $> != 0;
my $folder = File::Temp->newdir('parley-full-XXXXXX', TMPDIR => 1);
plan skip_all => 'cannot mount a tmpfs'
    if system("mount -t tmpfs -o size=160m tmpfs $folder 2>/dev/null") != 0;
END { local $?; system "umount -l $folder" if defined $folder && -d "$folder/mounted" }
mkdir "$folder/mounted" or die "$folder/mounted: $!\n";
my $rounds = fault_rounds(1, 10);

my ($server, $alice, $bruno);
sub health () { return decode_json(($server->http_get('/health'))[1])->{status} }
sub presence_of ($client, $id) { return $client->expect_event('P_PRESENCE', 10, sub ($event) { $event->{UserId} == $id }) }

my $number = 0;
my @stored;

# One message with an id of its own, as often as it takes; its last reply.
sub send_until ($pattern) {
    my $reply;
    Parley::poll_until(30, sub {
        my $text = 'kept ' . ++$number;
        my $id   = "f-$number";
        $reply = send_text($alice, [2], $text, ClientMessageId => $id);
        push @stored, $text if $reply->{Reason} eq 'OK';
        return $reply->{Reason} =~ $pattern;
    });
    return $reply;
}

sub round ($name) {
    is(send_until(qr/\AOK\z/)->{Reason}, 'OK', "$name: messages are taken");
    my $message = $bruno->expect_event('P_MESSAGE', 10, sub ($event) { $event->{Message} eq $stored[-1] });
    system "cat /dev/zero > $folder/ballast 2>/dev/null";
    is(send_until(qr/\A(?!OK)/)->{Reason}, 'STORAGE_FULL', '... the disk is full, and they are refused');
    ok(Parley::poll_until(10, sub { health() =~ /degraded|failed/ }), '... /health says so');

    my $chris = $server->client(3);
    is($chris->session->{Reason}, 'OK', '... logins go on');
    is(presence_of($alice, 3)->{Status}, 'ONLINE', '... others are told');
    $bruno->send_command('P_ACK', Seq => $message->{Seq});
    is($bruno->request('P_MARK_READ', map { $_ => $message->{$_} } qw(ConversationId MessageId))->{Reason},
        'OK', '... so do acknowledgements and marks');
    is($alice->request($_, UserId => 3)->{Reason}, 'OK', "... and $_") for qw(P_BLOCK P_UNBLOCK);
    $chris->close;
    is(presence_of($alice, 3)->{Status}, 'OFFLINE', '... and goodbyes');

    unlink "$folder/ballast" or die "$folder/ballast: $!\n";
    is(send_until(qr/\AOK\z/)->{Reason}, 'OK', '... with room again messages are taken');
    ok(Parley::poll_until(20, sub { health() eq 'ok' }), '... and all is well');
    return;
}

for my $guard ([without => 0], [with => undef]) {
    my ($word, $min_free) = @$guard;
    $server = Parley->prepare(
        conf => {
            'server.data_dir'        => "$folder/$word",
            'store.map_size'         => '4G',
            'store.min_free'         => $min_free,
            'policy.presence_grace'  => '100ms',
        },
        allow_errors => [qr/ storage-state /, qr/ storage-room /, qr/ store-failed /],
    );
    $server->set('store.min_free' => undef) if !defined $min_free;
    $server->launch;
    $server->add_users(1 .. 3);    # contacts of each other
    ($alice, $bruno) = map { $server->client($_) } 1, 2;
    @stored = ();
    my $load = Parley::Fault->load($server);
    for my $n (1 .. $rounds) {
        round("$word a guard, round $n");
        ok($load->await_messages(200), '... the load, too');
    }
    $load->finish("$word a guard");
    my @history = $bruno->request('P_GET_MESSAGES', UserId => 1, Limit => 200)->{Messages}->@*;
    is_deeply([map { $_->{Message} } reverse @history],
        [@stored > 200 ? @stored[-200 .. -1] : @stored], '... the history is what was acknowledged');
    $server->finish;
    system "rm -rf $folder/$word";
}
done_testing;
