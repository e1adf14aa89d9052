# Who gets in: tokens of every kind, passwords, devices, and how it ends.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Digest::SHA qw(hmac_sha256 hmac_sha384 hmac_sha512);
use MIME::Base64 qw(encode_base64url decode_base64url);
use Mojo::JSON qw(decode_json encode_json);
use Parley;
use Parley::Guard;
use Parley::Raw;
use Test::More;

my $OLD_SECRET = 'the-secret-before-the-rotation-0123456789';
my $LEEWAY_S   = 60;

my $server = Parley->prepare(
    conf => {
        # within it a password is checked, slowly under a sanitizer
        'server.auth_timeout' => Parley::scaled(400) . 'ms',
        'log.level'           => 'debug',
    }
);
my %key = map { $_ => make_key($_) } qw(RS256 ES256 other_RS256 other_ES256);
$server->set(
    'auth.password_attempts' => 100,
    'auth.jwt_hs256_secret' => join(', ', $server->secret, $OLD_SECRET),
    'auth.jwt_public_key'   => join(', ', map { $key{$_}{public} } qw(RS256 ES256)),
    'auth.jwt_issuer'       => 'clinic',
    'auth.jwt_audience'     => 'parley',
);
$server->launch;
$server->add_users(1, 2, 3);
my $guard = Parley::Guard->watch($server);
$guard->secret($OLD_SECRET);
$guard->secret("password-$_") for 1 .. 3;

# --- keys and tokens ----------------------------------------------------------

sub openssl ($input, @args) {
    my ($code, $out, $err) = $server->run(['openssl', @args], {stdin => $input});
    die "openssl @args: $err" if $code != 0;
    return $out;
}

sub make_key ($name) {
    my %file = map { $_ => $server->dir . "/$name.$_" } qw(private public);
    my @kind = $name =~ /RS256/
        ? qw(-algorithm RSA -pkeyopt rsa_keygen_bits:2048)
        : qw(-algorithm EC -pkeyopt ec_paramgen_curve:P-256);
    openssl('', 'genpkey', @kind, '-out', $file{private});
    openssl('', 'pkey', '-in', $file{private}, '-pubout', '-out', $file{public});
    return \%file;
}

# The DER of an ECDSA signature as the 64 bytes of RFC 7518 3.4.
sub es256_bytes ($der) {
    my ($r, $s) = unpack 'x2 x C/a x C/a', $der;
    return join '', map { substr "\0" x 32 . $_, -32 } $r, $s;
}

my %hmac = (HS256 => \&hmac_sha256, HS384 => \&hmac_sha384, HS512 => \&hmac_sha512);

sub signature ($alg, $text, $with) {
    return $hmac{$alg}->($text, $with) if $hmac{$alg};
    my $bytes = openssl($text, 'dgst', '-sha256', '-sign', $key{$with}{private}, '-binary');
    return $alg eq 'ES256' ? es256_bytes($bytes) : $bytes;
}

sub pack_token ($header, $claims, $sign) {
    my $text = join '.', map { encode_base64url(ref $_ ? encode_json($_) : $_) } $header, $claims;
    return $guard->token("$text." . encode_base64url($sign->($text)));
}

sub claims (%change) {
    my %claims = (sub => '1', name => 'User 1', iss => 'clinic', aud => 'parley',
        exp => int(time) + 3600, %change);
    delete @claims{grep { !defined $claims{$_} } keys %claims};
    return \%claims;
}

# A token of these claims by the usual key.
sub token (%change) {
    return token_by('HS256', $server->secret, claims(%change));
}

sub token_by ($alg, $with, $claims = claims(), %header) {
    return pack_token({alg => $alg, typ => 'JWT', %header}, $claims,
        sub ($text) { signature($alg, $text, $with) });
}

# --- logins ---------------------------------------------------------------------

sub login ($client, %fields) {
    return $client->request('P_AUTHENTICATE', DeviceId => 'd', %fields);
}

sub enters ($name, %fields) {
    my $client = $server->connect;
    my $reply  = login($client, %fields);
    is($reply->{Reason}, 'OK', $name) || diag(encode_json($reply));
    return ($client, $reply);
}

# Refused with the reason; the connection stays, and the right token enters.
sub refused ($name, $reason, %fields) {
    my $client = $server->connect;
    my $reply  = login($client, RequestId => 'try', %fields);
    subtest "$name: $reason" => sub {
        is($reply->{Reason},    $reason,          'Reason');
        is($reply->{Command},   'P_AUTHENTICATE', 'Command');
        is($reply->{RequestId}, 'try',            'RequestId');
        like($reply->{Message} // '', qr/\A[ -~]{10,}\z/, 'a sentence');
        is(join(' ', sort keys %$reply), join(' ', sort qw(Command Message Reason RequestId)),
            'and nothing else');
        is($client->request('P_HEARTBEAT')->{Reason}, 'UNAUTHENTICATED', 'it is not in');
        is(login($client, Token => token())->{Reason}, 'OK', 'it may try again');
    };
    $client->close;
    return;
}

{
    my ($client, $reply) = enters('a token', Token => token(), RequestId => 1);
    is($reply->{UserId}, 1,        '... of the user in sub');
    is($reply->{Name},   'User 1', '... by name');
    is_deeply([map { $_->{UserId} } $reply->{Users}->@*], [2, 3], '... with the contacts');
    my @missing = grep { !exists $reply->{$_} } qw(SessionId Epoch FirstSeq LastSeq Recovered
        Users Collaborations ServerTime PingInterval HeartbeatInterval MaxMessageSize EditWindow Node);
    is("@missing", '', '... and all that a login says');
    is($client->request('P_HEARTBEAT')->{Reason}, 'OK', '... is in');
}

# --- tokens: who signed ------------------------------------------------------------

enters('a token by the old secret, during the rotation',
    Token => token_by('HS256', $OLD_SECRET));
enters("a token by the $_ key", Token => token_by($_, $_)) for qw(RS256 ES256);
refused('another secret', 'AUTH_FAILED',
    Token => token_by('HS256', 'x' x 40));
refused("another $_ key", 'AUTH_FAILED', Token => token_by($_, "other_$_")) for qw(RS256 ES256);

my %file = map { $_ => Parley::slurp($key{$_}{public}) } qw(RS256 ES256);
for my $name (sort keys %file) {
    refused("HS256 with the $name public key for a secret", 'AUTH_FAILED',
        Token => token_by('HS256', $_))
        for $file{$name}, $file{$name} =~ s/\n\z//r, join '', grep { !/-----/ } split /\n/, $file{$name};
}
refused("the signature of $_->[1], said to be $_->[0]", 'AUTH_FAILED',
    Token => pack_token({alg => $_->[0]}, claims(),
        sub ($text) { signature($_->[1], $text, $_->[1] eq 'HS256' ? $server->secret : $_->[1]) }))
    for [qw(RS256 HS256)], [qw(ES256 HS256)], [qw(RS256 ES256)], [qw(ES256 RS256)],
    [qw(HS256 RS256)];
refused("$_", 'AUTH_FAILED', Token => token_by($_, $server->secret)) for qw(HS384 HS512);
refused("alg '$_'", 'AUTH_FAILED',
    Token => pack_token({alg => $_}, claims(), sub ($text) { signature('HS256', $text, $server->secret) }))
    for qw(none None NONE hs256 HS256x PS256 RS512 EdDSA), '', "HS256\0";
refused('none, without a signature', 'AUTH_FAILED',
    Token => pack_token({alg => 'none'}, claims(), sub ($text) {''}));
refused('no alg', 'AUTH_FAILED',
    Token => pack_token({typ => 'JWT'}, claims(), sub ($text) { hmac_sha256($text, $server->secret) }));
refused("header with $_", 'AUTH_FAILED',
    Token => token_by('HS256', $server->secret, claims(), $_ => ['x'])) for qw(crit jku jwk x5c x5u);
refused('two alg', 'AUTH_FAILED',
    Token => pack_token('{"alg":"none","alg":"HS256"}', claims(),
        sub ($text) { signature('HS256', $text, $server->secret) }));

# --- tokens: form -------------------------------------------------------------------

{
    my $good = token();
    my ($header, $claims, $signature) = split /[.]/, $good;
    my $other = (split /[.]/, token(sub => '2'))[1];
    my %form = (
        'one part'              => $header,
        'two parts'             => "$header.$claims",
        'four parts'            => "$good.x",
        'no signature'          => "$header.$claims.",
        'no header'             => ".$claims.$signature",
        'no claims'             => "$header..$signature",
        'only dots'             => '..',
        'claims of another'     => "$header.$other.$signature",
        'half a signature'      => "$header.$claims." . substr($signature, 0, 20),
        'a longer signature'    => "$good" . 'AAAA',
        'padding'               => "$good=",
        'blank before'          => " $good",
        'blank behind'          => "$good ",
        'line end'              => "$good\n",
        'NUL behind'            => "$good\0",
        'NUL and more'          => "$good\0.x",
        'the other alphabet'    => "$header.$claims.+/" . substr($signature, 2),
        'not base64'            => "$header.$claims.\x{20ac}",
        '8192 bytes of it'      => 'a.' x 4096,
    );
    refused("form: $_", 'AUTH_FAILED', Token => $form{$_}) for sort keys %form;
    # Of 43 characters the last has two bits that count for nothing.
    my $last = substr $signature, -1;
    (my $loose = $signature) =~ s/.\z/chr ord($last) + 1/e;
    refused('a second spelling of the signature', 'AUTH_FAILED', Token => "$header.$claims.$loose")
        if $loose ne $signature && decode_base64url($loose) eq decode_base64url($signature);
    refused('nothing',       'BAD_REQUEST', Token => '');
    refused('a number',      'BAD_REQUEST', Token => 5);
    refused('an array',      'BAD_REQUEST', Token => [$good]);
    refused('null and no password', 'BAD_REQUEST', Token => undef);
}

# --- tokens: claims -------------------------------------------------------------------

sub raw_claims ($json) {
    return pack_token({alg => 'HS256'}, $json,
        sub ($text) { signature('HS256', $text, $server->secret) });
}
my $soon = int(time) + 3600;
my $rest = qq("iss":"clinic","aud":"parley","exp":$soon);

(enters('sub as an integer', Token => token(sub => 1)))[0]->close;
for my $sub (undef, 0, '0', -1, '-1', '01', '+1', ' 1', '1 ', '', '1.0', 1.5, '1e0', 'alice', "1\0",
    '9007199254740992', '18446744073709551617', [1], {}) {
    refused('sub ' . (defined $sub ? encode_json([$sub]) : 'missing'), 'AUTH_FAILED',
        Token => token(sub => $sub));
}
refused("claims: $_", 'AUTH_FAILED', Token => raw_claims($_))
    for qq({"sub":"2","sub":"1",$rest}), qq({"sub":1.0,$rest}), qq({"sub":1e0,$rest}), '{}', '[]', '1', '""',
    qq({"sub":"1",$rest), qq({"sub":"1",$rest}x), qq({"sub":"1","name":"\\ud800",$rest}),
    qq({"sub":"1","name":7,$rest}), qq({"sub":"1","x":) . '[' x 40 . ']' x 40 . ",$rest}";
refused('a user nobody made', 'AUTH_FAILED', Token => token(sub => '77'));
refused('the largest id, which nobody has', 'AUTH_FAILED', Token => token(sub => '9007199254740991'));

my $now = int time;
(enters($_->[0], Token => token($_->@[1 .. 2])))[0]->close
    for ['without exp', exp => undef], ['expired within the leeway', exp => $now - $LEEWAY_S / 2],
    ['exp with a fraction', exp => $now + 100.5],
    ['nbf within the leeway', nbf => $now + $LEEWAY_S / 2], ['nbf long ago', nbf => 1];
refused('expired',      'TOKEN_EXPIRED', Token => token(exp => $now - $LEEWAY_S - 5));
refused('expired long', 'TOKEN_EXPIRED', Token => token(exp => 1));
refused('not yet',      'AUTH_FAILED',   Token => token(nbf => $now + $LEEWAY_S + 60));
refused('exp ' . encode_json([$_]), 'AUTH_FAILED', Token => token(exp => $_))
    for 0, -1, "$soon", 'never', 1e18, [$soon], {}, Mojo::JSON->true;
refused('expired and by another key', 'AUTH_FAILED',
    Token => token_by('HS256', 'x' x 40, claims(exp => 1)));
refused('issuer ' . (encode_json([$_])), 'AUTH_FAILED', Token => token(iss => $_))
    for undef, '', 'Clinic', 'clinic2', 'clini', "clinic\0", ['clinic'];
(enters('an audience among several', Token => token(aud => ['x', 'parley'])))[0]->close;
refused('audience ' . (encode_json([$_])), 'AUTH_FAILED', Token => token(aud => $_))
    for undef, '', 'Parley', 'parley2', [], ['x'], [['parley']], {parley => 1};

# --- passwords ----------------------------------------------------------------------------

{
    my ($client, $reply) = enters('a password', UserName => '1', Password => 'password-1');
    is($reply->{UserId}, 1, '... of that user');
    $client->close;
}
my %wrong = (
    'another password'   => ['1', 'password-2'],
    'its beginning'      => ['1', 'password-'],
    'with more'          => ['1', 'password-1x'],
    'NUL and more'       => ['1', "password-1\0x"],
    'NUL in the name'    => ["1\0", 'password-1'],
    'nobody'             => ['77', 'password-1'],
    'an injection'       => [q(' OR 1=1 --), q(' OR '1'='1)],
    'a long password'    => ['1', 'p' x 128],
);
my @answers;
for my $name (sort keys %wrong) {
    my ($user, $password) = $wrong{$name}->@*;
    $guard->secret($password) if length $password > 11;
    refused("password: $name", 'AUTH_FAILED', UserName => $user, Password => $password);
    my $client = $server->connect;
    push @answers, login($client, UserName => $user, Password => $password)->{Message};
    $client->close;
}
is(scalar(grep { $_ ne $answers[0] } @answers), 0, 'a wrong name and a wrong password get the same answer');
refused('no password',      'BAD_REQUEST', UserName => '1');
refused('no name',          'BAD_REQUEST', Password => 'password-1');
refused('an empty password','BAD_REQUEST', UserName => '1', Password => '');
refused('a number',         'BAD_REQUEST', UserName => '1', Password => 1);

# --- the header ------------------------------------------------------------------------------

sub with_bearer ($token) {
    return $server->connect(headers => {Authorization => "Bearer $token"});
}
{
    my $client = with_bearer(token());
    is($client->request('P_HEARTBEAT')->{Reason}, 'UNAUTHENTICATED', 'a bearer token is no login yet');
    is(login($client)->{UserId}, 1, '... P_AUTHENTICATE takes it');
    $client->close;
    $client = with_bearer(token());
    is(login($client, Token => token(sub => '2'))->{UserId}, 2, 'Token counts before the header');
    $client->close;
    $client = with_bearer('not.a.token');
    is(login($client)->{Reason}, 'AUTH_FAILED', 'a wrong one is refused in the reply');
    is(login($client)->{Reason}, 'AUTH_FAILED', '... again and again');
    is(login($client, Token => token())->{Reason}, 'OK', '... and a right Token enters');
    $client->close;
    $client = with_bearer(token(exp => 1));
    is(login($client)->{Reason}, 'TOKEN_EXPIRED', 'an expired one says so');
    $client->close;
}

# --- time to log in -----------------------------------------------------------------------------

{
    my $silent = $server->connect;
    my $busy   = $server->connect;
    my $failed = $server->connect;
    my $in     = (enters('in time', Token => token()))[0];
    is($busy->request('P_HEARTBEAT')->{Reason}, 'UNAUTHENTICATED', 'a command before the login');
    is(login($failed, Token => 'x.y.z')->{Reason}, 'AUTH_FAILED', 'a login that fails');
    my %late = (silence => $silent, 'other commands' => $busy, 'failed logins' => $failed);
    for my $name (sort keys %late) {
        my ($code, $reason) = $late{$name}->expect_close;
        is($code, 1008, "$name: closed after auth_timeout with 1008");
        like($reason, qr/P_AUTHENTICATE/, '... and says why');
        is(scalar(grep { $_->{Command} eq 'P_CLOSE' } $late{$name}{events}->@*), 0,
            '... without a P_CLOSE that would bring it back');
    }
    is($in->request('P_HEARTBEAT')->{Reason}, 'OK', 'who is in stays');

    # Who has sent it in time waits for us, not we for him.
    my $keeper = $server->pids->{keeper};
    my ($good, $bad) = map { $server->connect } 1 .. 2;
    kill STOP => $keeper;
    my %id = (good => $good->submit('P_AUTHENTICATE', Token => token(), DeviceId => 'late'),
        bad => $bad->submit('P_AUTHENTICATE', Token => token(sub => '999999'), DeviceId => 'late'));
    my $witness = $server->connect;
    is(($witness->expect_close)[0], 1008, 'one who came later is closed');
    ok(!$good->is_closed && !$bad->is_closed, '... who is being checked is not');
    kill CONT => $keeper;
    is($good->wait_reply($id{good})->{Reason}, 'OK', '... and comes in');
    is($bad->wait_reply($id{bad})->{Reason}, 'AUTH_FAILED', '... or does not');
    is(($bad->expect_close)[0], 1008, '... for which there is no second time');
    # --- the same, pings only
    my $raw = Parley::Raw->connect($server->address);
    $raw->upgrade;
    my $code;
    while (1) {
        $raw->write(Parley::Raw->frame(9, 'x')) or last;
        my ($opcode, $payload) = $raw->read_frame;
        next if $opcode != 8;
        $code = unpack 'n', $payload;
        last;
    }
    is($code, 1008, 'pings are no login');

    my $again = login($in, Token => token(), RequestId => 9);
    is($again->{Reason}, 'CONFLICT', 'a second P_AUTHENTICATE');
    is($again->{RequestId}, 9, '... answered');
    is($in->request('P_HEARTBEAT')->{Reason}, 'OK', '... and the session goes on');
    $in->close;
}

# --- a session lives as long as its token ------------------------------------------------------------

{
    my ($client) = enters('a token for two seconds', Token => token(exp => int(time) + 2));
    my ($other)  = enters('another one', Token => token(exp => int(time) + 2), DeviceId => 'e');
    is($other->request('P_REFRESH_TOKEN', Token => token())->{Reason}, 'OK', '... which is refreshed');
    my $closing = $client->expect_event('P_CLOSE');
    is($closing->{Reason}, 'TOKEN_EXPIRED', 'the session ends when the token does');
    ok(exists $closing->{RetryAfter}, '... and may come back');
    like($closing->{Message}, qr/token/i, '... with a sentence');
    is(($client->expect_close)[0], 4001, '... with 4001');
    is($other->request('P_HEARTBEAT')->{Reason}, 'OK', 'the refreshed one goes on');

    my %bad = (
        'no token'                => [BAD_REQUEST   => undef],
        'an empty one'            => [BAD_REQUEST   => ''],
        'rubbish'                 => [AUTH_FAILED   => 'x.y.z'],
        'an expired one'          => [TOKEN_EXPIRED => token(exp => $now - 1000)],
        'one of another user'     => [FORBIDDEN     => token(sub => '2')],
        'one by another key'      => [AUTH_FAILED   => token_by('HS256', 'y' x 40)],
        'one by another issuer'   => [AUTH_FAILED   => token(iss => 'x')],
    );
    for my $name (sort keys %bad) {
        my ($reason, $token) = $bad{$name}->@*;
        my $reply = $other->request('P_REFRESH_TOKEN', Token => $token);
        is($reply->{Reason}, $reason, "refresh with $name: $reason");
    }
    is($other->request('P_HEARTBEAT')->{Reason}, 'OK', '... and the session goes on');
    is($other->request('P_REFRESH_TOKEN', Token => token(exp => int(time) + 1))->{Reason},
        'OK', 'a refresh may also shorten');
    is(($other->expect_close)[0], 4001, '... and that counts');

    my ($late) = enters('expired within the leeway', Token => token(exp => int(time) - 5));
    is($late->request('P_REFRESH_TOKEN', Token => token(exp => int(time) - 4))->{Reason},
        'OK', '... and refreshed with such a one');
    my ($short) = enters('another, which ends sooner', Token => token(exp => int(time) + 1), DeviceId => 'short');
    is(($short->expect_close)[0], 4001, '... after a second');
    is($late->request('P_HEARTBEAT')->{Reason}, 'OK', '... lives for the leeway meanwhile');
    $late->close;
}

# --- devices --------------------------------------------------------------------------------------------

{
    my ($first)  = enters('a device',                   Token => token(), DeviceId => 'same');
    my ($else)   = enters('another device of the user', Token => token(), DeviceId => 'Same');
    my ($other)  = enters('the same name, another user', Token => token(sub => '2'), DeviceId => 'same');
    my ($second) = enters('the device again',           Token => token(), DeviceId => 'same');
    my $closing = $first->expect_event('P_CLOSE');
    is($closing->{Reason}, 'REPLACED', 'the older session is told REPLACED');
    ok(!exists $closing->{RetryAfter}, '... not to come back by itself');
    is(($first->expect_close)[0], 4002, '... with 4002');
    is($_->request('P_HEARTBEAT')->{Reason}, 'OK', 'the others go on') for $second, $else, $other;
    $_->close for $second, $else, $other;
}
for my $device ("\0", "\x{1f600}" x 16, ' ', 'x' x 64, '../../etc/passwd', "a\nb") {
    (enters('a device named ' . encode_json([$device]), Token => token(sub => '3'), DeviceId => $device))[0]->close;
}
for my $device ('', 'x' x 65, "\x{1f600}" x 17, 7, undef, [], {}) {
    my $client = $server->connect;
    my $reply  = $client->request('P_AUTHENTICATE', Token => token(), DeviceId => $device);
    is($reply->{Reason}, 'BAD_REQUEST', 'no device: ' . encode_json([$device]));
    like($reply->{Message}, qr/DeviceId.*1 to 64 bytes/, '... says what it expects');
    $client->close;
}

# --- logging out ----------------------------------------------------------------------------------------

{
    my ($client) = enters('to log out', Token => token());
    is($client->request('P_LOGOUT', RequestId => 'bye')->{Reason}, 'OK', 'P_LOGOUT');
    is(($client->expect_close)[0], 1000, '... closes with 1000');
    is(scalar(grep { $_->{Command} eq 'P_CLOSE' } $client->{events}->@*), 0, '... and no P_CLOSE');
    my $raw = Parley::Raw->connect($server->address);
    $raw->upgrade;
    my @commands = (
        {Command => 'P_AUTHENTICATE', DeviceId => 'd', Token => token(), RequestId => 1},
        {Command => 'P_HEARTBEAT', RequestId => 2},
        {Command => 'P_SEND_MESSAGE', ToUserList => [2], Message => $guard->secret('said before leaving'),
            ClientMessageId => 'last', RequestId => 3},
        {Command => 'P_LOGOUT', Forget => Mojo::JSON->true, RequestId => 4},
        {Command => 'P_HEARTBEAT', RequestId => 5},
    );
    $raw->write(join '', map { Parley::Raw->frame(1, encode_json($_)) } @commands);
    my @replies;
    while (1) {
        my ($opcode, $payload) = $raw->read_frame;
        last if $opcode == 8;
        my $message = decode_json($payload);
        push @replies, $message if exists $message->{Reason};
    }
    is_deeply([sort { $a <=> $b } map { $_->{RequestId} } @replies], [1 .. 4],
        'all in one segment: what stands before the logout is answered');
    is(scalar(grep { $_->{Reason} ne 'OK' } @replies), 0, '... OK');
    my ($bruno) = enters('the receiver', Token => token(sub => '2'));
    is($bruno->expect_event('P_MESSAGE')->{Message}, 'said before leaving', '... and was done');
    $bruno->close;
}

sub refused_now ($name, %fields) {
    my $client = $server->connect;
    return is(login($client, %fields)->{Reason}, 'AUTH_FAILED', "$name opens nothing any more");
}

# --- rotation, second half: the old secret is taken away -----------------------------------------------------

{
    my ($in) = enters('in by the old secret', Token => token_by('HS256', $OLD_SECRET));
    $server->set('auth.jwt_hs256_secret' => $server->secret, 'auth.jwt_public_key' => $key{other_RS256}{public});
    my $old = $server->pids;
    is(($server->ctl('reload'))[0], 0, 'a reload without the old keys');
    is(($in->expect_close(20))[0], 1012, '... asks who is in to come back');
    my $done = Parley::poll_until(20, sub {
        my @workers = grep { $_->{name} =~ /\Aworker-/ } ($server->status // return 0)->{processes}->@*;
        return !grep { $_->{state} ne 'running' || $_->{pid} == ($old->{$_->{name}} // 0) } @workers;
    });
    ok($done, '... and every worker is a new one');
    refused_now('the old secret', Token => token_by('HS256', $OLD_SECRET));
    refused_now("the old $_ key", Token => token_by($_, $_)) for qw(RS256 ES256);
    enters('the new key', Token => token_by('RS256', 'other_RS256'), DeviceId => 's');
    enters('the secret that stays', Token => token(), DeviceId => 't');
}

$guard->renew;    # a reload may bring new workers
$guard->finish;
done_testing;
