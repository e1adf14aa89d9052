# doc/protocol.md says what the server does: the table of commands is that of
# commands.def, every reason and close code is in it, and every example is
# executed, in the order of the page.
use v5.36;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";
use Mojo::Util qw(decode);
use Parley;
use Parley::Doc;
use Test::More;

binmode $_, ':encoding(UTF-8)' for Test::More->builder->output, Test::More->builder->failure_output;

my $source = Parley::source_dir();
my $page   = decode('UTF-8', Parley::slurp("$source/doc/protocol.md"));

# --- the tables -------------------------------------------------------------

my $made = decode('UTF-8', scalar qx(awk -f '$source/doc/commands.awk' '$source/src/worker/commands.def'));
my ($table) = $page =~ /<!-- commands\.def: .*?-->\n(.*?)<!-- end -->/s;
is($table, $made, 'the table of commands is that of commands.def (make protocol-table writes it)');

my @commands = Parley::slurp("$source/src/worker/commands.def") =~ /^COMMAND\((\w+)/mg;
for my $command (@commands) {
    like($page, qr/^### `$command`/m, "$command has a section");
}
my %reasons = map { $_ => 1 } Parley::slurp("$source/src/base/err.def") =~ /^ERR\(\w+, "(\w+)"/mg;
like($page, qr/^\| `$_` \|/m, "$_ is in the table of reasons") for 'OK', sort keys %reasons;
my %closes = map { $_ => 1 } map { Parley::slurp($_) =~ /"([A-Z_]+)", (1012|400\d),/g } glob "$source/src/worker/*.c";
for my $close (grep {/\A[A-Z]/} sort keys %closes) {
    like($page, qr/^\| `$close` \| \d+ \|/m, "$close is in the table of P_CLOSE");
}

# --- the examples -----------------------------------------------------------

my $server = Parley->start(
    conf => {
        'policy.presence_grace' => '100ms',
        'ice.stun_urls'         => 'stun:turn.example.org:3478',
        'ice.turn_urls'         => 'turn:turn.example.org:3478?transport=udp',
        'ice.turn_secret'       => 'a secret of the page',
    }
);
my @people = ([1, 'Alice Martin'], [2, 'Bruno Keller'], [3, 'Chiara Rossi']);
$server->ctl('user', 'add', @$_, '--password-stdin', {stdin => "demo\n"}) for @people;
$server->add_contact(1, 2);
$server->add_contact(1, 3);
$server->add_contact(2, 3);

my $doc = Parley::Doc->new;
# Alice's is that of the page.
my %device = (1 => '0b9c2f6e');
my (%clients, @waiting);

sub client_of ($user) {
    my $client = $clients{$user};
    return $client if $client && !$client->is_closed;
    return $clients{$user} = $server->client($user, DeviceId => $device{$user} // "page-$user");
}

sub await_event ($step, $seconds) {
    my $why;
    my $is_found = Parley::poll_until($seconds, sub {
        for my $user (sort keys %clients) {
            my $events = $clients{$user}{events};
            for my $i (0 .. $#$events) {
                next if $events->[$i]{Command} ne $step->{json}{Command};
                $why = $doc->differs($step->{json}, $events->[$i]);
                next if defined $why;
                splice @$events, $i, 1;
                return 1;
            }
        }
        return 0;
    });
    return $is_found ? undef : $why // 'no such event';
}

sub send_step ($step) {
    my %fields  = $doc->sent($step->{json})->%*;
    my $command = delete $fields{Command};
    $fields{Token} = $server->token($step->{user}, name => undef) if defined $fields{Token};
    if ($command eq 'P_AUTHENTICATE') {
        $clients{$step->{user}}->close if $clients{$step->{user}};
        $clients{$step->{user}} = $server->connect;
        $device{$step->{user}}  = $fields{DeviceId};
    }
    my $client = client_of($step->{user});
    $client->send_command($command, %fields);
    return $client;
}

client_of($_) for 2, 3;
my @blocks = Parley::Doc->blocks($page);
for my $command (@commands) {
    ok(scalar(grep { $_->{arrow} eq '→' && $_->{json}{Command} eq $command } map { $_->{steps}->@* } @blocks),
        "$command has an example");
}
for my $block (@blocks) {
    if ($block->{not_run}) {
        pass("line $block->{line}: not run, $block->{not_run}");
        next;
    }
    my $client;
    my $is_asked = 0;
    for my $step ($block->{steps}->@*) {
        my $name = "line $step->{line}: $step->{arrow} $step->{json}{Command}";
        if ($step->{arrow} eq '→') {
            $client   = send_step($step);
            $is_asked = 1;
        }
        elsif ($step->{arrow} eq '←') {
            if (!$is_asked) { fail("$name answers nothing"); next }
            my $reply = $client->wait_reply($step->{json}{RequestId}, $name);
            my $why   = $doc->differs($step->{json}, $reply);
            ok(!defined $why, $name) or diag($why);
            delete $clients{$step->{user}} if $reply->{Reason} eq 'AUTH_FAILED';
        }
        elsif ($is_asked) {
            my $why = await_event($step, 10);
            ok(!defined $why, $name) or diag($why);
        }
        else {
            push @waiting, $step;
        }
    }
    next if !$client || $client->is_closed;
    Parley::tick();
    is_deeply($client->{replies}, [], "line $block->{line}: nothing else is answered") or $client->{replies} = [];
}

# What comes by itself came somewhere; P_CLOSE with the end.
kill TERM => $server->pid;
for my $step (@waiting) {
    my $why = await_event($step, 10);
    ok(!defined $why, "line $step->{line}: $step->{arrow} $step->{json}{Command}") or diag($why);
}
$server->await_exit;
$server->finish;
done_testing;
