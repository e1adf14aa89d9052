# The house rules that a machine can check: doc/architecture.md, "The tree".
use v5.36;
use File::Find;
use File::Temp ();
use FindBin;
use Test::More;

my $top   = $ENV{PARLEY_SRC}   // "$FindBin::Bin/..";
my $build = $ENV{PARLEY_BUILD} // $top;
my $cc    = $ENV{PARLEY_CC}    // 'cc';
chdir $top or die "$top: $!\n";

my $LINES_MAX          = 600;
my $FUNCTION_LINES_MAX = 100;

# A claim that a list is empty; what stands in it is told.
sub none ($list, $claim) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(!@$list, $claim) || diag(join "\n", @$list);
}

sub slurp ($path) {
    open my $file, '<:raw', $path or die "$path: $!\n";
    local $/ = undef;
    return scalar <$file> // '';
}

# Everything of ours: what git knows or would add; in a tarball, everything.
my @files;
if (-e '.git' && system('git rev-parse --git-dir >/dev/null 2>&1') == 0) {
    @files = grep { -f && -T } split /\0/, `git ls-files -z -co --exclude-standard`;
} else {
    my $others = qr{/(?:build[^/]*|_build|autom4te\.cache|node_modules|\.deps|\.git)\z};
    find(
        {
            no_chdir => 1,
            wanted   => sub {
                if (-d && $_ =~ $others) {
                    $File::Find::prune = 1;
                } elsif (-f && -T && !/~\z/) {
                    push @files, s{\A\./}{}r;
                }
            }
        },
        '.'
    );
}
my %is_generated = map { $_ => 1 }
    qw(configure config.h config.h.in config.log config.status aclocal.m4
    Makefile Makefile.in libtool etc/parleyd.conf man/parleyd.conf.5 init.d/parley);
@files = sort grep { !$is_generated{$_} } @files;
my @sources = grep { m{\A(?:src|shm|t)/.*\.[ch]\z} } @files;
my %text    = map  { $_ => slurp($_) } @files;
cmp_ok(scalar @sources, '>', 10, 'the sources are found');

# --- size and form ----------------------------------------------------------

my @code = grep {m{\A(?:src|shm|t|www)/.*\.(?:[ch]|def|pm|t|js|mjs|html|css)\z}} @files;
none([grep { ($text{$_} =~ tr/\n//) > $LINES_MAX } @code], "no file has more than $LINES_MAX lines");

my @long;
for my $path (grep {/\.c\z/} @sources) {
    my ($name, $start, $number) = ('', 0, 0);
    for my $line (split /\n/, $text{$path}) {
        $number++;
        $name = $1 if $line =~ /^(\w+)\(/;
        $start = $number if $line =~ /^\{/;
        next             if $line !~ /^\}/ || !$start;
        push @long, "$path: $name" if $number - $start > $FUNCTION_LINES_MAX;
        $start = 0;
    }
}
none(\@long, "no function has more than $FUNCTION_LINES_MAX lines");

my @mute;
for my $path (grep {/\.c\z/} @sources) {
    my ($name) = $path =~ m{([^/]+)\z};
    my ($comment) = $text{$path} =~ m{\A/\*\n(.*?)\*/}s;
    my @missing = ();
    push @missing, 'Role' if $path !~ m{\At/} && ($comment // '') !~ /^ \* Role:/m;
    push @missing, 'its name and purpose' if ($comment // '') !~ /\A \* \Q$name\E - \S/;
    push @mute, "$path lacks @missing" if @missing;
}
none(\@mute, 'every .c opens with its role');

SKIP: {
    my $format  = $ENV{PARLEY_CLANG_FORMAT} || 'clang-format';
    my $version = `$format --version 2>/dev/null` // '';
    my ($major) = $version =~ /version (\d+)/;
    fail('clang-format is there, as CI needs it') if $ENV{CI} && !$major;
    skip 'the layout is that of clang-format 14', 1 if ($major // 0) != 14;
    my @bad;
    my @batch = @sources;
    while (my @some = splice @batch, 0, 50) {
        my $out = `$format --dry-run @some 2>&1`;
        my %seen;
        push @bad, grep { !$seen{$_}++ } $out =~ /^(\S+?):\d+:\d+: warning/mg;
    }
    none(\@bad, 'clang-format would change nothing (make format)');
}

# --- who may include whom ---------------------------------------------------

# Layers: a folder may use itself and what is named here.
my @process = qw(supervisor worker holder keeper directory herald link console);
my %may_use = (
    base => [],
    shm  => [qw(base)],
    net  => [qw(base)],
    tds  => [qw(base)],
    ctl  => [qw(base shm tds)],
    load => [qw(base net shm)],
    main => [qw(base shm net ctl load), @process],
    t    => [qw(base shm net tds ctl load), @process],
    (map { $_ => [qw(base shm net)] } @process),
    directory => [qw(base shm net tds)],
);
# A table that two programs read is no call.
my %is_shared_table = map { $_ => 1 } qw(console/verbs.def);

# Foreign libraries: header => where it may be included.
my @foreign = (
    [qr{\Acmocka\.h},          qr{\At/unit/}],
    [qr{\Aevent2/},            qr{\A(?:src/(?:net|supervisor|worker|keeper|directory|herald|link|console|load)/|src/base/loop|t/unit/)}],
    [qr{\Aini\.h},             qr{\Asrc/base/conf}],
    [qr{\A(?:json-c/|json\w*\.h)}, qr{\A(?:src/(?:base/json|base/jwt|base/conf|worker|keeper|directory|herald|console|ctl|load)|t/unit/)}],
    [qr{\Almdb\.h},            qr{\A(?:shm/|t/unit/|t/powercut/recorder)}],
    [qr{\Aopenssl/},           qr{\A(?:src/base/(?:crypto|jwt|password)|src/(?:net|load)/tls|t/unit/)}],
    [qr{\Authash\.h|\Autlist\.h|\Autarray\.h}, qr{}],
    [qr{\A(?:sybdb|sybfront|syberror)\.h}, qr{\Asrc/tds/}],
    [qr{\Azlib\.h},           qr{\A(?:src/net/ws_deflate\.c|src/console/gzip\.c|src/load/deflate\.c|t/unit/)}],
    [qr{\Axxhash\.h},          qr{\A(?:shm/|src/base/|t/unit/)}],
);
# The C library's and the kernel's.
my %is_system = map { ("$_.h" => 1) } qw(
    assert ctype dirent dlfcn endian errno execinfo fcntl features float fnmatch
    getopt glob grp inttypes libgen limits locale malloc math netdb poll pthread
    pwd sched semaphore setjmp signal spawn stdalign stdarg stdatomic stdbool
    stddef stdint stdio stdlib stdnoreturn string strings sysexits syslog termios
    threads time ucontext unistd wchar);

my (@wrong, @unknown);
for my $path (@sources) {
    my ($folder) = $path =~ m{\A(?:src/)?(\w+)(?:/|\.c\z)};
    while ($text{$path} =~ /^\s*#\s*include\s+([<"])([^>"]+)[>"]/mg) {
        my ($kind, $header) = ($1, $2);
        if ($kind eq '"') {
            next if $header eq 'config.h' || $is_shared_table{$header};
            my ($other) = $header =~ m{\A(\w+)/};
            # What unit programs share lies beside them.
            next if !$other && $folder eq 't' && -e "t/unit/$header";
            push @wrong, "$path: \"$header\" does not name its folder" if !$other;
            next if !$other || $other eq $folder;
            push @wrong, "$path: $folder may not use $other ($header)"
                if !grep { $_ eq $other } ($may_use{$folder} // [])->@*;
            next;
        }
        next if $is_system{$header} || $header =~ m{\A(?:arpa|linux|net|netinet|sys|asm|valgrind|sanitizer)/};
        my ($row) = grep { $header =~ $_->[0] } @foreign;
        push @unknown, "$path: <$header>" if !$row;
        push @wrong, "$path: <$header> belongs elsewhere" if $row && $path !~ $row->[1];
    }
}
none(\@wrong, 'includes go one way, each library has its folder');
none(\@unknown, 'no foreign library without a row here');

# --- headers ----------------------------------------------------------------

{
    my $scratch = File::Temp->newdir;
    my @flags   = (
        qw(-std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -fsyntax-only),
        "-I$top/src", "-I$top", "-I$build", split ' ', $ENV{PARLEY_LIB_CFLAGS} // ''
    );
    my @bad;
    for my $header (grep {/\.h\z/} @sources) {
        my $name = $header =~ s{\Asrc/}{}r;
        open my $file, '>', "$scratch/one.c" or die $!;
        # Twice: the guard is there; and a file that is not empty.
        print {$file} qq(#include "$name"\n#include "$name"\nextern int one;\n);
        close $file;
        my $out = `$cc @flags $scratch/one.c 2>&1`;
        push @bad, "$header: $out" if $? != 0;
    }
    none(\@bad, 'each header compiles alone');
}

# --- words ------------------------------------------------------------------

# Spelt so that this file does not find itself.
my $unfinished = qr/\b(?:TO[D]O|FIX[M]E|X{3}|HA[C]K|not[ ]implemented)\b/;
my $hosts = qr{\b(?:registr[y]\.npm\w*|(?:deb|security)\.debia[n]|pyp[i]\.org|pythonhoste[d]|prox[y]\.golang|rubygem[s]\.org|crate[s]\.io)\b};
my @ours       = grep { $_ ne 'LICENSE' } @files;
none([grep { !/\.md\z|\AChangeLog\z/ && $text{$_} =~ $unfinished } @ours], 'nothing is left for later');
none([grep { $text{$_} =~ $hosts } @ours], 'no package registry is named');
my $waiting = qr/\b(?:u?sle[e]p|nanosle[e]p)\s*\(|^\s*sle[e]p\s+\d/m;
none([grep { m{\At/.*(?:\.[cht]|\.pm|run-tests)\z} && $text{$_} =~ $waiting } @ours], 'no test waits for time to pass');
none([grep { !m{\A(?:www|doc|LICENSE)|\.md\z} && $text{$_} =~ /[ \t]+$/m } @ours], 'no line ends in blanks');

# --- scripts and documents --------------------------------------------------

my @shell = grep { $text{$_} =~ m{\A#!\s?/(?:usr/)?bin/(?:env )?(?:ba)?sh\b} } @ours;
for my $path (@shell) {
    my $shell = $text{$path} =~ m{\A#!.*bash} ? 'bash' : 'sh';
    my $out   = `$shell -n $path 2>&1`;
    is($out, '', "$path is valid $shell");
}

SKIP: {
    my $table = $text{'src/worker/commands.def'};
    skip 'no table of commands', 1 if !defined $table;
    my %known     = map { $_ => 1 } $table =~ /\b(P_[A-Z_]+)\b/g;
    my %described = map { $_ => 1 } $text{'doc/protocol.md'} =~ /^#+ `(P_[A-Z_]+)`/mg;
    none([sort grep { !$described{$_} } keys %known], 'doc/protocol.md has a section for every command');
}
{
    my %set = map { $_ => 1 } $text{'src/base/conf.def'} =~ /^CONF\(\w+, (\w+),/mg;
    my %section = map { $_ => 1 } $text{'src/base/conf.def'} =~ /^CONF\((\w+),/mg;
    my @bad;
    for my $path (grep {/\.(?:md|8)\z/} @ours) {
        while ($text{$path} =~ /`\[(\w+)\] (\w+)`/g) {
            push @bad, "$path: [$1] $2" if !$section{$1} || !$set{$2};
        }
    }
    none(\@bad, 'the documents name only settings that exist');
}

done_testing;
