# What was built is whole, hardened and answers for itself without a daemon.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Parley;
use Test::More;

my $top   = Parley::source_dir();
my $build = Parley::build_dir();

my ($version) = Parley::slurp("$top/configure.ac") =~ /AC_INIT\(\[parley\], \[([^\]]+)\]\)/;
my @programs = qw(parleyd parleyctl parleyload);
my %path     = map { $_ => eval { Parley::program($_) } } @programs;
ok($path{$_}, "$_ is built") for @programs;
BAIL_OUT('a program is missing') if grep { !$path{$_} } @programs;

# Nothing is started here: this one only knows how to run programs.
my $server = Parley->prepare;
my $dir    = $server->dir;

sub run (@command) { return $server->run([@command]) }

sub conf_file ($text) {
    my $file = "$dir/some.conf";
    Parley::spew($file, $text);
    return $file;
}

# --- hardening --------------------------------------------------------------

for my $name (@programs) {
SKIP: {
        skip 'a sanitizer build is not hardened', 5 if ($ENV{PARLEY_ASAN} // '') eq 'yes';
        my (undef, $elf) = run('readelf', '-W', '-h', '-l', '-d', $path{$name});
        like($elf, qr/Type:\s+DYN/, "$name is position independent");
        like($elf, qr/GNU_RELRO/, "$name has relocations made read-only");
        like($elf, qr/BIND_NOW|\bNOW\b/, "$name binds at start");
        like($elf, qr/GNU_STACK\s.*\sRW\s/, "$name has no executable stack");
        my (undef, $symbols) = run('readelf', '-W', '--dyn-syms', $path{$name});
        like($symbols, qr/__stack_chk_fail/, "$name has stack canaries");
    }
}

# --- version and usage ------------------------------------------------------

for my $name (qw(parleyd parleyctl)) {
    my ($code, $out) = run($path{$name}, '-V');
    is($code, 0, "$name -V succeeds");
    like($out, qr/\b\Q$version\E\b/, "$name -V names version $version");
    ($code, $out, my $err) = run($path{$name}, '--no-such-option');
    is($code, 2, "$name answers an unknown option with 2");
    like($err, qr/--no-such-option|usage/i, "$name says what is wrong");
}
{
    my ($code, undef, $err) = $server->ctl('no-such-verb');
    is($code, 2, 'an unknown verb is a usage error');
    like($err, qr/no-such-verb/, '... and is named');
    ($code, undef, $err) = $server->ctl('status');
    is($code, 3, 'status without a daemon is 3');
    isnt($err, '', '... and says so');
}

# --- configuration ----------------------------------------------------------

my @keys;    # [section, key, type]
for my $line (split /\n/, Parley::slurp("$top/src/base/conf.def")) {
    push @keys, [$1, $2, $3] if $line =~ /^CONF\((\w+), (\w+), (\w+),/;
}
cmp_ok(scalar @keys, '>', 30, 'conf.def is read');

my $sample = "$build/etc/parleyd.conf";
{
    my ($code, undef, $err) = run($path{parleyd}, '-t', '-c', $sample);
    is($code, 0, 'the sample configuration is valid') or diag($err);
    my $text    = Parley::slurp($sample);
    my $manual  = Parley::slurp("$build/man/parleyd.conf.5");
    my @missing = grep { $text !~ /^[#;]?\s*$_\s*=/m } map { $_->[1] } @keys;
    is_deeply(\@missing, [], 'the sample names every setting');
    @missing = grep { $manual !~ /\b$_\b/ } map { $_->[1] } @keys;
    is_deeply(\@missing, [], 'parleyd.conf(5) describes every setting');
}

# -T of a configuration: text, and {section.key => value}.
sub printed ($file, %env) {
    my ($code, $out, $err) =
        $server->run([$path{parleyd}, '-T', '-c', $file], {env => \%env});
    is($code, 0, '-T succeeds') or diag($err);
    my ($section, %value) = ('');
    for my $line (split /\n/, $out) {
        $section = $1 if $line =~ /^\[(\w+)\]/;
        $value{"$section.$1"} = $2 if $line =~ /^(?:; *)?(\w+)\s*=\s*(.*?)\s*\z/;
    }
    return ($out, \%value);
}

{
    my ($out, $value) = printed($server->conf);
    my @missing = grep { !exists $value->{$_} } map {"$_->[0].$_->[1]"} @keys;
    is_deeply(\@missing, [], '-T prints every setting');
    is($value->{'server.workers'}, 2, '... with the value of the file');
    is(index($out, $server->secret), -1, '... but no secret');

    # What it prints is a configuration again, with the same meaning.
    my @lines = grep { !/\bjwt_hs256_secret\b/ } split /\n/, $out;
    my (undef, $again) = printed(conf_file(join("\n", @lines) . "\n"));
    delete $_->{'auth.jwt_hs256_secret'} for $value, $again;
    is_deeply($again, $value, '-T reads back as the same');

    (undef, my $other) = printed($server->conf, PARLEY_SERVER_WORKERS => 3);
    is($other->{'server.workers'}, 3, 'the environment wins over the file');
}

sub refused ($text, $pattern, $claim, %env) {
    my ($code, undef, $err) =
        $server->run([$path{parleyd}, '-t', '-c', conf_file($text)], {env => \%env});
    is($code, 1, "$claim is refused");
    like($err, $pattern, '... with the place and the cause');
    return;
}
refused("[server]\nlisten = 127.0.0.1:0\nworkerz = 2\n",
    qr/some\.conf:3\b.*workerz.*\bworkers\b/s, 'an unknown key');
refused("[sever]\nworkers = 2\n", qr/some\.conf:[12]\b.*sever.*\bserver\b/s,
    'an unknown section');
refused("[server]\nworkers = many\n", qr/some\.conf:2\b.*workers/s, 'a word for a number');
refused("[server]\nworkers = 65\n", qr/some\.conf:2\b.*workers/s, 'a value above its range');
refused("[server]\nauth_timeout = 10 parsecs\n", qr/some\.conf:2\b.*auth_timeout/s,
    'an unknown unit');
refused("[policy]\nmay_message = nobody\n", qr/some\.conf:2\b.*may_message.*contacts/s,
    'a choice that there is not');
refused("[server]\nworkers = 1\n", qr/PARLEY_SERVER_WORKERS/,
    'a bad value in the environment', PARLEY_SERVER_WORKERS => 'many');
{
    my ($code, undef, $err) = run($path{parleyd}, '-t', '-c', "$dir/none.conf");
    is($code, 1, 'a configuration that cannot be read is refused');
    like($err, qr/none\.conf/, '... by name');
}

done_testing;
