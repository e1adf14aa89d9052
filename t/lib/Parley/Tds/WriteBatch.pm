# Parley::Tds::WriteBatch - Parley_Write_Batch of etc/mssql/003, on SQLite.
#
# Row by row in the order of their numbers, in one transaction: what is there
# in the end is what 003-write-batch.sql promises, and so are its errors.
package Parley::Tds::WriteBatch;
use v5.36;

use Cpanel::JSON::XS ();

use Parley::Tds::Refusal qw(refuse);
use Parley::Tds::Values qw(convert utf16_length);

my $json = Cpanel::JSON::XS->new;    # of characters

# Letters of a row, and the type that OPENJSON gives them.
my %TYPE = (
    n => 'bigint', k => 'nvarchar', i => 'bigint', g => 'guid', v => 'nvarchar', u => 'bigint', s => 'bigint',
    t => 'datetime2', e => 'datetime2', d => 'datetime2', r => 'bigint', c => 'nvarchar', y => 'nvarchar',
    x => 'nvarchar', b => 'nvarchar', a => 'nvarchar',
);
my %LENGTH = (v => 40, c => 16, y => 64, x => 256);

my %KIND = (
    message   => {needs => 'igvst', write => \&_message},
    edit      => {needs => 'itb',   write => \&_edit},
    delete    => {needs => 'it',    write => \&_delete},
    delivered => {needs => 'vuit',  write => \&_receipt},
    read      => {needs => 'vuit',  write => \&_receipt},
    status    => {needs => 'utc',   write => \&_status},
    group     => {needs => 'itx',   write => \&_group},
    member    => {needs => 'iut',   write => \&_member},
    call      => {needs => 'igystec', write => \&_call},
);

$_->{keys} = [split //, $_->{needs}] for values %KIND;

sub run ($db, %arg) {
    my $rows = eval { $json->decode($arg{Rows} // '') };
    refuse(number => 13609) if ref $rows ne 'ARRAY';
    my $written = 0;
    $db->transaction(sub {
        refuse(number => 50003)
            if $db->run("UPDATE ParleyWriter SET Batches = Batches + 1, WrittenAt = strftime('%Y-%m-%dT%H:%M:%f', 'now') WHERE Id = 1") != 1;
        my @rows = sort { $a->{n} <=> $b->{n} } map { _row($_) } @$rows;
        for my $row (@rows) {
            refuse(number => 50002) if !$KIND{$row->{k}};
        }
        $written += $KIND{$_->{k}}{write}->($db, $_) ? 1 : 0 for _newest_receipts(@rows);
    });
    return {columns => [['Written', 'int'], ['Known', 'int']], rows => [[$written, @$rows - $written]]};
}

# Of receipts of one person in one conversation the greatest counts.
sub _newest_receipts (@rows) {
    my %newest;
    my @receipts = grep { defined $_->{v} && $_->{k} ne 'message' } @rows;
    for my $row (@receipts) {
        my $key = "$row->{v} $row->{u} $row->{k}";
        $newest{$key} = $row if !$newest{$key} || $newest{$key}{i} < $row->{i};
    }
    return (grep({ !defined $_->{v} || $_->{k} eq 'message' } @rows), values %newest);
}

# One with its values converted, and whole.
sub _row ($given) {
    my %row;
    for my $key (keys %$given) {
        my $value = $given->{$key};
        if (my $type = $TYPE{$key}) {
            $row{$key} = $type eq 'nvarchar' ? $value : convert($type, $value);
        }
        else {
            $row{$key} = $value;
        }
    }
    refuse(number => 515) if !defined $row{n} || !defined $row{k};
    my $kind = $KIND{$row{k}} or return \%row;
    for my $key ($kind->{keys}->@*) {
        refuse(number => 547) if !defined $row{$key};
    }
    for my $key (qw(i s u)) {
        refuse(number => 547) if defined $row{$key} && $row{$key} <= 0;
    }
    refuse(number => 547) if $row{k} eq 'message' && !defined $row{d} && !defined $row{b};
    for my $key (keys %LENGTH) {
        refuse(number => 2628)
            if defined $row{$key} && length $row{$key} > $LENGTH{$key} / 2 && utf16_length($row{$key}) > $LENGTH{$key};
    }
    return \%row;
}

# --- kinds: did it change anything? -------------------------------------------

sub _message ($db, $row) {
    my $is_known = $db->rows('SELECT 1 FROM Messages WHERE MessageId = ? AND MessageGuid = ?', $row->@{qw(i g)})->@*;
    my $changed  = $is_known ? _change_of($db, $row) : _insert($db, $row);
    $db->run('INSERT OR IGNORE INTO MessageRecipients (ReceiverId, MessageId) VALUES (?, ?)', $_, $row->{i})
        for ($row->{o} // [])->@*;
    return $changed;
}

sub _insert ($db, $row) {
    my $is_gone = defined $row->{d};
    my $others  = $row->{o} // [];
    return $db->run(
        'INSERT INTO Messages (MessageId, MessageGuid, ConversationId, SenderId, ReceiverId, MessageType, Body, Attachment,'
            . ' ReplyToId, ClientTime, CreatedAt, EditedAt, DeletedAt, ChangeNumber)'
            . ' VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
        $row->@{qw(i g v s)},
        @$others == 1 ? $others->[0] : undef,
        $is_gone ? ('', '', undef) : ($row->{y} // '', $row->{b}, $row->{a}),
        $row->{r}, scalar(eval { convert('datetime2', $row->{x}) }), $row->{t},
        $is_gone ? (undef, $row->{d}, 0) : ($row->{e}, undef, defined $row->{e} ? $row->{n} : 0));
}

# Of a message that is there its row brings an edit or a delete.
sub _change_of ($db, $row) {
    return _delete($db, {%$row, t => $row->{d}}) if defined $row->{d};
    return _edit($db, {%$row, t => $row->{e}}) if defined $row->{e};
    return 0;
}

sub _edit ($db, $row) {
    return $db->run(
        'UPDATE Messages SET Body = ?1, EditedAt = ?2, ChangeNumber = ?3 WHERE MessageId = ?4 AND DeletedAt IS NULL'
            . ' AND (EditedAt IS NULL OR EditedAt < ?2 OR (EditedAt = ?2 AND ChangeNumber < ?3))',
        $row->@{qw(b t n i)});
}

sub _delete ($db, $row) {
    return $db->run(
        "UPDATE Messages SET MessageType = '', Body = '', Attachment = NULL, EditedAt = NULL, ChangeNumber = 0,"
            . ' DeletedAt = ?1 WHERE MessageId = ?2 AND (DeletedAt IS NULL OR ?1 < DeletedAt)',
        $row->@{qw(t i)});
}

sub _receipt ($db, $row) {
    return $db->run(
        'INSERT INTO Receipts (ConversationId, UserId, Kind, MessageId, ReceivedAt) VALUES (?, ?, ?, ?, ?)'
            . ' ON CONFLICT (ConversationId, UserId, Kind) DO UPDATE'
            . ' SET MessageId = excluded.MessageId, ReceivedAt = excluded.ReceivedAt'
            . ' WHERE Receipts.MessageId < excluded.MessageId',
        $row->@{qw(v u k i t)});
}

sub _status ($db, $row) {
    return $db->run(
        'UPDATE Users SET Status = ?1, StatusText = ?2, StatusAt = ?3, StatusNumber = ?4 WHERE UserId = ?5'
            . ' AND (StatusAt IS NULL OR StatusAt < ?3 OR (StatusAt = ?3 AND StatusNumber < ?4))',
        $row->{c}, $row->{x} // '', $row->@{qw(t n u)});
}

my $NEWER = 'ChangedAt = excluded.ChangedAt, ChangeNumber = excluded.ChangeNumber WHERE ChangedAt < excluded.ChangedAt'
    . ' OR (ChangedAt = excluded.ChangedAt AND ChangeNumber < excluded.ChangeNumber)';

sub _group ($db, $row) {
    return $db->run(
        'INSERT INTO Groups (GroupId, Name, ChangedAt, ChangeNumber) VALUES (?, ?, ?, ?)'
            . " ON CONFLICT (GroupId) DO UPDATE SET Name = excluded.Name, $NEWER",
        $row->@{qw(i x t n)});
}

sub _member ($db, $row) {
    return $db->run(
        'INSERT INTO GroupMembers (GroupId, UserId, Role, ChangedAt, ChangeNumber) VALUES (?, ?, ?, ?, ?)'
            . " ON CONFLICT (GroupId, UserId) DO UPDATE SET Role = excluded.Role, $NEWER",
        $row->@{qw(i u c t n)});
}

# One of many participants comes as several rows.
sub _call ($db, $row) {
    my $known = $db->rows('SELECT EndedAt FROM Collaborations WHERE CollaborationId = ? AND CollaborationGuid = ?',
        $row->@{qw(i g)})->[0];
    my $is_newer = $known && $known->[0] lt $row->{e};
    my $changed  = 0;
    if (!$known) {
        $changed = $db->run(
            'INSERT INTO Collaborations (CollaborationId, CollaborationGuid, Kind, CreatorId, CreatedAt, EndedAt, Outcome)'
                . ' VALUES (?, ?, ?, ?, ?, ?, ?)',
            $row->@{qw(i g y s t e c)});
    }
    elsif ($is_newer) {
        $changed = $db->run('UPDATE Collaborations SET EndedAt = ?, Outcome = ? WHERE CollaborationId = ?', $row->@{qw(e c i)});
    }
    for my $part (($row->{p} // [])->@*) {
        my @values = (convert('bigint', $part->{u}), $row->{i}, $part->{c}, map { convert('datetime2', $part->{$_}) } qw(t e));
        $changed += $db->run(
            'INSERT INTO CollaborationParticipants (UserId, CollaborationId, Outcome, JoinedAt, LeftAt) VALUES (?, ?, ?, ?, ?)'
                . ' ON CONFLICT (UserId, CollaborationId) DO '
                . ($is_newer
                ? 'UPDATE SET Outcome = excluded.Outcome, JoinedAt = excluded.JoinedAt, LeftAt = excluded.LeftAt'
                : 'NOTHING'),
            @values);
    }
    return $changed;
}

1;
