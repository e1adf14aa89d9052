-- 002-procedures.sql - what the server asks, and the changes of single rows.
--
-- The server sends an empty text as NULL (FreeTDS does): parameters that may
-- not be absent read NULL as ''. Every procedure returns 0. Pages are asked
-- for by the last key of the page before, never by a number of rows to skip.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO
-- Who has this name, and how is his password checked? The first result set is
-- his row, also when he is not active, or no row; the second is his list. The
-- password stays with the server, which compares the hash.
CREATE OR ALTER PROCEDURE dbo.COB_Authenticate_Get_User_List
  @LoginName NVARCHAR(128)
AS
BEGIN
  SET NOCOUNT ON;

  SELECT u.UserId, u.LoginName, u.DisplayName, u.Role, u.Profile, u.IsActive, u.UpdatedAt, u.PasswordHash
  FROM dbo.Users AS u
  WHERE u.LoginName = @LoginName;

  SELECT c.UserId, c.LoginName, c.DisplayName, c.Role, c.Profile, c.IsActive, c.UpdatedAt
  FROM dbo.Users AS u
  JOIN dbo.UserContacts AS l ON l.UserId = u.UserId
  JOIN dbo.Users AS c ON c.UserId = l.ContactId
  WHERE u.LoginName = @LoginName AND u.IsActive = 1 AND c.IsActive = 1
  ORDER BY c.UserId;

  RETURN 0;
END
GO
-- The list of a user: who is active, in order of ids.
CREATE OR ALTER PROCEDURE dbo.Parley_Get_User_List
  @UserId BIGINT
AS
BEGIN
  SET NOCOUNT ON;

  SELECT c.UserId, c.LoginName, c.DisplayName, c.Role, c.Profile, c.IsActive, c.UpdatedAt
  FROM dbo.UserContacts AS l
  JOIN dbo.Users AS c ON c.UserId = l.ContactId
  WHERE l.UserId = @UserId AND c.IsActive = 1
  ORDER BY c.UserId;

  RETURN 0;
END
GO
-- Everybody who is active; with @Since whoever was changed at that time or
-- later, also when he is not active any more. Ask a little further back than
-- the last answer: a row becomes visible after its time.
CREATE OR ALTER PROCEDURE dbo.COB_Get_All_User
  @Since DATETIME2(3) = NULL
AS
BEGIN
  SET NOCOUNT ON;

  IF @Since IS NULL
    SELECT u.UserId, u.LoginName, u.DisplayName, u.Role, u.Profile, u.IsActive, u.UpdatedAt
    FROM dbo.Users AS u
    WHERE u.IsActive = 1
    ORDER BY u.UserId;
  ELSE
    SELECT u.UserId, u.LoginName, u.DisplayName, u.Role, u.Profile, u.IsActive, u.UpdatedAt
    FROM dbo.Users AS u
    WHERE u.UpdatedAt >= @Since
    ORDER BY u.UserId;

  RETURN 0;
END
GO
-- One user, also when he is not active, or no row.
CREATE OR ALTER PROCEDURE dbo.COB_GetUserById
  @UserId BIGINT
AS
BEGIN
  SET NOCOUNT ON;

  SELECT u.UserId, u.LoginName, u.DisplayName, u.Role, u.Profile, u.IsActive, u.UpdatedAt
  FROM dbo.Users AS u
  WHERE u.UserId = @UserId;

  RETURN 0;
END
GO
-- A user changes his name or profile; NULL leaves what is there. Answers
-- Updated: 1, or 0 when there is no such active user.
CREATE OR ALTER PROCEDURE dbo.COB_Update_User
  @UserId BIGINT,
  @DisplayName NVARCHAR(128) = NULL,
  @Profile NVARCHAR(MAX) = NULL
AS
BEGIN
  SET NOCOUNT ON;
  SET XACT_ABORT ON;
  DECLARE @Updated INT;

  UPDATE dbo.Users
  SET DisplayName = COALESCE(@DisplayName, DisplayName),
      Profile = COALESCE(@Profile, Profile),
      UpdatedAt = SYSUTCDATETIME()
  WHERE UserId = @UserId AND IsActive = 1;
  SET @Updated = @@ROWCOUNT;

  SELECT @Updated AS Updated;
  RETURN 0;
END
GO
-- A status by itself, for those who write no batches: the newest time wins.
-- Answers Updated: 1, or 0 when there is no such user or a newer status.
CREATE OR ALTER PROCEDURE dbo.COB_Update_Status
  @UserId BIGINT,
  @Status NVARCHAR(16),
  @StatusText NVARCHAR(256) = NULL,
  @ChangedAt DATETIME2(3) = NULL
AS
BEGIN
  SET NOCOUNT ON;
  SET XACT_ABORT ON;
  DECLARE @Updated INT;

  SET @ChangedAt = COALESCE(@ChangedAt, SYSUTCDATETIME());
  UPDATE dbo.Users
  SET Status = @Status,
      StatusText = COALESCE(@StatusText, N''),
      StatusAt = @ChangedAt,
      StatusNumber = 0
  WHERE UserId = @UserId AND (StatusAt IS NULL OR StatusAt < @ChangedAt);
  SET @Updated = @@ROWCOUNT;

  SELECT @Updated AS Updated;
  RETURN 0;
END
GO
-- One message, for those who write no batches. Its GUID is what makes it the
-- same: again it answers Duplicate 1 and changes nothing. An id that another
-- message has is error 2627.
CREATE OR ALTER PROCEDURE dbo.Message_InsertMessage
  @MessageId BIGINT,
  @MessageGuid UNIQUEIDENTIFIER,
  @ConversationId VARCHAR(40),
  @SenderId BIGINT,
  @ReceiverId BIGINT = NULL,
  @MessageType NVARCHAR(64) = NULL,
  @Body NVARCHAR(MAX) = NULL,
  @Attachment NVARCHAR(MAX) = NULL,
  @ReplyToId BIGINT = NULL,
  @ClientTime DATETIME2(3) = NULL,
  @CreatedAt DATETIME2(3)
AS
BEGIN
  SET NOCOUNT ON;
  SET XACT_ABORT ON;
  DECLARE @Inserted INT;

  BEGIN TRY
    BEGIN TRANSACTION;
    UPDATE dbo.ParleyWriter SET Batches = Batches + 1, WrittenAt = SYSUTCDATETIME() WHERE Id = 1;
    SET @Inserted = @@ROWCOUNT;
    IF @Inserted <> 1
      THROW 50003, N'dbo.ParleyWriter has lost its row: run the migrations again', 1;

    INSERT dbo.Messages (MessageId, MessageGuid, ConversationId, SenderId, ReceiverId, MessageType, Body,
      Attachment, ReplyToId, ClientTime, CreatedAt)
    SELECT @MessageId, @MessageGuid, @ConversationId, @SenderId, @ReceiverId, COALESCE(@MessageType, N''),
      COALESCE(@Body, N''), @Attachment, @ReplyToId, @ClientTime, @CreatedAt
    WHERE NOT EXISTS (
      SELECT 1 FROM dbo.Messages AS m WHERE m.MessageGuid = @MessageGuid AND m.MessageId = @MessageId);
    SET @Inserted = @@ROWCOUNT;

    IF @Inserted = 1 AND @ReceiverId IS NOT NULL
      INSERT dbo.MessageRecipients (ReceiverId, MessageId) VALUES (@ReceiverId, @MessageId);
    COMMIT TRANSACTION;
  END TRY
  BEGIN CATCH
    IF XACT_STATE() <> 0
      ROLLBACK TRANSACTION;
    THROW;
  END CATCH;

  SELECT @MessageId AS MessageId, CAST(1 - @Inserted AS BIT) AS Duplicate;
  RETURN 0;
END
GO
-- Older history of one conversation, below @BeforeId, newest first; with
-- @AfterId of these the ones above it, oldest first. Whether the asker may see
-- it has been decided before.
CREATE OR ALTER PROCEDURE dbo.Message_Get_All_Messages
  @ConversationId VARCHAR(40),
  @BeforeId BIGINT = NULL,
  @AfterId BIGINT = NULL,
  @PageSize INT = 50
AS
BEGIN
  SET NOCOUNT ON;
  IF @PageSize IS NULL OR @PageSize < 1 OR @PageSize > 500
    SET @PageSize = 50;
  SET @BeforeId = COALESCE(@BeforeId, 9223372036854775807);

  IF @AfterId IS NULL
    SELECT TOP (@PageSize) m.MessageId, m.MessageGuid, m.ConversationId, m.SenderId, m.MessageType, m.Body,
      m.Attachment, m.ReplyToId, m.ClientTime, m.CreatedAt, m.EditedAt, m.DeletedAt
    FROM dbo.Messages AS m
    WHERE m.ConversationId = @ConversationId AND m.MessageId < @BeforeId
    ORDER BY m.MessageId DESC;
  ELSE
    SELECT TOP (@PageSize) m.MessageId, m.MessageGuid, m.ConversationId, m.SenderId, m.MessageType, m.Body,
      m.Attachment, m.ReplyToId, m.ClientTime, m.CreatedAt, m.EditedAt, m.DeletedAt
    FROM dbo.Messages AS m
    WHERE m.ConversationId = @ConversationId AND m.MessageId < @BeforeId AND m.MessageId > @AfterId
    ORDER BY m.MessageId;

  RETURN 0;
END
GO
-- The calls of a user that have ended, newest first, below @BeforeId.
CREATE OR ALTER PROCEDURE dbo.COB_Get_Collaboration_History
  @UserId BIGINT,
  @BeforeId BIGINT = NULL,
  @PageSize INT = 50
AS
BEGIN
  SET NOCOUNT ON;
  IF @PageSize IS NULL OR @PageSize < 1 OR @PageSize > 500
    SET @PageSize = 50;
  SET @BeforeId = COALESCE(@BeforeId, 9223372036854775807);

  SELECT TOP (@PageSize) c.CollaborationId, c.CollaborationGuid, c.Kind, c.CreatorId, c.CreatedAt, c.EndedAt,
    c.Outcome, p.Outcome AS UserOutcome, p.JoinedAt, p.LeftAt
  FROM dbo.CollaborationParticipants AS p
  JOIN dbo.Collaborations AS c ON c.CollaborationId = p.CollaborationId
  WHERE p.UserId = @UserId AND p.CollaborationId < @BeforeId
  ORDER BY p.CollaborationId DESC;

  RETURN 0;
END
GO
-- A device can be reached by this token, and is this user's. The newest time
-- wins, also against a delete. Answers Updated: 1, or 0 for an older one.
CREATE OR ALTER PROCEDURE dbo.Parley_Put_Device_Token
  @UserId BIGINT,
  @Platform NVARCHAR(16),
  @Token VARCHAR(4096),
  @ChangedAt DATETIME2(3)
AS
BEGIN
  SET NOCOUNT ON;
  SET XACT_ABORT ON;
  DECLARE @Hash BINARY(32) = HASHBYTES('SHA2_256', @Token);
  DECLARE @Updated INT;
  DECLARE @Known INT;

  BEGIN TRY
    BEGIN TRANSACTION;
    -- The range is locked: of two who bring a new token one waits.
    SELECT @Known = COUNT(*)
    FROM dbo.DeviceTokens WITH (UPDLOCK, HOLDLOCK)
    WHERE TokenHash = @Hash;

    IF @Known = 0
      INSERT dbo.DeviceTokens (TokenHash, UserId, Platform, Token, ChangedAt)
      VALUES (@Hash, @UserId, @Platform, @Token, @ChangedAt);
    ELSE
      UPDATE dbo.DeviceTokens
      SET UserId = @UserId, Platform = @Platform, ChangedAt = @ChangedAt, DeletedAt = NULL
      WHERE TokenHash = @Hash AND ChangedAt < @ChangedAt;
    SET @Updated = @@ROWCOUNT;
    COMMIT TRANSACTION;
  END TRY
  BEGIN CATCH
    IF XACT_STATE() <> 0
      ROLLBACK TRANSACTION;
    THROW;
  END CATCH;

  SELECT @Updated AS Updated;
  RETURN 0;
END
GO
-- A token is not to be used any more by this user; the newest time wins. A row
-- stays, or is made, so that an older "put" that comes late does not bring the
-- token back. Answers Updated: 1, or 0 when it is somebody else's by now, or
-- there is newer news of it.
CREATE OR ALTER PROCEDURE dbo.Parley_Delete_Device_Token
  @UserId BIGINT,
  @Token VARCHAR(4096),
  @ChangedAt DATETIME2(3)
AS
BEGIN
  SET NOCOUNT ON;
  SET XACT_ABORT ON;
  DECLARE @Hash BINARY(32) = HASHBYTES('SHA2_256', @Token);
  DECLARE @Updated INT;
  DECLARE @Known INT;

  BEGIN TRY
    BEGIN TRANSACTION;
    SELECT @Known = COUNT(*)
    FROM dbo.DeviceTokens WITH (UPDLOCK, HOLDLOCK)
    WHERE TokenHash = @Hash;

    IF @Known = 0
      INSERT dbo.DeviceTokens (TokenHash, UserId, Platform, Token, ChangedAt, DeletedAt)
      VALUES (@Hash, @UserId, N'', @Token, @ChangedAt, @ChangedAt);
    ELSE
      UPDATE dbo.DeviceTokens
      SET ChangedAt = @ChangedAt, DeletedAt = @ChangedAt
      WHERE TokenHash = @Hash AND UserId = @UserId AND ChangedAt < @ChangedAt;
    SET @Updated = @@ROWCOUNT;
    COMMIT TRANSACTION;
  END TRY
  BEGIN CATCH
    IF XACT_STATE() <> 0
      ROLLBACK TRANSACTION;
    THROW;
  END CATCH;

  SELECT @Updated AS Updated;
  RETURN 0;
END
GO
