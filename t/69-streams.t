# Workers, holders and the keeper are killed at any moment, several at once,
# while plain clients talk: what each of them gets is its own stream, frame by
# frame, and nobody is told that he was replaced.
#
# The clients here are bytes on sockets: they look at each frame, and come back
# at once when they are disconnected, while a login that died with its worker
# may still lie in a ring.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Select;
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Fault;
use Parley::Raw;
use Parley::Story;
use Test::More;

my $CLIENTS = 24;    # every other one sends
my $rounds  = fault_rounds(12, 300);
my $server  = Parley->start(tls => 0, conf => {
    'server.workers'           => 2,
    'auth.auto_provision'      => 'yes',
    'policy.may_message'       => 'anyone',
    'supervisor.max_restarts'  => 1_000_000,
    'supervisor.restart_delay' => '1ms',
});

my (%sent, %got);    # "from to" => how many
my @wrong;
my %count = (connections => 0, acknowledged => 0, arrived => 0);
my $is_sending = 1;

sub wrong ($client, $what) { push @wrong, "client $client->{id}: $what"; return }

my @clients = map { {id => $_, token => $server->token($_), unanswered => [], is_down => 1} } 1 .. $CLIENTS;

# --- what goes out ----------------------------------------------------------

sub put ($client, $opcode, $payload) {
    $client->{out} .= Parley::Raw->frame($opcode, $payload, mask => pack 'N', int rand 2**32);
    return;
}

sub ask ($client, $command, %fields) {
    my $id = "$client->{id}-" . ++$client->{requests};
    $client->{asked}{$id} = 1;
    put($client, 1, encode_json({Command => $command, RequestId => $id, %fields}));
    return $id;
}

sub put_send ($client, $send) {
    $send->{request} = ask($client, 'P_SEND_MESSAGE', ToUserList => [$send->{to}],
        Message => $send->{text}, ClientMessageId => $send->{text} =~ s/ x*\z//r);
    return;
}

sub say_something ($client) {
    my $to = 1 + ($client->{id} + int rand($CLIENTS - 1)) % $CLIENTS;
    my $n  = ++$sent{"$client->{id} $to"};
    push $client->{unanswered}->@*,
        {to => $to, text => "$client->{id} $to $n " . 'x' x (rand() < 0.05 ? rand 60_000 : rand 200)};
    put_send($client, $client->{unanswered}[-1]);
    return;
}

# --- what comes in ----------------------------------------------------------

sub take_seq ($client, $seq) {
    wrong($client, "Seq $seq after $client->{seq}") if $seq != $client->{seq} + 1;
    $client->{seq} = $seq;
    return;
}

sub take_reply ($client, $reply) {
    my $id = $reply->{RequestId} // '';
    return wrong($client, "a reply to $id") if !delete $client->{asked}{$id};
    if ($reply->{Command} eq 'P_AUTHENTICATE') {
        return disconnect($client) if $reply->{Reason} =~ /\A(?:UNAVAILABLE|SERVER_ERROR)\z/;
        wrong($client, "the login of $reply->{UserId}") if $reply->{UserId} != $client->{id};
        wrong($client, 'a hole')                        if !$reply->{Recovered};
        $client->{seq} //= $reply->{LastSeq};
        $client->{is_ready} = 1;
        put_send($client, $_) for $client->{unanswered}->@*;
    } elsif ($reply->{Command} eq 'P_SEND_MESSAGE') {
        return disconnect($client) if $reply->{Reason} !~ /\A(?:OK|DUPLICATE)\z/;
        my $send = shift $client->{unanswered}->@*;
        wrong($client, "no reply to $send->{request}, but to $id") if $send->{request} ne $id;
        take_seq($client, $reply->{Seq})                           if defined $reply->{Seq};
        $count{acknowledged}++;
    }
    return;
}

sub take_text ($client, $text) {
    my $message = eval { decode_json($text) } // return wrong($client, 'no JSON: ' . substr $text, 0, 60);
    if ($message->{Command} eq 'P_CLOSE') {
        wrong($client, "P_CLOSE $message->{Reason}") if $message->{Reason} ne 'RECONNECT';
    } elsif (exists $message->{Reason}) {
        take_reply($client, $message);
    } elsif ($message->{Command} eq 'P_MESSAGE') {
        take_seq($client, $message->{Seq});
        my ($from, $to, $n) = split / /, $message->{Message};
        wrong($client, "a message from $from to $to") if $to != $client->{id} || $from != $message->{FromUser}{UserId};
        wrong($client, "$n of $from after " . ($got{"$from $to"} // 0)) if $n != ++$got{"$from $to"};
        $count{arrived}++;
        put($client, 1, encode_json({Command => 'P_ACK', Seq => $message->{Seq}})) if rand() < 0.2;
    }
    return;
}

sub take_frame ($client, $opcode, $payload) {
    wrong($client, "opcode $opcode after a close frame") if $client->{is_closing};
    return take_text($client, $payload) if $opcode == 1;
    return put($client, 10, $payload)   if $opcode == 9;
    return wrong($client, "opcode $opcode") if $opcode != 8;
    my $code = length $payload < 2 ? 1005 : unpack 'n', $payload;
    wrong($client, "close $code") if $code != 1012;
    $client->{is_closing} = 1;
    put($client, 8, $payload);
    return;
}

# Whole frames of what has come; a half one at the end of a connection is no
# frame.
sub take_bytes ($client) {
    while (!$client->{is_down} && length $client->{in} >= 2) {
        my ($first, $length) = unpack 'CC', $client->{in};
        my $head = $length < 126 ? 2 : $length == 126 ? 4 : 10;
        return if length $client->{in} < $head;
        $length = unpack $head == 4 ? 'x2n' : 'x2Q>', $client->{in} if $head > 2;
        return if length $client->{in} < $head + $length;
        my (undef, $payload) = (substr($client->{in}, 0, $head, ''), substr($client->{in}, 0, $length, ''));
        wrong($client, sprintf 'a frame that begins with %02x', $first) if ($first & 0xf0) != 0x80;
        take_frame($client, $first & 0x0f, $payload);
    }
    return;
}

# --- connections ------------------------------------------------------------

sub disconnect ($client) {
    $client->{raw}->close;
    $client->{is_down} = 1;
    return;
}

# Again in the next turn when there is nobody to answer.
sub come_back ($client) {
    my $raw = eval { Parley::Raw->connect($server->address) } // return;
    eval { $raw->upgrade; 1 } or return $raw->close;
    $raw->{socket}->blocking(0);
    $client->@{qw(raw in out asked is_down is_ready is_closing)} = ($raw, $raw->{buffer}, '', {}, 0, 0, 0);
    ask($client, 'P_AUTHENTICATE', Token => $client->{token}, DeviceId => "device-$client->{id}",
        (defined $client->{seq} ? (LastSeq => $client->{seq}) : ()));
    $count{connections}++;
    return;
}

sub speak ($client) {
    return if !$client->{is_ready} || $client->{is_closing};
    say_something($client) if $is_sending && $client->{id} % 2 && $client->{unanswered}->@* < 4;
    put($client, 1, encode_json({Command => 'P_ACK', Seq => $client->{seq}})) if rand() < 0.02;
    return;
}

# A turn of all clients.
sub turn () {
    $_->{is_down} ? come_back($_) : speak($_) for @clients;
    my %of     = map { $_->{raw}{socket} => $_ } grep { !$_->{is_down} } @clients;
    my $select = IO::Select->new(map { $_->{raw}{socket} } values %of);
    for my $client (values %of) {
        # by pieces, so that many frames are cut in two by a kill
        my $piece = substr $client->{out}, 0, rand() < 0.2 ? 1 + rand 40 : 65_536;
        my $wrote = length $piece ? syswrite $client->{raw}{socket}, $piece : 0;
        substr $client->{out}, 0, $wrote // 0, '';
    }
    for my $socket ($select->can_read(0.01)) {
        my $client = $of{$socket};
        my $read   = sysread $socket, $client->{in}, 65_536, length $client->{in};
        next if !defined $read && $!{EAGAIN};
        take_bytes($client);
        disconnect($client) if !$read && !$client->{is_down};
    }
    return;
}

sub run_for ($seconds) {
    my $until = now() + $seconds;
    turn() while now() < $until;
    return;
}

sub await ($seconds, $check) {
    my $until = now() + Parley::scaled($seconds);
    while (now() < $until) {
        return 1 if $check->();
        turn();
    }
    return 0;
}

# --- the story --------------------------------------------------------------

# By /proc: parleyctl would take longer than some of them live.
sub pid_of ($name) {
    my $parent = $server->pid;
    for my $pid (split ' ', Parley::slurp("/proc/$parent/task/$parent/children")) {
        return $pid if Parley::slurp("/proc/$pid/comm") eq "$name\n";
    }
    return;
}

sub hit ($signal, @names) {
    for my $name (@names) {
        my $pid = pid_of($name) // next;
        kill $signal => $pid;
    }
    return;
}

my @hits = (
    sub ($n) { hit(KILL => "worker-$n") },
    sub ($n) { hit(KILL => "worker-$n", 'keeper') },
    sub ($n) { hit(KILL => "worker-$n"); run_for(rand 0.03); hit(KILL => "worker-$n") },
    sub ($n) { hit(KILL => "holder-$n"); run_for(rand 0.3); hit(KILL => "worker-$n") },
    # logins that die in a ring, and later ones in another
    sub ($n) {
        hit(STOP => 'keeper');
        hit(KILL => 'worker-0', 'worker-1');
        run_for(0.2);
        hit(KILL => 'worker-1');
        run_for(0.2);
        hit(CONT => 'keeper');
    },
    sub ($n) { hit(STOP => "holder-$n"); hit(KILL => "worker-$n"); run_for(rand 0.2); hit(CONT => "holder-$n") },
    sub ($n) { hit(KILL => "worker-$n", "holder-$n") },
    sub ($n) { hit(STOP => "worker-$n"); run_for(rand 0.1); hit(KILL => "worker-$n") },
);

ok(await(20, sub { !grep { !$_->{is_ready} } @clients }), "$CLIENTS clients");
for my $round (1 .. $rounds) {
    run_for(0.1 + rand 0.2);
    $hits[$round % @hits]->(int rand 2);
}
$is_sending = 0;
ok(await(30, sub { !grep { $_->{is_down} || !$_->{is_ready} || $_->{unanswered}->@* } @clients }),
    "$rounds kills later all is answered");
ok(await(30, sub { !grep { ($got{$_} // 0) < $sent{$_} } keys %sent }), '... and has arrived');
is_deeply(\@wrong, [], '... each frame, Seq and text where it belongs')
    or diag(join "\n", @wrong > 20 ? @wrong[0 .. 19] : @wrong);
cmp_ok($count{arrived}, '>', 10 * $rounds, "... $count{arrived} messages over $count{connections} connections");
my $held = sub ($n) { $server->metric('parley_held_connections', process => "holder-$n") // -1 };
ok(await(20, sub { $held->(0) + $held->(1) == $CLIENTS }), '... which the holders have, and no other');
disconnect($_) for @clients;
ok(Parley::poll_until(20, sub { $held->(0) + $held->(1) == 0 }), '... until they are closed');

$server->finish;
done_testing;
