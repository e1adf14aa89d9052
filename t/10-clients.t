# Two WebSocket clients that nobody here wrote, Perl's Mojo::UserAgent and
# Python's websockets, log in and talk to each other across two workers.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use utf8;
use Encode qw(decode encode);
use Parley;
use Parley::Story;
use Mojo::JSON qw(decode_json encode_json);
use Mojo::UserAgent;
use Test::More;

my ($python) = grep {
    system("$_ -c 'import websockets' >/dev/null 2>&1") == 0
} '/usr/bin/python3', 'python3';
plan skip_all => 'Python\'s websockets is not installed (python3-websockets)' if !$python;

my $server = Parley->start;
$server->add_users(1, 2);

# --- Perl: the library as it is ---------------------------------------------

my ($perl, @perl_got);
my $ua = Mojo::UserAgent->new(inactivity_timeout => 0);
$ua->websocket(
    $server->ws_url => ['parley.v1'] => sub ($ua, $tx) {
        $perl = $tx;
        $tx->on(json => sub ($tx, $message) { push @perl_got, $message }) if $tx->is_websocket;
    }
);
Parley::poll_until(10, sub {$perl});
ok($perl && $perl->is_websocket, 'Mojo::UserAgent connects');
is($perl->protocol, 'parley.v1', '... by the subprotocol');

sub perl_next ($matches) {
    return Parley::poll_until(10, sub {
        for my $i (0 .. $#perl_got) {
            return splice @perl_got, $i, 1 if $matches->($perl_got[$i]);
        }
        return;
    }) // die 'nothing in time: ' . encode_json(\@perl_got) . "\n";
}
sub perl_request (%fields) {
    $perl->send({json => \%fields});
    return perl_next(sub ($m) { ($m->{RequestId} // '') eq $fields{RequestId} });
}

my $login = perl_request(Command => 'P_AUTHENTICATE', RequestId => 'login',
    Token => $server->token(1), DeviceId => 'perl');
is($login->{Reason}, 'OK', '... and logs in');
my $perl_worker = session_worker($login);

# --- Python -----------------------------------------------------------------

sub session_worker ($login) {
    return worker_of($server, bless {session => $login}, 'Parley::Client');
}

package Python {
    use v5.36;

    sub start ($class, $url, $out) {
        my $pid = open my $in, '|-' // die "fork: $!\n";
        if (!$pid) {
            open STDOUT, '>', $out or POSIX::_exit(126);
            { no warnings 'exec'; exec $python, "$FindBin::Bin/lib/other_client.py", $url }
            POSIX::_exit(127);
        }
        $in->autoflush(1);
        return bless {pid => $pid, in => $in, out => $out, seen => 0}, $class;
    }

    sub order ($self, $order, $text = '') {
        print {$self->{in}} "$order $text\n";
        return;
    }

    # The first line from here on that matches; what follows the word.
    sub expect ($self, $word, $matches = sub ($text) {1}) {
        return Parley::poll_until(10, sub {
            # Whole lines only: Python may write one in pieces (PYTHONUNBUFFERED).
            my @lines = Parley::slurp($self->{out}) =~ /(.*)\n/g;
            while ($self->{seen} < @lines) {
                my ($found, $text) = split / /, $lines[$self->{seen}++], 2;
                return $text // ' ' if $found eq $word && $matches->($text // '');
            }
            return;
        }) // die "no \"$word\" in time:\n" . Parley::slurp($self->{out});
    }

    sub request ($self, $order, %fields) {
        $self->order($order, Mojo::JSON::encode_json(\%fields));
        return Mojo::JSON::decode_json(
            $self->expect(text => sub ($text) { $text =~ /"RequestId":"\Q$fields{RequestId}\E"/ }));
    }

    sub end ($self) {
        $self->order('close');
        my $text = $self->expect('close');
        close $self->{in};
        return $text;
    }
}

my ($py, $tries);
while (!$py) {
    die "100 connections and none on another worker\n" if ++$tries > 100;
    $py    = Python->start($server->ws_url, $server->dir . "/python-$tries");
    is($py->expect('open'), 'parley.v1', 'websockets connects by the subprotocol') if $tries == 1;
    $login = $py->request('send', Command => 'P_AUTHENTICATE', RequestId => 'login',
        Token => $server->token(2), DeviceId => 'python');
    is($login->{Reason}, 'OK', '... and logs in') if $tries == 1;
    if (session_worker($login) eq $perl_worker) {
        $py->end;
        undef $py;
    }
}
isnt(session_worker($login), $perl_worker, 'it is on another worker');
is_deeply([map { $_->{UserId} } $login->{Users}->@*], [1], '... and sees the other one');

# --- they talk --------------------------------------------------------------

my $text = 'Grüße aus Perl 🐪';
my $reply = perl_request(Command => 'P_SEND_MESSAGE', RequestId => 'one', ToUserList => [2],
    Message => $text, ClientMessageId => 'p-1');
is($reply->{Reason}, 'OK', 'Perl writes');
my $event = decode_json($py->expect(text => sub ($t) { $t =~ /P_MESSAGE/ }));
is($event->{Message},   $text,              '... Python reads it');
is($event->{MessageId}, $reply->{MessageId}, '... with the id that Perl was told');
$py->order(send => encode_json({Command => 'P_ACK', Seq => $event->{Seq}}));
my $receipt = perl_next(sub ($m) { $m->{Command} eq 'P_RECEIPT' });
is($receipt->{DeliveredUpTo}, $reply->{MessageId}, '... Perl learns that it has arrived');

$text  = 'viele Grüße zurück, in Stücken 🐍';
$reply = $py->request('fragments', Command => 'P_SEND_MESSAGE', RequestId => 'two',
    ToUserList => [1], Message => $text, ClientMessageId => 'y-1');
is($reply->{Reason}, 'OK', 'Python answers in fragments');
$event = perl_next(sub ($m) { $m->{Command} eq 'P_MESSAGE' });
is($event->{Message},        $text,                   '... Perl reads it whole');
is($event->{ConversationId}, $reply->{ConversationId}, '... in the same conversation');

my $large = 'ß' x 32768;
$reply = $py->request('send', Command => 'P_SEND_MESSAGE', RequestId => 'three',
    ToUserList => [1], Message => $large, ClientMessageId => 'y-2');
is($reply->{Reason}, 'OK', 'Python sends 64 KiB');
$event = perl_next(sub ($m) { $m->{Command} eq 'P_MESSAGE' });
ok($event->{Message} eq $large, '... Perl reads them');

for my $n (1 .. 50) {
    $perl->send({json => {Command => 'P_SEND_MESSAGE', RequestId => "b-$n", ToUserList => [2],
        Message => "burst $n", ClientMessageId => "b-$n"}});
}
my @burst = map { decode_json($py->expect(text => sub ($t) { $t =~ /"P_MESSAGE"/ })) } 1 .. 50;
is_deeply([map { $_->{Message} } @burst], [map {"burst $_"} 1 .. 50], 'fifty at once come in order');
is_deeply([map { perl_next(sub ($m) { ($m->{RequestId} // '') eq "b-$_" })->{Reason} } 1 .. 50],
    [('OK') x 50], '... each was answered');

$py->order('ping');
is($py->expect('pong'), ' ', 'a ping is answered');
is($py->end, '1000 ', 'Python says goodbye: close 1000');

$perl->send({json => {Command => 'P_LOGOUT', RequestId => 'bye'}});
is(perl_next(sub ($m) { ($m->{RequestId} // '') eq 'bye' })->{Reason}, 'OK', 'Perl logs out');
ok(Parley::poll_until(10, sub { $perl->is_finished }), '... and the server closes');

$server->finish;
done_testing;
