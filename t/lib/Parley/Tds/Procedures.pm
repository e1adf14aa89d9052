# Parley::Tds::Procedures - what the procedures of etc/mssql/002 do, on SQLite.
#
# Each takes the database and its parameters by name, converted and complete,
# and returns result sets.
package Parley::Tds::Procedures;
use v5.36;

use Parley::Tds::WriteBatch;

my @USER = qw(UserId LoginName DisplayName Role Profile IsActive UpdatedAt);
my $NOW = "strftime('%Y-%m-%dT%H:%M:%f', 'now')";
my $END = 9_223_372_036_854_775_807;

my %procedures = (
    COB_Authenticate_Get_User_List => sub ($db, %arg) {
        my $login = $arg{LoginName};
        return (
            $db->select('Users', [@USER, 'PasswordHash'], 'WHERE t.LoginName = ?', $login),
            $db->select('Users', \@USER,
                'JOIN UserContacts AS l ON l.ContactId = t.UserId JOIN Users AS u ON u.UserId = l.UserId'
                    . ' WHERE u.LoginName = ? AND u.IsActive = 1 AND t.IsActive = 1 ORDER BY t.UserId',
                $login));
    },
    Parley_Get_User_List => sub ($db, %arg) {
        return $db->select('Users', \@USER,
            'JOIN UserContacts AS l ON l.ContactId = t.UserId WHERE l.UserId = ? AND t.IsActive = 1 ORDER BY t.UserId',
            $arg{UserId});
    },
    COB_Get_All_User => sub ($db, %arg) {
        my $since = $arg{Since};
        return $db->select('Users', \@USER, 'WHERE t.IsActive = 1 ORDER BY t.UserId') if !defined $since;
        return $db->select('Users', \@USER, 'WHERE t.UpdatedAt >= ? ORDER BY t.UserId', $since);
    },
    COB_GetUserById => sub ($db, %arg) {
        return $db->select('Users', \@USER, 'WHERE t.UserId = ?', $arg{UserId});
    },
    COB_Update_User => sub ($db, %arg) {
        return _updated($db->run(
            "UPDATE Users SET DisplayName = COALESCE(?, DisplayName), Profile = COALESCE(?, Profile), UpdatedAt = $NOW"
                . ' WHERE UserId = ? AND IsActive = 1',
            @arg{qw(DisplayName Profile UserId)}));
    },
    COB_Update_Status => sub ($db, %arg) {
        return _updated($db->run(
            "UPDATE Users SET Status = ?1, StatusText = COALESCE(?2, ''), StatusAt = COALESCE(?3, $NOW), StatusNumber = 0"
                . " WHERE UserId = ?4 AND (StatusAt IS NULL OR StatusAt < COALESCE(?3, $NOW))",
            @arg{qw(Status StatusText ChangedAt UserId)}));
    },
    Message_InsertMessage => sub ($db, %arg) {
        my $inserted = $db->transaction(sub { _insert_message($db, %arg) });
        return {columns => [['MessageId', 'bigint'], ['Duplicate', 'bit']], rows => [[$arg{MessageId}, 1 - $inserted]]};
    },
    Message_Get_All_Messages => sub ($db, %arg) {
        my @columns = qw(MessageId MessageGuid ConversationId SenderId MessageType Body Attachment ReplyToId
            ClientTime CreatedAt EditedAt DeletedAt);
        my $which = 'WHERE t.ConversationId = ?1 AND t.MessageId < ?2';
        $which .= defined $arg{AfterId} ? ' AND t.MessageId > ?4 ORDER BY t.MessageId' : ' ORDER BY t.MessageId DESC';
        return $db->select('Messages', \@columns, "$which LIMIT ?3",
            $arg{ConversationId}, $arg{BeforeId} // $END, _page_size($arg{PageSize}), $arg{AfterId} // ());
    },
    COB_Get_Collaboration_History => sub ($db, %arg) {
        my @columns = (
            ['CollaborationId', 'bigint'], ['CollaborationGuid', 'guid'], ['Kind', 'nvarchar(16)'],
            ['CreatorId', 'bigint'], ['CreatedAt', 'datetime2'], ['EndedAt', 'datetime2'],
            ['Outcome', 'nvarchar(16)'], ['UserOutcome', 'nvarchar(16)'], ['JoinedAt', 'datetime2'],
            ['LeftAt', 'datetime2']);
        return {
            columns => \@columns,
            rows    => $db->rows(
                'SELECT c.CollaborationId, c.CollaborationGuid, c.Kind, c.CreatorId, c.CreatedAt, c.EndedAt,'
                    . ' c.Outcome, p.Outcome, p.JoinedAt, p.LeftAt'
                    . ' FROM CollaborationParticipants AS p'
                    . ' JOIN Collaborations AS c ON c.CollaborationId = p.CollaborationId'
                    . ' WHERE p.UserId = ? AND p.CollaborationId < ? ORDER BY p.CollaborationId DESC LIMIT ?',
                $arg{UserId}, $arg{BeforeId} // $END, _page_size($arg{PageSize})),
        };
    },
    Parley_Put_Device_Token => sub ($db, %arg) {
        return _updated($db->run(
            'INSERT INTO DeviceTokens (TokenHash, UserId, Platform, Token, ChangedAt) VALUES (?, ?, ?, ?, ?)'
                . ' ON CONFLICT (TokenHash) DO UPDATE SET UserId = excluded.UserId, Platform = excluded.Platform,'
                . ' ChangedAt = excluded.ChangedAt, DeletedAt = NULL WHERE DeviceTokens.ChangedAt < excluded.ChangedAt',
            _token_hash($arg{Token}), @arg{qw(UserId Platform Token ChangedAt)}));
    },
    Parley_Delete_Device_Token => sub ($db, %arg) {
        return _updated($db->run(
            "INSERT INTO DeviceTokens (TokenHash, UserId, Platform, Token, ChangedAt, DeletedAt) VALUES (?1, ?2, '', ?3, ?4, ?4)"
                . ' ON CONFLICT (TokenHash) DO UPDATE SET ChangedAt = excluded.ChangedAt, DeletedAt = excluded.ChangedAt'
                . ' WHERE DeviceTokens.UserId = excluded.UserId AND DeviceTokens.ChangedAt < excluded.ChangedAt',
            _token_hash($arg{Token}), @arg{qw(UserId Token ChangedAt)}));
    },
    Parley_Write_Batch => \&Parley::Tds::WriteBatch::run,
);

# undef: there is none of this name.
sub find ($name) { return $procedures{$name} }

sub _updated ($count) { return {columns => [['Updated', 'int']], rows => [[$count]]} }

sub _page_size ($size) { return defined $size && $size >= 1 && $size <= 500 ? $size : 50 }

sub _token_hash ($token) {
    require Digest::SHA;
    return Digest::SHA::sha256($token);
}

sub _insert_message ($db, %arg) {
    my $known = $db->rows('SELECT 1 FROM Messages WHERE MessageGuid = ? AND MessageId = ?', @arg{qw(MessageGuid MessageId)});
    return 0 if @$known;
    $db->run(
        'INSERT INTO Messages (MessageId, MessageGuid, ConversationId, SenderId, ReceiverId, MessageType, Body,'
            . ' Attachment, ReplyToId, ClientTime, CreatedAt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
        @arg{qw(MessageId MessageGuid ConversationId SenderId ReceiverId)},
        $arg{MessageType} // '', $arg{Body} // '', @arg{qw(Attachment ReplyToId ClientTime CreatedAt)});
    $db->run('INSERT INTO MessageRecipients (ReceiverId, MessageId) VALUES (?, ?)', @arg{qw(ReceiverId MessageId)})
        if defined $arg{ReceiverId};
    return 1;
}

1;
